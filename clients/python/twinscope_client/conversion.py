"""Conversion of microscope files to JPEG.

Images with more than 8 bits per pixel are converted to 8 bits in the same way as for the hash. Images are turned
upright according to their orientation, because the JPEG has no orientation of its own.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.orientation import turned_upright
from twinscope_indexer.imaging.reader import read_pil_image
from twinscope_indexer.indexing.pages import Pages, page_items
from twinscope_indexer.sources.corpus import Walk, scope_of, walk

from twinscope_client.errors import OutputError
from twinscope_client.outputs import fitting_name, folded, numbered, put_bytes, require_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twinscope_indexer.imaging.sniffing import Source
    from twinscope_indexer.sources.corpus import Item, Scope


@dataclass(slots=True)
class ConversionReport:
    """The result of a conversion."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of images for each result: ``written``, ``kept`` if the JPEG already existed, ``failed`` if the image or
    folder could not be read, or ``unwritten`` if the JPEG could not be written."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Images that could not be converted, and folders that could not be opened, each with the reason."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that could not be opened, each with the reason; `failures` also contains them."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The result for one image."""

    path: str
    """Location of the image."""
    result: str
    """``written``, ``kept``, ``failed`` or ``unwritten``; see `ConversionReport.counts`."""
    output: Path | None = None
    """Path of the JPEG; None if there is no JPEG."""
    fault: str = ""
    """Kind of the problem, if the image could not be read; see `twinscope_indexer.errors.ImageFault`."""
    reason: str = ""
    """Description of the problem, if there is no JPEG."""


def convert(
    sources: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    quality: int = 100,
    pages: Pages = "all",
    progress: Callable[[Converted], None] = lambda _: None,
) -> ConversionReport:
    """Convert every image to JPEG.

    Grey images stay grey, and colours are kept. The JPEGs are in the same folder structure as the images.

    Parameters
    ----------
    sources : sequence of path
        Images or folders. In a folder, images in all subfolders are converted too.
    out : Path
        Output folder. The path of a JPEG in this folder is ``<folders below the source>/<stem>.jpg``. If a file with
        other content has the same path, this file is not overwritten.
    quality : int
        JPEG quality, 1 to 100.
    pages : {"all", "first"}
        Which pages of a stack are converted: each page that is a picture, or only the first one. The JPEG of a page is
        ``<stem>_page3.jpg``.
    progress : callable
        Function that is called with the result for every finished image.

    Returns
    -------
    ConversionReport

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If a source folder is `out` or is inside `out`, because all files in `out` are assumed to be results of
        conversions. The error is also raised if `out` cannot be written.
    """
    report = ConversionReport()
    walked = Walk()
    output = out.resolve()
    scopes = _scopes_apart(sources, out)
    require_writable(out)
    taken: dict[str, Path] = {}
    for scope in scopes:
        items = walk(scope, walked, archives=False, leave_out=lambda folder: folder.resolve().is_relative_to(output))
        for item in page_items(items, pages):
            converted = _convert_one(item, out, quality, taken)
            report.counts[converted.result] += 1
            if converted.output is None:
                report.failures.append((converted.path, converted.reason))
            progress(converted)
    for folder, reason in walked.unreadable:
        report.counts["failed"] += 1
        report.failures.append((folder, reason))
    report.unreadable = walked.unreadable
    return report


def _scopes_apart(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Scope]:
    """Find the sources; write nothing. Raise `OutputError` if a source folder is inside the output folder."""
    scopes = [scope_of(source) for source in sources]
    for scope in scopes:
        if not scope.prefix and scope.root.resolve().is_relative_to(out.resolve()):
            msg = (
                f"{scope.root} lies within the output folder {out}. All files in the output folder are treated as "
                "results. Choose an output folder that does not contain the images. It can be "
                "inside the folder of the images"
            )
            raise OutputError(msg)
    return scopes


def encode_jpeg(source: Source, *, name: str | None = None, quality: int = 100, page: int = 0) -> bytes:
    """Encode an image file, or one page of a stack, as JPEG, without chroma subsampling.

    The image is turned upright, as viewers show it.

    Raises
    ------
    ImageError
        If the image cannot be read, or if one side has more than 65,535 pixels, which is the limit of JPEG.
    """
    image = turned_upright(read_pil_image(source, name=name, page=page), source)
    data = BytesIO()
    try:
        image.save(data, "JPEG", quality=quality, subsampling=0)
    except (OSError, ValueError) as error:
        shown = name or (os.fspath(source) if isinstance(source, (str, os.PathLike)) else "image")
        raise ImageError(str(shown), "unsupported", f"cannot be written as JPEG: {error}") from error
    return data.getvalue()


def _convert_one(item: Item, out: Path, quality: int, taken: dict[str, Path]) -> Converted:
    try:
        output, written = _put_jpeg(item, out, quality, taken)
    except ImageError as error:
        return Converted(item.uri, "failed", fault=error.fault, reason=error.detail)
    except OutputError as error:
        return Converted(item.uri, "unwritten", reason=str(error))
    return Converted(item.uri, "written" if written else "kept", output)


def _put_jpeg(item: Item, out: Path, quality: int, taken: dict[str, Path]) -> tuple[Path, bool]:
    """Write the JPEG of an image. Return the path of the JPEG, and whether the JPEG is new.

    `taken` contains the outputs of this run, with their folded paths as keys. Outputs whose paths differ only in upper
    and lower case would be the same file on Windows, so the second output gets a number.
    """
    with item.open() as content:
        data = encode_jpeg(content.stream, name=item.uri, quality=quality, page=item.page)
    folder = Path(*map(fitting_name, PurePosixPath(item.path).parent.parts))
    page = f"_page{item.page}" if item.page else ""
    wanted = out / folder / fitting_name(f"{Path(item.name).stem}{page}.jpg")
    for target in numbered(wanted):
        if taken.setdefault(folded(str(target)), target) != target:
            continue
        try:
            return target, put_bytes(data, target)
        except FileExistsError:
            continue
    raise RuntimeError(wanted)  # numbered() never ends

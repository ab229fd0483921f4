"""For each row of a truth table, find the image of the labelling run that the row describes."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twinscope_client.evaluation.truth import TruthRow


@dataclass(slots=True)
class Assignment:
    """The rows of a truth table, and the image that each row describes."""

    rows: dict[str, TruthRow] = field(default_factory=dict)
    """Rows for which an image was found; each key is the path of the image."""
    by_name: int = 0
    """Number of rows that have the file name of the image, but not the same folders. Some of the last folders can be
    equal."""
    unmatched: list[tuple[TruthRow, str]] = field(default_factory=list)
    """Rows for which no image was found, each with the reason."""


def assign(rows: Iterable[TruthRow], images: Iterable[str]) -> Assignment:
    """Find the image that each row of a truth table describes.

    An image is chosen for a row if the image has the same file name as the row. If several images have this file name,
    the folders of each image are compared with the folders in the row, beginning with the last folder. The image with
    the largest number of equal folders is chosen. If several images have the same largest number of equal folders, no
    image is chosen for the row. If one image is chosen for several rows, the row with the largest number of equal
    folders gets the image. If several of these rows have the same largest number of equal folders, none of these rows
    gets the image.

    Parameters
    ----------
    rows : iterable of TruthRow
    images : iterable of str
        Absolute paths of the images of the run.

    Returns
    -------
    Assignment
    """
    by_file: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for image in images:
        parts = _parts(image)
        by_file[parts[-1]].append((image, parts))
    found = Assignment()
    claims: dict[str, list[tuple[int, bool, TruthRow]]] = defaultdict(list)
    for row in rows:
        named = _named(row.image, by_file)
        candidates = [(_common_end(named, parts), image) for image, parts in by_file.get(named[-1], [])]
        most = max((length for length, _ in candidates), default=0)
        best = [image for length, image in candidates if length == most]
        if len(best) == 1:
            claims[best[0]].append((most, most == len(named), row))
        elif not best:
            found.unmatched.append((row, "the run contains no image with this file name"))
        else:
            found.unmatched.append((row, f"{len(best)} images match this path: add more folders to the path"))
    for image, claimed in claims.items():
        _settle(found, image, claimed)
    found.unmatched.sort(key=lambda pair: pair[0].line)
    return found


def is_twin(source: str, twin: str) -> bool:
    """Check whether a reference is the twin that a row of a truth table names.

    `source` is the path of the reference, or ``archive!member`` for a reference in an archive. `twin` is the path in
    the truth table: the complete path, or only its end.
    """
    named = _parts(twin.replace("!", "/"))
    return _common_end(named, _parts(source.replace("!", "/"))) == len(named)


def readable(path: str) -> str:
    r"""Return a path as valid text: bytes that are not UTF-8 are replaced by escape sequences such as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _named(image: str, files: Mapping[str, object]) -> tuple[str, ...]:
    """Split a path from a truth table into its folders and its file name.

    A backslash is read as a separator of folders, except if the file name of an image contains this backslash.
    """
    parts = _parts(image)
    return parts if parts[-1] in files else _parts(image.replace("\\", "/"))


def _parts(path: str) -> tuple[str, ...]:
    # Accented letters are converted to one Unicode form, because macOS uses another form than other systems.
    normal = unicodedata.normalize("NFC", readable(path)).replace(os.sep, "/")
    parts = tuple(part for part in normal.split("/") if part not in {"", "."})
    return ("/", *parts) if normal.startswith("/") else parts


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Count how many parts of two paths are equal, from the file name backwards."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _settle(found: Assignment, image: str, claimed: list[tuple[int, bool, TruthRow]]) -> None:
    """Assign an image to the row whose path is most similar to the path of the image."""
    closest = max((length, whole) for length, whole, _ in claimed)
    nearest = [row for length, whole, row in claimed if (length, whole) == closest]
    if len(nearest) == 1:
        found.rows[image] = nearest[0]
        found.by_name += not closest[1]
    for _, _, row in claimed:
        if row is not found.rows.get(image):
            others = (
                "another row matches this image better"
                if len(nearest) == 1
                else "several rows match this image equally well"
            )
            found.unmatched.append((row, f"the best image for this row is {readable(image)}, but {others}"))

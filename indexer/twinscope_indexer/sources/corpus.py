"""Sources of images: folders, single files and archives. A walk yields their images in the order of their names."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from twinscope_indexer.errors import SourceError
from twinscope_indexer.sources.archive import archive_stem, is_archive, open_archive
from twinscope_indexer.sources.location import read_source, source_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".png", ".bmp"})
"""Suffixes of image files. A walk over a folder or an archive ignores files with another suffix."""


RUN_MARKER = ".twinscope-run"
"""Name of the file that marks the output folder of a labelling run. A run writes this file first."""


def is_run(folder: Path) -> bool:
    """Check whether a folder is the output of a labelling run. Output of a run must never become a reference."""
    return os.path.lexists(folder / RUN_MARKER)


@dataclass(frozen=True, slots=True)
class Item:
    """The location of one image of a source. The image itself has not been read yet."""

    root: Path
    """Folder that `path` is relative to."""
    path: str
    """Path of the image file, or of the archive that contains the image, below `root`, with forward slashes."""
    member: str | None
    """Path of the image within the archive; None if the image is a separate file."""
    size: int
    """Size of the image file in bytes."""
    mtime_ns: int
    """Time of the last modification of the file or archive, in nanoseconds since 1970."""

    @property
    def file(self) -> Path:
        """Path of the file on disk: the image file, or the archive that contains the image."""
        return self.root / self.path

    @property
    def uri(self) -> str:
        """Location of the image in readable form: a path, or ``archive!member``."""
        return source_uri(self.root, self.path, self.member)

    @property
    def name(self) -> str:
        """Base name of the image."""
        return PurePosixPath(self.member or self.path).name

    @property
    def inner_path(self) -> str:
        """Path of the image below the root. In this path, an archive counts as a folder."""
        return str(PurePosixPath(self.path, self.member or ""))

    @property
    def folders(self) -> list[str]:
        """Names that may give the category: folders, the stem of the archive, and the root, the nearest name first."""
        names = [] if self.member is None else [*reversed(PurePosixPath(self.member).parent.parts)]
        if self.member is not None:
            names.append(archive_stem(self.path))
        names.extend(reversed(PurePosixPath(self.path).parent.parts))
        names.append(self.root.name)
        return [name for name in names if name not in {"", ".", ".."}]

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises
        ------
        ImageError
            If the image file cannot be read.
        """
        return read_source(self.root, self.path, self.member)


@dataclass(slots=True)
class Walk:
    """Record of everything that a walk skipped. The record is complete when all items have been consumed."""

    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files that are not images, by suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened, with the reasons. The images in them are unknown."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because they are outputs of labelling runs. The images in them are unknown."""

    def leave_out_run(self, folder: Path) -> bool:
        """Check whether a folder is the output of a labelling run, and if so, add the folder to `runs`.

        This function can be the argument `leave_out` of `walk`.
        """
        found = is_run(folder)
        if found:
            self.runs.append(str(folder))
        return found


@dataclass(frozen=True, slots=True)
class Scope:
    """One source that the user gave: a folder with everything below it, or a single file."""

    root: Path
    """Absolute path of the folder, or of the folder that contains the single file."""
    prefix: str
    """Path of the single file relative to `root`; empty if the source is a folder."""


def scope_of(source: str | os.PathLike[str]) -> Scope:
    """Return the scope of a source that a user gave.

    Raises
    ------
    SourceError
        If the folder or file does not exist or is not accessible.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100  resolve() would replace the names of links
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir() raises without access to a parent folder
        return Scope(path, "")
    if os.path.exists(path):  # noqa: PTH110  likewise
        return Scope(path.parent, path.name)
    msg = f"{source}: no such file or folder, or no permission to open it"
    raise SourceError(msg)


def walk(
    scope: Scope, into: Walk, *, archives: bool = True, leave_out: Callable[[Path], bool] = lambda _: False
) -> Iterator[Item]:
    """Yield the images of one source, in the order of their names.

    Parameters
    ----------
    scope : Scope
        The source, as returned by `scope_of`.
    into : Walk
        Record to which the function adds everything that it skips.
    archives : bool
        Whether to yield the images in archives.
    leave_out : callable
        Function that is called with the absolute path of every folder. If the function returns True, the folder is
        skipped.

    Yields
    ------
    Item
    """
    if scope.prefix:
        yield from _file_items(scope.root, scope.prefix, into, archives=archives, named=True)
        return
    yield from _folder_items(scope.root, "", into, archives=archives, leave_out=leave_out, above=())


def _folder_items(
    root: Path,
    folder: str,
    into: Walk,
    *,
    archives: bool,
    leave_out: Callable[[Path], bool],
    above: tuple[tuple[int, int], ...],
) -> Iterator[Item]:
    here = root / folder
    if leave_out(here):
        return
    try:
        found = here.stat()
        with os.scandir(here) as entries:
            ordered = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        into.unreadable.append((str(here), error.strerror or str(error)))
        return
    identity = (found.st_dev, found.st_ino)
    if identity in above:  # this folder is a link to one of the folders above it
        return
    for name, is_folder in ordered:
        if name.startswith("."):
            into.ignored["hidden"] += 1
            continue
        path = f"{folder}/{name}" if folder else name
        if is_folder:
            yield from _folder_items(root, path, into, archives=archives, leave_out=leave_out, above=(*above, identity))
        else:
            yield from _file_items(root, path, into, archives=archives, named=False)


def _file_items(root: Path, path: str, into: Walk, *, archives: bool, named: bool) -> Iterator[Item]:
    archive = archives and is_archive(path)
    if not (archive or named or _is_image(path)):
        into.ignored[_suffix(path)] += 1
        return
    try:
        found = (root / path).stat()
        if archive:
            for member in open_archive(root / path).members():
                if _is_image(member.name):
                    yield Item(root, path, member.name, member.size, found.st_mtime_ns)
                else:
                    into.ignored[_suffix(member.name)] += 1
            return
    except (OSError, SourceError) as error:
        into.unreadable.append((str(root / path), str(error)))
        return
    yield Item(root, path, None, found.st_size, found.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a folder without access; opening the entry reports the error
        return False


def _is_image(path: str) -> bool:
    """Check whether a path has the suffix of an image file and contains no hidden file or folder."""
    names = PurePosixPath(path).parts
    hidden = any(name.startswith(".") and name != ".." for name in names)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,12}", suffix) else "no suffix"

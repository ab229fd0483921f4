"""Sources of images: folders, single files and archives.

A walk yields the images of a source in the order of their names.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from twinscope_indexer.errors import SourceError, os_reason
from twinscope_indexer.sources.archive import (
    OTHER_ARCHIVE,
    archive_stem,
    is_archive,
    is_other_archive,
    open_archive,
)
from twinscope_indexer.sources.location import Content, opened_source, source_uri, split_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".png", ".bmp",
    ".webp", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
})  # fmt: skip
"""Suffixes of image files. Files with other suffixes in a folder or an archive are ignored."""


_NO_FOLDER = re.compile(r"\.{0,2}|/+|[A-Za-z]:")  # parts of a path in an archive that are no names: roots, drives, dots

RUN_MARKER = ".twinscope-run"
"""Name of a file in the output folder of every labelling run. A run writes this file before all other files."""


def is_run(folder: Path) -> bool:
    """Check whether a labelling run wrote to a folder. Images in such a folder must never become references."""
    return os.path.lexists(folder / RUN_MARKER)


@dataclass(frozen=True, slots=True)
class Item:
    """The location of one image of a source. The image itself has not been read yet."""

    root: Path
    """Folder of the source. `path` is relative to this folder."""
    path: str
    """Path of the image file relative to `root`, with forward slashes. If the image is in an archive: path of the
    archive."""
    member: str | None
    """Path of the image within the archive. None if the image is not in an archive."""
    size: int
    """Size of the image file in bytes."""
    mtime_ns: int
    """Time of the last modification of the file or archive, in nanoseconds since 1970."""
    page: int = 0
    """Number of the page if the image is a page of a stack, counted from 1. 0 if the file is one image."""

    @property
    def file(self) -> Path:
        """Path of the file on disk: the image file, or the archive that contains the image."""
        return self.root / self.path

    @property
    def uri(self) -> str:
        """Location of the image as readable text: a path, or ``archive!member``, with ``#page=N`` for a page."""
        return source_uri(self.root, self.path, self.member, self.page)

    @property
    def name(self) -> str:
        """File name of the image, without folders."""
        return PurePosixPath(self.member or self.path).name

    @property
    def inner_path(self) -> str:
        """Path of the image relative to the root. An archive is treated as a folder in this path."""
        return str(PurePosixPath(self.path, self.member or ""))

    @property
    def levels(self) -> list[str]:
        """Names of the folders below the root that contain the image, and of the archive without suffix.

        The topmost name comes first.
        """
        names = list(PurePosixPath(self.path).parent.parts)
        if self.member is not None:
            names += [archive_stem(self.path), *PurePosixPath(self.member.replace("\\", "/")).parent.parts]
        return [name for name in names if not _NO_FOLDER.fullmatch(name)]

    def open(self) -> AbstractContextManager[Content]:
        """Open the image file. A small file is read with one call, a large file or a stack in parts.

        Raises
        ------
        ImageError
            If the image file cannot be read.
        """
        return opened_source(self.root, self.path, self.member, self.page)


@dataclass(slots=True)
class Walk:
    """List of everything that a walk skipped. The list is complete when the walk has yielded its last image."""

    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files that are not images, for each suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened, each with the reason. It is not known which images they
    contain."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because a labelling run wrote them. It is not known which images they contain."""

    def leave_out_run(self, folder: Path) -> bool:
        """Check whether a labelling run wrote to a folder. If this is true, add the folder to `runs`.

        This function can be used as the argument `leave_out` of `walk`.
        """
        found = is_run(folder)
        if found:
            self.runs.append(str(folder))
        return found


@dataclass(frozen=True, slots=True)
class Scope:
    """One source of the user: a folder with all its subfolders, or a single file."""

    root: Path
    """Absolute path of the folder, or of the folder that contains the single file."""
    prefix: str
    """Path of the single file relative to `root`. Empty if the source is a folder."""
    page: int = 0
    """Number of the page, if the user named one page of a stack (``stack.tif#page=3``); otherwise 0."""


def scope_of(source: str | os.PathLike[str]) -> Scope:
    """Return the scope for the path of a source.

    Raises
    ------
    SourceError
        If the folder or file does not exist, or if access is not allowed.
    """
    named, page = split_page(source)
    path = Path(os.path.abspath(named))  # noqa: PTH100  resolve() would replace the names of links
    if os.path.isdir(path) and not page:  # noqa: PTH112  Path.is_dir() raises without access to a parent folder
        return Scope(path, "")
    if os.path.exists(path) and not (page and (path.is_dir() or is_archive(path.name))):  # noqa: PTH110  likewise
        return Scope(path.parent, path.name, page)
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
        List of skipped files and folders. The function adds to this list.
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
        for item in _file_items(scope.root, scope.prefix, into, archives=archives, named=True):
            yield replace(item, page=scope.page) if scope.page else item
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
        into.unreadable.append((str(here), os_reason(error)))
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
    if archives and is_other_archive(path):
        into.unreadable.append((str(root / path), OTHER_ARCHIVE))
        return
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
        into.unreadable.append((str(root / path), os_reason(error) if isinstance(error, OSError) else str(error)))
        return
    yield Item(root, path, None, found.st_size, found.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a forbidden folder; later, opening it reports the error
        return False


def _is_image(path: str) -> bool:
    """Check whether a path has the suffix of an image file, and whether no part of the path is hidden."""
    names = PurePosixPath(path).parts
    hidden = any(name.startswith(".") and name != ".." for name in names)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,12}", suffix) else "no suffix"

"""Where images come from: folders, single files and archives, walked in one fixed order."""

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
"""File names that are taken for images when a folder or an archive is walked."""


RUN_MARKER = ".twinscope-run"
"""The file that marks the output folder of a labelling run, written before anything else is."""


def is_run(folder: Path) -> bool:
    """Check whether a folder holds the results of a labelling run: copies that must never become references."""
    return os.path.lexists(folder / RUN_MARKER)


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a corpus, not yet read."""

    root: Path
    """The folder that `path` is relative to."""
    path: str
    """Path of the file (or of the archive) below `root`, with forward slashes."""
    member: str | None
    """Path within the archive, for an archive's member."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of the last change of the file (of the archive), nanoseconds since 1970."""

    @property
    def file(self) -> Path:
        """The file on disk: the image, or the archive that holds it."""
        return self.root / self.path

    @property
    def uri(self) -> str:
        """Where the image is, for people: a path, or ``archive!member``."""
        return source_uri(self.root, self.path, self.member)

    @property
    def name(self) -> str:
        """Base name of the image."""
        return PurePosixPath(self.member or self.path).name

    @property
    def inner_path(self) -> str:
        """Path below the root, members as if their archive were a folder."""
        return str(PurePosixPath(self.path, self.member or ""))

    @property
    def folders(self) -> list[str]:
        """Names that may tell the category, nearest first: folders, the archive's stem, the root itself."""
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
            If it cannot be read.
        """
        return read_source(self.root, self.path, self.member)


@dataclass(slots=True)
class Walk:
    """What a walk met besides images; filled while the items are consumed."""

    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened, with the reason. What lies below them is unknown."""
    runs: list[str] = field(default_factory=list)
    """Folders that were left out as outputs of labelling runs. What lies below them is unknown as well."""

    def leave_out_run(self, folder: Path) -> bool:
        """Check whether a folder is the output of a labelling run, and note it if it is; for `leave_out` of `walk`."""
        found = is_run(folder)
        if found:
            self.runs.append(str(folder))
        return found


@dataclass(frozen=True, slots=True)
class Scope:
    """One source as it was named: everything below it was seen by a complete walk."""

    root: Path
    """Absolute folder."""
    prefix: str
    """The file that was named, relative to `root`; empty for the whole folder."""


def scope_of(source: str | os.PathLike[str]) -> Scope:
    """Split a source, as named by a user, into a root folder and what of it is meant.

    Raises
    ------
    SourceError
        If there is no such folder or file.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100  not resolve(): links keep the name that the user gave
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir() raises where a folder above may not be entered
        return Scope(path, "")
    if os.path.exists(path):  # noqa: PTH110  likewise
        return Scope(path.parent, path.name)
    msg = f"{source}: there is no such file or folder (or it may not be entered)"
    raise SourceError(msg)


def walk(
    scope: Scope, into: Walk, *, archives: bool = True, leave_out: Callable[[Path], bool] = lambda _: False
) -> Iterator[Item]:
    """Yield the images of one source, in the order of their names.

    Parameters
    ----------
    scope : Scope
        From `scope_of`.
    into : Walk
        Receives what was met besides images.
    archives : bool
        Whether to look into archives.
    leave_out : callable
        Called with the absolute path of every folder; those for which it returns True are passed over.

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
    if identity in above:  # a link that leads back up
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
    except OSError:  # a link to itself, or to a place that may not be entered: met again when it is opened
        return False


def _is_image(path: str) -> bool:
    """Check the name; within archives, what lies in hidden folders is passed over as it is outside of them."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,12}", suffix) else "no suffix"

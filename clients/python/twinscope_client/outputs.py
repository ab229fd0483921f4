"""Putting files in place: whole or not at all, and never over another file."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twinscope_indexer.files import file_sha256, partial_file, sync_file, write_durably

from twinscope_client.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LinkMode = Literal["copy", "hard", "sym"]

RESULTS = ("matches.csv", "review.csv", "failures.csv", "labels.jsonl", "summary.json", "report.html", "plots")
"""What a labelling run writes into its folder beside copies and journal, and writes anew when it goes on."""

JOURNAL_NAME = "run.sqlite"
_TAKEN = {*RESULTS, JOURNAL_NAME, *(f"{JOURNAL_NAME}-{kind}" for kind in ("journal", "wal", "shm"))}
_FICLONE = 0x40049409  # linux/fs.h
_BLOCK = 1 << 18  # bytes copied at once: they stay in the processor's cache between reading, hashing and writing
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
_MAX_NAME = 255
"""Bytes in a file name (Linux NAME_MAX)."""

_NUMBER = 12
"""Bytes kept free in a name for a number."""

_MAX_SUFFIX = 16
"""Bytes; what is longer is no file type but a part of the name that happens to follow a dot."""


def numbered(path: Path) -> Iterator[Path]:
    """Give a path, then the same with ``_2``, ``_3``, ... before its suffix."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1


def fitting_name(name: str) -> str:
    """Give a file name that a folder can hold: no separators, no leading dots, room for a number, at most 255 bytes."""
    cleaned = "".join("_" if char in "/\\\0" or ord(char) < 32 else char for char in name).lstrip(".") or "_"
    stem, suffix = os.path.splitext(cleaned)  # noqa: PTH122  a Path would take "_." and such for something else
    if len(os.fsencode(suffix)) > _MAX_SUFFIX:
        stem, suffix = cleaned, ""
    spare = _MAX_NAME - len(os.fsencode(suffix)) - _NUMBER
    while len(os.fsencode(stem)) > spare:
        stem = stem[:-1]
    return stem + suffix


def category_folder(category: str) -> str:
    """Give the name of the folder that holds the copies of a category.

    It is the category's as `fitting_name` makes it; one that the run itself uses in its output folder, such as
    ``plots`` or ``report.html`` (in capitals too, as some file systems know no difference), ends with one more ``_``.
    """
    name = fitting_name(category)
    return f"{name}_" if name.rstrip("_").casefold() in _TAKEN else name


def is_free(target: Path, digest: str) -> bool:
    """Tell whether a name can be used for content of a SHA-256: nothing has it, or just that content."""
    return not os.path.lexists(target) or _holds(target, digest)


def put_source(source: Path, digest: str, target: Path, mode: LinkMode) -> bool:
    """Put a copy of (or a link to) a source file at a path where there is none.

    Parameters
    ----------
    source : Path
        Only read.
    digest : str
        SHA-256 that the source had when it was decided about, hexadecimal.
    target : Path
        Its folder is made where there is none.
    mode : {"copy", "hard", "sym"}

    Returns
    -------
    bool
        False if the same content was there already; then nothing is done.

    Raises
    ------
    FileExistsError
        If another file is at `target`; it is left as it is.
    OutputError
        If the source has changed, or the target cannot be written.
    """
    try:
        if _holds(target, digest):
            return False
        _make_folder(target.parent)
        if mode == "copy":
            _appear(target, lambda part: _copy(source, digest, part))
            return True
        _require_content(source, digest, source)
        if mode == "hard":
            target.hardlink_to(source.resolve())  # a link to the file, where the source itself is a symbolic link
        else:
            target.symlink_to(source)
    except FileExistsError:
        if _holds(target, digest):
            return False
        raise
    except OSError as error:
        hint = "; use --link copy" if mode != "copy" and error.errno in _NO_LINKS | {errno.EXDEV} else ""
        msg = f"{target} cannot be written: {error.strerror or error}{hint}"
        raise OutputError(msg) from error
    return True


def put_bytes(data: bytes, target: Path) -> bool:
    """Write a new file.

    Returns
    -------
    bool
        False if the same content was there already; then nothing is done.

    Raises
    ------
    FileExistsError
        If another file is at `target`; it is left as it is.
    OutputError
        If it cannot be written.
    """
    digest = sha256(data).hexdigest()
    try:
        if _holds(target, digest):
            return False
        _make_folder(target.parent)
        _appear(target, lambda part: part.write_bytes(data))
    except FileExistsError:
        if _holds(target, digest):
            return False
        raise
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror or error}"
        raise OutputError(msg) from error
    return True


def replace_if_changed(path: Path, data: bytes) -> bool:
    """Write a file of our own making (a table, a report) in one step, unless it says the same already.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        if path.is_file() and path.read_bytes() == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise OutputError(msg) from error
    return True


def _holds(target: Path, digest: str) -> bool:
    return target.is_file() and file_sha256(target) == digest


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file of that name, too, which is not "a file at the target"
        msg = f"the folder {folder} cannot be made: {error.strerror or error}"
        raise OutputError(msg) from error


def _appear(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, then give it its name, which fails where a file has that name."""
    with partial_file(target) as part:
        write(part)
        sync_file(part)
        try:
            os.link(part, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: claim the name first, then put the file in its place.
            with target.open("xb"):
                pass
            part.replace(target)


def _copy(source: Path, digest: str, part: Path) -> None:
    if _shared(source, part):
        _require_content(part, digest, source)
    elif _streamed(source, part) != digest:
        raise _changed(source)
    shutil.copystat(source, part)


def _shared(source: Path, part: Path) -> bool:
    """Copy by sharing blocks (ioctl FICLONE, Btrfs and XFS), which take no room until one of the files is changed."""
    with suppress(OSError), source.open("rb") as given, part.open("wb") as made:
        fcntl.ioctl(made, _FICLONE, given.fileno())
        return True
    return False


def _streamed(source: Path, part: Path) -> str:
    """Copy, and give the SHA-256 of what was written: each block is hashed on its way and not read again."""
    digest, block = sha256(), memoryview(bytearray(_BLOCK))
    with source.open("rb", buffering=0) as given, part.open("wb", buffering=0) as made:
        while count := given.readinto(block):
            digest.update(block[:count])
            written = 0
            while written < count:
                written += made.write(block[written:count])
    return digest.hexdigest()


def _require_content(file: Path, digest: str, source: Path) -> None:
    if file_sha256(file) != digest:
        raise _changed(source)


def _changed(source: Path) -> OutputError:
    return OutputError(f"{source} has changed since it was compared; nothing was written for it, run the command again")

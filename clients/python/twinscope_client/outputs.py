"""Output files. Each file is written completely or not at all. Other files are never overwritten."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twinscope_indexer.files import file_sha256, partial_file, sync_file, write_durably

from twinscope_client.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LinkMode = Literal["copy", "hard", "sym"]

WORKBOOK_NAME = "tables.xlsx"
RESULTS = (
    "matches.csv", "review.csv", "failures.csv", "labels.jsonl", "summary.json", "report.html", "plots", WORKBOOK_NAME,
)  # fmt: skip
"""Tables, report and plots that a labelling run writes to its output folder. A later run replaces these files."""

JOURNAL_NAME = "run.sqlite"
_TAKEN = {*RESULTS, JOURNAL_NAME, *(f"{JOURNAL_NAME}-{kind}" for kind in ("journal", "wal", "shm"))}
_FICLONE = 0x40049409  # linux/fs.h
_BLOCK = 1 << 18  # bytes per block; a block is so small that it stays in the processor cache until it is written
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
_REFUSED_LINK = _NO_LINKS | {errno.EXDEV, errno.EINVAL}
"""Error numbers if a link cannot be made here. Windows reports EINVAL if the user may not make symbolic links."""

_FORBIDDEN = frozenset('<>:"/\\|?*')
"""Characters that Windows or Linux do not allow in a file name. Control characters are not allowed either."""

_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(\.|$)", re.IGNORECASE)
"""Beginning of a file name that Windows reserves for a device. Windows ignores a suffix."""
_MAX_NAME = 255
"""Maximum length of a file name in bytes (Linux NAME_MAX). Windows and macOS allow at least as many characters."""

_LONG_PATH = 259
"""Maximum length of a path on Windows, in characters, unless long paths are enabled."""

_NUMBER = 12
"""Number of bytes in a file name that are reserved for a number such as ``_2``."""

_MAX_SUFFIX = 16
"""Maximum length of a suffix in bytes. A longer text after the last dot is treated as a part of the name, not as a
suffix."""


def numbered(path: Path) -> Iterator[Path]:
    """Yield a path, then the same path with ``_2``, ``_3``, ... before its suffix."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1


def fitting_name(name: str) -> str:
    """Return a file name that is valid on Linux, macOS and Windows.

    Characters that one of these systems does not allow are replaced by ``_``. The result has no leading dots and no
    trailing dots or blanks, and is not the name of a Windows device such as ``CON``. With a number added, the result
    has at most 255 bytes.
    """
    allowed = "".join("_" if c in _FORBIDDEN or unicodedata.category(c) == "Cc" else c for c in name)
    cleaned = allowed.lstrip(".").rstrip(". ") or "_"
    if _DEVICES.match(cleaned):
        cleaned = f"_{cleaned}"
    stem, suffix = os.path.splitext(cleaned)  # noqa: PTH122  Path treats names such as "_." differently
    if len(os.fsencode(suffix)) > _MAX_SUFFIX:
        stem, suffix = cleaned, ""
    spare = _MAX_NAME - len(os.fsencode(suffix)) - _NUMBER
    while len(os.fsencode(stem)) > spare:
        stem = stem[:-1]
    return f"{stem}{suffix}".rstrip(". ")


def folded(name: str) -> str:
    """Return a form of a name or path that is equal for all names that Windows or macOS treat as the same.

    These systems ignore upper and lower case, and macOS also ignores how accented letters are composed.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folded_order(one: str, other: str) -> int:
    """Compare the folded forms of two names: the result is 0 if they are equal, otherwise -1 or 1."""
    first, second = folded(one), folded(other)
    return (first > second) - (first < second)


def category_folder(category: str) -> str:
    """Return the name of the folder for the copies of a category.

    The name is the result of `fitting_name` for the category. A run uses some names itself, for example ``plots`` and
    ``report.html``. If the category has such a name, ``_`` is added at the end. The comparison ignores upper and lower
    case, because some file systems do so.
    """
    name = fitting_name(category)
    return f"{name}_" if name.rstrip("_").casefold() in _TAKEN else name


def is_free(target: Path, digest: str) -> bool:
    """Check whether a path can be used: it does not exist, or it is a file with this SHA-256."""
    return not os.path.lexists(target) or _holds(target, digest)


def put_source(source: Path, digest: str, target: Path, mode: LinkMode) -> bool:
    """Create a copy of a source file, or a link to the source file, at a path that does not exist yet.

    Parameters
    ----------
    source : Path
        The source file, which is only read.
    digest : str
        SHA-256 of the source file when its label was decided, in hexadecimal.
    target : Path
        Path of the copy or link. The folder of this path is created if it does not exist.
    mode : {"copy", "hard", "sym"}
        Whether to create a copy, a hard link or a symbolic link.

    Returns
    -------
    bool
        True if the copy or link was created. False if `target` is already a file with this content.

    Raises
    ------
    FileExistsError
        If `target` is already a file with other content. That file is not changed.
    OutputError
        If the source file has changed since its label was decided, or if `target` cannot be written.
    """
    try:
        if _holds(target, digest):
            return False
        _make_folder(target.parent)
        if mode == "copy":
            _appear(target, lambda partial: _copy(source, digest, partial))
            return True
        _require_content(source, digest, source)
        if mode == "hard":
            target.hardlink_to(source.resolve())  # if the source is a symbolic link, link to the file that it refers to
        else:
            target.symlink_to(source)
    except FileExistsError:
        if _holds(target, digest):
            return False
        raise
    except OSError as error:
        hint = "; use --link copy" if mode != "copy" and error.errno in _REFUSED_LINK else ""
        msg = f"{target} cannot be written: {error.strerror or error}{hint}{_advice(target)}"
        raise OutputError(msg) from error
    return True


def put_bytes(data: bytes, target: Path) -> bool:
    """Write bytes to a new file.

    Returns
    -------
    bool
        True if the file was written. False if `target` is already a file with this content.

    Raises
    ------
    FileExistsError
        If `target` is already a file with other content. That file is not changed.
    OutputError
        If the file cannot be written.
    """
    digest = sha256(data).hexdigest()
    try:
        if _holds(target, digest):
            return False
        _make_folder(target.parent)
        _appear(target, lambda partial: partial.write_bytes(data))
    except FileExistsError:
        if _holds(target, digest):
            return False
        raise
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror or error}{_advice(target)}"
        raise OutputError(msg) from error
    return True


def replace_if_changed(path: Path, data: bytes) -> bool:
    """Write or replace a table or report of Twinscope in one step.

    If the file already has this content, nothing is written.

    Raises
    ------
    OutputError
        If the file cannot be written.
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


def require_writable(folder: Path) -> None:
    """Check that files can be written into a folder. If the folder does not exist, check the folder above it.

    Raises
    ------
    OutputError
        If no file can be written.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        msg = f"{folder} cannot be used as the output folder: {existing} is not a folder"
        raise OutputError(msg)
    if not os.access(existing, os.W_OK):
        msg = f"the output folder {folder} cannot be written: no permission to write to {existing}"
        raise OutputError(msg)


def _advice(target: Path) -> str:
    """Return what to do if a path is too long for Windows; empty if the path is not too long."""
    if os.name != "nt" or len(str(target.absolute())) <= _LONG_PATH:
        return ""
    return f"; the path has more than {_LONG_PATH} characters: use a shorter output folder, or enable long paths"


def _holds(target: Path, digest: str) -> bool:
    return target.is_file() and file_sha256(target) == digest


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # includes FileExistsError, if a file has the name of the folder
        msg = f"the folder {folder} cannot be created: {error.strerror or error}"
        raise OutputError(msg) from error


def _appear(target: Path, write: Callable[[Path], object]) -> None:
    """Write a partial file next to `target`, then rename this file to `target`. Fail if `target` exists."""
    with partial_file(target) as partial:
        write(partial)
        sync_file(partial)
        if os.name == "nt":
            partial.rename(target)  # on Windows, this call fails if the target exists
            return
        try:
            os.link(partial, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # The file system does not support hard links. Create an empty file at the target, then replace this file.
            with target.open("xb"):
                pass
            partial.replace(target)


def _copy(source: Path, digest: str, partial: Path) -> None:
    if _shared(source, partial):
        _require_content(partial, digest, source)
    elif _streamed(source, partial) != digest:
        raise _changed(source)
    shutil.copystat(source, partial)


def _shared(source: Path, partial: Path) -> bool:
    """Try to make a copy that shares the disk blocks of the original file. Return whether this worked.

    The system call is the ioctl FICLONE of Linux, which the file systems Btrfs and XFS support. Shared blocks need no
    additional disk space until one of the two files is changed.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    with suppress(OSError), source.open("rb") as reader, partial.open("wb") as writer:
        fcntl.ioctl(writer, _FICLONE, reader.fileno())
        return True
    return False


def _streamed(source: Path, partial: Path) -> str:
    """Copy a file, and return the SHA-256 of the copy.

    Each block is hashed during the copy, so that the file is read only once.
    """
    digest, block = sha256(), memoryview(bytearray(_BLOCK))
    with source.open("rb", buffering=0) as reader, partial.open("wb", buffering=0) as writer:
        while count := reader.readinto(block):
            digest.update(block[:count])
            written = 0
            while written < count:
                written += writer.write(block[written:count])
    return digest.hexdigest()


def _require_content(file: Path, digest: str, source: Path) -> None:
    if file_sha256(file) != digest:
        raise _changed(source)


def _changed(source: Path) -> OutputError:
    return OutputError(f"{source} has changed since it was compared, so no copy was written. Run the command again")

"""Random access to the content of files that are compressed with xz or bzip2, without unpacking them to disk."""

from __future__ import annotations

import bz2
import io
import lzma
import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BLOCK: Final = 1 << 18  # bytes that are read or decompressed at a time; even a small file can hold a huge block
_KEPT: Final = 4 << 20  # decompressed bytes that stay in memory, because threads read members in nearly their order
_MEMORY: Final = 1 << 28  # bytes; the highest preset of xz needs a quarter of it


class _Decompressor(Protocol):
    """The interface of `lzma.LZMADecompressor` and `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def open_xz(path: Path) -> io.BufferedReader:
    """Open a file that is compressed with xz. A file that needs more than 256 MiB of memory is refused."""
    return io.BufferedReader(_Content(path, lambda: lzma.LZMADecompressor(memlimit=_MEMORY)), _BLOCK)


def open_bzip2(path: Path) -> io.BufferedReader:
    """Open a file that is compressed with bzip2."""
    return io.BufferedReader(_Content(path, bz2.BZ2Decompressor), _BLOCK)


class _Content(io.RawIOBase):
    """The decompressed content of a file.

    Reading goes forward. To go back by more than a few MiB, the file is decompressed from its beginning again.
    """

    def __init__(self, path: Path, new: Callable[[], _Decompressor]) -> None:
        self._file = path.open("rb")
        self._new = new
        self._position = 0
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._decompressor = self._new()
        self._recent = bytearray()
        self._recent_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            msg = "the length of the content is unknown"
            raise io.UnsupportedOperation(msg)
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self._position < self._recent_start:
            self._restart()
        while self._position >= self._recent_start + len(self._recent):
            if not self._decompress_block():
                return 0
        start = self._position - self._recent_start
        found = self._recent[start : start + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _decompress_block(self) -> bool:
        """Decompress the next block. Return False at the end of the file."""
        block = b""
        while not block:
            data = b""
            if self._decompressor.eof:  # one file can contain several streams, with zeros between them
                data = (self._decompressor.unused_data or self._file.read(_BLOCK)).lstrip(b"\0")
                if not data:
                    return False
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                data = self._file.read(_BLOCK)
                if not data:
                    msg = "it ends early"
                    raise EOFError(msg)
            block = self._decompressor.decompress(data, _BLOCK)
        self._recent += block
        if len(self._recent) > 2 * _KEPT:
            self._recent_start += len(self._recent) - _KEPT
            del self._recent[:-_KEPT]
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

"""Uploaded image files: the store keeps each file under a name that is the SHA-256 of the content."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from twinscope_indexer.files import remove_partial_files, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Uploads:
    """The folder of uploaded files. A caller of any method must hold the write lock of the store.

    Parameters
    ----------
    folder : Path
        Path of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._released: set[str] = set()
        self._swept = False

    @contextmanager
    def keeping(self, digest: bytes, data: bytes) -> Iterator[None]:
        """Write a file durably before the body of the ``with`` statement begins.

        If the body fails, this method removes the file, unless the file existed before.
        """
        path = self._folder / digest.hex()
        if path.exists():
            yield
            return
        self._folder.mkdir(exist_ok=True)
        write_durably(path, data)
        try:
            yield
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def release(self, digests: Iterable[bytes]) -> None:
        """Record that some images no longer use the files with these digests.

        The method `sweep` removes the files that no other image uses.
        """
        names = {digest.hex() for digest in digests}
        self._released |= {name for name in names if (self._folder / name).exists()}

    def sweep(self, used: Callable[[], Container[bytes]]) -> None:
        """Remove the released files that no image uses.

        The first call removes all files that no image uses. A released file must stay until the next write calls this
        method, so that queries that were running at the release can still read the file.

        Parameters
        ----------
        used : callable
            Function that returns the SHA-256 digests of all images. This method calls the function only if there may be
            a file to remove.
        """
        names = self._released
        if not self._swept and self._folder.is_dir():
            remove_partial_files(self._folder)
            names = {path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name)}
        if names:
            kept = used()
            for name in names:
                if bytes.fromhex(name) not in kept:
                    (self._folder / name).unlink(missing_ok=True)
        self._released, self._swept = set(), True

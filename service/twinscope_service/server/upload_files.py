"""The files of images that came through a server: kept in the store, each under the SHA-256 of its content."""

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
    """The folder of those files; only to be used by who holds the store for writing.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._released: set[str] = set()
        self._swept = False

    @contextmanager
    def keeping(self, digest: bytes, data: bytes) -> Iterator[None]:
        """Keep a file, durable when the body begins; where the body fails, a file that was not there goes again."""
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
        """Note that images no longer have these contents: `sweep` will remove what no other image has."""
        names = {digest.hex() for digest in digests}
        self._released |= {name for name in names if (self._folder / name).exists()}

    def sweep(self, used: Callable[[], Container[bytes]]) -> None:
        """Remove the files that were released before the last generation, and at first all that nothing refers to.

        Called by the write after the one that has released them, so that queries under way then have found them.

        Parameters
        ----------
        used : callable
            Gives the SHA-256 that images have; called only where there is something to remove.
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

"""The one writer of a store: rows first, then a generation that readers see."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE, require_recipe
from twinscope_indexer.index.faiss_file import write_index
from twinscope_indexer.store.catalog.catalog import Catalog, Generation
from twinscope_indexer.store.lock import LOCK_NAME, writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CATALOG_NAME: Final = "catalog.sqlite"
CALIBRATION: Final = "calibration"
"""Under which key the catalogue keeps it."""
_MAX_DELTA_SHARE: Final = 0.1
"""A new index file is written when more than this share of the images is not in the last one."""
_PART: Final = 1 << 12
"""Codes that are in memory while the index file is written."""


class StoreWriter:
    """The one writer of a store; use `open_writer`.

    Attributes
    ----------
    catalog : Catalog
    generation : int
        The number under which new rows are written; readers see them after `publish`.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self.catalog = catalog
        published = catalog.published()
        self.generation = 1 if published is None else published.number + 1

    def publish(self) -> int:
        """Let readers see all that was written; write a new index file where the last one is far behind.

        Returns
        -------
        int
            The newest generation.
        """
        catalog = self.catalog
        newest, filed = catalog.published(), catalog.newest_file()
        if newest is not None and not catalog.unpublished(newest.number):
            if filed is not None and filed.file is not None and (self.folder / filed.file).exists():
                return newest.number
            self._write_index(newest.number)
            return newest.number
        since = filed.number if filed is not None else 0
        behind = len(catalog.changed_since(since, upto=self.generation))
        count = catalog.count_hashed(upto=self.generation)
        if filed is None or behind > _MAX_DELTA_SHARE * count:
            self._write_index(self.generation)
        else:
            catalog.publish(Generation(self.generation, count, RECIPE, None, None, utc_now()))
        self.generation += 1
        return self.generation - 1

    def set_calibration(self, text: str) -> None:
        """Set what readers are to judge matches by; empty for none of the store's own."""
        self.catalog.set_meta(CALIBRATION, text)

    def _write_index(self, number: int) -> None:
        count = self.catalog.count_hashed(upto=number)
        parts = self.catalog.code_batches(_PART, above=0, upto=number)
        name = f"index-{number}.faiss"
        if (self.folder / name).exists():  # a damaged one: never overwritten in place, a reader may have it mapped
            (self.folder / name).unlink()
        digest = write_index(self.folder / name, count, parts)
        with self.catalog.transaction():
            self.catalog.publish(Generation(number, count, RECIPE, name, digest, utc_now()))
        for stale in self.folder.glob("index-*.faiss*"):
            if stale.name != name:
                stale.unlink(missing_ok=True)


@contextmanager
def open_writer(folder: Path, *, create: bool = False) -> Iterator[StoreWriter]:
    """Open a store for writing; only one writer at a time, over all processes.

    Parameters
    ----------
    folder : Path
        The store.
    create : bool
        Make a new store where there is none.

    Raises
    ------
    StoreLockedError
        If another process is writing; the message names it.
    StoreError
        If there is no store, or it cannot be used.
    """
    if create:
        _make_folder(folder)
    elif not (folder / CATALOG_NAME).exists():
        msg = f"{folder} holds no Twinscope store; make one with 'twinscope index SOURCE --store {folder}'"
        raise StoreError(msg)
    with writer_lock(folder / LOCK_NAME):
        catalog = Catalog(folder / CATALOG_NAME, create=create)
        try:
            recipe = catalog.published()
            if recipe is not None:
                require_recipe(recipe.recipe)
            yield StoreWriter(folder, catalog)
        except sqlite3.Error as error:
            msg = f"the catalogue of {folder} cannot be used: {error}. Is the disk full, or the file damaged?"
            raise StoreError(msg) from error
        finally:
            catalog.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = not (folder / CATALOG_NAME).exists() and any(p.name != LOCK_NAME for p in folder.iterdir())
    except OSError as error:
        msg = f"the store {folder} cannot be made: {error.strerror or error}"
        raise StoreError(msg) from error
    if foreign:
        msg = f"{folder} is not empty and holds no Twinscope store; name a new or an empty folder"
        raise StoreError(msg)


def repair(folder: Path) -> None:
    """Write the index file anew, where this process may write and nobody else does.

    Not where a writer was killed before it published: what its rows have replaced is not among the codes, and the next
    one that publishes writes a file.
    """
    try:
        with open_writer(folder) as writer:
            published = writer.catalog.published()
            filed = writer.catalog.newest_file()
            if published is None or filed is None or filed.file is None or writer.catalog.unpublished(published.number):
                return
            (folder / filed.file).unlink(missing_ok=True)
            writer._write_index(published.number)
    except StoreError:
        return  # read-only, or a writer is at work: the view in memory is whole all the same

"""Writer of a store: new rows are first written to the catalog, and then published as a generation."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE, require_recipe
from twinscope_indexer.index.faiss_file import write_index
from twinscope_indexer.store.catalog.catalog import Catalog, Generation
from twinscope_indexer.store.lock import LOCK_NAME, OWNER_NAME, writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CATALOG_NAME: Final = "catalog.sqlite"
CALIBRATION: Final = "calibration"
"""Name of the setting that stores the calibration in the catalog."""
_MAX_DELTA_SHARE: Final = 0.1
"""Maximum share of images that were added, changed or deleted after the last index file was written. If more images
have changed, a new index file is written."""
_BATCH: Final = 1 << 12
"""Number of codes that are read at a time while the index file is written."""


class StoreWriter:
    """Object that writes to a store; call `open_writer` to get this object.

    Attributes
    ----------
    catalog : Catalog
        Catalog of the store, open for writing.
    generation : int
        Number of the generation to which new rows belong. Readers see the new rows after `publish`.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self.catalog = catalog
        published = catalog.published()
        self.generation = 1 if published is None else published.number + 1

    def publish(self) -> int:
        """Publish everything that was written.

        If too many images have changed since the last index file (see `_MAX_DELTA_SHARE`), also write a new index file.

        Returns
        -------
        int
            Number of the newest generation.
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
        """Set the calibration for judging matches in this store; an empty text removes the calibration."""
        self.catalog.set_meta(CALIBRATION, text)

    def _write_index(self, number: int) -> None:
        count = self.catalog.count_hashed(upto=number)
        parts = self.catalog.code_batches(_BATCH, above=0, upto=number)
        name = f"index-{number}.faiss"
        if (self.folder / name).exists():
            # The file is damaged. It is not overwritten, because a reader may have mapped the file into memory.
            (self.folder / name).unlink()
        digest = write_index(self.folder / name, count, parts)
        with self.catalog.transaction():
            self.catalog.publish(Generation(number, count, RECIPE, name, digest, utc_now()))
        for stale in self.folder.glob("index-*.faiss*"):
            if stale.name != name:
                with suppress(PermissionError):  # on Windows, a file that is being read cannot be deleted
                    stale.unlink(missing_ok=True)


@contextmanager
def open_writer(folder: Path, *, create: bool = False) -> Iterator[StoreWriter]:
    """Open a store for writing; only one process at a time can open it for writing.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    create : bool
        If true, and if there is no store, a new store is created.

    Raises
    ------
    StoreLockedError
        If another process is writing to the store; the message names that process.
    StoreError
        If there is no store, or if the store cannot be used.
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
            msg = f"the catalog of {folder} cannot be used: {error}. Check for a full disk or a damaged file."
            raise StoreError(msg) from error
        finally:
            catalog.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = (path for path in folder.iterdir() if path.name not in {LOCK_NAME, OWNER_NAME})
        foreign = not (folder / CATALOG_NAME).exists() and any(others)
    except OSError as error:
        msg = f"the store {folder} cannot be created: {error.strerror or error}"
        raise StoreError(msg) from error
    if foreign:
        msg = f"{folder} is not empty and holds no Twinscope store; choose a new or an empty folder"
        raise StoreError(msg)


def repair(folder: Path) -> None:
    """Write the index file again, if this process can write to the store and no other process is writing to it.

    If a writer was killed before its rows were published, the function does nothing. In this case, the codes that these
    rows have replaced are no longer available. The next writer that publishes a generation also writes an index file.
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
        return  # the folder is read-only, or another process writes; the view in memory is still complete

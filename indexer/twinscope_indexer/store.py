"""A store: the catalogue, the published index derived from it, and the views that readers hold."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinscope_indexer.blocked import BlockedIndex
from twinscope_indexer.catalog import Catalog, Generation, utc_now
from twinscope_indexer.errors import StoreError, StoreLockedError
from twinscope_indexer.frameindex import NO_FRAMES, FrameView, load_frames
from twinscope_indexer.hamming import HammingIndex, Neighbours, merge
from twinscope_indexer.hashing import BYTES, RECIPE, require_recipe
from twinscope_indexer.indexfile import read_index, write_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from twinscope_indexer.catalog import Record

CATALOG_NAME = "catalog.sqlite"
CALIBRATION = "calibration"
"""Under which key the catalogue keeps it."""
_LOCK_NAME = "writer.lock"
_MAX_DELTA_SHARE = 0.1
"""A new index file is written when more than this share of the images is not in the last one."""


class StoreWarning(UserWarning):
    """A store had to repair itself."""


@dataclass(frozen=True, slots=True)
class View:
    """One published state of a store; immutable, so that readers share it without locks.

    Attributes
    ----------
    generation : int
        Its number.
    base : BlockedIndex
        What the index file holds, without what was changed or deleted since.
    delta : HammingIndex
        Images newer than the file.
    count : int
        Searchable images.
    file : str or None
        Name of the index file that `base` was read from.
    frames : FrameView
        The frames of the images.
    calibration : str or None
        What a calibration on this store has found, as it was stored.
    """

    generation: int
    base: BlockedIndex
    delta: HammingIndex
    count: int
    file: str | None
    frames: FrameView = NO_FRAMES
    calibration: str | None = None

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int, recipe: str = RECIPE) -> list[Neighbours]:
        """Find the k nearest images of each query.

        Parameters
        ----------
        queries : ndarray of uint8, shape (n, 128)
        k : int
        max_distance : int
            Bits.
        recipe : str
            Of the queries.

        Raises
        ------
        RecipeError
            If the queries were hashed by another recipe than the store.
        ValueError
            If the shape, the type or a limit is out of range.
        """
        require_recipe(recipe)
        old = self.base.search(queries, k, max_distance)
        if len(self.delta) == 0:
            return old
        new = self.delta.search(queries, k, max_distance)
        return [merge([a, b], k) for a, b in zip(old, new, strict=True)]


_EMPTY = BlockedIndex(np.empty(0, np.int64), np.empty((0, BYTES), np.uint8))
_EMPTY_VIEW = View(0, _EMPTY, _EMPTY, 0, None)


class Store:
    """A store opened for reading; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        The store.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._open: list[tuple[threading.Thread, Catalog]] = []
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._view = _EMPTY_VIEW
        self.refresh()
        self.store_id = self.catalog.meta("store_id") or ""

    @property
    def catalog(self) -> Catalog:
        """The catalogue, by this thread's own connection."""
        found: Catalog | None = getattr(self._local, "catalog", None)
        if found is None or found.outdated:
            found = Catalog(self.folder / CATALOG_NAME, read_only=True)
            self._local.catalog = found
            with self._lock:
                self._open.append((threading.current_thread(), found))
        return found

    @property
    def view(self) -> View:
        """The state that was last loaded."""
        return self._view

    def refresh(self) -> View:
        """Load the newest published state, if there is a newer one."""
        with self._refreshing:
            newest = self.catalog.published()
            if newest is not None and newest.number > self._view.generation:
                self._view = self._load_view()
        return self._view

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Give the records of some images by id; ids that are not stored are left out."""
        return self.catalog.records(numbers)

    def close(self) -> None:
        """Close all connections; those of other threads that still run are closed when these let go of them.

        Python crashes where a connection of SQLite is closed under a query.
        """
        with self._lock:
            for thread, catalog in self._open:
                if thread is threading.current_thread() or not thread.is_alive():
                    catalog.close()
            self._open.clear()
        self._local = threading.local()

    def _load_view(self) -> View:
        catalog = self.catalog
        while True:
            filed = catalog.newest_file()
            base = self._read_base(filed)
            with catalog.snapshot():
                if catalog.newest_file() != filed:  # a writer replaced the file meanwhile
                    continue
                published = catalog.published()
                if published is None:
                    return _EMPTY_VIEW
                require_recipe(published.recipe)
                since = 0 if base is None or filed is None else filed.number
                ids, codes = catalog.codes(above=since, upto=published.number)
                gone = catalog.changed_since(since, upto=published.number)
                frames = load_frames(catalog, self._view.frames, published.number)
                calibration = catalog.meta(CALIBRATION) or None
            delta = BlockedIndex(ids, codes)
            if base is None or filed is None:
                return View(published.number, delta, _EMPTY, len(delta), None, frames, calibration)
            base = base.leaving_out(gone)
            count = len(base) + len(delta)
            return View(published.number, base, delta, count, filed.file, frames, calibration)

    def _read_base(self, filed: Generation | None) -> BlockedIndex | None:
        if filed is None or filed.file is None or filed.sha256 is None:
            return None
        if filed.file == self._view.file:
            return self._view.base
        try:
            return BlockedIndex(*read_index(self.folder / filed.file, filed.sha256))
        except StoreError as error:
            if self.catalog.newest_file() == filed:
                warnings.warn(f"{error}; rebuilt from the catalogue", StoreWarning, stacklevel=5)
                _repair(self.folder)
            return None


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
        with self.catalog.transaction():
            self.catalog.set_meta(CALIBRATION, text)
            self.catalog.set_meta("calibrated", str(self.generation))

    def _write_index(self, number: int) -> None:
        ids, codes = self.catalog.codes(above=0, upto=number)
        name = f"index-{number}.faiss"
        if (self.folder / name).exists():  # a damaged one: never overwritten in place, a reader may have it mapped
            (self.folder / name).unlink()
        digest = write_index(self.folder / name, ids, codes)
        with self.catalog.transaction():
            self.catalog.publish(Generation(number, len(ids), RECIPE, name, digest, utc_now()))
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
    with _writer_lock(folder / _LOCK_NAME):
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
        foreign = not (folder / CATALOG_NAME).exists() and any(p.name != _LOCK_NAME for p in folder.iterdir())
    except OSError as error:
        msg = f"the store {folder} cannot be made: {error.strerror or error}"
        raise StoreError(msg) from error
    if foreign:
        msg = f"{folder} is not empty and holds no Twinscope store; name a new or an empty folder"
        raise StoreError(msg)


@contextmanager
def _writer_lock(path: Path) -> Iterator[None]:
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        msg = f"the store {path.parent} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"the store {path.parent} is being written by {_holder(path)}; wait for it, or stop it"
            raise StoreLockedError(msg) from error
        except OSError as error:  # a network drive without locks, for one
            msg = f"the store {path.parent} cannot be locked: {error.strerror or error}; keep it on a local disk"
            raise StoreError(msg) from error
        stream.truncate(0)
        command = " ".join(sys.argv)[:200]
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": utc_now()}, stream)
        stream.flush()
        yield


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']} since {who['since']} ({who['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _repair(folder: Path) -> None:
    """Write the index file anew, where this process may write and nobody else does."""
    try:
        with open_writer(folder) as writer:
            published = writer.catalog.published()
            filed = writer.catalog.newest_file()
            if published is not None and filed is not None and filed.file is not None:
                (folder / filed.file).unlink(missing_ok=True)
                writer._write_index(published.number)
    except StoreError:
        return  # read-only, or a writer is at work: the view in memory is whole all the same

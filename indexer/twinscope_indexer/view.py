"""A view: one published state of a store, its codes in memory and its rows in a snapshot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinscope_indexer.blocked import BlockedIndex
from twinscope_indexer.catalog import Catalog
from twinscope_indexer.errors import StoreError
from twinscope_indexer.frameindex import NO_FRAMES, FrameView, load_frames
from twinscope_indexer.hamming import HammingIndex, Neighbours, merge
from twinscope_indexer.hashing import BYTES, RECIPE, require_recipe
from twinscope_indexer.indexfile import read_index
from twinscope_indexer.labelling import taxonomy_of
from twinscope_indexer.snapshot import Snapshot
from twinscope_indexer.writer import CALIBRATION, CATALOG_NAME, repair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from twinscope_indexer.catalog import Generation, Record
    from twinscope_indexer.metadata import InstrumentMetadata
    from twinscope_indexer.taxonomy import Taxonomy


class StoreWarning(UserWarning):
    """A store had to repair itself."""


@dataclass(frozen=True, slots=True)
class View:
    """One published state of a store; immutable, so that readers share it.

    Codes and rows are of the same moment, whatever is written meanwhile.

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
    store_id : str
        Of the store that it is a state of.
    taxonomy : Taxonomy
        By which the store's images are labelled.
    snapshot : Snapshot
        The rows.
    """

    generation: int
    base: BlockedIndex
    delta: HammingIndex
    count: int
    file: str | None
    frames: FrameView
    calibration: str | None
    store_id: str
    taxonomy: Taxonomy
    snapshot: Snapshot

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Give the records of some images by id; ids that are not stored are left out."""
        return self.snapshot.records(numbers)

    def thumbnail(self, number: int) -> bytes | None:
        """Give the encoded thumbnail of an image, if it is stored."""
        return self.snapshot.thumbnail(number)

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Give what the instruments of some images wrote; see `Catalog.instruments`."""
        return self.snapshot.instruments(numbers)

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


def load_view(folder: Path, held: View | None = None) -> View:
    """Load the newest published state of a store; an empty one of generation 0 where nothing was published.

    Parameters
    ----------
    folder : Path
    held : View, optional
        An earlier state of the same store: what has not changed since is not read again.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be used.
    """
    while True:
        snapshot = Snapshot(folder / CATALOG_NAME)
        try:
            with snapshot.reading() as catalog:
                filed = catalog.newest_file()
                base, harmed = _read_base(folder, filed, held)
                if harmed is None or _newest_file(folder) == filed:
                    view = _view(catalog, filed, base, held, snapshot)
                    break
        except BaseException:
            snapshot.close()
            raise
        snapshot.close()  # a writer has replaced the file meanwhile
    if harmed is not None:
        warnings.warn(f"{harmed}; rebuilt from the catalogue", StoreWarning, stacklevel=4)
        repair(folder)
    return view


def _view(
    catalog: Catalog, filed: Generation | None, base: BlockedIndex | None, held: View | None, snapshot: Snapshot
) -> View:
    published = catalog.published()
    number = 0 if published is None else published.number
    if published is not None:
        require_recipe(published.recipe)
    since = 0 if base is None or filed is None else filed.number
    delta = BlockedIndex(*catalog.codes(above=since, upto=number))
    file = None
    if base is None or filed is None:
        base, delta = delta, _EMPTY
    else:
        base, file = base.leaving_out(catalog.changed_since(since, upto=number)), filed.file
    return View(
        generation=number,
        base=base,
        delta=delta,
        count=len(base) + len(delta),
        file=file,
        frames=load_frames(catalog, NO_FRAMES if held is None else held.frames, number),
        calibration=catalog.meta(CALIBRATION) or None,
        store_id=catalog.meta("store_id") or "",
        taxonomy=taxonomy_of(catalog),
        snapshot=snapshot,
    )


def _newest_file(folder: Path) -> Generation | None:
    catalog = Catalog(folder / CATALOG_NAME, read_only=True)
    try:
        return catalog.newest_file()
    finally:
        catalog.close()


def _read_base(
    folder: Path, filed: Generation | None, held: View | None
) -> tuple[BlockedIndex | None, StoreError | None]:
    """Read an index file, if there is one; give what is wrong with it, if something is."""
    if filed is None or filed.file is None or filed.sha256 is None:
        return None, None
    if held is not None and filed.file == held.file:
        return held.base, None
    try:
        return BlockedIndex(*read_index(folder / filed.file, filed.sha256)), None
    except StoreError as error:
        return None, error


_EMPTY = BlockedIndex(np.empty(0, np.int64), np.empty((0, BYTES), np.uint8))

"""View: one generation of a store, with the codes in memory and the rows in a snapshot of the catalog."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing.perceptual import RECIPE, require_recipe
from twinscope_indexer.index.choice import image_index
from twinscope_indexer.index.faiss_file import read_index
from twinscope_indexer.index.frames import NO_FRAMES, FrameView
from twinscope_indexer.index.protocol import Index, Neighbours, ids_not_in, merge
from twinscope_indexer.index.segments import segment_size
from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.store.frames import load_frames
from twinscope_indexer.store.settings import taxonomy_of
from twinscope_indexer.store.snapshot import Snapshot
from twinscope_indexer.store.writer import CALIBRATION, CATALOG_NAME, repair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Generation, Record
    from twinscope_indexer.taxonomy import Taxonomy

_KEPT: Final = 4
"""A view keeps the indexes for at most this number of sets of categories."""
_FILE_READ_FROM: Final = 20_000
"""The index file is read only if the store has at least this number of images. For fewer images, reading the hashes
from the catalog is faster than importing FAISS, which reads the index file."""


class StoreWarning(UserWarning):
    """Warning that a store was damaged and has been repaired."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images in which a search looks: all images of a view, or only the images of some categories.

    Attributes
    ----------
    base, delta : Index
        Indexes of the images, as in `View`.
    """

    base: Index
    delta: Index

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.base) + len(self.delta)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest images of each query; see `Index.search`."""
        old = self.base.search(queries, k, max_distance)
        if len(self.delta) == 0:
            return old
        new = self.delta.search(queries, k, max_distance)
        return [merge([a, b], k) for a, b in zip(old, new, strict=True)]


@dataclass(frozen=True, slots=True)
class View:
    """One generation of a store. A view is immutable, so that several readers can share it.

    All codes and rows of a view are from the same moment, even if a writer changes the store at the same time.

    Attributes
    ----------
    generation : int
        Number of the generation.
    base : Index
        Index of the images in the newest index file, without images that were changed or deleted later.
    loaded : int
        Number of the generation to which this index file belongs.
    delta : Index
        Index of the images that are newer than the index file.
    count : int
        Number of searchable images.
    file : str or None
        Name of the index file that was read; None if `base` was read from the catalog.
    frames : FrameView
        Indexes of the frames of the images.
    calibration : str or None
        Result of the calibration on this store, or None if the store has no calibration.
    store_id : str
        Id of the store.
    taxonomy : Taxonomy
        Taxonomy of the categories in the store.
    snapshot : Snapshot
        Snapshot of the catalog; the snapshot holds the rows.
    """

    generation: int
    base: Index
    loaded: int
    delta: Index
    count: int
    file: str | None
    frames: FrameView
    calibration: str | None
    store_id: str
    taxonomy: Taxonomy
    snapshot: Snapshot
    _of_categories: dict[tuple[Catalog, frozenset[str]], Images] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    @property
    def nbytes(self) -> int:
        """Memory that the codes and ids of images and frames use, in bytes."""
        return self.base.nbytes + self.delta.nbytes + self.frames.nbytes

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of images, with the ids as keys; unknown ids are ignored."""
        return self.snapshot.records(numbers)

    def thumbnail(self, number: int) -> bytes | None:
        """Return the encoded thumbnail of an image, or None if no thumbnail is stored."""
        return self.snapshot.thumbnail(number)

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Return the instrument metadata of images, with the ids as keys; see `Catalog.instruments`."""
        return self.snapshot.instruments(numbers)

    def compacted(self) -> View:
        """Return a view of the same generation, with the codes compacted by one step; see `Index.compacted`."""
        base = self.base.compacted()
        return self if base is self.base else replace(self, base=base)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int, recipe: str = RECIPE) -> list[Neighbours]:
        """Find the k nearest images of each query.

        Parameters
        ----------
        queries : ndarray of uint8, shape (n, 128)
        k : int
            Maximum number of images that are returned for each query.
        max_distance : int
            Maximum distance in bits.
        recipe : str
            Recipe that was used to hash the queries.

        Raises
        ------
        RecipeError
            If the queries were not hashed with the recipe of the store.
        ValueError
            If the shape or the type of `queries` is wrong, or if `k` or `max_distance` is out of range.
        """
        require_recipe(recipe)
        return Images(self.base, self.delta).search(queries, k, max_distance)

    def restricted_to_categories(self, categories: frozenset[str]) -> Images:
        """Return only the images of some categories; the codes in memory are not copied.

        The results for the last few sets of categories are kept in memory. For a new set, the categories of all images
        must be read from the catalog. Each result in memory takes 8 bytes for each image of the other categories.
        """
        with self.snapshot.reading() as catalog:  # only one thread at a time
            key = catalog, categories  # in a read-only folder, the snapshot may open its catalog again
            found = self._of_categories.pop(key, None)
            if found is None:
                ids = catalog.of_categories(categories)
                found = Images(self.base.restricted_to(ids), self.delta.restricted_to(ids))
            self._of_categories[key] = found
            if len(self._of_categories) > _KEPT:
                del self._of_categories[next(iter(self._of_categories))]
        return found


def load_view(folder: Path, held: View | None = None) -> View:
    """Load the newest generation of a store, or an empty view of generation 0 if nothing was published.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    held : View, optional
        Earlier view. Data that have not changed since this view are not read again. A view of another store is ignored.

    Raises
    ------
    StoreError
        If there is no store, or if the store cannot be used.
    """
    while True:
        snapshot = Snapshot(folder / CATALOG_NAME)
        try:
            with snapshot.reading() as catalog:
                if held is not None and held.store_id != catalog.meta("store_id"):
                    held = None
                filed = catalog.newest_file()
                base, damage = _base(folder, catalog, filed, held)
                if damage is None or _newest_file(folder) == filed:
                    view = _view(catalog, base, held, snapshot)
                    break
        except BaseException:
            snapshot.close()
            raise
        snapshot.close()  # a writer has replaced the index file in the meantime
    if damage is not None:
        warnings.warn(f"{damage}; the index was rebuilt from the catalog", StoreWarning, stacklevel=4)
        repair(folder)
    return view


def _view(catalog: Catalog, base: _Base, held: View | None, snapshot: Snapshot) -> View:
    published = catalog.published()
    number = 0 if published is None else published.number
    if published is not None:
        require_recipe(published.recipe)
    codes, loaded, filed = base.codes, base.loaded, catalog.newest_file()
    if filed is not None and filed.number > loaded:
        size = segment_size(filed.images)
        codes, loaded = codes.extended(catalog.code_batches(size, above=loaded, upto=filed.number)), filed.number
    delta = image_index(len(codes)).extended([catalog.codes(above=loaded, upto=number)])
    return View(
        generation=number,
        base=codes,
        loaded=loaded,
        delta=delta,
        count=len(codes) + len(delta),
        file=base.file,
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


@dataclass(frozen=True, slots=True)
class _Base:
    """Index of the codes of a generation, without codes that were changed or deleted later.

    `file` is the name of the index file from which the codes were read.
    """

    codes: Index
    loaded: int
    file: str | None


def _base(
    folder: Path, catalog: Catalog, filed: Generation | None, held: View | None
) -> tuple[_Base, StoreError | None]:
    """Return the codes in memory, or the codes of the index file, and the error if this file is damaged.

    If codes are already in memory, these codes stay in use, even if a writer has replaced the index file. New codes are
    then read from the catalog. If the store is small, the index file is not read, because the catalog has all codes.
    """
    published = catalog.published()
    number = 0 if published is None else published.number
    if held is not None:
        # When a new index file is published, the list of deleted images in the catalog is cleared.
        forgotten = filed is not None and filed.number > held.loaded
        known = catalog.hashed(upto=held.loaded) if forgotten else None
        changed = catalog.changed_since(held.loaded, upto=number) if known is None else ids_not_in(held.base.ids, known)
        return _Base(held.base.without(changed), held.loaded, held.file), None
    empty = image_index(0 if filed is None else filed.images)
    if filed is None or filed.file is None or filed.sha256 is None or filed.images < _FILE_READ_FROM:
        return _Base(empty, 0, None), None
    try:
        parts = read_index(folder / filed.file, filed.sha256, segment_size(filed.images))
        base = empty.extended(parts).without(catalog.changed_since(filed.number, upto=number))
    except StoreError as error:
        return _Base(empty, 0, None), error
    return _Base(base, filed.number, filed.file), None

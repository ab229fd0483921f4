"""Relocation: change the paths in a store after its collection has moved to another folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from twinscope_indexer.errors import StoreError
from twinscope_indexer.store.reader import open_writer

_SAMPLE = 100
"""Before the store is changed, at most this number of images is looked for in the new folder."""


@dataclass(frozen=True, slots=True)
class Relocated:
    """Number of images that were looked for in the new folder, and number of images that were found."""

    looked_at: int
    found: int


def relocate(store: Path, old: Path, new: Path, *, force: bool = False) -> Relocated:
    """In a store, change the folder of each root that is `old` or a subfolder of `old`.

    Parameters
    ----------
    store : Path
        Folder of the store.
    old, new : Path
        The old folder and the new folder of the collection.
    force : bool
        Whether to change the store even if none of the images that were looked for exists in `new`.

    Returns
    -------
    Relocated
        If ``found`` is 0, ``looked_at`` is above 0 and `force` is False, the store was not changed.

    Raises
    ------
    StoreError
        If no root of the store is `old` or a subfolder of `old`. The error is also raised if `new` contains another
        root of the store, or if another root contains `new`. Otherwise, two roots would contain the same images.
    """
    before, after = Path(os.path.abspath(old)), Path(os.path.abspath(new))  # noqa: PTH100  resolve() would replace links
    with open_writer(store) as writer:
        catalog = writer.catalog
        roots = catalog.roots()
        moves = {n: after / path.relative_to(before) for n, path in roots.items() if path.is_relative_to(before)}
        if not moves:
            known = ", ".join(str(path) for path in roots.values())
            msg = f"the store {store} has no collection at or below {before}. Its collections: {known or 'none'}"
            raise StoreError(msg)
        for other in (path for number, path in roots.items() if number not in moves):
            for path in moves.values():
                if path.is_relative_to(other) or other.is_relative_to(path):
                    msg = (
                        f"{path} overlaps another collection of the store {store}, {other}: "
                        "one folder contains the other. Use a separate folder"
                    )
                    raise StoreError(msg)
        records = (record for record in catalog.all_records() if record.root.is_relative_to(before))
        sample = list(islice(records, _SAMPLE))
        there = sum((after / record.root.relative_to(before) / record.path).exists() for record in sample)
        if there or force or not sample:
            with catalog.transaction():
                for number, path in moves.items():
                    catalog.move_root(number, path)
                catalog.set_meta("relocated", str(writer.generation))
                # Publish in the same transaction. Otherwise, one answer could contain source paths of two generations.
                writer.publish()
        return Relocated(len(sample), there)

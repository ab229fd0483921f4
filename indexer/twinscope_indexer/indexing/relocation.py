"""Relocation: the collection of a store has moved to another folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from twinscope_indexer.errors import StoreError
from twinscope_indexer.store.reader import open_writer

_SAMPLE = 100
"""Number of images to check in the new folder before the move is accepted."""


@dataclass(frozen=True, slots=True)
class Relocated:
    """How many images were checked in the new folder, and how many of them are there."""

    looked_at: int
    found: int


def relocate(store: Path, old: Path, new: Path, *, force: bool = False) -> Relocated:
    """Change the folder of a root of a store, or of all roots below a folder.

    Parameters
    ----------
    store : Path
        The store's folder.
    old, new : Path
        The folder where the collection was, and the one where it is now.
    force : bool
        Change it even if none of the checked images is there.

    Returns
    -------
    Relocated
        Without `force`, nothing was changed if ``found`` is 0 and ``looked_at`` is above 0.

    Raises
    ------
    StoreError
        If the store has no root at or below `old`, or if `new` lies above or below another root: the two would
        share images.
    """
    before, after = Path(os.path.abspath(old)), Path(os.path.abspath(new))  # noqa: PTH100  keep the names of links
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
                        "one folder contains the other. Use a folder apart from it"
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
                writer.publish()  # in the same transaction: all sources in an answer belong to one generation
        return Relocated(len(sample), there)

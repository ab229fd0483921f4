"""Relocation: the collection that a store was made of is in another place now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from twinscope_indexer.errors import StoreError
from twinscope_indexer.store.reader import open_writer

_SAMPLE = 100
"""Images that are looked for in the new place before it is believed."""


@dataclass(frozen=True, slots=True)
class Relocated:
    """What was found in the new place."""

    looked_at: int
    found: int


def relocate(store: Path, old: Path, new: Path, *, force: bool = False) -> Relocated:
    """Let a root of a store, or a folder above several of them, be another folder from now on.

    Parameters
    ----------
    store : Path
        The store's folder.
    old, new : Path
        Where the collection was and where it is.
    force : bool
        Also when none of the images looked for is there.

    Returns
    -------
    Relocated
        Without `force`, nothing was changed if ``found`` is 0 and ``looked_at`` is not.

    Raises
    ------
    StoreError
        If the store has no root at or below `old`, or `new` lies above or below another one: then images of one
        would be those of the other.
    """
    before, after = Path(os.path.abspath(old)), Path(os.path.abspath(new))  # noqa: PTH100  links keep their names
    with open_writer(store) as writer:
        catalog = writer.catalog
        roots = catalog.roots()
        moves = {n: after / path.relative_to(before) for n, path in roots.items() if path.is_relative_to(before)}
        if not moves:
            known = ", ".join(str(path) for path in roots.values())
            msg = f"the store {store} knows nothing at or below {before}; its collections: {known or 'none'}"
            raise StoreError(msg)
        for other in (path for number, path in roots.items() if number not in moves):
            for path in moves.values():
                if path.is_relative_to(other) or other.is_relative_to(path):
                    msg = f"{path} and {other}, another collection of the store {store}, lie one within the other"
                    raise StoreError(msg)
        records = (record for record in catalog.all_records() if record.root.is_relative_to(before))
        sample = list(islice(records, _SAMPLE))
        there = sum((after / record.root.relative_to(before) / record.path).exists() for record in sample)
        if there or force or not sample:
            with catalog.transaction():
                for number, path in moves.items():
                    catalog.move_root(number, path)
                catalog.set_meta("relocated", str(writer.generation))
                writer.publish()  # or nothing of it: the sources in answers are of one generation
        return Relocated(len(sample), there)

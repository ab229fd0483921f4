"""Search for the references with the hashes nearest to the hashes of queries, without excluded references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.perceptual import PHash, require_recipe
from twinscope_indexer.index.protocol import Neighbours

from twinscope_service.matching.answer import Match
from twinscope_service.matching.deepening import deepening
from twinscope_service.thresholds import SURE_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.query import Limits

_DEEPEST: Final = 1024
"""Maximum number of references that are checked to find a reference of another category."""


def nearest(
    view: View, hashes: Sequence[PHash], policy: Policy, limits: Limits
) -> tuple[list[Neighbours], dict[int, Record]]:
    """Search for the neighbours of several hashes in one scan, and read the records of the neighbours.

    Parameters
    ----------
    view : View
    hashes : sequence of PHash
    policy : Policy
        Contains the number of candidates and their maximum distance.
    limits : Limits
        Restrictions of the search. If too many of the results are excluded references, the search is repeated in the
        allowed categories only.

    Returns
    -------
    neighbours : list of Neighbours
        Neighbours of each hash.
    records : dict
        Maps the number of each neighbour to its record.

    Raises
    ------
    RecipeError
        If the recipe of a hash differs from the recipe of the store.
    """
    for recipe in {hashed.recipe for hashed in hashes}:
        require_recipe(recipe)
    codes = np.frombuffer(b"".join(hashed.code for hashed in hashes), np.uint8).reshape(-1, BYTES)
    found = view.search(codes, limits.depth(policy), policy.max_distance)
    records = view.records([number for near in found for number in near.ids.tolist()])
    return (_allowed(view, codes, found, records, policy, limits) if limits else found), records


def contested(
    view: View, code: bytes, near: Neighbours, records: dict[int, Record], policy: Policy, limits: Limits
) -> Neighbours:
    """Replace the last neighbour by the nearest reference of another category if all neighbours are copies of an image.

    Without this replacement, a few copies of an image in one category would hide a copy in another category.

    Parameters
    ----------
    view : View
    code : bytes
        Hash whose neighbours are in `near`.
    near : Neighbours
    records : dict
        Records of the neighbours. The function adds the records of all other references that it finds.
    policy : Policy
    limits : Limits
    """
    labels = {records[number].category for number in near.ids.tolist() if number in records}
    if not 2 <= policy.k == len(near.ids) or len(labels) != 1 or near.distances[-1] - near.distances[0] > SURE_BITS:
        return near
    limit = min(int(near.distances[0]) + SURE_BITS, policy.max_distance)

    def search(depth: int) -> list[tuple[int, int]]:
        [deeper] = view.search(np.frombuffer(code, np.uint8)[None], depth, limit)
        records.update(view.records([number for number in deeper.ids.tolist() if number not in records]))
        return list(zip(deeper.ids.tolist(), deeper.distances.tolist(), strict=True))

    for found in deepening(search, 4 * policy.k, _DEEPEST):
        for number, distance in found:
            if number in records and records[number].category not in labels and limits.allow(number, records):
                ids, distances = [*near.ids[:-1], number], [*near.distances[:-1], distance]
                return Neighbours(np.array(ids, np.int64), np.array(distances, np.int32))
    return near


def candidates(near: Neighbours, records: dict[int, Record], note: str = "") -> list[Match]:
    """Return neighbours as candidates, without the neighbours that have no record.

    Neighbours without a record can occur in a store without snapshots.
    """
    return [
        Match.of(records[number], distance, note)
        for number, distance in zip(near.ids.tolist(), near.distances.tolist(), strict=True)
        if number in records
    ]


def _allowed(
    view: View,
    codes: NDArray[np.uint8],
    found: list[Neighbours],
    records: dict[int, Record],
    policy: Policy,
    limits: Limits,
) -> list[Neighbours]:
    """Return the allowed neighbours of each hash; repeat the search for hashes with too few allowed neighbours."""
    depth = limits.depth(policy)
    kept = [_kept(near, records, limits) for near in found]
    short = [
        i for i, (near, some) in enumerate(zip(found, kept, strict=True))
        if len(near.ids) == depth and len(some.ids) < policy.k
    ]  # fmt: skip
    if short and limits.categories is not None:  # `depth` already includes one position for the query itself
        alone = view.restricted_to_categories(limits.categories).search(codes[short], depth, policy.max_distance)
        records.update(view.records([number for near in alone for number in near.ids.tolist()]))
        for i, near in zip(short, alone, strict=True):
            kept[i] = _kept(near, records, limits)
    return [Neighbours(some.ids[: policy.k], some.distances[: policy.k]) for some in kept]


def _kept(near: Neighbours, records: dict[int, Record], limits: Limits) -> Neighbours:
    allowed = np.array([limits.allow(number, records) for number in near.ids.tolist()], dtype=bool)
    return Neighbours(near.ids[allowed], near.distances[allowed])

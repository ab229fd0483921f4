"""Search for the references near a query or near its twin. Some of these references may be look-alikes."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.arrays import hamming
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.hashing.frames import WHOLE, frame_codes

from twinscope_service.matching.deepening import deepening
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.thresholds import RECORDING_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

_COMPARED: Final = 8
"""Number of references nearest to the query that are compared. The same number of references nearest to the twin is
also compared. If many images of a collection share an artefact, some of these references contain the artefact."""
_DEEPEST: Final = 1024
"""Maximum number of references that a search requests if most of the nearest references are copies of the twin."""


def thumbnails_near(
    record: Record, seen: NDArray[np.uint8], view: View, without: int | None
) -> tuple[dict[int, NDArray[np.uint8]], dict[int, Record]]:
    """Search for the references nearest to a query and nearest to its twin.

    Parameters
    ----------
    record : Record
        Record of the twin.
    seen : ndarray of uint8, shape (height, width)
        Thumbnail of the query, in the orientation of the twin.
    view : View
        State of the store.
    without : int or None
        Number of an image that is excluded.

    Returns
    -------
    thumbnails : dict of int to ndarray
        Maps the number of each of the nearest references to its thumbnail.
    records : dict of int to Record
        Maps the number of each reference that the search found to its record.
    """
    known: dict[int, Record] = {record.id: record}
    codes = np.concatenate(
        (frame_codes(seen, (WHOLE,)), np.frombuffer(record.hash or b"", np.uint8).reshape(-1, BYTES))
    )
    kept: dict[int, NDArray[np.uint8]] = {}
    for code in codes:
        kept |= _others(code, record, view, known, without)
    return kept, known


def _others(
    code: NDArray[np.uint8], record: Record, view: View, known: dict[int, Record], without: int | None
) -> dict[int, NDArray[np.uint8]]:
    """Return the thumbnails of the references nearest to a hash, without recordings of the twin's field.

    If too many of the nearest references are such recordings, the search is repeated with more results. A search
    without repetition could find only copies of the twin, and no look-alikes.
    """
    found: dict[int, NDArray[np.uint8]] = {}

    def search(depth: int) -> list[int]:
        [near] = view.search(code[None], depth, BITS)
        numbers: list[int] = near.ids.tolist()
        return numbers

    for numbers in deepening(search, 2 * _COMPARED, _DEEPEST):
        known |= view.records([number for number in numbers if number not in known])
        usable = (
            number for number in numbers
            if number not in {record.id, without} and number in known and not _is_recording(known[number], record)
        )  # fmt: skip
        found = dict(islice(_thumbnails(view, usable), _COMPARED))
        if len(found) == _COMPARED:
            break
    return found


def _is_recording(one: Record, other: Record) -> bool:
    """Return whether two references have the same category, and hashes that prove that both show the same field."""
    return one.category == other.category and distance_of(one.hash, other.hash) <= RECORDING_BITS


def _thumbnails(view: View, numbers: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the number and the thumbnail of each reference that has an undamaged thumbnail."""
    for number in numbers:
        with suppress(ImageError):
            yield number, reference_thumbnail(view, number)


def distance_of(one: bytes | None, other: bytes | None) -> int:
    """Return the Hamming distance of two hashes in bits; 1024 if a hash is missing."""
    if one is None or other is None:
        return BITS
    return int(hamming(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))

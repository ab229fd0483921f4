"""Rivals: other references that look as much like a query as its twin does, though they show something else.

What many pictures of a collection share (an aperture, a panel beside the field, dust, the pattern of a camera) can look
like a field to every measure that compares two pictures. It shows as soon as a third one is looked at: a twin is alike
alone, a shared artefact makes all of them alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.frames import SYMMETRIES, WHOLE, frame_codes
from twinscope_indexer.hashing import BITS
from twinscope_indexer.thumbnail import decode_thumbnail

from twinscope_service.scene import scene_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.view import View

    from twinscope_service.answer import Match
    from twinscope_service.reaching import Allowed

_LOOKED_AT: Final = 8
"""The nearest others; where a collection shares something, they do."""
_SURE: Final = 200
"""Bits. Pictures of different fields that share an aperture were 346 bits apart and more, that share a mask 412, dust
220, the coarse pattern of a camera 192: nearer twins are taken for sure, which the last of these is not quite."""
_SAME_FIELD: Final = 0.9
"""Scene score of two references that show one field, shifted, tilted or changed; what else is shared makes less."""
_FIELD: Final = 0.85
"""Share of the height, from the top, that no info bar covers."""
_LEAST: Final = 0.35
"""Scene score of a rival. Of 15,399 pairs of real micrographs of different scenes none scored above 0.32."""


def strongest_rival(best: Match, thumbnail: NDArray[np.uint8], view: View, allowed: Allowed) -> float:
    """Give the highest scene score of a query with a reference that shows another field than its twin.

    Parameters
    ----------
    best : Match
        The twin.
    thumbnail : ndarray of uint8, shape (height, width)
        Of the query.
    view : View
    allowed : callable
        Whether an image may be looked at.

    Returns
    -------
    float
        0 where nothing comes near.
    """
    if best.distance <= _SURE:
        return 0.0
    turned = "" if best.transform is None else best.transform.symmetry
    symmetry = next(one for one in SYMMETRIES if str(one) == turned)
    seen = symmetry.applied(thumbnail)
    [near] = view.search(frame_codes(seen, (WHOLE,)), 2 * _LOOKED_AT, BITS)
    own = int(best.image_id, 16)
    records = view.records([own, *near.ids.tolist()])
    twin = view.thumbnail(own)
    if own not in records or twin is None:
        return 0.0
    others = [n for n in near.ids.tolist() if n != own and n in records and allowed(n, records)]
    copies = {n for n in others if _distance(records[own].hash, records[n].hash) <= _SURE}
    stored = [view.thumbnail(n) for n in others if n not in copies]
    pictures = [decode_thumbnail(data) for data in stored[:_LOOKED_AT] if data is not None]
    fields = [_field(picture) for picture in pictures]
    found = zip(scene_scores(seen, pictures), scene_scores(_field(decode_thumbnail(twin)), fields), strict=True)
    highest = max((one.score for one, same in found if same.score < _SAME_FIELD), default=0.0)
    return highest if highest >= _LEAST else 0.0


def _field(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return thumbnail[: max(1, round(thumbnail.shape[0] * _FIELD))]


def _distance(one: bytes | None, other: bytes | None) -> int:
    if one is None or other is None:
        return BITS
    return int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())

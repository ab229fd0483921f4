"""Reframing: change the reach of a store. The new frames are computed from the thumbnails. The images are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.frames import FRAMES_RECIPE, frame_codes, reference_frames
from twinscope_indexer.hashing.reach import Reach
from twinscope_indexer.hashing.thumbnail import decode_thumbnail

if TYPE_CHECKING:
    from twinscope_indexer.store.reader import StoreWriter

_BATCH = 256
_UNFINISHED = f"{FRAMES_RECIPE} (unfinished)"


def encoded_frames(thumbnail: bytes, reach: Reach) -> bytes:
    """Return the concatenated codes of an image's frames, computed from its encoded thumbnail.

    For the reach ``frame``, which uses only the whole image, the result is empty.
    """
    frames = reference_frames(reach)
    return frame_codes(decode_thumbnail(thumbnail), frames).tobytes() if frames else b""


def set_reach(writer: StoreWriter, reach: Reach, workers: int) -> None:
    """Change the reach of a store. If frames that the new reach needs are missing for an image, they are computed.

    If the function is interrupted, the store keeps its old reach. The work can be continued with another call for the
    same reach.

    Parameters
    ----------
    writer : StoreWriter
    reach : {"frame", "views", "windows"}
        The new reach.
    workers : int
        Number of threads.
    """
    catalog = writer.catalog
    recipe = catalog.meta("frames_recipe")
    if (catalog.meta("reach"), recipe) == (reach, FRAMES_RECIPE):
        return
    if recipe not in (FRAMES_RECIPE, _UNFINISHED):
        with catalog.transaction():
            catalog.forget_frames()
            catalog.set_meta("frames_recipe", _UNFINISHED)

    def with_frames(row: tuple[int, bytes]) -> tuple[int, bytes]:
        try:
            return row[0], encoded_frames(row[1], reach)
        except ImageError:  # damaged thumbnail: this image can only be found by the hash of the whole image
            return row[0], b""

    frames = len(reference_frames(reach))  # a smaller reach uses only the first stored frames
    if frames:
        catalog.begin()
        try:
            for done, (number, codes) in enumerate(in_order(with_frames, catalog.without_frames(frames), workers), 1):
                if codes:
                    catalog.put_frames(number, codes)
                if done % _BATCH == 0:
                    catalog.commit()
                    catalog.begin()
        finally:
            catalog.commit()
    with catalog.transaction():
        catalog.set_meta("reach", reach)
        catalog.set_meta("frames_recipe", FRAMES_RECIPE)
        catalog.set_meta("reframed", str(writer.generation))

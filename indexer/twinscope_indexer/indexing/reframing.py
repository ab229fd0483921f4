"""Reframing: compute other frames of a store from its thumbnails, without reading its images again."""

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

    The result is empty if the reach is the whole image alone.
    """
    frames = reference_frames(reach)
    return frame_codes(decode_thumbnail(thumbnail), frames).tobytes() if frames else b""


def set_reach(writer: StoreWriter, reach: Reach, workers: int) -> None:
    """Compute the frames of a reach for every stored image that lacks them.

    If interrupted, the store keeps its old reach, and the same call resumes the work.

    Parameters
    ----------
    writer : StoreWriter
    reach : {"frame", "views", "windows"}
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
        except ImageError:  # damaged thumbnail: only the hash of the whole image finds it
            return row[0], b""

    frames = len(reference_frames(reach))  # if these are fewer than before, the first ones are used
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

"""Reframing: a store gets other frames, from its thumbnails, without its images being read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.frames import FRAMES_RECIPE, frame_codes, reference_frames
from twinscope_indexer.hashing.reach import Reach
from twinscope_indexer.hashing.thumbnail import decode_thumbnail

if TYPE_CHECKING:
    from twinscope_indexer.store.reader import StoreWriter

_TOGETHER = 256
_UNFINISHED = f"{FRAMES_RECIPE} (unfinished)"


def encoded_frames(thumbnail: bytes, reach: Reach) -> bytes:
    """Give the codes of an image's frames, one after the other, from its encoded thumbnail.

    Empty where the reach is the frame alone.
    """
    frames = reference_frames(reach)
    return frame_codes(decode_thumbnail(thumbnail), frames).tobytes() if frames else b""


def set_reach(writer: StoreWriter, reach: Reach, workers: int) -> None:
    """Give every stored image the frames of a reach; those that have them keep them.

    Interrupted, the store keeps its old reach; the same call goes on from there.

    Parameters
    ----------
    writer : StoreWriter
    reach : {"frame", "views", "windows"}
    workers : int
        Threads.
    """
    catalog = writer.catalog
    recipe = catalog.meta("frames_recipe")
    if (catalog.meta("reach"), recipe) == (reach, FRAMES_RECIPE):
        return
    if recipe not in (FRAMES_RECIPE, _UNFINISHED):
        with catalog.transaction():
            catalog.forget_frames()
            catalog.set_meta("frames_recipe", _UNFINISHED)

    def made(row: tuple[int, bytes]) -> tuple[int, bytes]:
        try:
            return row[0], encoded_frames(row[1], reach)
        except ImageError:  # a damaged thumbnail: the image is found by its own hash only
            return row[0], b""

    frames = len(reference_frames(reach))  # fewer than before: the first ones are read
    if frames:
        catalog.begin()
        try:
            for done, (number, codes) in enumerate(in_order(made, catalog.without_frames(frames), workers), 1):
                if codes:
                    catalog.put_frames(number, codes)
                if done % _TOGETHER == 0:
                    catalog.commit()
                    catalog.begin()
        finally:
            catalog.commit()
    with catalog.transaction():
        catalog.set_meta("reach", reach)
        catalog.set_meta("frames_recipe", FRAMES_RECIPE)
        catalog.set_meta("reframed", str(writer.generation))

"""Conversion of 8-bit colour to grey (luma) with the same result as Pillow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute import scratch
from twinscope_indexer.compute.jit import compiled


def luma(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert colour to grey.

    The grey value is the luma of ITU-R BT.601-7, section 2.5.1. The weights are integers in units of 1/65536, as in
    Pillow's ``libImaging/Convert.c`` (``L24``). The result is therefore the same as from Pillow's ``convert("L")``.

    Parameters
    ----------
    colour : ndarray of uint8, shape (height, width, 3)
        Red, green and blue levels.

    Returns
    -------
    ndarray of uint8, shape (height, width), C-contiguous
    """
    grey: NDArray[np.uint8]
    if not scratch.is_scratch(colour):
        grey = _weighted(np.ascontiguousarray(colour).reshape(-1)).reshape(colour.shape[:2])
        return grey
    grey = scratch.empty(colour.shape[:2], np.uint8)
    for rows in scratch.bands(colour, grey):
        part = np.ascontiguousarray(colour[rows])
        grey[rows] = _weighted(part.reshape(-1)).reshape(part.shape[:2])
    return grey


@compiled(error_model="numpy")
def _weighted(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = np.empty(samples.size // 3, np.uint8)
    # With the unsigned position and the 32-bit numbers, the compiler can vectorise the loop. The loop is then 4 times
    # as fast.
    for position in range(np.uint64(grey.size)):
        grey[position] = (
            np.uint32(19595) * np.uint32(samples[3 * position])
            + np.uint32(38470) * np.uint32(samples[3 * position + 1])
            + np.uint32(7471) * np.uint32(samples[3 * position + 2])
            + np.uint32(32768)
        ) >> np.uint32(16)
    return grey

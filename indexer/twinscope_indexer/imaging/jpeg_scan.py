"""The entropy-coded data of a JPEG stream: where it ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute.jit import compiled

_TOGETHER = 1024  # bytes that are looked at before it is asked whether a marker was among them


@compiled(error_model="numpy")
def first_marker(data: NDArray[np.uint8]) -> int:
    """Find the first marker: a byte 255 that is not followed by a stuffed 0 (ITU-T T.81, B.1.1.5).

    Parameters
    ----------
    data : numpy.ndarray of uint8, shape (n,)
        Read-only, contiguous: the data of a scan, and what follows.

    Returns
    -------
    int
        Its place; -1 if there is none.
    """
    last = data.size - 1
    start = 0
    while start + _TOGETHER <= last:
        first, second = data[start : start + _TOGETHER], data[start + 1 : start + 1 + _TOGETHER]
        least = np.uint8(255)  # of something that is 0 at a marker: processors find that of 32 bytes at once
        for i in range(_TOGETHER):
            other = np.uint8(first[i] ^ np.uint8(255))
            if second[i] == 0:
                other = np.uint8(255)
            least = min(least, other)
        if least == 0:
            break
        start += _TOGETHER
    for place in range(start, last):
        if data[place] == 255 and data[place + 1] != 0:
            return place
    return -1

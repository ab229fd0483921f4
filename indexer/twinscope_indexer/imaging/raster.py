"""A decoded image of any format, and the conversion to 8-bit grey or 8-bit colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinscope_indexer.compute import scratch
from twinscope_indexer.imaging import window
from twinscope_indexer.imaging.sniffing import Format
from twinscope_indexer.imaging.window import Window

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_ROWS = 256  # number of rows of a deep colour image that are converted to grey at a time


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """The result of a decoder: the pixels of an image, and a description of the image file."""

    content: Image.Image | NDArray[Any]
    """Pillow image of 8-bit samples, or array of shape (height, width) or (height, width, 3). Samples of uint8 are used
    without change. Samples of any other type are called deep samples, and need a window."""
    format: Format
    mode: str
    """Pillow's mode for the pixels in the file."""
    bits: int
    """Bits per sample in the file."""
    pages: int = 1
    page: int = 0
    white_is_zero: bool = False
    """Whether larger sample values are darker. This attribute applies only if `content` has deep samples."""

    def grey(self) -> tuple[NDArray[np.uint8], Window | None]:
        """Convert to 8-bit grey.

        Colour is converted to luma (ITU-R BT.601 with Pillow's fixed-point weights). For 8-bit content, the result is
        exactly the same as from Pillow's ``convert("L")``. For images with more than 8 bits per
        channel, luma is computed before the window of grey values is applied.

        Returns
        -------
        ndarray of uint8, shape (height, width), C-contiguous
        tuple of float or None
            The two values that were mapped to 0 and 255, or None if no window was needed.

        Raises
        ------
        ValueError
            If the image has more than 8 bits per channel and no finite value.
        """
        if isinstance(self.content, Image.Image):
            return np.array(self.content if self.content.mode == "L" else self.content.convert("L")), None
        if self.content.dtype == np.uint8:
            return _eight_bit_grey(self.content), None
        limits = window.fit(self.content)
        plane = self.content if self.content.ndim == 2 else _luma(self.content)
        return self._windowed(plane, limits), limits[::-1] if self.white_is_zero else limits

    def to_pil(self) -> Image.Image:
        """Convert to an 8-bit Pillow image of mode ``L`` for grey content, or of mode ``RGB`` for colour.

        Raises
        ------
        ValueError
            If the image has more than 8 bits per channel and no finite value.
        """
        if isinstance(self.content, Image.Image):
            return self.content.convert("L" if _is_grey(self.content) else "RGB")
        if self.content.dtype == np.uint8:
            return Image.fromarray(np.ascontiguousarray(self.content))
        return Image.fromarray(self._windowed(self.content, window.fit(self.content)))

    def _windowed(self, samples: NDArray[Any], limits: Window) -> NDArray[np.uint8]:
        grey = window.apply(samples, limits)
        if self.white_is_zero:
            for rows in scratch.bands(grey):
                np.subtract(255, grey[rows], out=grey[rows])
        return grey


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES


def _eight_bit_grey(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if samples.ndim == 2:
        return np.ascontiguousarray(samples)
    from twinscope_indexer.imaging.luma import luma  # imported here because Numba loads slowly and is rarely needed

    return luma(samples)


def _luma(colour: NDArray[Any]) -> NDArray[Any]:
    """Convert deep colour of shape (height, width, 3) to luma of shape (height, width).

    Luma is defined in ITU-R BT.601-7, section 2.5.1. The weights of the channels are in units of 1/65536, as in
    Pillow's ``libImaging/Convert.c`` (``L24``). If all three channels of a pixel are equal, luma has exactly the same
    value as the channels. 16-bit samples stay 16-bit integers. Samples of any other type are converted to float64.
    """
    exact = colour.dtype == np.uint16
    work = np.uint32 if exact else np.float64
    weights = np.array((19595, 38470, 7471), work)
    grey = scratch.empty(colour.shape[:2], np.uint16 if exact else np.float64)
    usage = scratch.Usage(grey), scratch.Usage(colour)
    for row in range(0, grey.shape[0], _ROWS):
        with np.errstate(invalid="ignore", over="ignore"):
            weighted = np.matmul(colour[row : row + _ROWS].astype(work), weights)
        # 65535 * 65536 + 32768 still fits in 32 bits
        grey[row : row + _ROWS] = (weighted + 32768) >> 16 if exact else weighted / 65536
        for used, array in zip(usage, (grey, colour), strict=True):
            used.add(array[row : row + _ROWS])
    return grey

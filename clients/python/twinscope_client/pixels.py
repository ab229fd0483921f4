"""From whatever a pipeline holds an image in to grey pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twinscope_indexer import window
from twinscope_indexer.imaging import read_image

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, as Pillow's ``convert("L")`` uses."""


def grey_pixels(image: Any) -> NDArray[np.uint8]:
    """Give 8-bit grey pixels.

    Parameters
    ----------
    image : path, bytes, binary file, ndarray or PIL image
        An image file, or pixels: shape (height, width) or (height, width, 3 or 4). Pixels of more than 8 bits go
        through the same window as those of a file; see `twinscope_indexer.window`.

    Returns
    -------
    ndarray of uint8, shape (height, width)

    Raises
    ------
    ImageError
        If the file cannot be read.
    ValueError
        If an array is no image.
    """
    if isinstance(image, Image.Image):
        deep = image.mode in {"F", "I"} or image.mode.startswith("I;")
        return _of_array(np.asarray(image)) if deep else np.array(image.convert("L"))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    return read_image(image).pixels


def _of_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (array.ndim == 2 or colour) or array.size == 0 or array.dtype.kind not in "buif":
        msg = (
            "an image array has shape (height, width) or (height, width, 3 or 4) and real numbers; "
            f"got {array.dtype} of shape {array.shape}"
        )
        raise ValueError(msg)
    if array.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(array)).convert("L"))
    grey = array[..., :3] @ _LUMA if colour else array
    grey = grey.astype(np.uint8) if grey.dtype.kind == "b" else grey
    return window.apply(grey, window.fit(grey))

"""Reading and decoding of the thumbnails of references."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.thumbnail import decode_thumbnail
from twinscope_indexer.image_id import image_id
from twinscope_indexer.store.view import View


def reference_thumbnail(view: View, number: int) -> NDArray[np.uint8]:
    """Return the thumbnail of a reference, uint8, shape (height, width).

    Raises
    ------
    ImageError
        If the store has no thumbnail of the reference, or the thumbnail is damaged.
    """
    data = view.thumbnail(number)
    if data is None:
        raise ImageError(image_id(number), "unsupported", "the store has no thumbnail of this reference")
    try:
        return decode_thumbnail(data)
    except ImageError as error:
        detail = "the thumbnail in the store is damaged; index the image again"
        raise ImageError(image_id(number), "damaged", detail) from error

"""The id of a stored image: a 63-bit number in the catalog, and 16 hexadecimal digits everywhere else."""

from __future__ import annotations

import re
from typing import Final

from twinscope_indexer.errors import UnknownImageError

_FORM: Final = re.compile(r"[0-7][0-9a-f]{15}")


def image_id(number: int) -> str:
    """Convert the number of an image in the catalog to the id of the image."""
    return f"{number:016x}"


def is_image_id(text: str) -> bool:
    """Check whether a text has the form of an image id: 16 lower-case hexadecimal digits. The first digit is 0 to 7."""
    return _FORM.fullmatch(text) is not None


def image_number(text: str) -> int:
    """Convert the id of an image to the number of the image in the catalog.

    Raises
    ------
    UnknownImageError
        If the text does not have the form of an image id.
    """
    if not is_image_id(text):
        raise UnknownImageError(text)
    return int(text, 16)

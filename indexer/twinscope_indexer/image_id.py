"""The id of a stored image: a 63-bit number in the catalog, 16 hexadecimal digits everywhere else."""

from __future__ import annotations

import re
from typing import Final

from twinscope_indexer.errors import UnknownImageError

_FORM: Final = re.compile(r"[0-7][0-9a-f]{15}")


def image_id(number: int) -> str:
    """Return the id of an image, from its number in the catalog."""
    return f"{number:016x}"


def is_image_id(text: str) -> bool:
    """Check whether a text has the form of an id: 16 lower-case hexadecimal digits, the first of them 0 to 7."""
    return _FORM.fullmatch(text) is not None


def image_number(text: str) -> int:
    """Return the number of an image in the catalog, from its id.

    Raises
    ------
    UnknownImageError
        If the text does not have the form of an id, so that no image can have it.
    """
    if not is_image_id(text):
        raise UnknownImageError(text)
    return int(text, 16)

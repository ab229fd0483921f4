"""Rules of the network protocol for the length of the names of policies and categories."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_POLICY_NAME: Final = 64
"""Maximum length of a policy name, in bytes."""
MAX_CATEGORY_NAME: Final = 256
"""Maximum length of the name, code or alias of a category, in bytes."""
MAX_CATEGORIES: Final = 64
"""Maximum number of categories that one search can be restricted to."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def name_faults(name: str, most: int) -> Iterator[str]:
    """Yield an error message if a name is empty or has more than `most` bytes."""
    size = sent_size(name)
    if not 1 <= size <= most:
        yield "must be set" if size == 0 else f"must have 1 to {most} bytes, has {size}"


def sent_size(name: str) -> int:
    """Return the number of bytes of a name in the network protocol.

    Names are sent as UTF-8; a backslash needs two bytes, and a lone surrogate needs six. See `wire.text`.
    """
    plain, surrogates = _SURROGATE.subn("", name)
    return len(plain.encode()) + plain.count("\\") + 6 * surrogates

"""Rules of the wire contract for the length of policy and category names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_POLICY_NAME: Final = 64
"""Maximum bytes of a policy name."""
MAX_CATEGORY_NAME: Final = 256
"""Maximum bytes of the name, code or alias of a category."""
MAX_CATEGORIES: Final = 64
"""Maximum number of categories that one search can be restricted to."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def name_faults(name: str, most: int) -> Iterator[str]:
    """Yield what is wrong with a name: it is empty, or has more than `most` bytes."""
    size = sent_size(name)
    if not 1 <= size <= most:
        yield "must be set" if size == 0 else f"must have 1 to {most} bytes, has {size}"


def sent_size(name: str) -> int:
    """Return the bytes of a name on the wire: UTF-8, a backslash as two, a lone surrogate as six; see `wire.text`."""
    plain, surrogates = _SURROGATE.subn("", name)
    return len(plain.encode()) + plain.count("\\") + 6 * surrogates

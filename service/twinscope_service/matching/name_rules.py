"""The contract's rules for names: how long the name of a policy or a category may be, as it is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_POLICY_NAME: Final = 64
"""Bytes of the name of a policy."""
MAX_CATEGORY_NAME: Final = 256
"""Bytes of the name, code or alias of a category."""
MAX_CATEGORIES: Final = 64
"""Categories that one search may be restricted to."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def name_faults(name: str, most: int) -> Iterator[str]:
    """Find what is wrong with a name: empty, or of more bytes than `most`."""
    size = sent_size(name)
    if not 1 <= size <= most:
        yield "must be set" if size == 0 else f"must have 1 to {most} bytes, has {size}"


def sent_size(name: str) -> int:
    """Return the bytes of a name as it is sent: UTF-8, a backslash as two, a lone surrogate as six (`wire.text`)."""
    plain, surrogates = _SURROGATE.subn("", name)
    return len(plain.encode()) + plain.count("\\") + 6 * surrogates

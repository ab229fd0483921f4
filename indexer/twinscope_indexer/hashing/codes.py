"""The size of a hash."""

from typing import Final

BITS: Final = 1024
"""Number of bits of a hash."""
BYTES: Final = BITS // 8
"""Number of bytes of a hash; the first bit is the most significant one of the first byte."""

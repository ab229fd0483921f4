"""The size of a hash."""

from typing import Final

BITS: Final = 1024
"""Number of bits of a hash."""
BYTES: Final = BITS // 8
"""Number of bytes of a hash. The first bit of the hash is the most significant bit of the first byte."""

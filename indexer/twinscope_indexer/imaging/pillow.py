"""Pillow's decoders, with their errors as `ImageError`.

The plugins are used directly: ``Image.open`` would warn about large images or refuse them by a global setting, and
would try other formats. Every header is checked against the pixel budget and against the length of the file before
memory is allocated. Metadata is not passed to the decoders: it does not affect the pixels, and causes warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twinscope_indexer.errors import ImageError, ImageFault


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert the errors of Pillow's plugins and imagecodecs for invalid data to `ImageError`."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file could not be read; its content may be valid
        detail = str(error) or type(error).__name__
        raise ImageError(name, _fault(detail), f"cannot be decoded: {detail}") from error


def _fault(detail: str) -> ImageFault:
    lowered = detail.lower()
    if "truncated" in lowered or "not enough image data" in lowered:
        return "truncated"
    return "unsupported" if "unsupported" in lowered or "cannot handle" in lowered else "damaged"

"""Conversion of the errors of Pillow's decoders to `ImageError`.

Twinscope calls Pillow's plugins directly. ``Image.open`` would also try other formats. For a large image,
``Image.open`` would issue a warning, or raise an error because of a global setting. Before memory is allocated, the
size in the header of an image is compared with the pixel budget and with the length of the file. Metadata is not passed
to the decoders, because metadata does not affect the pixels and causes warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twinscope_indexer.errors import ImageError, ImageFault


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert the errors that Pillow's plugins and imagecodecs raise for invalid data to `ImageError`."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError) as error:  # the text would describe the code, not the file
        raise ImageError(name, "damaged", "cannot be decoded: its header is invalid") from error
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

"""Search for many images in one call. For an image that cannot be read, the result is an error instead of an answer."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from PIL import Image
from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError, TwinscopeError
from twinscope_service.errors import OptionError

from twinscope_client.engine.images import can_hold_an_image
from twinscope_client.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twinscope_service.matching.answer import Answer

T = TypeVar("T")

IMAGES_AT_ONCE: Final = min(os.cpu_count() or 1, 16)
"""Default number of images that are read, hashed and compared at the same time."""


def search_all(
    search: Callable[[T], Answer], images: Iterable[T], workers: int | None
) -> Iterator[tuple[T, Answer | ImageError]]:
    """Search for the twins of many images, in several threads; see `Engine.search_many`.

    Parameters
    ----------
    search : callable
        Function that returns the answer for one image.
    images : iterable
        The images. The thread of the caller reads this iterable, only a few images in advance.
    workers : int, optional
        Number of threads; `IMAGES_AT_ONCE` by default.
    """
    require_several(images, workers)
    return in_order(partial(_searched, search), images, workers or IMAGES_AT_ONCE)


def require_several(images: object, workers: int | None) -> None:
    """Check the arguments of `search_many` before the first search.

    Raises
    ------
    TypeError
        If `images` is one image instead of a list or an iterator of images.
    OptionError
        If `workers` is not a whole number of at least 1.
    """
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)) or not hasattr(images, "__iter__"):
        msg = f"search_many takes a list of images, or an iterator, not {type(images).__name__}; search takes one image"
        raise TypeError(msg)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        msg = f"workers must be a whole number of at least 1, got {workers!r}"
        raise OptionError(msg)


def _searched(search: Callable[[T], Answer], image: T) -> tuple[T, Answer | ImageError]:
    try:
        return image, search(image)
    except Exception as error:  # noqa: BLE001  an error in one image must not stop the other searches
        return image, fault_of(image, error)


def fault_of(image: object, error: Exception) -> ImageError:
    """Convert an exception to an `ImageError` for one image.

    The `ImageError` has no traceback, because a traceback would keep the content of the file in memory.

    Raises
    ------
    TwinscopeError
        If the store, the server or the options caused the error. Such an error would occur for every image.
    """
    if isinstance(error, TwinscopeError) and not _concerns_the_image(error):
        raise error
    name = os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else type(image).__name__
    match error:
        case ImageError():
            fault = ImageError(error.source, error.fault, error.detail)
        case ServerError():
            fault = ImageError(name, "unreadable", f"the file changed while it was uploaded: {error}")
        case MemoryError():
            fault = ImageError(name, "too_large", "not enough memory to decode it")
        case TypeError() if not can_hold_an_image(image):
            fault = ImageError(name, "unsupported", str(error))
        case _:
            fault = ImageError(name, "damaged", f"unexpected {type(error).__name__}: {error}")
    return fault


def _concerns_the_image(error: TwinscopeError) -> bool:
    return isinstance(error, ImageError) or (isinstance(error, ServerError) and error.reason == "UPLOAD_DAMAGED")


def image_name(image: Any) -> str | None:
    """Return the path of an image as text for a table, or None if the image has no path."""
    return os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else None

"""Searches of many images in one call: answers in order, with the error of a bad image instead of its answer."""

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
"""Images that are read, hashed and compared at the same time by default."""


def search_all(
    search: Callable[[T], Answer], images: Iterable[T], workers: int | None
) -> Iterator[tuple[T, Answer | ImageError]]:
    """Search many images in threads; see `Engine.search_many`.

    Parameters
    ----------
    search : callable
        Returns the answer for one image.
    images : iterable
        Consumed in the caller's thread, a few images ahead of the next answer.
    workers : int, optional
        Number of threads.
    """
    require_several(images, workers)
    return in_order(partial(_searched, search), images, workers or IMAGES_AT_ONCE)


def require_several(images: object, workers: int | None) -> None:
    """Check the arguments of `search_many` before any image is searched.

    Raises
    ------
    TypeError
        If `images` is one image instead of several.
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
    except Exception as error:  # noqa: BLE001  an error of one file must not stop the others
        return image, fault_of(image, error)


def fault_of(image: object, error: Exception) -> ImageError:
    """Return the error of one image as a value, without its traceback, whose frames hold the content of the file.

    Raises
    ------
    TwinscopeError
        If the error comes from the store, the server or the options, and so concerns every image.
    """
    if isinstance(error, TwinscopeError) and not _concerns_the_image(error):
        raise error
    name = os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else type(image).__name__
    match error:
        case ImageError():
            fault = ImageError(error.source, error.fault, error.detail)
        case ServerError():
            fault = ImageError(name, "unreadable", f"it changed while it was uploaded: {error}")
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
    """Return the path of an image for a table; None if the image has no path."""
    return os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else None

"""What can be asked of a store, embedded or behind a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_service.matching.answer import Answer

    from twinscope_client.engine.options import HashOptions, SearchManyOptions, SearchOptions

T = TypeVar("T")


class Engine(Protocol):
    """A store that answers; made by `connect`.

    It can be pickled, also for a process that is spawned: the pickle holds the target and the options, and opens it
    again. A token is never in it; see `twinscope_client.connect`.
    """

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image.

        Parameters
        ----------
        image : path, bytes, binary file, ndarray or PIL image
            An image file, or grey or RGB(A) pixels; more than 8 bits are taken through the same window as a TIFF.
        **options : SearchOptions
            Policy, thresholds, categories and so on; all of them are optional.

        Returns
        -------
        Answer

        Raises
        ------
        ImageError
            If the image cannot be read.
        TaxonomyError
            If a category is unknown.
        GenerationError
            If `min_generation` was not published in time.
        OptionError
            If an option, policy or threshold is unknown, misspelt or out of range.
        ClosedError
            If the engine was closed.
        """

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> Iterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images, several at the same time, answered in the order of the images.

        An image that cannot be read has its `ImageError` in the place of its answer: it stops nothing, and is not
        dropped. What concerns every image (an unknown category, a server that is gone) is raised.

        Parameters
        ----------
        images : iterable
            Paths, arrays and whatever else `search` takes; read a few ahead of the answer that is waited for, so that
            it may be endless.
        workers : int, optional
            Images that are searched at the same time.
        **options : SearchManyOptions
            As of `search`, but for `instrument`.

        Yields
        ------
        image, answer
            The image as it was given, and its `Answer` or `ImageError`. `twinscope.columns` makes a table of them.

        Examples
        --------
        >>> for path, answer in engine.search_many(paths, max_distance=200):  # doctest: +SKIP
        ...     print(path, answer if isinstance(answer, ImageError) else answer.category)
        """

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of hashes, all in one scan; the grade is ``unverified`` at best.

        Parameters
        ----------
        hashes : sequence of PHash
            As `twinscope_indexer.hashing.hash_pixels` makes them.
        **options : HashOptions
            As of `search`, but for `verify` and `instrument`.

        Returns
        -------
        list of Answer
            One for each hash.

        Raises
        ------
        RecipeError
            If a hash was made by another recipe than the store's.
        TypeError
            If one is no `PHash`.
        """

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image, itself left out; verified by stored thumbnails.

        Parameters
        ----------
        image_id : str
            16 hexadecimal digits.
        **options : HashOptions
            As of `search`, but for `verify` and `instrument`.

        Raises
        ------
        UnknownImageError
            If there is no such image in the store.
        """

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the reduced pixels of a reference, uint8 (height, width), or None if it is not in the store."""

    def stats(self) -> dict[str, Any]:
        """Describe the store: size, generation, recipe, categories."""

    @property
    def target(self) -> str:
        """Where the store is: the absolute path of its folder, or the server."""

    @property
    def identity(self) -> str:
        """Names the store and the state it answers from; equal identities give equal answers."""

    def refresh(self) -> None:
        """Answer from the newest published state from now on."""

    def close(self) -> None:
        """Free what the engine holds."""

    def __enter__(self) -> Self:
        """Use as a context manager."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""

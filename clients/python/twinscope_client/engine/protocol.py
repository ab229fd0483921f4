"""The methods of an engine, embedded or remote."""

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
    """A store that answers queries, opened by `connect`.

    An engine can be pickled, also for a spawned process: the pickle holds the target and the options, and loading it
    opens the store again. A pickle never holds a token; see `twinscope_client.connect`.
    """

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image.

        Parameters
        ----------
        image : path, bytes, binary file, ndarray or PIL image
            An image file, or grey or RGB(A) pixels; more than 8 bits go through the same window as a TIFF.
        **options : SearchOptions
            Policy, thresholds, categories and more; all are optional.

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
        """Find the labelled twins of many images, several at the same time; yield answers in the order of the images.

        An image that cannot be read yields its `ImageError` instead of an answer, and the search continues. An error
        that concerns every image (an unknown category, an unreachable server) is raised.

        Parameters
        ----------
        images : iterable
            Images as for `search`. They are read a few ahead of the next answer, so the iterable can be endless.
        workers : int, optional
            Images to search at the same time.
        **options : SearchManyOptions
            Those of `search`, except `instrument`.

        Yields
        ------
        image, answer
            The image as it was given, and its `Answer` or `ImageError`. `twinscope.columns` turns them into a table.

        Examples
        --------
        >>> for path, answer in engine.search_many(paths, max_distance=200):  # doctest: +SKIP
        ...     print(path, answer if isinstance(answer, ImageError) else answer.category)
        """

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of hashes, all in one scan; the best grade is ``unverified``.

        Parameters
        ----------
        hashes : sequence of PHash
            Hashes from `twinscope.hash_pixels`.
        **options : HashOptions
            Those of `search`, except `verify` and `instrument`.

        Returns
        -------
        list of Answer
            One for each hash.

        Raises
        ------
        RecipeError
            If a hash was made by another recipe than that of the store.
        TypeError
            If an item is not a `PHash`.
        """

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image, except itself; verify them by stored thumbnails.

        Parameters
        ----------
        image_id : str
            16 hexadecimal digits.
        **options : HashOptions
            Those of `search`, except `verify` and `instrument`.

        Raises
        ------
        UnknownImageError
            If the store has no such image.
        """

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference, uint8 (height, width), or None if it is not in the store."""

    def stats(self) -> dict[str, Any]:
        """Return a description of the store: size, generation, recipe, categories."""

    @property
    def target(self) -> str:
        """Location of the store: the absolute path of its folder, or the server."""

    @property
    def identity(self) -> str:
        """Identifier of the store and of its generation in use. Equal identities give equal answers."""

    def refresh(self) -> None:
        """Switch to the newest generation of the store."""

    def close(self) -> None:
        """Close the engine and free its resources."""

    def __enter__(self) -> Self:
        """Return the engine, for use as a context manager."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""

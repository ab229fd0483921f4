"""The methods of all engines, both for a store in a folder and for a store on a server."""

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
    """An open store that answers queries. The function `connect` returns an engine.

    An engine can be pickled, for example to send the engine to a spawned process. The pickle contains the target and
    the options. When the pickle is loaded, the store is opened again. A pickle never contains a token; see
    `twinscope_client.connect`.
    """

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image.

        Parameters
        ----------
        image : path, bytes, binary file, ndarray or PIL image
            An image file, or grey or RGB(A) pixels. Pixels with more than 8 bits are scaled to 8 bits. The grey window
            is the same as for the pixels of a TIFF.
        **options : SearchOptions
            Policy, thresholds, categories and other options. All options can be omitted.

        Returns
        -------
        Answer
            The grade, the reasons and the matches. If the grade is ``excellent`` or ``good``, also the category.

        Raises
        ------
        ImageError
            If the image cannot be read.
        TaxonomyError
            If a category is unknown.
        GenerationError
            If the generation `min_generation` was not published in time.
        OptionError
            If an option, a policy or a threshold is unknown, misspelt or out of range.
        ClosedError
            If the engine was closed.
        """

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> Iterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images. The searches of several images run at the same time.

        The answers are in the same order as the images. For an image that cannot be read, the method yields an
        `ImageError` instead of an answer, and continues with the next image. If an error affects every image, for
        example an unknown category or an unreachable server, the method raises this error.

        Parameters
        ----------
        images : iterable
            Images, in the forms that `search` accepts. Only a few images are read in advance, so the iterable can be
            endless.
        workers : int, optional
            Number of images to search at the same time.
        **options : SearchManyOptions
            The options of `search`, except `instrument`.

        Yields
        ------
        image, answer
            One image from `images`, and the `Answer` or the `ImageError` for this image. `twinscope.columns` converts
            these pairs to a table.

        Examples
        --------
        >>> for path, answer in engine.search_many(paths, max_distance=200):  # doctest: +SKIP
        ...     print(path, answer if isinstance(answer, ImageError) else answer.category)
        """

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of each hash. The index is scanned only once for all hashes.

        The best possible grade of an answer is ``unverified``, because a hash alone is not enough to verify a match.

        Parameters
        ----------
        hashes : sequence of PHash
            Hashes as returned by `twinscope.hash_pixels`.
        **options : HashOptions
            The options of `search`, except `verify` and `instrument`.

        Returns
        -------
        list of Answer
            One answer for each hash, in the order of the hashes.

        Raises
        ------
        RecipeError
            If a hash was computed with a recipe that differs from the recipe of the store.
        TypeError
            If an item is not a `PHash`.
        """

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of an image that is in the store; the image itself is excluded.

        The stored thumbnails are used to verify the candidates.

        Parameters
        ----------
        image_id : str
            Id of the image, 16 hexadecimal digits.
        **options : HashOptions
            The options of `search`, except `verify` and `instrument`.

        Raises
        ------
        UnknownImageError
            If the store has no image with this id.
        """

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference, or None if the reference is not in the store.

        The thumbnail is an array of uint8 with the shape (height, width).
        """

    def stats(self) -> dict[str, Any]:
        """Return a description of the store: number of images, generation, recipe, categories and more."""

    @property
    def target(self) -> str:
        """Location of the store: the absolute path of the folder, or the address of the server."""

    @property
    def identity(self) -> str:
        """Identifier of the store and of the generation in use.

        If two engines have the same identity, they give the same answers.
        """

    def refresh(self) -> None:
        """Use the newest generation of the store from now on."""

    def close(self) -> None:
        """Close the engine: free its memory, and close its files or its connection."""

    def __enter__(self) -> Self:
        """Return the engine, so that a program can use the engine in a ``with`` statement."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""

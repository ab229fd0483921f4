"""What can be asked of a store, embedded or behind a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.policy import Policy


class Engine(Protocol):
    """A store that answers; made by `connect`."""

    def search(
        self,
        image: Any,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        verify: bool = True,
        instrument: InstrumentMetadata | None = None,
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the labelled twin of an image.

        Parameters
        ----------
        image : path, bytes, binary file, ndarray or PIL image
            An image file, or grey or RGB(A) pixels; more than 8 bits are taken through the same window as a TIFF.
        policy : str or Policy
            ``default``, ``reference``, or a policy of your own.
        k : int, optional
            Candidates to look at.
        categories : sequence of str
            Look only at references of these categories (name, code or alias); none means all.
        verify : bool
            False: hash distances only; the grade is ``unverified`` at best.
        instrument : InstrumentMetadata, optional
            What the instrument wrote about the image; by default it is read from the file, and from what lies beside
            it (`twinscope_indexer.metadata.reader`). A candidate that it contradicts makes the answer ``doubtful``.
        min_generation : int
            Answer from this generation of the store or a newer one, such as the one that the acknowledgement of a
            write names; waits for it up to 30 seconds, and no longer than a call to a server may take.
        **thresholds : float, optional
            Other thresholds of the policy: ``max_distance``, ``excellent_ssim``, ``good_scene``, ...

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
        ValueError
            If a policy or threshold is unknown or out of range, a category's name is empty or has more than 256 bytes,
            there are more than 64 of them, or the engine was closed.
        """

    def search_hashes(
        self,
        hashes: Sequence[PHash],
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> list[Answer]:
        """Find the nearest references of hashes, all in one go; the grade is ``unverified`` at best.

        Parameters
        ----------
        hashes : sequence of PHash
            As `twinscope_indexer.hashing.perceptual.hash_pixels` makes them.
        policy, k, categories, min_generation, **thresholds
            As of `search`.

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

    def search_stored(
        self,
        image_id: str,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the nearest references of a stored image, itself left out; verified by stored thumbnails.

        Parameters
        ----------
        image_id : str
            16 hexadecimal digits.
        policy, k, categories, min_generation, **thresholds
            As of `search`.

        Raises
        ------
        UnknownImageError
            If there is no such image in the store.
        """

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference, uint8 (height, width), or None if it is not in the store."""

    def stats(self) -> dict[str, Any]:
        """Describe the store: size, generation, recipe, categories."""

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

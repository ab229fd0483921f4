"""What can be asked of a store, embedded or behind a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_service.answer import Answer
    from twinscope_service.policy import Policy


class Engine(Protocol):
    """A store that answers; made by `connect`."""

    def search(
        self, image: Any, *, policy: str | Policy = "default", k: int | None = None, **thresholds: float | None
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
        **thresholds : float, optional
            Other thresholds of the policy: ``max_distance``, ``excellent_ssim``, ``good_scene``, ...

        Returns
        -------
        Answer

        Raises
        ------
        ImageError
            If the image cannot be read.
        ValueError
            If a policy or threshold is unknown or out of range.
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

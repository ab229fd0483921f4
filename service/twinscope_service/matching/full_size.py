"""Comparison of the full-size pixels of a query and its candidates, if the pixels of both images are available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.errors import ImageError

from twinscope_service.matching.geometry import frames_of, turned
from twinscope_service.similarity.legacy_ssim import legacy_ssim
from twinscope_service.similarity.noise_residual import grain_score
from twinscope_service.similarity.ssim import WINDOW, match_shape, standardised_ssim
from twinscope_service.thresholds import NOISE_CHANCE, NOISE_PROOF

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record

    from twinscope_service.matching.answer import Match
    from twinscope_service.matching.reference_pixels import ReferencePixels

_TOO_SMALL: Final = f"no full-size SSIM: smaller than {WINDOW} pixels"


@dataclass(frozen=True, slots=True, eq=False)
class PixelComparison:
    """Comparison of the full-size pixels of a query with the full-size pixels of references.

    Attributes
    ----------
    query : ndarray of uint8, shape (height, width)
    pixels : ReferencePixels
    records : mapping
        Maps the number of each reference to its record.
    """

    query: NDArray[np.uint8]
    pixels: ReferencePixels
    records: Mapping[int, Record]

    def with_ssim(self, match: Match) -> Match:
        """Compute the standardised SSIM of query and candidate; if that is not possible, add a note that states why."""
        try:
            reference = self._reference(match)
        except ImageError as error:
            return replace(match, note=f"no full-size SSIM: {error.detail}")
        a, b = match_shape(turned(match, self.query), reference)
        if min(a.shape) < WINDOW:
            return replace(match, note=_TOO_SMALL)
        return replace(match, ssim=standardised_ssim(a, b))

    def with_legacy_ssim(self, match: Match) -> Match:
        """Compute the legacy SSIM of query and candidate; if that is not possible, add a note that states why."""
        try:
            reference = self._reference(match)
        except ImageError as error:
            return replace(match, note=f"no full-size SSIM: {error.detail}")
        if min(reference.shape) < WINDOW:
            return replace(match, note=_TOO_SMALL)
        return replace(match, ssim=legacy_ssim(self.query, reference))

    def proof(self, twin: Match, others: Sequence[Match]) -> float:
        """Return the noise residual of query and twin if it proves that both show one acquisition; otherwise 0.

        Parameters
        ----------
        twin : Match
        others : sequence of Match
            Other references near the query or the twin. If a camera or a panel adds a pattern to many images, one of
            these references probably also contains the pattern. In this case, the noise residual of the twin is not
            used as proof.

        Returns
        -------
        float
            In standard deviations. 0 also if the pixels of the twin or of another reference cannot be read.
        """
        try:
            score = self._grain(twin)
            proven = score >= NOISE_PROOF and all(
                self._grain(other) <= min(NOISE_CHANCE, score / 2) for other in others
            )
        except ImageError:
            return 0.0
        return score if proven else 0.0

    def _grain(self, match: Match) -> float:
        symmetry, query_frame, frame = frames_of(match)
        reference = self._reference(match)
        return grain_score(symmetry.applied(query_frame.cut(self.query)), frame.cut(reference))

    def _reference(self, match: Match) -> NDArray[np.uint8]:
        return self.pixels(self.records[match.number])

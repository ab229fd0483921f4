"""Evidence: the measurements for one query. It holds no grade and no sentence; see `verdict.decide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinscope_indexer.hashing.hashability import Unhashable

    from twinscope_service.matching.answer import ChanceOfError, Match


@dataclass(frozen=True, slots=True)
class Evidence:
    """The measurements of all stages of a search.

    Attributes
    ----------
    matches : tuple of Match
        Candidates, best first.
    lone : bool
        Whether the best candidate resembles the query much more than any other reference, but less than twins usually
        do.
    compared_to : int
        Bits; if no reference was near, the distance up to which others were also compared. 0 if none were.
    regions_agree : bool
        Whether the best candidate agrees with the query in all regions of the field; see `similarity.regions`.
    texture_agrees : bool
        Whether the best candidate also agrees with the query in fine structure; see `similarity.texture`.
    noise_residual : float
        Agreement of the noise of their full-size pixels, in standard deviations above chance; 0 if it was not measured
        or proves nothing.
    lookalike : float
        Scene score of the strongest look-alike; 0 without one. See `lookalikes`.
    near : tuple of Match
        Other references near the best candidate or near the query.
    p_wrong : ChanceOfError or None
        The probability that the best candidate is wrong; None if unknown.
    pixels_missing : bool
        Whether the query came without full-size pixels, which could change the answer.
    unhashable : Unhashable or None
        Why the query has no hash; then nothing else is known.
    """

    matches: tuple[Match, ...] = ()
    lone: bool = False
    compared_to: int = 0
    regions_agree: bool = True
    texture_agrees: bool = True
    noise_residual: float = 0.0
    lookalike: float = 0.0
    near: tuple[Match, ...] = ()
    p_wrong: ChanceOfError | None = None
    pixels_missing: bool = False
    unhashable: Unhashable | None = None

    @property
    def shared(self) -> bool:
        """Whether query and best candidate may have something other than the field in common."""
        outlines_only = not self.texture_agrees and not self.noise_residual
        return not self.regions_agree or bool(self.lookalike) or outlines_only

"""Evidence: the measurements for one query. Evidence contains no grade and no text; see `verdict.decide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinscope_indexer.hashing.hashability import Unhashable

    from twinscope_service.matching.answer import ChanceOfError, Match


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of all stages of the search for one query.

    Attributes
    ----------
    matches : tuple of Match
        Candidates; the best candidate is first.
    lone : bool
        True if the scene score of the best candidate is low for a twin, but the candidate is accepted. The reason is
        that the candidate resembles the query much more than any other reference does.
    compared_to : int
        Maximum distance, in bits, to which the search was extended because no reference was within the usual distance.
        0 if the search was not extended.
    regions_agree : bool
        Whether query and best candidate agree in all regions of the field; see `similarity.regions`.
    texture_agrees : bool
        Whether query and best candidate agree in fine structure; see `similarity.texture`.
    noise_residual : float
        Agreement of the noise in the full-size pixels of query and best candidate, in standard deviations above chance.
        0 if the agreement was not measured, or cannot be used as evidence.
    lookalike : float
        Scene score of the strongest look-alike; 0 if there is no look-alike. See `lookalikes`.
    near : tuple of Match
        Other references near the best candidate or near the query.
    p_wrong : ChanceOfError or None
        Probability that the best candidate is wrong. None if the probability is unknown.
    pixels_missing : bool
        True if the query has no full-size pixels, and if full-size pixels could change the answer.
    unhashable : Unhashable or None
        Reason why the query has no hash. If there is such a reason, there are no measurements.
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
        """Whether query and best candidate may be similar because they share something other than the field."""
        outlines_only = not self.texture_agrees and not self.noise_residual
        return not self.regions_agree or bool(self.lookalike) or outlines_only

"""Evidence: what was measured about one query. It holds no grade and no sentence; see `verdict.decide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinscope_indexer.hashing.hashability import Unhashable

    from twinscope_service.matching.answer import ChanceOfError, Match


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the stages of a search have measured.

    Attributes
    ----------
    matches : tuple of Match
        Candidates, best first.
    lone : bool
        Whether the best is much more like the query than any other reference is, though less than twins usually are.
    compared_to : int
        Bits; where no reference was near, the distance up to which others were compared as well. 0: none were.
    regions_agree : bool
        Whether the best agrees with the query in all regions of the field; see `similarity.regions`.
    texture_agrees : bool
        Whether it agrees with the query in fine structure as well; see `similarity.texture`.
    noise_residual : float
        Standard deviations by which the noise of their full-size pixels agrees beyond chance; 0 where that was not
        measured, or proves nothing.
    lookalike : float
        Scene score of the strongest look-alike; 0 without one. See `lookalikes`.
    near : tuple of Match
        Other references near the best, or near the query.
    p_wrong : ChanceOfError or None
        How likely the best is to be wrong; None where that is not known.
    pixels_missing : bool
        Whether the query came without full-size pixels that could change the answer.
    unhashable : Unhashable or None
        Why the query has no hash; nothing else is known then.
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
        """Whether query and best may have something else in common than the field."""
        outlines_only = not self.texture_agrees and not self.noise_residual
        return not self.regions_agree or bool(self.lookalike) or outlines_only

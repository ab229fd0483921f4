"""Options that all queries of one call share."""

from __future__ import annotations

from dataclasses import dataclass

from twinscope_service.matching.policy import POLICIES, Policy


@dataclass(frozen=True, slots=True)
class Options:
    """Options of all queries of one call."""

    policy: Policy = POLICIES["default"]
    verify: bool = True
    """Whether candidates are verified, as far as a query permits."""
    categories: tuple[str, ...] = ()
    """Names, codes or aliases, not yet resolved; none means all."""
    min_generation: int = 0
    """The oldest generation to answer from."""

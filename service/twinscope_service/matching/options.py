"""The options of a search; they apply to all queries of one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twinscope_service.errors import OptionError
from twinscope_service.matching.name_rules import MAX_CATEGORIES, MAX_CATEGORY_NAME, name_faults
from twinscope_service.matching.policy import POLICIES, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_GENERATION: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """Options that apply to all queries of one call. The limits of the network protocol apply also without a server.

    Raises
    ------
    OptionError
        If the value of an option is not allowed.
    """

    policy: Policy = POLICIES["default"]
    verify: bool = True
    """Whether candidates are verified. The verification uses the thumbnail and the pixels that the query contains."""
    categories: tuple[str, ...] = ()
    """Names, codes or aliases of the categories to search; an empty tuple means all categories. At most 64
    categories are allowed, each with 1 to 256 bytes."""
    min_generation: int = 0
    """Oldest generation of the store that may be searched."""

    def __post_init__(self) -> None:
        faults = tuple(self._faults())
        if faults:
            raise OptionError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        policy, verify, generation = _as_given(self.policy), _as_given(self.verify), _as_given(self.min_generation)
        if not isinstance(policy, Policy):
            yield f"policy must be the name of a policy or a Policy, got {policy!r}"
        if not isinstance(verify, bool):
            yield f"verify must be True or False, got {verify!r}"
        if len(self.categories) > MAX_CATEGORIES:
            yield f"categories must have at most {MAX_CATEGORIES} elements, has {len(self.categories)}"
        else:
            for i, category in enumerate(self.categories):
                yield from (f"categories[{i}] {fault}" for fault in _category_faults(category))
        whole = isinstance(generation, int) and not isinstance(generation, bool)
        if not whole or not 0 <= generation <= _MAX_GENERATION:
            yield f"min_generation must be a whole number of at least 0, got {generation!r}"


def _as_given(value: Any) -> Any:
    """Return the value as `Any`, because mypy rejects a check at run time of a type that is already annotated."""
    return value


def _category_faults(category: object) -> Iterator[str]:
    if isinstance(category, str):
        yield from name_faults(category, MAX_CATEGORY_NAME)
    else:
        yield f"must be a name, code or alias, not {type(category).__name__}"

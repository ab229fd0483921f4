"""Functions that check the arguments of a search and convert the arguments to options and hashes, for all engines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twinscope_indexer.hashing.perceptual import PHash, require_recipe
from twinscope_service.errors import OptionError
from twinscope_service.matching.options import Options
from twinscope_service.matching.policy import THRESHOLDS, named_policy

from twinscope_client.engine.options import HashOptions, require_known

if TYPE_CHECKING:
    from collections.abc import Mapping


def search_options(given: Mapping[str, Any], kind: type[HashOptions]) -> Options:
    """Build the options of a search from the keyword arguments of the search.

    Parameters
    ----------
    given : mapping
        The keyword arguments.
    kind : type
        The `TypedDict` that lists the keywords of this kind of search.

    Raises
    ------
    OptionError
        If a keyword, a policy or a threshold is unknown, or if a value violates the wire contract.
    """
    require_known(given, kind)
    policy = given.get("policy", "default")
    options = Options(
        named_policy(policy) if isinstance(policy, str) else policy,
        given.get("verify", True),
        _names(given.get("categories", ())),
        given.get("min_generation", 0),
    )
    changes = {name: value for name, value in given.items() if name in THRESHOLDS}
    return replace(options, policy=options.policy.adjusted(changes))


def _names(categories: Any) -> tuple[Any, ...]:
    if isinstance(categories, str):
        return (categories,)
    try:
        return tuple(categories)
    except TypeError as error:
        msg = f"categories must be a list of names, codes or aliases, not {type(categories).__name__}"
        raise OptionError(msg) from error


def require_hashes(hashes: Any, recipe: str) -> list[PHash]:
    """Check the hashes of a search, and return the hashes as a list.

    Parameters
    ----------
    hashes : iterable of PHash
    recipe : str
        Recipe of the hashes in the index of the store.

    Raises
    ------
    TypeError
        If an item is not a `PHash`.
    RecipeError
        If a hash was computed with a recipe other than `recipe`.
    """
    how = "twinscope.hash_pixels(pixels) computes a PHash from the pixels of an image"
    if isinstance(hashes, PHash) or not hasattr(hashes, "__iter__"):
        msg = f"search_hashes takes a list of PHash, not {type(hashes).__name__}; {how}"
        raise TypeError(msg)
    given = list(hashes)
    for i, hashed in enumerate(given):
        if not isinstance(hashed, PHash):
            msg = f"hashes[{i}] is {type(hashed).__name__}, not PHash; {how}"
            raise TypeError(msg)
        require_recipe(hashed.recipe, recipe)
    return given

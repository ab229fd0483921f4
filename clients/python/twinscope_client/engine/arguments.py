"""From the arguments of a search to options; the same for every engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twinscope_indexer.errors import UnknownImageError
from twinscope_indexer.hashing.perceptual import PHash, require_recipe
from twinscope_service.matching.options import Options
from twinscope_service.matching.policy import Policy, named_policy
from twinscope_service.wire.queries import options_message, options_of
from twinscope_service.wire.rules import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def search_options(
    policy: str | Policy,
    changes: Mapping[str, Any],
    categories: Iterable[Any],
    *,
    verify: bool = True,
    min_generation: int = 0,
) -> Options:
    """Make the options of a search: those that a server would read.

    Raises
    ------
    ValueError
        If the policy or a threshold is unknown or out of range, or what the options name breaks the contract's rules.
    TypeError
        If a threshold is no number, or a category no text.
    """
    for threshold, value in changes.items():
        if isinstance(value, bool):
            msg = f"{threshold} must be a number, got {value}"
            raise TypeError(msg)
    chosen = named_policy(policy) if isinstance(policy, str) else policy
    names = (categories,) if isinstance(categories, str) else tuple(categories)
    for name in names:
        if not isinstance(name, str):
            msg = f"a category is given by its name, code or alias, not by {type(name).__name__}"
            raise TypeError(msg)
    options = Options(chosen.adjusted(changes), verify, names, min_generation)
    try:
        return options_of(options_message(options), "")  # the rules of the contract hold for every engine
    except MessageError as error:
        raise ValueError(str(error)) from error


def require_hashes(hashes: Any, recipe: str) -> list[PHash]:
    """Give the hashes to search by.

    Parameters
    ----------
    hashes : iterable of PHash
    recipe : str
        The recipe of the store's index.

    Raises
    ------
    TypeError
        If one is no hash.
    RecipeError
        If one was made by another recipe.
    """
    how = "twinscope_indexer.hashing.perceptual.hash_pixels(pixels) makes one of an image that can be hashed"
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


def closed(what: str) -> ValueError:
    """Make the error of asking an engine that was closed.

    Parameters
    ----------
    what : str
        Folder or address of the store.
    """
    return ValueError(f"{what} was closed; connect to it again")


def image_number(image_id: str) -> int:
    """Give the number of an image id.

    Raises
    ------
    UnknownImageError
        If it is no id.
    """
    if re.fullmatch(r"[0-7][0-9a-f]{15}", image_id) is None:
        raise UnknownImageError(image_id)
    return int(image_id, 16)

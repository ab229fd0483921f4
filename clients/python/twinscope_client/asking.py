"""From the arguments of a search to options; the same for every engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twinscope_indexer.errors import UnknownImageError
from twinscope_service.options import Options
from twinscope_service.policy import Policy, named_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def search_options(
    policy: str | Policy, changes: Mapping[str, float | int | None], categories: Sequence[str], *, verify: bool = True
) -> Options:
    """Make the options of a search.

    Raises
    ------
    ValueError
        If the policy or a threshold is unknown or out of range.
    """
    chosen = named_policy(policy) if isinstance(policy, str) else policy
    if isinstance(categories, str):
        categories = (categories,)
    return Options(chosen.adjusted(changes), verify, tuple(categories))


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

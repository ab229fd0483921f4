"""Shares in percent, as reports and tables show them to people."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_TENTH: Final = Decimal("0.1")


def percent(share: float) -> str:
    """Return a share in percent with one decimal, for example ``55.5 %``.

    The share is rounded as usual; a half is rounded up. ``0.0 %`` always means that the share is 0, and ``100.0 %``
    always means that the share is 1. Other shares so close to 0 or 1 are shown as ``< 0.1 %`` and ``> 99.9 %``.

    Parameters
    ----------
    share : float
        The share, 0 to 1.
    """
    return f"{percentage(share)} %"


def percentage(share: float) -> str:
    """Return a share as `percent` does, but without the unit. This form is used if several shares have one unit."""
    exact = Decimal(repr(float(share))) * 100
    rounded = exact.quantize(_TENTH, ROUND_HALF_UP)
    if exact > 0 and rounded == 0:
        return "< 0.1"
    if exact < 100 and rounded == 100:
        return "> 99.9"
    return str(rounded)

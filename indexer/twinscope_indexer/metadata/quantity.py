"""Parsers of numbers, quantities with units, and dates written by instruments. They return None for other text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal, DecimalException
from typing import Literal

_LONGEST = 64  # characters; no instrument writes longer numbers or dates
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,4})?)\s*(\D.*)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # 1,000 is ambiguous: 1 or 1000

Units = Mapping[str, int]
"""Powers of ten by name of the unit."""

LENGTH: Units = {
    "fm": -15,
    "pm": -12,
    "Å": -10,
    "nm": -9,
    "µm": -6,  # micro sign
    "μm": -6,  # Greek mu
    "um": -6,
    "Âµm": -6,  # UTF-8 decoded as Latin-1
    "mm": -3,
    "cm": -2,
    "m": 0,
}
"""Metres."""
VOLTAGE: Units = {"V": 0, "Volt": 0, "eV": 0, "kV": 3, "KV": 3, "keV": 3}
"""Volts."""
ANGLE: Units = {"": 0, "°": 0, "Â°": 0, "deg": 0, "degrees": 0}
"""Degrees."""
MAGNIFICATION: Units = {"": 0, "x": 0, "X": 0, "K X": 3, "k X": 3, "kx": 3, "KX": 3, "M X": 6}
"""Times (magnification)."""


def quantity(text: str | None, units: Units, shift: int = 0, *, unit: str | None = None) -> float | None:
    """Read a number with a unit.

    The value is scaled in decimal, so that ``8.2 mm`` gives 8.2 and not 8.200000000000001.

    Parameters
    ----------
    text : str or None
        For example ``8.2 mm``; decimal commas are accepted unless they could separate thousands.
    units : mapping of str to int
        Accepted units and their powers of ten.
    shift : int
        Power of ten to multiply by: from metres, 3 gives millimetres and 9 nanometres.
    unit : str, optional
        Unit of a number without a unit; by default such a number is not accepted.

    Returns
    -------
    float or None
        Finite.
    """
    if text is None or len(text) > _LONGEST:
        return None
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or _THOUSANDS.fullmatch(found[1]):
        return None
    named = (found[2] or "").strip()
    if not named and unit is not None:
        named = unit
    if named not in units:
        return None
    try:
        value = float(Decimal(found[1].replace(",", ".")).scaleb(units[named] + shift))
    except (DecimalException, OverflowError):
        return None
    return value if math.isfinite(value) else None


def number(text: str | None, shift: int = 0) -> float | None:
    """Read a number without a unit and multiply it by a power of ten; the result is finite or None."""
    return quantity(text, {"": 0}, shift)


def positive(value: float | None) -> float | None:
    """Return a value above zero, else None: instruments write 0 for a value that is off or not measured."""
    return value if value is not None and 0 < value < math.inf else None


def degrees(text: str | None) -> float | None:
    """Read an angle in radians and return degrees."""
    radians = number(text)
    return None if radians is None or abs(radians) > 1e6 else math.degrees(radians)


def count(text: str | None) -> int | None:
    """Read a non-negative integer."""
    value = number(text)
    return int(value) if value is not None and 0 <= value < 1 << 31 and value == int(value) else None


def size(text: str | None) -> tuple[int, int] | None:
    """Read a width and a height in pixels: ``1024 * 768``, ``1280x960`` or ``1280 960``."""
    if text is None or len(text) > _LONGEST:
        return None
    found = re.fullmatch(r"(\d{1,9})\s*[*xX,\s]\s*(\d{1,9})", text.strip(), re.ASCII)
    if found is None or not int(found[1]) or not int(found[2]):
        return None
    return int(found[1]), int(found[2])


def words(text: str | None) -> str | None:
    """Return stripped text, or None if it is empty."""
    return (text or "").strip() or None


_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", re.ASCII)
_SLASHES = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", re.ASCII)
_NAMED = re.compile(r"(\d{1,2})[ -]([A-Za-z]{3})[a-z]*\.?[ -](\d{4})", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([AaPp])?(?:\.?[Mm]\.?)?", re.ASCII)


def moment(day: str | None, clock: str | None = None, *, slashes: Literal["month", "day"] | None = None) -> str | None:
    """Read a date, with a time of day if there is one.

    Parameters
    ----------
    day : str or None
        ``2019-03-12``, ``2019/03/12``, ``12.03.2019``, ``12 Mar 2019`` or ``03/12/2019``.
    clock : str or None
        ``17:58:45`` or ``05:58:45 PM``.
    slashes : str, optional
        ``month`` or ``day``: which comes first in an ambiguous ``03/12/2019``. By default such a date gives None.

    Returns
    -------
    str or None
        ISO 8601: ``2019-03-12T17:58:45``, or ``2019-03-12`` if the time is missing or cannot be read.
    """
    found = _day(words(day), slashes)
    if found is None:
        return None
    at = _clock(words(clock))
    return found.isoformat() if at is None else f"{found.isoformat()}T{at.isoformat()}"


def _day(text: str | None, slashes: Literal["month", "day"] | None) -> date | None:
    if text is None or len(text) > _LONGEST:
        return None
    if found := _YEAR_FIRST.fullmatch(text):
        return _date(found[1], found[2], found[3])
    if found := _DAY_FIRST.fullmatch(text):
        return _date(found[3], found[2], found[1])
    if found := _NAMED.fullmatch(text):
        return _date(found[3], str(_MONTHS.get(found[2].lower(), 0)), found[1])
    if found := _SLASHES.fullmatch(text):
        month_first, day_first = _date(found[3], found[1], found[2]), _date(found[3], found[2], found[1])
        if month_first is None or day_first is None or month_first == day_first:
            return month_first or day_first
        return {"month": month_first, "day": day_first, None: None}[slashes]
    return None


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _clock(text: str | None) -> time | None:
    if text is None or len(text) > _LONGEST:
        return None
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour = int(found[1])
    if found[4]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[4] in "pP" else 0)
    try:
        return time(hour, int(found[2]), int(found[3] or 0))
    except ValueError:
        return None

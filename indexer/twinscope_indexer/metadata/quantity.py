"""Functions that read the numbers, the quantities with units, and the dates that instruments write.

If a function does not recognise a text, it returns None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal, DecimalException
from typing import Literal

_LONGEST = 64  # maximum length of a text in characters; no instrument writes a longer number or date
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,4})?)\s*(\D.*)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # the text 1,000 can mean 1 or 1000

Units = Mapping[str, int]
"""Factor of each unit, as a power of ten. The key is the name of the unit."""

LENGTH: Units = {
    "fm": -15,
    "pm": -12,
    "Å": -10,
    "nm": -9,
    "µm": -6,  # micro sign
    "μm": -6,  # Greek mu
    "um": -6,
    "Âµm": -6,  # a micro sign in UTF-8 that was wrongly decoded as Latin-1
    "mm": -3,
    "cm": -2,
    "m": 0,
}
"""Units of length. The base unit is the metre."""
VOLTAGE: Units = {"V": 0, "Volt": 0, "eV": 0, "kV": 3, "KV": 3, "keV": 3}
"""Units of voltage. The base unit is the volt."""
ANGLE: Units = {"": 0, "°": 0, "Â°": 0, "deg": 0, "degrees": 0}
"""Units of angle. The base unit is the degree."""
MAGNIFICATION: Units = {"": 0, "x": 0, "X": 0, "K X": 3, "k X": 3, "kx": 3, "KX": 3, "M X": 6}
"""Units of magnification. The base unit is 1."""


def quantity(text: str | None, units: Units, shift: int = 0, *, unit: str | None = None) -> float | None:
    """Read a number with a unit.

    Units are converted in decimal arithmetic. Therefore, the result for ``8.2 mm`` is 8.2 and not 8.200000000000001.

    Parameters
    ----------
    text : str or None
        Text such as ``8.2 mm``. A decimal comma is accepted, except in a number such as ``1,000``, which could also
        mean one thousand.
    units : mapping of str to int
        Accepted units and their powers of ten.
    shift : int
        The value in the base unit is multiplied by ten to the power of `shift`. For a length, 3 gives millimetres and 9
        gives nanometres.
    unit : str, optional
        Unit to use if the text contains no unit. By default, a text without a unit is not accepted.

    Returns
    -------
    float or None
        The value, which is never infinite or NaN. None if the text is not accepted.
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
    """Read a number without a unit and multiply it by a power of ten. The result is a finite number or None."""
    return quantity(text, {"": 0}, shift)


def positive(value: float | None) -> float | None:
    """Return `value` if it is finite and above zero, otherwise None.

    Instruments write 0 for a value that is switched off or not measured.
    """
    return value if value is not None and 0 < value < math.inf else None


def degrees(text: str | None) -> float | None:
    """Read an angle in radians and return the angle in degrees."""
    radians = number(text)
    return None if radians is None or abs(radians) > 1e6 else math.degrees(radians)


def count(text: str | None) -> int | None:
    """Read a non-negative integer."""
    value = number(text)
    return int(value) if value is not None and 0 <= value < 1 << 31 and value == int(value) else None


def size(text: str | None) -> tuple[int, int] | None:
    """Read a width and a height in pixels, for example ``1024 * 768``, ``1280x960`` or ``1280 960``."""
    if text is None or len(text) > _LONGEST:
        return None
    found = re.fullmatch(r"(\d{1,9})\s*[*xX,\s]\s*(\d{1,9})", text.strip(), re.ASCII)
    if found is None or not int(found[1]) or not int(found[2]):
        return None
    return int(found[1]), int(found[2])


def words(text: str | None) -> str | None:
    """Return the text without white space at its ends. If the result is empty, return None."""
    return (text or "").strip() or None


_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", re.ASCII)
_SLASHES = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", re.ASCII)
_NAMED = re.compile(r"(\d{1,2})[ -]([A-Za-z]{3})[a-z]*\.?[ -](\d{4})", re.ASCII)
_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([AaPp])?(?:\.?[Mm]\.?)?", re.ASCII)


def moment(day: str | None, clock: str | None = None, *, slashes: Literal["month", "day"] | None = None) -> str | None:
    """Read a date and, if `clock` contains a time of day, this time.

    Parameters
    ----------
    day : str or None
        Date in a form such as ``2019-03-12``, ``2019/03/12``, ``12.03.2019``, ``12 Mar 2019`` or ``03/12/2019``.
    clock : str or None
        Time in a form such as ``17:58:45`` or ``05:58:45 PM``.
    slashes : str, optional
        Which number comes first in an ambiguous date such as ``03/12/2019``: ``month`` or ``day``. By default, the
        result for an ambiguous date is None.

    Returns
    -------
    str or None
        Date and time in ISO 8601, for example ``2019-03-12T17:58:45``. If the time is missing or cannot be read, the
        result is only the date, for example ``2019-03-12``.
    """
    found = _day(words(day), slashes)
    if found is None:
        return None
    at = _clock(words(clock))
    return found.isoformat() if at is None else f"{found.isoformat()}T{at.isoformat()}"


def iso_moment(text: str | None) -> str | None:
    """Read a date and time in ISO 8601, for example ``2019-11-27T16:11:26.62+09:00``.

    The fractions of a second and the time zone are left out.
    """
    day, _, clock = (text or "").strip().partition("T")
    return moment(day, _ZONE.sub("", clock))


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

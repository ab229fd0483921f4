"""Instrument conditions, and the info bar that shows these conditions at the bottom of a micrograph."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

BAR_SHARE = 0.075
"""Height of the info bar as a fraction of the height of the micrograph."""

_FIELD_WIDTH_UM = 114_300.0
"""Width of the field at magnification 1, in micrometres. A magnification is defined on a Polaroid print that is 4.5
inches wide."""


@dataclass(frozen=True)
class Conditions:
    """The instrument conditions under which a micrograph was taken.

    Attributes
    ----------
    voltage : float
        Accelerating voltage in kV.
    working_distance : float
        Working distance in mm.
    magnification : float
        Magnification of a print that is 114.3 mm wide.
    detector : str
        Abbreviation of the detector.
    taken : datetime.datetime
        Local time of the acquisition, without a time zone.
    style : int
        Style of the info bar: 0 for white text on black, 1 for black text on grey, and 2 for white text on dark grey
        with a line at the top.
    """

    voltage: float
    working_distance: float
    magnification: float
    detector: str
    taken: datetime.datetime
    style: int

    @classmethod
    def drawn(cls, rng: np.random.Generator, magnifications: tuple[float, float]) -> Conditions:
        """Return random but plausible conditions. The magnification lies within `magnifications`."""
        low, high = np.log(magnifications)
        magnification = float(f"{math.exp(rng.uniform(low, high)):.3g}")
        start = datetime.datetime(2016, 1, 4, 8)
        taken = start + datetime.timedelta(days=int(rng.integers(3000)), minutes=int(rng.integers(600)))
        return cls(
            voltage=float(rng.choice([2.0, 3.0, 5.0, 10.0, 15.0, 20.0])),
            working_distance=round(float(rng.uniform(3, 14)), 1),
            magnification=magnification,
            detector=str(rng.choice(["SE2", "InLens", "ETD"])),
            taken=taken,
            style=int(rng.integers(3)),
        )

    def pixel_size(self, width: int) -> float:
        """Return the size of a pixel in nanometres for a micrograph that is `width` pixels wide."""
        return _FIELD_WIDTH_UM * 1000 / self.magnification / width

    def line(self) -> str:
        """Return the text of the info bar."""
        times = self.magnification
        shown = f"{times / 1000:.3g} kX" if times >= 1000 else f"{times:.0f} X"
        beam = f"{self.voltage:.1f} kV  WD {self.working_distance:.1f} mm  Mag {shown}"
        return f"{beam}  {self.detector}  {self.taken:%Y-%m-%d}"


def bar_height(height: int) -> int:
    """Return the height of the info bar for a micrograph with this height, both in pixels."""
    return max(8, round(BAR_SHARE * height))


def draw_bar(conditions: Conditions, width: int, height: int) -> NDArray[np.float32]:
    """Return the pixels of the info bar, shape (bar_height(height), width), float32 from 0 (black) to 1 (white)."""
    rows = bar_height(height)
    ground, ink = ((0, 255), (178, 0), (64, 255))[conditions.style]
    strip = Image.new("L", (width, rows), ground)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(max(6.0, min(0.45 * rows, 0.0245 * width)))
    draw.text((0.015 * width, rows / 2), conditions.line(), fill=ink, font=font, anchor="lm")
    length, label = _scale_bar(conditions.pixel_size(width), width)
    right, middle, thick = round(0.975 * width), rows // 2, max(1, rows // 12)
    draw.text((right - length - 0.012 * width, rows / 2), label, fill=ink, font=font, anchor="rm")
    draw.rectangle((right - length, middle - thick, right, middle + thick), fill=ink)
    if conditions.style == 2:
        draw.line((0, 0, width, 0), fill=ink)
    return np.asarray(strip, np.float32) / np.float32(255)


def _scale_bar(pixel_nm: float, width: int) -> tuple[int, str]:
    """Return the length in pixels and the label of the scale bar.

    The physical length of the scale bar is 1, 2 or 5 times a power of ten. The scale bar is as long as possible, but
    its length is at most one sixth of the image width.
    """
    longest = pixel_nm * width / 6
    decade = 10.0 ** math.floor(math.log10(longest))
    size = decade * max(step for step in (1, 2, 5) if step * decade <= longest)
    unit, by = ("nm", 1.0) if size < 1000 else ("um", 1e3) if size < 1e6 else ("mm", 1e6)
    return round(size / pixel_nm), f"{size / by:g} {unit}"

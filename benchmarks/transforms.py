"""Named, repeatable transforms, which imitate the changes to a micrograph between the microscope and a collection.

Every transform makes a query from one grey micrograph, and names the edition of the micrograph that is indexed:

``frame``
    The unchanged micrograph.
``barred``
    The micrograph with an info bar. If the file has a known info bar (`Micrograph.bar_rows`), this bar is used.
    Otherwise the bar is synthetic. A synthetic bar lies below the field, as in files of FEI, Hitachi and JEOL, or
    covers the bottom of the field, as in files of Zeiss. The name of the micrograph determines this position, and also
    the height (5 to 12 % of the field), the style and the text of the bar. To remove a bar, the image is cut above the
    first row of the bar. A redrawn synthetic bar has the same position as the original bar.
``window``
    A part of the field with 1/1.15 of its width and height, in a corner or at an edge. A window of the same size that
    is shifted by up to 15 % therefore also lies within the field.

All random choices depend only on the name of the micrograph. The same folder therefore always gives the same queries.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.ndimage import gaussian_filter

Grey = NDArray[np.uint8]
QueryImage = Grey | bytes
"""Type of a query: pixels, or the content of a JPEG, PNG or TIFF file."""
Edition = Literal["frame", "barred", "window"]

_WINDOW: Final = 1 / 1.15
_BARS: Final = (0.05, 0.12)  # minimum and maximum height of a bar, as a fraction of the field's height
_STYLES: Final = ((0, 255), (255, 0), (64, 255), (178, 0), (220, 30), (24, 235))  # grey levels of background and text


@dataclass(frozen=True, eq=False)
class Micrograph:
    """A grey micrograph.

    Attributes
    ----------
    name : str
        Name of the micrograph. The name is the seed of all random choices of the transforms.
    pixels : ndarray of uint8, shape (height, width)
    bar_rows : int
        Height in pixels of the info bar at the bottom; 0 if the image has no info bar or its height is unknown.
    """

    name: str
    pixels: Grey
    bar_rows: int = 0

    @property
    def field(self) -> Grey:
        """The pixels above the known info bar."""
        return self.pixels[: self.pixels.shape[0] - self.bar_rows]

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a random generator that is seeded with the name of this micrograph and a purpose."""
        digest = sha256(f"{purpose}\n{self.name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class Group:
    """The requirements that all transforms of a group must meet. In every group, no query may be labelled falsely."""

    recall: float
    """Minimum share of queries that must be found, from 0 to 1."""
    only_windows: bool = False
    """Whether the minimum share is required only from stores with the reach ``windows``."""


GROUPS: Final = {
    "A": Group(0.995),
    "B": Group(0.99),
    "C": Group(0.97),
    "D": Group(0.97, only_windows=True),
    "E": Group(0.90),
}


@dataclass(frozen=True)
class Transform:
    """One named way to make a query from a micrograph."""

    name: str
    group: str
    query: Callable[[Micrograph], QueryImage]
    edition: Edition = "frame"
    """Edition of the micrograph that is indexed as the reference."""


def reference(micrograph: Micrograph, edition: Edition) -> Grey:
    """Return the pixels of the edition that is indexed, as uint8 (height, width)."""
    if edition == "barred":
        return _barred(micrograph).pixels
    if edition == "window":
        return _window(micrograph, 0.0)
    return micrograph.pixels


# ---- info bars ----


@dataclass(frozen=True, eq=False)
class _Barred:
    """A micrograph with an info bar of `rows` rows at its bottom."""

    pixels: Grey
    rows: int


@dataclass(frozen=True)
class _Bar:
    """The appearance of a synthetic info bar."""

    share: float
    style: int
    below: bool
    """Whether the bar lies below the field. Otherwise the bar covers the bottom of the field."""
    cells: bool
    text: tuple[str, str]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Bar:
        beam = (
            f"{rng.choice([2, 5, 10, 15, 20, 30])}.0 kV  WD {rng.uniform(3, 15):.1f} mm  x{rng.integers(1, 400) * 250}"
        )
        detector = f"{rng.choice(['SE', 'BSE', 'InLens', 'ETD'])}  {rng.integers(2005, 2026)}-{rng.integers(1, 13):02d}"
        scale = f"{rng.choice([1, 2, 5, 10, 20, 50, 100, 200])} {rng.choice(['nm', 'um'])}"
        share, style = float(rng.uniform(*_BARS)), int(rng.integers(len(_STYLES)))
        return cls(share, style, bool(rng.integers(2)), bool(rng.integers(2)), (f"{beam}  {detector}", scale))

    def other(self, rng: np.random.Generator) -> _Bar:
        """Return another bar with a different height, text and style.

        The difference in height is at least a fifth of the allowed range of heights.
        """
        new = _Bar.drawn(rng)
        low, high = _BARS
        share = low + (self.share - low + (high - low) * rng.uniform(0.2, 0.8)) % (high - low)
        return _Bar(share, (self.style + 1 + new.style % (len(_STYLES) - 1)) % len(_STYLES), self.below,
                    not self.cells, new.text)  # fmt: skip

    def strip(self, height: int, width: int) -> Grey:
        """Draw the bar for a field of the given size."""
        rows = max(8, round(self.share * height))
        ground, ink = _STYLES[self.style]
        image = Image.new("L", (width, rows), ground)
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(max(6.0, min(0.5 * rows, 0.03 * width)))
        draw.text((0.015 * width, rows / 2), self.text[0], fill=ink, font=font, anchor="lm")
        left, right, thick = round(0.8 * width), round(0.97 * width), max(1, rows // 14)
        draw.rectangle((left, round(0.75 * rows), right, round(0.75 * rows) + thick), fill=ink)
        draw.text(((left + right) / 2, 0.38 * rows), self.text[1], fill=ink, font=font, anchor="mm")
        if self.cells:
            draw.rectangle((0, 0, width - 1, rows - 1), outline=ink, width=thick)
            draw.line((left - 0.02 * width, 0, left - 0.02 * width, rows), fill=ink, width=thick)
        return np.asarray(image)

    def on(self, field: Grey) -> _Barred:
        """Put the bar below a field, or over the bottom of the field."""
        strip = self.strip(*field.shape)
        kept = field if self.below else field[: -len(strip)]
        return _Barred(np.vstack([kept, strip]), len(strip))


def _barred(m: Micrograph) -> _Barred:
    """Return the micrograph with its real bar, or else with a synthetic bar that depends on its name."""
    return _Barred(m.pixels, m.bar_rows) if m.bar_rows else _Bar.drawn(m.rng("bar")).on(m.pixels)


def same_bar(unrelated: Micrograph, other: Micrograph) -> Micrograph:
    """Put the info bar of another micrograph, as in its ``barred`` edition, at the bottom of an unrelated field.

    A real bar is resized to the width of the field. A synthetic bar is drawn for the size of the field.
    """
    name = f"{unrelated.name} under the bar of {other.name}"
    if not other.bar_rows:
        return Micrograph(name, _Bar.drawn(other.rng("bar")).on(unrelated.field).pixels)
    width = unrelated.pixels.shape[1]
    strip = other.pixels[-other.bar_rows :]
    rows = max(1, round(other.bar_rows * width / strip.shape[1]))
    return Micrograph(name, np.vstack([unrelated.field, _resized(strip, rows, width)]))


def _bar_removed(m: Micrograph) -> Grey:
    barred = _barred(m)
    return barred.pixels[: -barred.rows]


def _bar_added(m: Micrograph) -> Grey:
    return _Bar.drawn(m.rng("added bar")).on(m.pixels).pixels


def _bar_redrawn(m: Micrograph) -> Grey:
    bar, rng = _Bar.drawn(m.rng("bar")), m.rng("other bar")
    if not m.bar_rows:
        return bar.other(rng).on(m.pixels).pixels
    return np.vstack([m.field, bar.other(rng).strip(*m.field.shape)])  # the pixels under a real bar are unknown


# ---- grey levels, noise, encodings ----


def _clipped(values: NDArray[np.floating]) -> Grey:
    levels: Grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _quality(m: Micrograph, quality: int) -> bytes:
    return jpeg(m.pixels, quality)


def jpeg(pixels: Grey, quality: int) -> bytes:
    """Encode grey pixels as a JPEG file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return data.getvalue()


def _gamma(m: Micrograph, gamma: float) -> Grey:
    return _clipped(255 * (m.pixels / 255.0) ** gamma)


def _contrast(m: Micrograph, factor: float) -> Grey:
    return _clipped(128 + factor * (m.pixels.astype(np.float64) - 128))


def _brightness(m: Micrograph, change: int) -> Grey:
    return _clipped(m.pixels.astype(np.float64) + change)


def _blur(m: Micrograph, sigma: float) -> Grey:
    return _clipped(gaussian_filter(m.pixels.astype(np.float64), sigma))


def _noise(m: Micrograph, sigma: float) -> Grey:
    return _clipped(m.pixels + m.rng(f"noise {sigma}").normal(0, sigma, m.pixels.shape))


def _equalised(m: Micrograph) -> Grey:
    return np.asarray(ImageOps.equalize(Image.fromarray(m.pixels)))


def _to_16_bit(m: Micrograph) -> bytes:
    """Return a 16-bit TIFF of the micrograph. The high byte holds the 8-bit pixels, and the low byte is random."""
    deep = m.pixels.astype(np.uint16) * 256 + m.rng("16 bit").integers(0, 256, m.pixels.shape, np.uint16)
    data = io.BytesIO()
    tifffile.imwrite(data, deep, photometric="minisblack")
    return data.getvalue()


def _from_16_bit(m: Micrograph) -> Grey:
    """Return the high byte of 16-bit pixels that fill only 12 to 59 % of the 16-bit range.

    Simple conversions from 16 to 8 bits drop the low byte in this way.
    """
    deep: NDArray[np.uint32] = m.pixels.astype(np.uint32) * 120 + 8000
    return (deep >> 8).astype(np.uint8)


def _palette(m: Micrograph) -> bytes:
    data = io.BytesIO()
    Image.fromarray(m.pixels).convert("RGB").quantize(64).save(data, "PNG")
    return data.getvalue()


# ---- geometry ----


def _resized(pixels: Grey, height: int, width: int) -> Grey:
    return np.asarray(Image.fromarray(pixels).resize((max(1, width), max(1, height)), Image.Resampling.LANCZOS))


def _scaled(m: Micrograph, factor: float) -> Grey:
    height, width = m.pixels.shape
    return _resized(m.pixels, round(factor * height), round(factor * width))


def _squeezed(m: Micrograph) -> Grey:
    height, width = m.pixels.shape
    across = bool(m.rng("squeezed").integers(2))
    return _resized(m.pixels, height if across else round(0.9 * height), round(0.9 * width) if across else width)


def _foot_cut(m: Micrograph) -> Grey:
    return m.pixels[: round(0.92 * m.pixels.shape[0])]


def _quarter_turns(m: Micrograph, turns: int) -> Grey:
    return np.ascontiguousarray(np.rot90(m.pixels, turns))


def _mirrored(m: Micrograph) -> Grey:
    return np.ascontiguousarray(m.pixels[:, ::-1])


def _inverted(m: Micrograph) -> Grey:
    return 255 - m.pixels


def _cropped(m: Micrograph, share: float) -> Grey:
    height, width = m.pixels.shape
    y, x = round(share * height), round(share * width)
    return m.pixels[y : height - y, x : width - x]


def _window(m: Micrograph, shift: float) -> Grey:
    """Return the window of the field, shifted by a fraction of the window's size.

    The name of the micrograph determines the direction of the shift.
    """
    height, width = m.field.shape
    rows, columns = int(_WINDOW * height), int(_WINDOW * width)
    rng = m.rng("shift")
    down, back = bool(rng.integers(2)), bool(rng.integers(2))
    y, x = (round(shift * rows), 0) if down else (0, round(shift * columns))
    if back:
        y, x = height - rows - y, width - columns - x
    return m.field[y : y + rows, x : x + columns]


def _turned(m: Micrograph, degrees: float) -> Grey:
    """Rotate the image by an angle, to the left or to the right. Empty corners are black."""
    way = 1 if m.rng("turn").integers(2) else -1
    return np.asarray(Image.fromarray(m.pixels).rotate(way * degrees, Image.Resampling.BICUBIC))


def _turned_and_cropped(m: Micrograph, degrees: float) -> Grey:
    """Rotate the image and crop it, so that no empty corners remain.

    The result is the largest centred rectangle with the aspect ratio of the image.
    """
    height, width = m.pixels.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    share = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    # Subtract 2, because the interpolation also uses neighbouring pixels.
    rows, columns = int(share * height) - 2, int(share * width) - 2
    y, x = (height - rows) // 2, (width - columns) // 2
    return _turned(m, degrees)[y : y + rows, x : x + columns]


def _panel(m: Micrograph) -> Grey:
    rows, columns = (side // 2 for side in m.field.shape)
    rng = m.rng("panel")
    y, x = rng.integers(m.field.shape[0] - rows + 1), rng.integers(m.field.shape[1] - columns + 1)
    return m.field[y : y + rows, x : x + columns]


# ---- annotations, and all changes at once ----


def _annotated(m: Micrograph) -> Grey:
    """Draw a label box in a corner, an arrow, and a scale bar with its length, as in a figure of a publication."""
    rng = m.rng("annotated")
    image = Image.fromarray(m.pixels)
    draw = ImageDraw.Draw(image)
    height, width = m.pixels.shape
    unit, ink = min(height, width), int(rng.choice([0, 255]))
    font = ImageFont.load_default(max(6.0, 0.08 * unit))
    left = 0 if rng.integers(2) else width - round(0.14 * unit)
    draw.rectangle((left, 0, left + round(0.14 * unit), round(0.12 * unit)), fill=255 - ink)
    draw.text((left + 0.07 * unit, 0.06 * unit), f"{rng.choice(list('abcdef'))})", fill=ink, font=font, anchor="mm")
    x, y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
    turn, thick = rng.uniform(0, 2 * math.pi), max(2, unit // 80)
    tail = (x + 0.15 * unit * math.cos(turn), y + 0.15 * unit * math.sin(turn))
    draw.line((x, y, *tail), fill=ink, width=thick)
    sides = [(x + 0.05 * unit * math.cos(turn + d), y + 0.05 * unit * math.sin(turn + d)) for d in (-0.4, 0.4)]
    draw.polygon([(x, y), *sides], fill=ink)
    low, right = round(0.93 * height), round(0.95 * width)
    draw.rectangle((right - round(0.2 * width), low, right, low + thick), fill=ink)
    draw.text((right - 0.1 * width, low), f"{rng.integers(1, 90)} um", fill=ink, font=font, anchor="mb")
    return np.asarray(image)


def _all_at_once(m: Micrograph) -> bytes:
    """Apply all changes: remove the bar, scale by 0.6, rotate by 90, 180 or 270 degrees, invert, annotate.

    The result is encoded as a JPEG with quality 60.
    """
    field = Micrograph(m.name, _bar_removed(m))
    small = Micrograph(m.name, _scaled(field, 0.6))
    turned = Micrograph(m.name, _quarter_turns(small, int(m.rng("all at once").integers(1, 4))))
    return jpeg(_annotated(Micrograph(m.name, _inverted(turned))), 60)


def _as_is(m: Micrograph) -> Grey:
    return m.pixels


_PERCENT_C, _PERCENT_D = (1, 2, 3), (5, 7, 10)

TRANSFORMS: Final = (
    *(Transform(f"quality {q}", "A", partial(_quality, quality=q)) for q in (100, 90, 75, 50, 30)),
    Transform("half size", "A", partial(_scaled, factor=0.5)),
    Transform("double size", "A", partial(_scaled, factor=2)),
    Transform("quarter size", "A", partial(_scaled, factor=0.25)),
    *(Transform(f"gamma {g}", "A", partial(_gamma, gamma=g)) for g in (0.6, 1.5, 2.5)),
    Transform("contrast x0.5", "A", partial(_contrast, factor=0.5)),
    *(Transform(f"brightness {c:+d}", "A", partial(_brightness, change=c)) for c in (40, -40)),
    *(Transform(f"blur {s}", "A", partial(_blur, sigma=s)) for s in (1, 3)),
    *(Transform(f"noise {s}", "A", partial(_noise, sigma=s)) for s in (5, 20)),
    Transform("equalised", "A", _equalised),
    Transform("8 to 16 bit", "A", _to_16_bit),
    Transform("16 to 8 bit", "A", _from_16_bit),
    Transform("palette PNG", "A", _palette),
    Transform("squeezed to 0.9", "A", _squeezed),
    Transform("bar removed", "B", _bar_removed, "barred"),
    Transform("bar added", "B", _bar_added),
    Transform("bar redrawn", "B", _bar_redrawn, "barred"),
    Transform("bottom 8 % cropped", "B", _foot_cut),
    *(Transform(f"rotated {90 * n}", "B", partial(_quarter_turns, turns=n)) for n in (1, 2, 3)),
    Transform("mirrored", "B", _mirrored),
    Transform("inverted", "B", _inverted),
    Transform("annotated", "B", _annotated),
    Transform("all at once", "B", _all_at_once, "barred"),
    Transform("noise 40", "C", partial(_noise, sigma=40)),
    Transform("quality 10", "C", partial(_quality, quality=10)),
    Transform("rotated by 1 degree", "C", partial(_turned, degrees=1)),
    *(Transform(f"cropped by {p} %", "C", partial(_cropped, share=p / 100)) for p in _PERCENT_C),
    *(Transform(f"shifted by {p} %", "C", partial(_window, shift=p / 100), "window") for p in _PERCENT_C),
    *(Transform(f"cropped by {p} %", "D", partial(_cropped, share=p / 100)) for p in _PERCENT_D),
    *(Transform(f"shifted by {p} %", "D", partial(_window, shift=p / 100), "window") for p in (5, 10, 15)),
    *(Transform(f"rotated by {d} degrees", "D", partial(_turned_and_cropped, degrees=d)) for d in (2, 3, 5)),
    Transform("panel of a quarter", "E", _panel),
)

REFUSALS: Final = (
    Transform("as is", "refusal", _as_is),
    Transform("quality 75", "refusal", partial(_quality, quality=75)),
    Transform("inverted", "refusal", _inverted),
    Transform("mirrored", "refusal", _mirrored),
    Transform("bar added", "refusal", _bar_added),
)
"""Transforms of unrelated images. All these queries must be refused."""


def empty_frames() -> list[Micrograph]:
    """Return 36 images of usual sizes that show no field.

    Twelve images are flat or shaded, some with faint noise; 24 images contain only noise.
    """
    sizes = ((768, 1024), (960, 1280), (512, 512), (943, 1024))
    made = []
    for number in range(12):
        shape = sizes[number % len(sizes)]
        blank = Micrograph(f"blank {number}", np.full(shape, (0, 255, 128, 40, 200, 90)[number % 6], np.uint8))
        shade = np.linspace(-10, 10, shape[1])[None] if number >= 6 else np.zeros((1, 1))
        faint = blank.rng("faint").normal(0, 0.5 * (number % 3), shape)
        made.append(Micrograph(blank.name, _clipped(blank.pixels + shade + faint)))
    for number in range(24):
        shape = sizes[number % len(sizes)]
        noise = Micrograph(f"noise {number}", np.zeros(shape, np.uint8)).rng("noise").normal(0, 1, shape)
        smooth = gaussian_filter(noise, (0.0, 0.7, 2.0)[number % 3])
        values = 110 + (5, 15, 30, 60)[number // 6] * smooth / smooth.std()
        made.append(Micrograph(f"noise {number}", _clipped(values)))
    return made

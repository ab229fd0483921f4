"""Microelectromechanical devices and electrodes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from twinscope_client.demo.detector import secondary_electrons
from twinscope_client.demo.relief import Field, Relief, fractal, polygons

Outlines = list[tuple[NDArray[np.float64], float]]
"""Outlines, and the height of each outline, as a number of layers. The height of an etched area is negative. The points
(x, y) are in pixels relative to the centre of the device."""


def mems(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a device (comb, cantilevers, coil or electrodes), shape (height, width), float32."""
    chip = Relief(width, height)
    scale = chip.scale
    device = (_comb, _cantilevers, _coil, _electrodes)[int(rng.integers(4))](rng)
    angle = rng.choice([0, math.pi / 2]) + rng.normal(0, 0.10)
    zoom = rng.uniform(0.95, 1.45) * scale
    centre = rng.uniform(0.38, 0.62, 2) * (width, height)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * zoom
    outlines = [(points @ turn + centre, level) for points, level in device]
    steps = polygons((height, width), outlines)
    grain = fractal(rng, steps.shape, 5 * scale, 2)
    chip.z = ndimage.gaussian_filter(steps, 0.7 * scale, truncate=2.5) * 9 * scale + grain * 0.22 * scale
    metal = np.clip(steps, 0, 1)
    chip.tone = 0.15 + metal * 0.34 + fractal(rng, steps.shape, 190 * scale, 3) * 0.015
    pits = np.clip(-steps, 0, 1)
    chip.tone = np.maximum(chip.tone - 0.11 * pits, 0.02).astype(np.float32)
    chip.dust(rng, 26, (1.5, 6))
    return secondary_electrons(chip, rng, edge=0.40, side=0.2, shadow=0.35)


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _comb(rng: np.random.Generator) -> Outlines:
    """Return the outlines of a comb: interdigitated fingers between two bus bars, with contact pads."""
    pitch, fingers = rng.uniform(13, 26), int(rng.integers(9, 22))
    long, bus = rng.uniform(110, 220), rng.uniform(18, 42)
    half, wide = pitch * fingers / 2, pitch * rng.uniform(0.42, 0.62)
    near = long / 2 + 12
    parts: Outlines = [(_box(-half - bus, side * near, half + bus, side * (near + bus)), 1.0) for side in (-1, 1)]
    for number in range(fingers):
        x, side = -half + (number + 0.5) * pitch, 1 if number % 2 else -1
        parts.append((_box(x - wide / 2, side * (long / 2 + 14), x + wide / 2, -side * (long / 2 - 12)), 1.0))
    for side in (-1, 1):
        x, pad, lead = rng.uniform(-half, half), rng.uniform(80, 140), rng.uniform(14, 34)
        end = side * (long / 2 + bus + rng.uniform(30, 70))
        parts.append((_box(x - lead / 2, side * long / 2 + side * 20, x + lead / 2, end), 1.0))
        parts.append((_box(x - pad, end, x + pad, end + side * 160), 1.0))
    return parts


def _cantilevers(rng: np.random.Generator) -> Outlines:
    """Return the outlines of beams over an etched trench.

    The beams have holes for the etchant that releases the beams.
    """
    beams, pitch = int(rng.integers(3, 7)), rng.uniform(62, 110)
    wide, trench = pitch * rng.uniform(0.4, 0.62), rng.uniform(190, 330)
    half = beams * pitch / 2
    parts: Outlines = [
        (_box(-half - 400, -600, half + 400, 600), 1.0),
        (_box(-half - 20, -trench / 2, half + 20, trench / 2), -1.0),
    ]
    for number in range(beams):
        x, long = -half + (number + 0.5) * pitch, trench * rng.uniform(0.5, 0.93)
        parts.append((_box(x - wide / 2, -trench / 2 - 2, x + wide / 2, -trench / 2 + long), 1.6))
        hole = rng.uniform(5, 9)
        for step in np.arange(18, long - 12, 4.2 * hole):
            y = -trench / 2 + step
            for left in (x - wide / 4 - hole / 2, x + wide / 4 - hole / 2):
                parts.append((_box(left, y, left + hole, y + hole), -0.6))
        lead = wide * 0.3
        parts.append((_box(x - lead / 2, -trench / 2 - 150, x + lead / 2, -trench / 2 - 14), 2.0))
        parts.append((_box(x - wide / 2, -trench / 2 - 240, x + wide / 2, -trench / 2 - 148), 2.0))
    return parts


def _coil(rng: np.random.Generator) -> Outlines:
    """Return the outlines of a square spiral with two contact pads and a lead that crosses the turns."""
    turns, pitch = int(rng.integers(4, 8)), rng.uniform(22, 38)
    wide = pitch * rng.uniform(0.45, 0.65)
    parts: Outlines = []
    x = y = 0.0
    for side in range(4 * turns + 1):  # right, down, left, up; the sides have 1, 1, 2, 2, 3, ... pitches
        long = (side // 2 + 1) * pitch
        to_x, to_y = x + (long, 0, -long, 0)[side % 4], y + (0, long, 0, -long)[side % 4]
        ends = min(x, to_x) - wide / 2, min(y, to_y) - wide / 2, max(x, to_x) + wide / 2, max(y, to_y) + wide / 2
        parts.append((_box(*ends), 1.0))
        x, y = to_x, to_y
    way, pad = rng.uniform(40, 110), rng.uniform(50, 90)
    parts.append((_box(x - wide / 2, y - wide / 2, x + way, y + wide / 2), 1.0))
    parts.append((_box(x + way, y - pad, x + way + 2 * pad, y + pad), 1.0))
    top = -(turns + 1) * pitch - way
    parts.append((_box(-wide / 2, top, wide / 2, wide / 2), 2.0))  # lead across the turns, from the middle outwards
    parts.append((_box(-pad, top - 2 * pad, pad, top), 2.0))
    return parts


def _electrodes(rng: np.random.Generator) -> Outlines:
    """Return the outlines of tapered leads with a small gap between them. In some devices, a bar crosses the gap."""
    leads, gap = int(rng.choice([2, 4, 6])), rng.uniform(10, 40)
    narrow, broad = rng.uniform(5, 12), rng.uniform(55, 120)
    parts: Outlines = []
    for number in range(leads):
        turn = 2 * math.pi * number / leads + rng.normal(0, 0.08)
        along, across = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
        reach, root = rng.uniform(110, 190), gap
        stops = [(root, narrow / 2), (root + 45, narrow / 2), (reach, broad / 2), (900, broad / 2)]
        rim = [along * stop + across * half for stop, half in stops]
        rim += [along * stop - across * half for stop, half in reversed(stops)]
        parts.append((np.array(rim), 1.0))
    if rng.random() < 0.6:
        parts.append((_box(-gap - 30, -narrow * 0.35, gap + 30, narrow * 0.35), 1.8))
    for side_x, side_y in ((-1, -1), (1, 1), (-1, 1)):  # alignment marks
        x, y, arm = side_x * rng.uniform(120, 210), side_y * rng.uniform(90, 160), rng.uniform(14, 26)
        parts.append((_box(x - arm, y - 3, x + arm, y + 3), 1.0))
        parts.append((_box(x - 3, y - arm, x + 3, y + arm), 1.0))
    return parts

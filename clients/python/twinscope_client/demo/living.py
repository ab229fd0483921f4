"""Biological specimens: pollen, red blood cells and bacteria."""

from __future__ import annotations

import math

import numpy as np

from twinscope_client.demo.detector import secondary_electrons
from twinscope_client.demo.relief import Field, Relief, fractal, turned


def biological(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a specimen (pollen, blood or bacteria), shape (height, width), float32."""
    return (_pollen, _blood, _bacteria)[int(rng.permutation(3)[0])](width, height, rng)


def _pollen(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of spiny pollen grains on a crumpled surface."""
    view = Relief(width, height, tone=0.13)
    view.z += fractal(rng, view.z.shape, 70 * view.scale, 4) * 7 * view.scale
    fine = fractal(rng, view.z.shape, 7 * view.scale, 2) * 0.7 * view.scale
    size = rng.uniform(76, 130) * view.scale
    spines, long = int(rng.integers(55, 90)), rng.uniform(0.14, 0.30)
    for _ in range(max(2, int(rng.uniform(0.4, 0.75) * width * height / (math.pi * size**2)))):
        y, x = rng.uniform(0.02, 0.98, 2) * (height, width)
        radius = size * rng.uniform(0.85, 1.12)
        view.ellipsoid(y, x, (radius, radius * rng.uniform(0.88, 1), radius), rng.uniform(0, 3), radius, 0.42)
        number = np.arange(spines) + 0.5
        up = 1 - 1.15 * number / spines  # points on a spiral with the golden angle are evenly distributed over a sphere
        out, turn = np.sqrt(1 - up**2), number * 2.399963 + rng.uniform(0, 6)
        for to_y, to_x, to_z in np.stack([out * np.sin(turn), out * np.cos(turn), up], axis=1).tolist():
            feet, ends = 0.93 * radius, (1 + long) * radius
            foot = (y + to_y * feet, x + to_x * feet, radius + to_z * feet)
            tip = (y + to_y * ends, x + to_x * ends, radius + to_z * ends)
            thick = 0.085 * radius
            if to_z > 0.8:  # the tip of the spine is directed towards the viewer
                view.ellipsoid(*foot[:2], (thick, thick, 3 * thick), 0.0, foot[2], 0.50)
            view.cylinder(foot, tip, (thick, 0.1 * thick), 0.50)
    view.z += fine
    return secondary_electrons(view, rng, edge=0.40, side=0.3, shadow=0.45)


def _blood(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of biconcave red blood cells among fibrin threads."""
    view = Relief(width, height, tone=0.12)
    view.z += fractal(rng, view.z.shape, 90 * view.scale, 4) * 3 * view.scale
    size = rng.uniform(34, 66) * view.scale
    count = int(rng.uniform(1.0, 2.0) * width * height / (math.pi * size**2))
    for level in np.sort(rng.uniform(0.2, 2.6, count)) * size:
        y, x = rng.uniform(-0.03, 1.03, 2) * (height, width)
        radius = float(size * rng.normal(1, 0.06))
        tilt, angle = rng.uniform(0, 0.75), rng.uniform(0, 2 * math.pi)
        at = view.window(y, x, radius)
        if at is None:
            continue
        along, across = turned(at, angle)
        across = across / np.float32(radius * math.cos(tilt))
        square = (along / radius) ** 2 + across**2
        # Thickness of the cell in units of its radius, after E. Evans and Y.-C. Fung, Microvasc. Res. 4 (1972) 335
        # (coefficients 0.81, 7.83 and -4.39 um for a radius of 3.91 um). The thickness is exaggerated below, so that
        # the relief is visible.
        profile = np.sqrt(np.maximum(1 - square, 0)) * (0.207 + 2.003 * square - 1.123 * square**2)
        leaning = across * np.float32(0.7 * radius * math.sin(tilt))
        cell = level + 1.3 * radius * profile + leaning
        view.cover(at, np.where(square < 1, cell, np.nan).astype(np.float32), 0.40)
    for _ in range(int(rng.integers(0, 14))):
        y, x = rng.uniform(0, 1, 2) * (height, width)
        angle, long = rng.uniform(0, 2 * math.pi), rng.uniform(80, 300) * view.scale
        end = (y + long * math.sin(angle), x + long * math.cos(angle), 3.2 * size)
        view.cylinder((y, x, 2 * size), end, (1.6 * view.scale, 1.2 * view.scale), 0.4, bend=12 * view.scale)
    view.z += fractal(rng, view.z.shape, 10 * view.scale, 2) * 0.22 * view.scale
    return secondary_electrons(view, rng, edge=0.42, side=0.35, shadow=0.5)


def _bacteria(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of rod-shaped bacteria on a filter membrane with round holes; some bacteria are dividing."""
    view = Relief(width, height, tone=0.21)
    view.z += fractal(rng, view.z.shape, 40 * view.scale, 4) * 1.6 * view.scale
    hole = rng.uniform(9, 17) * view.scale
    for _ in range(int(rng.integers(8, 30))):
        y, x = rng.uniform(0, 1, 2) * (height, width)
        at = view.window(y, x, hole)
        if at is not None:
            inside = at.dy**2 + at.dx**2 < hole**2
            view.z[at.rows, at.columns][inside] = -14 * view.scale
            view.tone[at.rows, at.columns][inside] = 0.05
    thick = rng.uniform(8, 15) * view.scale
    aspect = rng.uniform(1.3, 3.2)
    colonies = rng.uniform(0.1, 0.9, (int(rng.integers(2, 6)), 2)) * (height, width)
    count = int(rng.uniform(0.35, 0.75) * width * height / (4 * aspect * thick**2))
    for _ in range(count):
        loose = rng.random() < 0.35
        near = colonies[int(rng.integers(len(colonies)))] + rng.normal(0, 75 * view.scale, 2)
        y, x = rng.uniform(0, 1, 2) * (height, width) if loose else near
        angle, radius = rng.uniform(0, 2 * math.pi), thick * rng.normal(1, 0.07)
        half = aspect * radius * rng.lognormal(0, 0.2)
        level = radius * (1 + rng.integers(0, 3) * (not loose))
        dy, dx = half * math.sin(angle), half * math.cos(angle)
        tone = 0.40
        if rng.random() < 0.2:  # a dividing bacterium: two rods in a line
            long = (0.62 * half + 0.6 * radius, radius, radius)
            for side in (-0.5, 0.5):
                view.ellipsoid(y + side * dy, x + side * dx, long, angle, level, tone)
            continue
        view.cylinder((y - dy, x - dx, level), (y + dy, x + dx, level), (radius, radius), tone, bend=0.15 * radius)
        for side in (-1, 1):
            view.ellipsoid(y + side * dy, x + side * dx, (radius,) * 3, angle, level, tone)
    view.z += fractal(rng, view.z.shape, 9 * view.scale, 2) * 0.35 * view.scale
    return secondary_electrons(view, rng, edge=0.45, side=0.3, shadow=0.5)

"""Grown, spun or poured specimens: fibres, particles, nanowires, sponges and powders."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from twinscope_client.demo.detector import secondary_electrons
from twinscope_client.demo.relief import Field, Relief, fractal, turned


def fibres(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a mat of spun fibres, shape (height, width), float32."""
    mat = Relief(width, height, tone=0.10)
    thick = rng.uniform(2.5, 7.5) * mat.scale
    spread = rng.choice([0.35, 3.0])  # in half of the mats, the fibres have one main direction
    main, layers = rng.uniform(0, math.pi), int(rng.integers(4, 6))
    reach = math.hypot(width, height)
    count = int(0.42 * reach / thick)
    for depth in np.sort(rng.uniform(0, 1, count)):
        angle = main + rng.normal(0, spread)
        middle = rng.uniform(-0.1, 1.1, 2) * (height, width)
        arm = 0.8 * reach * np.array([math.sin(angle), math.cos(angle)])
        level = 2.0 * layers * thick * depth
        radius = thick * rng.lognormal(0, 0.28)
        (y0, x0), (y1, x1) = middle - arm, middle + arm
        mat.cylinder(
            (y0, x0, level + rng.normal(0, thick)),
            (y1, x1, level + rng.normal(0, thick)),
            (radius, radius),
            0.16 + 0.42 * float(depth),
            bend=rng.normal(0, 22) * mat.scale,
            waves=rng.uniform(0.4, 1.6),
            phase=rng.uniform(0, 2 * math.pi),
        )
    return secondary_electrons(mat, rng, edge=0.45, shadow=0.65)


def particles(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of single or clustered round particles on a flat support.

    Shape and type are the same as in `fibres`.
    """
    support = Relief(width, height, tone=0.20)
    support.z += fractal(rng, support.z.shape, 60 * support.scale, 3) * 0.6 * support.scale
    support.tone += fractal(rng, support.z.shape, 170 * support.scale, 2) * 0.022
    size = rng.uniform(9, 24) * support.scale
    spread = rng.choice([0.05, 0.4])
    budget = rng.uniform(0.16, 0.34) * width * height  # area that the particles cover
    while budget > 0:
        middle = rng.uniform(-0.03, 1.03, 2) * (height, width)
        members = int(1 + rng.geometric(0.16) * (rng.random() < 0.6))
        for y, x in middle + rng.normal(0, 0.75 * size * math.sqrt(members), (members, 2)) * (members > 1):
            radius = float(size * rng.lognormal(0, spread))
            flat = rng.uniform(0.86, 1.0)
            base = radius * (1 + (rng.random() < 0.3))  # some particles lie on others
            support.ellipsoid(
                y, x, (radius, radius * flat, radius), rng.uniform(0, math.pi), base, rng.uniform(0.42, 0.52)
            )
            budget -= math.pi * radius**2
    return secondary_electrons(support, rng, edge=0.40, shadow=0.35)


def nanowires(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of straight wires with catalyst beads.

    Shape and type are the same as in `fibres`. The wires stand upright, close together, and are seen from the side, or
    they lie on a flat surface.
    """
    return _forest(width, height, rng) if rng.random() < 0.65 else _lying_wires(width, height, rng)


def _forest(width: int, height: int, rng: np.random.Generator) -> Field:
    ground = Relief(width, height, tone=0.15)
    ground.z += fractal(rng, ground.z.shape, 24 * ground.scale, 3) * 0.8 * ground.scale
    length, thick = rng.uniform(90, 190) * ground.scale, rng.uniform(2.0, 4.2) * ground.scale
    lean, disorder = rng.normal(0, 0.10), rng.uniform(0.03, 0.10)
    count = int(rng.uniform(0.45, 0.9) * width * height / (length * thick * 2.2))
    feet = np.sort(rng.uniform(-0.05, 1.45, count)) * height  # far wires are drawn first, behind the near wires
    density = fractal(rng, (64, 64), 20)
    for foot in feet:
        x = rng.uniform(-0.05, 1.05) * width
        row, column = int(min(foot / height, 1.44) / 1.45 * 63), int(np.clip(x / width, 0, 1) * 63)
        if density[row, column] < -0.6:  # a patch without wires
            continue
        angle = lean + rng.normal(0, disorder)
        tall = length * rng.lognormal(0, 0.22)
        level = 60 * ground.scale * foot / height
        top = (foot - tall * math.cos(angle), x + tall * math.sin(angle), level + 3)
        radius = thick * rng.lognormal(0, 0.18)
        ground.cylinder((foot, x, level), top, (1.25 * radius, radius), 0.30 + 0.16 * foot / height)
        bead = 1.45 * radius
        ground.ellipsoid(top[0], top[1], (bead, bead, bead), 0.0, level + 4, 0.92)
    return secondary_electrons(ground, rng, edge=0.40, side=0.15, shadow=0.45)


def _lying_wires(width: int, height: int, rng: np.random.Generator) -> Field:
    ground = Relief(width, height, tone=0.24)
    ground.tone += fractal(rng, ground.z.shape, 210 * ground.scale, 3) * 0.020
    length, thick = rng.uniform(110, 260) * ground.scale, rng.uniform(2.0, 3.6) * ground.scale
    for _ in range(int(rng.uniform(24, 60) * width * height / (640 * 480 * ground.scale**2))):
        y, x = rng.uniform(-0.1, 1.1, 2) * (height, width)
        angle, long = rng.uniform(0, 2 * math.pi), length * rng.lognormal(0, 0.35)
        radius = thick * rng.lognormal(0, 0.2)
        level = rng.uniform(1, 4) * radius
        end = (y + long * math.sin(angle), x + long * math.cos(angle), level)
        ground.cylinder((y, x, level), end, (1.15 * radius, 0.9 * radius), 0.55)
        ground.ellipsoid(end[0], end[1], (1.5 * radius,) * 3, 0.0, level + 1, 0.95)
    for _ in range(int(rng.integers(20, 80))):  # catalyst beads without a wire
        y, x = rng.uniform(0, 1, 2) * (height, width)
        ground.ellipsoid(y, x, (1.4 * thick, 1.2 * thick, thick), rng.uniform(0, 3), 0.0, 0.7)
    return secondary_electrons(ground, rng, edge=0.40, shadow=0.30)


def porous_sponge(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of an open foam.

    Each pore opens into the pores below it. Shape and type are the same as in `fibres`.
    """
    foam = Relief(width, height)
    size = rng.uniform(26, 58) * foam.scale
    foam.z += fractal(rng, foam.z.shape, 0.8 * size, 2) * (0.10 * size)
    ragged = fractal(rng, foam.z.shape, 0.5 * size, 2) * np.float32(0.07)
    count = int(1.2 * (width + 2 * size) * (height + 2 * size) / size**2)
    for depth in np.sort(rng.uniform(-0.3, 1.5, count)):  # pores at the top first, deep pores last
        y, x = rng.uniform(-size, height + size), rng.uniform(-size, width + size)
        radius = size * min(rng.lognormal(-0.20, 0.30), 1.7)
        at = foam.window(y, x, radius)
        if at is None:
            continue
        along, across = turned(at, rng.uniform(0, math.pi))
        across *= np.float32(rng.uniform(1.0, 1.45) / radius)
        along /= np.float32(radius)
        half = np.sqrt(np.maximum(1 - along * along - across * across - ragged[at.rows, at.columns], 0)) * radius
        surface, middle = foam.z[at.rows, at.columns], np.float32(-depth * size)
        np.copyto(surface, middle - half, where=np.abs(surface - middle) < half)
    foam.tone[:] = 0.50 * np.exp(np.minimum(foam.z, 0) / (1.5 * size))
    foam.z += fractal(rng, foam.z.shape, 14 * foam.scale, 2) * (0.4 * foam.scale)
    return secondary_electrons(foam, rng, edge=0.50, side=0.25, shadow=0.55)


def powder(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a heap of angular grains of all sizes. Shape and type are the same as in `fibres`."""
    heap = Relief(width, height, tone=0.05)
    size = rng.uniform(23, 44) * heap.scale
    facets = int(rng.integers(7, 12))
    grains = [_grain(rng, facets) for _ in range(24)]
    count = int(1.15 * width * height / size**2)
    bed = fractal(rng, (height, width), 200 * heap.scale) * (0.5 * size)
    for radius in np.clip(size * rng.lognormal(-0.25, 0.5, count), 0.25 * size, 2.2 * size).tolist():
        y, x = rng.uniform(-0.04, 1.04) * height, rng.uniform(-0.04, 1.04) * width
        half = max(2, round(1.25 * radius))
        grain = grains[int(rng.integers(len(grains)))].resize((2 * half + 1,) * 2, Image.Resampling.BILINEAR)
        at = heap.window(round(y), round(x), half)
        if at is None:
            continue
        turn = slice(None, None, 1 - 2 * int(rng.integers(2)))  # mirrored or not
        top, left = at.rows.start - round(y) + half, at.columns.start - round(x) + half
        visible = np.asarray(grain)[turn, turn][top : top + at.dy.size, left : left + at.dx.size]
        level = float(bed[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)])
        base = level + rng.uniform(-0.2, 1.6) * size - 0.35 * (radius - size)
        z = np.where(visible > 0, visible * np.float32(radius) + np.float32(base), np.float32(np.nan))
        heap.cover(at, z, rng.uniform(0.36, 0.50))
    heap.z += fractal(rng, (height, width), 9 * heap.scale, 2) * (0.4 * heap.scale)
    return secondary_electrons(heap, rng, edge=0.40, side=0.40, shadow=0.75)


def _grain(rng: np.random.Generator, facets: int) -> Image.Image:
    """Return the height map of a convex polyhedron.

    The unit is its radius. The map is a square with sides of 2.5 radii.
    """
    y, x = np.mgrid[-1.25:1.25:61j, -1.25:1.25:61j].astype(np.float32)
    turns = rng.uniform(0, 2 * math.pi) + np.arange(facets) * 2.399963  # golden angle, for evenly distributed facets
    grain = np.full(y.shape, np.inf, np.float32)
    for turn, up, away in zip(turns, rng.uniform(0.12, 0.97, facets), rng.uniform(0.6, 1.0, facets), strict=True):
        steep = math.sqrt(1 - up**2)
        plane = (away - steep * math.sin(turn) * y - steep * math.cos(turn) * x) / up
        np.minimum(grain, plane.astype(np.float32), out=grain)
    return Image.fromarray(grain)

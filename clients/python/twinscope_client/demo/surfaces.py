"""Manufactured specimens: patterned surfaces, tips and films."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from twinscope_client.demo.detector import secondary_electrons
from twinscope_client.demo.relief import Field, Relief, fractal, voronoi


def patterned_surface(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a lithographic lattice of pillars, holes or lines, shape (height, width), float32."""
    wafer = Relief(width, height, tone=0.25)
    scale = wafer.scale
    pitch, duty = rng.uniform(24, 58) * scale, rng.uniform(0.48, 0.64)
    angle, motif = rng.uniform(0, math.pi / 2), str(rng.choice(["pillar", "hole", "square", "line", "cross"]))
    hexagonal = motif in ("pillar", "hole") and rng.random() < 0.5
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y += fractal(rng, y.shape, 30 * scale) * 0.25 * scale  # line-edge roughness
    u = (x * math.cos(angle) + y * math.sin(angle)) / pitch + rng.uniform(0, 1)
    v = (y * math.cos(angle) - x * math.sin(angle)) / pitch + rng.uniform(0, 1)
    if hexagonal:
        v = v / (math.sqrt(3) / 2)
    row = np.floor(v)
    if hexagonal:
        u = u + 0.5 * (row % 2)
    column = np.floor(u)
    across, along = u - column - 0.5, v - row - 0.5
    if hexagonal:
        along = along * (math.sqrt(3) / 2)
    distance = _motif(motif, across, along)
    half = duty / 2 if motif != "cross" else 0.12
    element = np.clip((half - distance) * (pitch / 2) + 0.5, 0, 1)  # the walls are two pixels wide
    if motif != "line":
        faults = rng.random((257, 263), np.float32) < rng.choice([0.01, 0.05])  # missing elements
        element *= ~faults[row.astype(np.intp) % 257, column.astype(np.intp) % 263]
    if motif == "hole":
        element = 1 - element
    if rng.random() < 0.5:  # the edge of the area that lithography has written
        away = rng.uniform(0, 2 * math.pi)
        beyond = (x - width / 2) * math.cos(away) + (y - height / 2) * math.sin(away)
        element *= beyond < rng.uniform(0.1, 0.35) * width
    wafer.z = (element * rng.uniform(5, 9) * scale).astype(np.float32)
    wafer.tone = (0.16 + 0.27 * element).astype(np.float32)
    wafer.tone += fractal(rng, y.shape, 150 * scale, 3) * 0.025
    wafer.dust(rng, 22, (2, 11))
    return secondary_electrons(wafer, rng, edge=0.38, side=0.2, shadow=0.3)


def _motif(name: str, across: Field, along: Field) -> Field:
    """Return the distance from the middle of an element. Coordinates in the unit cell are from -0.5 to 0.5."""
    if name in ("pillar", "hole"):
        radius: Field = np.sqrt(across**2 + along**2)
        return radius
    across, along = np.abs(across), np.abs(along)
    if name == "line":
        return across
    if name == "square":
        return np.maximum(across, along)
    return np.minimum(across, along) + np.float32(0.25) * (np.maximum(across, along) > 0.36)


def tips(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of one sharp probe that enters the image from a random side, shape (height, width), float32."""
    scale = min(width / 640, height / 480)
    angle = rng.uniform(0, 2 * math.pi)  # direction of the probe, from its base to its tip
    apex_y, apex_x = rng.uniform(0.25, 0.75) * height, rng.uniform(0.25, 0.75) * width
    opening, apex = rng.uniform(0.06, 0.26), rng.uniform(2, 9) * scale
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    back = (apex_x - x) * math.cos(angle) + (apex_y - y) * math.sin(angle)  # distance behind the apex
    aside = (y - apex_y) * math.cos(angle) - (x - apex_x) * math.sin(angle)
    behind = np.maximum(back, 0)
    bent = 1 + rng.uniform(-0.25, 0.9) * behind / (640 * scale)  # concave or convex flanks
    radius = np.sqrt(2 * apex * behind + (opening * behind) ** 2) * bent
    shank, start = rng.uniform(45, 150) * scale, rng.uniform(150, 330) * scale
    radius = np.where(back > start, np.maximum(radius, np.minimum(shank, radius + (back - start) * 0.6)), radius)
    grooves = fractal(rng, y.shape, 26 * scale, 4)  # the shank of a drawn or etched probe is rough
    radius = radius + grooves * np.minimum(0.02 * behind, 1.6 * scale)
    body = back > 0
    body &= np.abs(aside) < radius
    probe = Relief(width, height)
    rest = np.sqrt(np.maximum(radius**2 - aside**2, 0))
    far = fractal(rng, y.shape, 190 * scale, 3)  # the holder of the probe, which is strongly out of focus
    probe.z = np.where(body, 30 * scale + rest, 0).astype(np.float32)
    probe.z += np.where(body, grooves * 1.2 * scale + fractal(rng, y.shape, 12 * scale, 2) * 0.5 * scale, 0)
    glow = np.exp(-np.hypot(back, aside) / (120 * scale)) * 0.03
    slope = ((x / width - 0.5) * rng.normal(0, 0.05) + (y / height - 0.5) * rng.normal(0, 0.05)).astype(np.float32)
    probe.tone = np.where(body, 0.40, np.maximum(0.10 + 0.030 * far + glow + slope, 0.01)).astype(np.float32)
    for _ in range(int(rng.integers(0, 9))):  # debris on the flank
        along, size = rng.uniform(20, 400) * scale, rng.uniform(3, 10) * scale
        off = rng.uniform(-1, 1) * opening * along
        grain_y = apex_y - along * math.sin(angle) + off * math.cos(angle)
        grain_x = apex_x - along * math.cos(angle) - off * math.sin(angle)
        probe.ellipsoid(grain_y, grain_x, (size, 0.7 * size, size), rng.uniform(0, 3), 50 * scale + off, 0.55)
    return secondary_electrons(probe, rng, edge=0.45, side=0.3, shadow=0.25)


def films_coated_surface(width: int, height: int, rng: np.random.Generator) -> Field:
    """Return the signal of a coating, shape (height, width), float32.

    The image shows a cracked film from above, or a cross-section of several layers.
    """
    return _cracked_film(width, height, rng) if rng.random() < 0.5 else _cross_section(width, height, rng)


def _cracked_film(width: int, height: int, rng: np.random.Generator) -> Field:
    film = Relief(width, height)
    scale, shape = film.scale, (height, width)
    cells = int(rng.integers(9, 42))
    seeds = rng.uniform(-0.15, 1.15, (cells, 2)) * shape
    bent = rng.uniform(6, 16) * scale
    warp = (fractal(rng, shape, 60 * scale, 3) * bent, fractal(rng, shape, 60 * scale, 3) * bent)
    border, cell = voronoi(shape, seeds, warp)
    gap = rng.uniform(1.2, 3.6) * scale
    flake = np.clip((border - gap) / (1.5 * scale), 0, 1)
    curl = np.exp(-np.maximum(border - gap, 0) / (16 * scale))  # the edges of a drying film bend upwards
    grain = fractal(rng, shape, rng.uniform(5, 9) * scale, 2)
    lost = rng.random(cells) < 0.06  # flakes that fell off
    flake = np.where(lost[cell], 0.0, flake).astype(np.float32)
    film.z = flake * (9 + 7 * curl + 0.4 * grain).astype(np.float32) * scale
    tones = rng.normal(0.40, 0.028, cells).astype(np.float32)[cell]
    film.tone = np.where(flake > 0, 0.10 + flake * (tones - 0.10), 0.13 + 0.02 * grain).astype(np.float32)
    film.tone += fractal(rng, shape, 200 * scale, 2) * 0.012
    return secondary_electrons(film, rng, edge=0.45, side=0.3, shadow=0.35)


def _cross_section(width: int, height: int, rng: np.random.Generator) -> Field:
    cut = Relief(width, height)
    scale, shape = cut.scale, (height, width)
    tilt = rng.normal(0, 0.35)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    up = (height - y) * math.cos(tilt) + (x - width / 2) * math.sin(tilt)  # distance from the substrate
    side = (x - width / 2) * math.cos(tilt) + y * math.sin(tilt)
    column = rng.uniform(11, 26) * scale
    count = int(2.2 * (width + height) / column)
    edges = np.sort(rng.uniform(-1.1, 1.1, count)) * (width + height) / 2
    swerve = side + fractal(rng, shape, 45 * scale, 2) * 0.16 * column
    number = np.searchsorted(edges, swerve.ravel()).reshape(shape)
    left = np.concatenate([[edges[0] - column], edges])[number]
    right = np.concatenate([edges, [edges[-1] + column]])[number]
    across = ((swerve - left) / np.maximum(right - left, 1e-3) * 2 - 1).astype(np.float32)
    bulge = np.sqrt(np.maximum(1 - across**2, 0))
    grow = rng.normal(0, 5 * scale, count + 1).astype(np.float32)[number]  # columns end at unequal heights
    level = rng.uniform(0.18, 0.42) * height
    columnar = int(rng.integers(3))
    layers = int(rng.integers(3, 5))
    cut.tone[:] = 0.30
    cut.z = fractal(rng, shape, 90 * scale, 3) * 0.8 * scale
    river = np.abs(np.sin((side + 1.4 * up) / (37 * scale) + fractal(rng, shape, 120 * scale, 2)))
    cut.z += np.where(up < level, river * 2.2 * scale, 0)  # the steps on the surface of a cleaved crystal
    tones = rng.permutation([0.24, 0.38, 0.52, 0.44])
    for layer in range(layers):
        thick = rng.uniform(28, 105) * scale * (1.5 if layer == columnar else 1)
        ends = level + thick + (grow + 5 * scale * bulge if layer == columnar else 0)
        within = (up >= level) & (up < ends)
        rough = fractal(rng, shape, rng.uniform(4, 10) * scale) * (0.55 * scale)
        body = rough + (bulge * 0.35 * column if layer == columnar else 3 * scale * (layer % 2))
        cut.z = np.where(within, body, cut.z).astype(np.float32)
        cut.tone[within] = tones[layer]
        beyond = up >= ends
        level += thick
    cut.tone += fractal(rng, shape, 130 * scale, 4) * 0.018  # contamination
    far = fractal(rng, shape, 160 * scale, 3) * 0.014
    cut.z[beyond] = -25 * scale  # vacuum above the film
    cut.tone = np.where(beyond, 0.07 + far, cut.tone).astype(np.float32)
    cut.z = ndimage.gaussian_filter(cut.z, 0.7 * scale, truncate=2.5)
    return secondary_electrons(cut, rng, edge=0.42, side=0.25, shadow=0.3)

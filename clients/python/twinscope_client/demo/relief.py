"""The relief (height map) of a specimen, and functions for the shapes and textures of the relief."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float32]
"""A map with one value for each pixel, shape (height, width), float32."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels around a point of an image.

    Attributes
    ----------
    rows, columns : slice
        Rows and columns of the rectangle. Parts outside the image are cut off.
    dy, dx : NDArray
        Distance of each row and of each column from the point, in pixels; shapes (rows, 1) and (1, columns), float32.
    """

    rows: slice
    columns: slice
    dy: Field
    dx: Field


class Relief:
    """A specimen that is seen from above, along the beam. Higher bodies hide lower bodies.

    Parameters
    ----------
    width, height : int
        Size of the image in pixels.
    tone : float
        Electron yield of the bare ground, relative to the yield of a bright metal.

    Attributes
    ----------
    z : NDArray
        Height above the ground in pixels, shape (height, width), float32.
    tone : NDArray
        Electron yield of each pixel, shape (height, width), float32.
    scale : float
        Size of this image relative to an image of 640 x 480 pixels. The sizes of all shapes are multiplied by this
        number.
    """

    def __init__(self, width: int, height: int, tone: float = 0.4) -> None:
        self.width, self.height = width, height
        self.scale = min(width / 640, height / 480)
        self.z: Field = np.zeros((height, width), np.float32)
        self.tone: Field = np.full((height, width), tone, np.float32)

    def window(self, y: float, x: float, reach: float) -> Window | None:
        """Return the pixels within `reach` of a point, or None if no such pixel is in the image."""
        top, bottom = max(0, math.floor(y - reach)), min(self.height, math.ceil(y + reach) + 1)
        left, right = max(0, math.floor(x - reach)), min(self.width, math.ceil(x + reach) + 1)
        if top >= bottom or left >= right:
            return None
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
        dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
        return Window(slice(top, bottom), slice(left, right), dy, dx)

    def cover(self, at: Window, z: Field, tone: float | Field) -> None:
        """Add a body to the specimen.

        The body is visible where `z`, the height of the body, is larger than the height of the specimen. At pixels
        without the body, `z` is NaN.
        """
        shown = z > self.z[at.rows, at.columns]
        np.copyto(self.z[at.rows, at.columns], z, where=shown)
        np.copyto(self.tone[at.rows, at.columns], np.float32(tone) if isinstance(tone, float) else tone, where=shown)

    def ellipsoid(
        self, y: float, x: float, radii: tuple[float, float, float], angle: float, base: float, tone: float
    ) -> None:
        """Add an ellipsoid, centred at height `base`.

        Parameters
        ----------
        y, x, base : float
            Row, column and height of the centre in pixels.
        radii : tuple of float
            Half axes in pixels: in the direction `angle`, perpendicular to this direction, and upwards.
        angle : float
            Angle between the first half axis and the rows, in radians.
        tone : float
            Electron yield.
        """
        at = self.window(y, x, max(radii[0], radii[1]))
        if at is not None:
            along, across = turned(at, angle)
            rest = 1 - (along / radii[0]) ** 2 - (across / radii[1]) ** 2
            self.cover(at, np.where(rest > 0, base + radii[2] * np.sqrt(np.maximum(rest, 0)), np.nan), tone)

    def cylinder(
        self,
        start: tuple[float, float, float],
        stop: tuple[float, float, float],
        radii: tuple[float, float],
        tone: float,
        *,
        bend: float = 0.0,
        waves: float = 1.0,
        phase: float = 0.0,
    ) -> None:
        """Add a fibre, wire or rod.

        Parameters
        ----------
        start, stop : tuple of float
            The two ends of the axis: y, x and height in pixels.
        radii : tuple of float
            Radius at `start` and radius at `stop`, in pixels.
        tone : float
            Electron yield.
        bend, waves, phase : float
            A sinusoidal bend: its amplitude in pixels, its number of periods along the length, and its phase in
            radians.
        """
        steep = abs(stop[0] - start[0]) > abs(stop[1] - start[1])
        z, tones = (self.z.T, self.tone.T) if steep else (self.z, self.tone)
        (n0, m0), (n1, m1) = (start[1::-1], stop[1::-1]) if steep else (start[:2], stop[:2])
        first, last = max(0, math.ceil(min(m0, m1))), min(z.shape[1] - 1, math.floor(max(m0, m1)))
        if last - first < 1:
            return
        major = np.arange(first, last + 1)
        t = ((major - m0) / (m1 - m0)).astype(np.float32)
        axis = (n0 + (n1 - n0) * t + bend * np.sin(2 * math.pi * waves * t + phase)).astype(np.float32)
        slope = np.diff(axis, append=2 * axis[-1] - axis[-2])
        cosine = 1 / np.sqrt(1 + slope * slope)
        radius = np.float32(radii[0]) + np.float32(radii[1] - radii[0]) * t
        reach = math.ceil(float((radius / cosine).max()))
        across, middle = np.arange(-reach, reach + 1), np.rint(axis)
        minor = middle.astype(np.intp)[:, None] + across
        rest = (radius**2)[:, None] - ((across.astype(np.float32) + (middle - axis)[:, None]) * cosine[:, None]) ** 2
        inside = (rest > 0) & (minor >= 0) & (minor < z.shape[0])
        step, _ = np.nonzero(inside)
        rows, columns = minor[inside], major[step]
        level = (start[2] + (stop[2] - start[2]) * t).astype(np.float32)
        top = np.sqrt(rest[inside]) + level[step]
        shown = top > z[rows, columns]
        rows, columns = rows[shown], columns[shown]
        z[rows, columns] = top[shown]
        tones[rows, columns] = tone

    def dust(self, rng: np.random.Generator, most: int, sizes: tuple[float, float]) -> None:
        """Add at least 3 but fewer than `most` bright grains, with radii in the range `sizes`.

        The values of `sizes` are radii in pixels for an image that is 480 pixels high.
        """
        for _ in range(int(rng.integers(3, most))):
            y, x = rng.uniform(0, self.height), rng.uniform(0, self.width)
            radius = rng.uniform(*sizes) * self.scale
            radii = (radius, radius * rng.uniform(0.4, 1), radius)
            self.ellipsoid(y, x, radii, rng.uniform(0, math.pi), 8 * self.scale, 0.62)


def turned(at: Window, angle: float) -> tuple[Field, Field]:
    """Return the coordinates of the pixels of a window, along and across the direction `angle` (in radians)."""
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return at.dx * cosine + at.dy * sine, at.dy * cosine - at.dx * sine


def fractal(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 1) -> Field:
    """Return smooth noise with a mean of about 0 and a standard deviation of about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random generator.
    shape : tuple of int
        Rows and columns.
    cell : float
        Size of the largest features in pixels.
    octaves : int
        Number of layers of noise. In each layer, the features have half the size and half the strength of the features
        in the previous layer.

    Returns
    -------
    NDArray
        The noise, shape `shape`, float32.
    """
    cells = [max(cell / 2**octave, 1.0) for octave in range(octaves)]
    layers: Image.Image | None = None
    for octave, size in enumerate(cells):
        rows, columns = (math.ceil(length / size) + 4 for length in shape)  # two additional cells on every side
        grid = rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(2**octave)
        if layers is not None:
            ratio = size / cells[octave - 1]
            start = 2 - 2 * ratio
            box = (start, start, start + columns * ratio, start + rows * ratio)
            grid += np.asarray(layers.resize((columns, rows), Image.Resampling.BICUBIC, box=box))
        layers = Image.fromarray(grid)
    if layers is None:
        raise ValueError(f"noise needs at least one octave, not {octaves}")
    box = (2.0, 2.0, 2.0 + shape[1] / size, 2.0 + shape[0] / size)
    noise: Field = np.array(layers.resize(shape[::-1], Image.Resampling.BICUBIC, box=box))
    # After bicubic interpolation, white noise has about 0.67 of its variance. The variances of all octaves are added.
    noise /= np.float32(math.sqrt(sum(0.67 / 4**octave for octave in range(octaves))))
    return noise


def polygons(shape: tuple[int, int], outlines: list[tuple[NDArray[np.float64], float]]) -> Field:
    """Return a map in which each outline is filled with its value. The outlines are filled in the order of the list.

    An outline is an array of points (x, y), shape (points, 2).
    """
    image = Image.new("F", shape[::-1], 0.0)
    draw = ImageDraw.Draw(image)
    for points, value in outlines:
        draw.polygon([(float(x), float(y)) for x, y in points], fill=value)
    return np.array(image, np.float32)


def voronoi(
    shape: tuple[int, int], points: NDArray[np.float64], warp: tuple[Field, Field] | None = None
) -> tuple[Field, NDArray[np.int16]]:
    """Return two maps: the distance of each pixel from the border of its Voronoi cell, and the number of the cell.

    The distances are in pixels. Both maps are computed for every second pixel, and then enlarged to the full size.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    points : NDArray
        Seeds of the cells (y, x) in pixels, shape (cells, 2).
    warp : tuple of NDArray, optional
        Displacement of the pixels in y and in x, each of shape `shape`. The displacement makes the borders irregular.

    Returns
    -------
    border : NDArray
        Half the difference between the distances to the two nearest seeds, shape `shape`, float32.
    cell : NDArray
        Number of the Voronoi cell, shape `shape`, int16.
    """
    y, x = np.mgrid[0 : shape[0] : 2, 0 : shape[1] : 2].astype(np.float32)
    if warp is not None:
        y, x = y + warp[0][::2, ::2], x + warp[1][::2, ::2]
    nearest = np.full(y.shape, np.inf, np.float32)
    second = nearest.copy()
    cell = np.zeros(y.shape, np.int16)
    for number, (seed_y, seed_x) in enumerate(points.astype(np.float32)):
        distance = (y - seed_y) ** 2 + (x - seed_x) ** 2
        np.minimum(second, np.maximum(nearest, distance), out=second)
        cell[distance < nearest] = number
        np.minimum(nearest, distance, out=nearest)
    border = Image.fromarray((np.sqrt(second) - np.sqrt(nearest)) / 2)
    wide = cell.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
    return np.asarray(border.resize(shape[::-1], Image.Resampling.BILINEAR)), wide

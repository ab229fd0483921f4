"""Voting tiles, an alternative to indexed windows that `peers` measures: many small crops whose hashes vote.

A reference has the hashes of square tiles on a dense grid, a query those of fewer tiles, cut at several scales. Every
query tile is paired with the reference tiles within a Hamming limit. Each pair implies a location of the query's centre
in the reference; pairs of one reference with the same location agree. The votes of a reference are the cells of the
query that have an agreeing tile. The reference with most votes wins, if it has enough of them.

A tile's hash is that of `twinscope_indexer.hashing` with 12 x 12 instead of 32 x 32 frequencies, from a reduced copy.
Fewer frequencies tolerate a larger shift, so the grid can be coarser; the votes make up for the less specific codes.
Lengths are fractions of an image's width, which does not depend on an info bar. (In a strip they are fractions of 1.6
times its height, because no tile would fit otherwise.) Quarter turns, mirrored and inverted queries are not searched:
each of the 16 symmetries would need its own scan.

The settings were chosen on 48 micrographs of 40 scenes. With the default seed, ``--limit N`` draws none of them if N is
22 to 40.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twinscope_indexer.hashing.dct import low_frequencies
from twinscope_indexer.hashing.equalize import standardise

Grey = NDArray[np.uint8]

WIDTH: Final = 192
"""Width of the reduced copy in pixels, as of a thumbnail. The unit of the lengths below."""
STRIP: Final = 1.6
"""Ratio of width to height above which an image is a strip."""
LOW: Final = 12
"""Frequencies in each direction: 144 bits, 18 bytes per tile."""
SIDE: Final = 0.3
"""Side of a tile, as fraction of the reference's width. A panel of half the width and height must hold several."""
STEP: Final = 1 / 24
"""Largest step of the references' grid."""
ACROSS: Final = 7
"""Query tiles in a row and in a column, at each scale."""
SCALES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.5)
"""Fractions of the reference's width that the query may show."""
LIMIT: Final = 44
"""Largest distance of tiles that are taken for the same, in bits."""
VOTES: Final = 7
"""Least votes of a match. Of 178 micrographs, each compared with all references of other places, two had 6 votes and
none more, except a figure (scene d113) and the images that it consists of (d114)."""

_PLACE: Final = 0.04
"""Fraction of the width within which two pairs have the same location."""
_CELLS: Final = 12
"""Cells per width of a query; tiles of several scales whose centres share a cell have one vote."""
_FAINTEST: Final = 1.0
"""Least standard deviation of a tile in grey levels; below it a tile is only rounding and compression."""
_BASE: Final = 1 << 12
"""More than the locations along an axis; see `_keys`."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of an image.

    Attributes
    ----------
    codes : ndarray of uint8, shape (n, 18)
    places : ndarray of float32, shape (n, 2)
        Centre of each tile, right and down, as fractions of the reference's width. For a query: relative to its centre,
        at the scale that the tile was cut for.
    cells : ndarray of int64, shape (n,)
        Cell of the image that contains the centre.
    """

    codes: Grey
    places: NDArray[np.float32]
    cells: NDArray[np.int64]


def reference_tiles(image: Image.Image) -> Tiles:
    """Hash the tiles of a reference on the dense grid."""
    pixels = _reduced(image)
    side = _side(1.0)
    rows, columns = (_grid(length, side, math.ceil((length - side) / (STEP * WIDTH)) + 1) for length in pixels.shape)
    return _cut(pixels, side, rows, columns)


def query_tiles(image: Image.Image) -> Tiles:
    """Hash the tiles of a query at every scale whose tile fits into the query."""
    pixels = _reduced(image)
    centre = np.array(pixels.shape[::-1]) / (2 * WIDTH)
    kinds = []
    for scale in SCALES:
        side = _side(scale)
        rows, columns = (_grid(length, side, ACROSS) for length in pixels.shape)
        tiles = _cut(pixels, side, rows, columns)
        kinds.append(Tiles(tiles.codes, (scale * (tiles.places - centre)).astype(np.float32), tiles.cells))
    return _joined(kinds)


class TileIndex:
    """An index of the tiles of several references.

    Parameters
    ----------
    references : sequence of Tiles
    """

    def __init__(self, references: Sequence[Tiles]) -> None:
        tiles = _joined(references)
        self._owners = np.repeat(np.arange(len(references)), [len(one.codes) for one in references])
        self._places = tiles.places
        self._count = len(references)
        self._index = faiss.IndexBinaryFlat(8 * _bytes())
        self._index.add(tiles.codes)

    @property
    def bytes_each(self) -> float:
        """Bytes of codes per reference."""
        return self._index.ntotal * _bytes() / max(1, self._count)

    def votes(self, query: Tiles) -> NDArray[np.int64]:
        """Count the votes of every reference, at its location with most votes.

        Parameters
        ----------
        query : Tiles

        Returns
        -------
        ndarray of int64, shape (references,)
        """
        most = np.zeros(self._count, np.int64)
        if len(query.codes) == 0 or self._index.ntotal == 0:
            return most
        bounds, _, found = self._index.range_search(query.codes, LIMIT + 1)
        asked = np.repeat(np.arange(len(query.codes)), np.diff(bounds.astype(np.int64)))
        owners, implied = self._owners[found], self._places[found] - query.places[asked]
        for shift in product((0.0, 0.5), repeat=2):  # a location on the edge of one grid is inside a cell of another
            keys = _keys(owners, np.floor(implied / _PLACE + np.array(shift)).astype(np.int64))
            agreeing = np.unique(np.stack([keys, query.cells[asked]], axis=1), axis=0)
            places, counts = np.unique(agreeing[:, 0], return_counts=True)
            np.maximum.at(most, places // _BASE**2, counts)
        return most


def match(query: Tiles, index: TileIndex) -> int | None:
    """Return the position of the reference with most votes, or None if none has enough."""
    votes = index.votes(query)
    best = int(votes.argmax())
    return best if votes[best] >= VOTES else None


def _bytes() -> int:
    return -(-(LOW**2) // 8)


def _reduced(image: Image.Image) -> Grey:
    """Reduce an image to the width of the copy, uint8 (height, width)."""
    scale = WIDTH / min(image.width, STRIP * image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX))


def _side(scale: float) -> int:
    """Return the side of a tile in pixels of the copy, for an image that shows `scale` of the reference's width."""
    return round(SIDE * WIDTH / scale)


def _grid(length: int, side: int, count: int) -> list[int]:
    """Return the starts of `count` tiles evenly along a length, up to both edges; none if a tile does not fit."""
    room = length - side
    if room < 0:
        return []
    return sorted({round(room * position / max(1, count - 1)) for position in range(count)})


def _cut(pixels: Grey, side: int, rows: Sequence[int], columns: Sequence[int]) -> Tiles:
    """Hash the tiles with their upper left corners on a grid, except blank ones."""
    codes, places = [], []
    for top, left in product(rows, columns):
        tile = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        if tile.std() >= _FAINTEST:
            codes.append(_code(tile))
            places.append(((left + side / 2) / WIDTH, (top + side / 2) / WIDTH))
    centres = np.array(places, np.float32).reshape(-1, 2)
    across, down = np.rint(_CELLS * centres.astype(np.float64)).astype(np.int64).T
    return Tiles(np.array(codes, np.uint8).reshape(-1, _bytes()), centres, down * _BASE + across)


def _code(tile: Grey) -> Grey:
    coefficients = low_frequencies(standardise(tile), LOW)
    return np.packbits(coefficients > np.median(coefficients))


def _joined(some: Sequence[Tiles]) -> Tiles:
    codes, places, cells = ([getattr(one, name) for one in some] for name in ("codes", "places", "cells"))
    return Tiles(np.concatenate(codes), np.concatenate(places), np.concatenate(cells))


def _keys(owners: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for a reference and a location, which may lie outside of the reference."""
    across, down = np.clip(places + _BASE // 2, 0, _BASE - 1).T
    keys: NDArray[np.int64] = (owners * _BASE + across) * _BASE + down
    return keys

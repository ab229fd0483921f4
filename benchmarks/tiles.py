"""Voting tiles: a search by the hashes of many small crops, as an alternative to windows. `peers` measures this search.

A reference is cut into square tiles on a dense grid, and each tile is hashed. A query is cut into fewer tiles, at
several scales. Every query tile is paired with the reference tiles that are within a Hamming limit. Each pair implies a
location of the query's centre in the reference. The pairs of one reference that imply the same location agree. The
query is divided into cells. The number of votes of a reference is the number of cells with an agreeing tile. The match
is the reference with the most votes, if it has enough votes.

The hash of a tile is computed as in `twinscope_indexer.hashing`, but from a reduced copy of the image and with 12 x 12
instead of 32 x 32 frequencies. A hash of fewer frequencies tolerates a larger shift, so the grid can be coarser. A hash
of fewer frequencies is also less specific, but the votes compensate for this. Lengths are fractions of the image's
width, because the width does not depend on an info bar. In a strip, lengths are fractions of 1.6 times its height,
because no tile would fit otherwise. Queries that were rotated by quarter turns, mirrored or inverted are not searched
for, because each of the 16 symmetries would need another scan.

The settings were chosen on 48 micrographs of 40 scenes. With the default seed, ``--limit N`` of `peers` selects none of
these micrographs if N is from 22 to 40.
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
"""Width of the reduced copy in pixels, the same as the width of a thumbnail."""
STRIP: Final = 1.6
"""Ratio of width to height. An image with a larger ratio is treated as a strip."""
LOW: Final = 12
"""Number of frequencies in each direction. A tile has 12 x 12 = 144 bits, which are 18 bytes."""
SIDE: Final = 0.3
"""Side of a tile, as a fraction of the reference's width. The side must be small, because a panel with half of the
width and height of the reference must contain several tiles."""
STEP: Final = 1 / 24
"""Maximum step of the grid of a reference, as a fraction of its width."""
ACROSS: Final = 7
"""Number of query tiles in a row, and in a column, at each scale."""
SCALES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.5)
"""Scales at which a query is cut. A scale is the fraction of the reference's width that the query may show."""
LIMIT: Final = 44
"""Maximum distance in bits between two tiles that form a pair."""
VOTES: Final = 7
"""Minimum number of votes of a match. To choose this number, each of 178 micrographs was compared with all references
of other places. Two micrographs had 6 votes, and no micrograph had more. The only exceptions were a figure (scene d113)
and the images that this figure is composed of (scene d114)."""

_PLACE: Final = 0.04
"""Maximum difference between the locations of two pairs that agree, as a fraction of the width."""
_CELLS: Final = 12
"""Number of cells along the width of a query. All tiles with their centres in one cell have one vote together."""
_FAINTEST: Final = 1.0
"""Minimum standard deviation of a tile, in grey levels. A tile with less contrast shows only rounding and compression.
"""
_BASE: Final = 1 << 12
"""Base of the numbers that `_keys` returns. The base is larger than the number of locations along an axis."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of an image.

    Attributes
    ----------
    codes : ndarray of uint8, shape (n, 18)
    places : ndarray of float32, shape (n, 2)
        Position of each tile's centre, to the right and downwards, as fractions of the reference's width. In a query,
        the position is relative to the centre of the query, at the scale of the tile.
    cells : ndarray of int64, shape (n,)
        Number of the cell that contains the tile's centre.
    """

    codes: Grey
    places: NDArray[np.float32]
    cells: NDArray[np.int64]


def reference_tiles(image: Image.Image) -> Tiles:
    """Cut a reference into tiles on the dense grid, and hash the tiles."""
    pixels = _reduced(image)
    side = _side(1.0)
    rows, columns = (_grid(length, side, math.ceil((length - side) / (STEP * WIDTH)) + 1) for length in pixels.shape)
    return _cut(pixels, side, rows, columns)


def query_tiles(image: Image.Image) -> Tiles:
    """Cut a query into tiles at every scale, and hash the tiles. A scale is skipped if its tiles do not fit."""
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
        """Mean size of the codes of a reference, in bytes."""
        return self._index.ntotal * _bytes() / max(1, self._count)

    def votes(self, query: Tiles) -> NDArray[np.int64]:
        """Return the number of votes of every reference, at the location that has the most votes.

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
        # Count on four shifted grids of locations, because a location at an edge of one grid is inside another grid.
        for shift in product((0.0, 0.5), repeat=2):
            keys = _keys(owners, np.floor(implied / _PLACE + np.array(shift)).astype(np.int64))
            agreeing = np.unique(np.stack([keys, query.cells[asked]], axis=1), axis=0)
            places, counts = np.unique(agreeing[:, 0], return_counts=True)
            np.maximum.at(most, places // _BASE**2, counts)
        return most


def match(query: Tiles, index: TileIndex) -> int | None:
    """Return the position of the reference with the most votes, or None if no reference has enough votes."""
    votes = index.votes(query)
    best = int(votes.argmax())
    return best if votes[best] >= VOTES else None


def _bytes() -> int:
    return -(-(LOW**2) // 8)


def _reduced(image: Image.Image) -> Grey:
    """Reduce an image to the width `WIDTH`, and return its pixels as uint8 (height, width)."""
    scale = WIDTH / min(image.width, STRIP * image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX))


def _side(scale: float) -> int:
    """Return the side of a tile in pixels of the reduced copy.

    `scale` is the fraction of the reference's width that the image shows.
    """
    return round(SIDE * WIDTH / scale)


def _grid(length: int, side: int, count: int) -> list[int]:
    """Return the start positions of `count` tiles that are spread evenly along a length.

    The first and the last tile touch the edges. The result is empty if a tile does not fit.
    """
    room = length - side
    if room < 0:
        return []
    return sorted({round(room * position / max(1, count - 1)) for position in range(count)})


def _cut(pixels: Grey, side: int, rows: Sequence[int], columns: Sequence[int]) -> Tiles:
    """Cut tiles and hash them, except blank tiles. `rows` and `columns` give the upper left corners of the tiles."""
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
    """Return one number for each pair of a reference and a location. A location may lie outside of the reference."""
    across, down = np.clip(places + _BASE // 2, 0, _BASE - 1).T
    keys: NDArray[np.int64] = (owners * _BASE + across) * _BASE + down
    return keys

"""Voting tiles, the alternative to indexed windows that `peers` measures: small hashes of many parts, which vote.

A reference is known by the hashes of square tiles on a dense grid, a query by fewer tiles, cut at several scales. Every
query tile takes the references' tiles within a Hamming limit. Each such pair says where in the reference the query's
centre would lie; pairs of one reference that say the same place agree. The votes of a reference are the places of the
query that have an agreeing tile, and the one with most votes wins, if it has enough of them.

A tile's hash is that of `twinscope_indexer.hashing` with 12 x 12 in place of 32 x 32 frequencies, from a reduced copy:
fewer frequencies bear a larger shift, so the grid may be coarser; what one code no longer tells, the votes do. Lengths
are shares of an image's width, which an info bar, added or cut away, leaves as it is. (Of a strip they are shares of
1.6 times its height: no tile would fit into one.) Quarter turns, mirrored and inverted queries are not looked for:
each of the 16 symmetries would cost a scan of its own.

The settings were chosen on 48 micrographs of 40 scenes, none of which ``--limit N`` draws with the usual seed where N
is 22 to 40.
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
"""Pixels of the reduced copy; a thumbnail's. The unit of the lengths below."""
STRIP: Final = 1.6
"""Width by height beyond which an image is a strip."""
LOW: Final = 12
"""Frequencies each way: 144 bits, 18 bytes a tile."""
SIDE: Final = 0.3
"""Of a tile, as share of the reference's width. A panel of half the width and height must hold several."""
STEP: Final = 1 / 24
"""Of the references' grid at most."""
ACROSS: Final = 7
"""Query tiles in a row and in a column, at each scale."""
SCALES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.5)
"""What share of the reference's width the query is taken to show."""
LIMIT: Final = 44
"""Bits between tiles that are taken for the same, at most."""
VOTES: Final = 7
"""Least votes of a match. Of 178 micrographs, each looked for among all of other places, two had 6, and none more but
for a figure (scene d113) and the pictures that it is made of (d114)."""

_PLACE: Final = 0.04
"""Shares of the width within which two pairs say the same place."""
_CELLS: Final = 12
"""Cells of a query's width; tiles of several scales whose centres share a cell have one vote."""
_FAINTEST: Final = 1.0
"""Least standard deviation of a tile in grey levels; a fainter one is rounding and compression."""
_BASE: Final = 1 << 12
"""More than the places along an axis; see `_keys`."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of an image.

    Attributes
    ----------
    codes : ndarray of uint8, shape (n, 18)
    places : ndarray of float32, shape (n, 2)
        Centre of each tile, right and down, as shares of the reference's width; a query's from the query's centre, at
        the scale that the tile was cut for.
    cells : ndarray of int64, shape (n,)
        The cell of the image that the centre lies in.
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
    """Hash the tiles of a query at every scale; where a scale's tile is larger than the query there is none."""
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
    """The tiles of several references, to be searched together.

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
        """Bytes of codes a reference."""
        return self._index.ntotal * _bytes() / max(1, self._count)

    def votes(self, query: Tiles) -> NDArray[np.int64]:
        """Count the votes of every reference, at the place where it has most.

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
        owners, said = self._owners[found], self._places[found] - query.places[asked]
        for shift in product((0.0, 0.5), repeat=2):  # a place on the edge of one grid is inside a cell of another
            keys = _keys(owners, np.floor(said / _PLACE + np.array(shift)).astype(np.int64))
            agreeing = np.unique(np.stack([keys, query.cells[asked]], axis=1), axis=0)
            places, counts = np.unique(agreeing[:, 0], return_counts=True)
            np.maximum.at(most, places // _BASE**2, counts)
        return most


def match(query: Tiles, index: TileIndex) -> int | None:
    """Give the place of the reference with most votes, or None where none has enough."""
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
    """Give the side of a tile in pixels of the copy of an image that shows so much of the reference's width."""
    return round(SIDE * WIDTH / scale)


def _grid(length: int, side: int, count: int) -> list[int]:
    """Lay so many tiles evenly along a length, the outermost along the edges; none where a tile does not fit."""
    room = length - side
    if room < 0:
        return []
    return sorted({round(room * place / max(1, count - 1)) for place in range(count)})


def _cut(pixels: Grey, side: int, rows: Sequence[int], columns: Sequence[int]) -> Tiles:
    """Hash the tiles with their upper left corners on a grid, but for those with nothing in them."""
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
    """Give one number for a reference and a place in it; a place may lie outside of the reference."""
    across, down = np.clip(places + _BASE // 2, 0, _BASE - 1).T
    keys: NDArray[np.int64] = (owners * _BASE + across) * _BASE + down
    return keys

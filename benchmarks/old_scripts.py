"""The algorithm of the legacy scripts, which Twinscope replaces, rewritten from their description for timing.

They process one image at a time, on one core: hash a TIFF, compute its Hamming distance to every reference one by one,
compare the two nearest by full-size SSIM if they are close enough, and copy the TIFF with the first three characters of
the best match's name as prefix. The scripts kept the hashes of references between runs, so hashing them is not part of
it. The earlier conversion of the TIFFs to JPEGs is not part of it either.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import imagehash
import numpy as np
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity
from skimage.transform import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagehash import ImageHash

SIDE: Final = 32
CANDIDATES: Final = 2
SSIM_BELOW: Final = 150
"""Bits; the value in their code, which differs from their description."""


@dataclass(frozen=True)
class Reference:
    """A row of the table of references."""

    path: Path
    hashed: ImageHash


@dataclass(frozen=True)
class Match:
    """A row of the table of matches; the SSIM is None if it was not computed."""

    tiff: Path
    jpeg: Path
    distance: int
    ssim: float | None = None


def image_hash(path: Path) -> ImageHash:
    """Hash an image: grey, equalised, autocontrasted, 1024 bits."""
    with Image.open(path) as image:
        return imagehash.phash(_standardised(image), hash_size=SIDE)


def nearest(query: ImageHash, references: Sequence[Reference]) -> list[tuple[int, Reference]]:
    """Compare a hash with every reference, one by one; return the two nearest with their distances in bits."""
    distances = [(int(query - reference.hashed), reference) for reference in references]
    return sorted(distances, key=lambda pair: pair[0])[:CANDIDATES]


def full_size_ssim(tiff: Path, jpeg: Path) -> float:
    """Return the SSIM of two images at the size of the second, both equalised and autocontrasted."""
    query, reference = _pixels(tiff), _pixels(jpeg)
    if query.shape != reference.shape:
        query = resize(query, reference.shape, anti_aliasing=True, preserve_range=True).astype(np.uint8)
    return float(structural_similarity(query, reference, data_range=int(reference.max()) - int(reference.min())))


def verify(tiff: Path, candidates: Sequence[tuple[int, Reference]]) -> Match:
    """Return the candidate with the highest SSIM, or the nearest one if none is close enough for SSIM."""
    verified = [
        Match(tiff, reference.path, distance, full_size_ssim(tiff, reference.path))
        for distance, reference in candidates
        if distance < SSIM_BELOW
    ]
    distance, first = candidates[0]
    return max(verified, key=lambda match: match.ssim or 0.0, default=Match(tiff, first.path, distance))


def label(match: Match, folder: Path) -> Path | None:
    """Copy a verified TIFF and its file times, with the prefix of its match; return None if nothing was verified."""
    if match.ssim is None:
        return None
    target = folder / f"{match.jpeg.name[:3]}{match.tiff.name}"
    shutil.copy2(match.tiff, target)
    return target


def _standardised(image: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(ImageOps.equalize(image if image.mode == "L" else image.convert("L")))


def _pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.array(_standardised(image))

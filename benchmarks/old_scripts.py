"""The algorithm of the legacy scripts, written again to measure its time. The code follows a description of them.

The scripts process one image at a time, on one core. A script hashes a TIFF and computes the Hamming distance of the
TIFF to every reference, one reference after the other. If the two nearest references are close enough, they are
compared with the TIFF by full-size SSIM. Then the script copies the TIFF. The first three characters of the best
match's name become the prefix of the copy's name.

The time to hash the references is not measured, because the scripts kept the hashes of the references between runs. The
earlier conversion of the TIFFs to JPEGs is not measured either.
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
"""Distance in bits below which SSIM is computed. The value is from the code of the scripts; their description has
another value."""


@dataclass(frozen=True)
class Reference:
    """A row of the table of references: the path of a reference and its hash."""

    path: Path
    hashed: ImageHash


@dataclass(frozen=True)
class Match:
    """A row of the table of matches. The SSIM is None if it was not computed."""

    tiff: Path
    jpeg: Path
    distance: int
    ssim: float | None = None


def image_hash(path: Path) -> ImageHash:
    """Return the 1024-bit hash of an image. The image is first converted to grey, equalised and autocontrasted."""
    with Image.open(path) as image:
        return imagehash.phash(_standardised(image), hash_size=SIDE)


def nearest(query: ImageHash, references: Sequence[Reference]) -> list[tuple[int, Reference]]:
    """Compare a hash with one reference after the other. Return the two nearest references and their distances."""
    distances = [(int(query - reference.hashed), reference) for reference in references]
    return sorted(distances, key=lambda pair: pair[0])[:CANDIDATES]


def full_size_ssim(tiff: Path, jpeg: Path) -> float:
    """Return the SSIM of two images.

    The TIFF and the JPEG are equalised and autocontrasted, and the TIFF is resized to the size of the JPEG.
    """
    query, reference = _pixels(tiff), _pixels(jpeg)
    if query.shape != reference.shape:
        query = resize(query, reference.shape, anti_aliasing=True, preserve_range=True).astype(np.uint8)
    return float(structural_similarity(query, reference, data_range=int(reference.max()) - int(reference.min())))


def verify(tiff: Path, candidates: Sequence[tuple[int, Reference]]) -> Match:
    """Return the candidate with the highest SSIM. If no candidate is close enough for SSIM, return the nearest."""
    verified = [
        Match(tiff, reference.path, distance, full_size_ssim(tiff, reference.path))
        for distance, reference in candidates
        if distance < SSIM_BELOW
    ]
    distance, first = candidates[0]
    return max(verified, key=lambda match: match.ssim or 0.0, default=Match(tiff, first.path, distance))


def label(match: Match, folder: Path) -> Path | None:
    """Copy a verified TIFF, and put the prefix of its match before its name. The copy keeps the file times of the TIFF.

    Return the path of the copy, or None if the match was not verified by SSIM.
    """
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

"""Rows of the speed table for operations on one image or on one pair of images, on one core."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import imagehash
import numpy as np
from collection_stores import Work
from harness import Row, Target, alternating, row
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.hashing.perceptual import phash
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.imaging.reader import read_image
from twinscope_service.similarity.scene_score import prepared, scene_scores
from twinscope_service.similarity.ssim import ssim, standardised_ssim

_SIZES: Final = (0.4e6, 2e6)
"""Minimum and maximum number of pixels of the files that are hashed. Usual micrographs lie within this range."""
_CANDIDATES: Final = 5
_REPEATED: Final = 10
"""Number of calls in a round, for an operation that takes about a millisecond."""


def rows(work: Work) -> list[Row]:
    """Measure all rows of this module."""
    rounds = 2 if work.quick else 9
    return [*ssim_rows(rounds), *hash_rows(work, rounds), *scene_rows(rounds)]


def ssim_rows(rounds: int) -> list[Row]:
    """Measure full-size SSIM, with and without standardising the two images."""
    first, second = (synthesise(category, 0, width=1024, height=768) for category in CATEGORIES[:2])
    a, b = (np.asarray(_standardised(Image.fromarray(pixels))) for pixels in (first, second))

    def whole() -> float:
        pair = (np.asarray(_standardised(Image.fromarray(pixels))) for pixels in (first, second))
        return float(structural_similarity(*pair))

    bare = alternating(lambda: structural_similarity(a, b), lambda: ssim(a, b), rounds)
    both = alternating(whole, lambda: standardised_ssim(first, second), rounds)
    return [
        row("SSIM of a pair, 1024 x 768", "scikit-image", bare, Target("faster", 40)),
        row("SSIM of a pair, with standardising", "Pillow, scikit-image", both, Target("faster", 40)),
    ]


def hash_rows(work: Work, rounds: int) -> list[Row]:
    """Measure hashing of TIFFs in memory and of JPEG files.

    Hashing is compared with the legacy recipe. For JPEG files, hashing is also compared with decoding alone.
    """
    usual = [one for one in work.sample(len(work.micrographs)) if _usual(one.tiff)][: 5 if work.quick else 20]
    tiffs = [one.tiff.read_bytes() for one in usual]
    made = [one.jpeg for one in usual]
    published = [work.source / one.name for one in work.micrographs if one.name.endswith(".jpg")]
    published = [path for path in published if _usual(path)][: len(made)]

    def of_tiffs() -> None:
        for data in tiffs:
            phash(read_image(data).pixels)

    def recipe_of_tiffs() -> None:
        for data in tiffs:
            _recipe(Image.open(io.BytesIO(data)))

    found = [
        row(
            "hash a TIFF in memory", "Pillow, imagehash", _each(alternating(recipe_of_tiffs, of_tiffs, rounds), tiffs),
            Target("faster", 3), note=f"{len(tiffs)} files",
        )
    ]  # fmt: skip
    for name, paths in (("a grey quality-100 JPEG file", made), ("a JPEG file as published", published)):
        if paths:
            found += _jpeg_rows(name, paths, rounds)
    return found


def _jpeg_rows(name: str, paths: list[Path], rounds: int) -> list[Row]:
    def ours() -> None:
        for path in paths:
            phash(read_image(path).pixels)

    def recipe() -> None:
        for path in paths:
            _recipe(Image.open(path))

    def decoding() -> None:
        for path in paths:
            Image.open(path).load()

    note = f"{len(paths)} files"
    beside_recipe = _each(alternating(recipe, ours, rounds), paths)
    beside_decoding = _each(alternating(decoding, ours, rounds), paths)
    return [
        row(f"hash {name}", "Pillow, imagehash", beside_recipe, Target("faster", 1.8), note=note),
        row(f"hash {name}", "Pillow's decoding alone", beside_decoding, Target("share", 1.3), note=note),
    ]


def scene_rows(rounds: int) -> list[Row]:
    """Measure scene scores from stored thumbnails, with empty caches.

    The rows are a batch of thumbnails of one shape with one twin, a batch of thumbnails of different shapes, and a twin
    alone.
    """
    images = [synthesise(category, 0, width=1024, height=768) for category in CATEGORIES[:_CANDIDATES]]
    query = decode_thumbnail(encode_thumbnail(images[0]))
    jpeg = io.BytesIO()
    Image.fromarray(images[0]).save(jpeg, "JPEG", quality=75)
    twin = encode_thumbnail(read_image(jpeg.getvalue()).pixels)
    batch = [twin, *(encode_thumbnail(pixels) for pixels in images[1:])]
    cut = [encode_thumbnail(pixels[: 768 - 12 * number]) for number, pixels in enumerate(images)]
    found = []
    for name, stored in (
        (f"scene score of a pair, {_CANDIDATES} together", batch),
        (f"scene score of a pair, {_CANDIDATES} together, different shapes", cut),
        ("scene score of a twin", [twin]),
    ):

        def scored(stored: list[bytes] = stored) -> None:
            for _ in range(_REPEATED):
                prepared.cache_clear()
                scene_scores(query, [decode_thumbnail(data) for data in stored])

        pairs = alternating(lambda: structural_similarity(*images[:2]), scored, rounds)
        each = [(theirs, ours / (_REPEATED * len(stored))) for theirs, ours in pairs]
        found.append(row(name, "scikit-image, full-size SSIM", each, Target("value", 1)))
    return found


def _each(pairs: list[tuple[float, float]], files: list[bytes] | list[Path]) -> list[tuple[float, float]]:
    return [(theirs / len(files), ours / len(files)) for theirs, ours in pairs]


def _usual(path: Path) -> bool:
    """Check whether an image has a usual size and 8 bits. The legacy recipe cannot read 16-bit images."""
    try:
        with Image.open(path) as image:
            return image.mode in {"L", "RGB", "P"} and _SIZES[0] <= image.width * image.height <= _SIZES[1]
    except OSError:
        return False


def _standardised(image: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(ImageOps.equalize(image.convert("L")))


def _recipe(image: Image.Image) -> str:
    return str(imagehash.phash(_standardised(image), hash_size=32))

"""What pictures share besides their fields is no twin: apertures, panels, masks, dust, the pattern of a camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.bulk import index

Grey = NDArray[np.uint8]
CATEGORIES = ("Particles", "Fibres", "Powder", "Porous_Sponge")
SHAPE = (384, 512)


def aperture(pixels: Grey) -> Grey:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1.33 : 1.33 : SHAPE[1] * 1j]
    return np.where(x * x + y * y < 0.8, pixels, 0).astype(np.uint8)


def mask(pixels: Grey) -> Grey:
    masked = np.full(SHAPE, 255, np.uint8)
    masked[32:-32, 42:-42] = pixels[32:-32, 42:-42]
    return masked


def panel(pixels: Grey) -> Grey:
    shared = pixels.copy()
    shared[:, :112] = 90
    shared[20:360:24, 12:96] = np.random.default_rng(7).integers(0, 2, (15, 84)) * 200
    return shared


def pattern(pixels: Grey) -> Grey:
    fixed = gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 2)
    return np.clip(pixels * 0.4 + 70 + 12 * fixed / fixed.std(), 0, 255).astype(np.uint8)


def dust(pixels: Grey) -> Grey:
    rng, shared = np.random.default_rng(6), pixels.astype(float)
    for y, x in rng.integers((0, 0), SHAPE, (60, 2)):
        shared[max(0, y - 6) : y + 6, max(0, x - 6) : x + 6] *= 0.2
    return shared.astype(np.uint8)


ARTEFACTS: dict[str, Callable[[Grey], Grey]] = {
    "aperture": aperture, "mask": mask, "panel": panel, "pattern": pattern, "dust": dust,
}  # fmt: skip


def picture(category: str, number: int) -> Grey:
    return synthesise(category, number, width=SHAPE[1], height=SHAPE[0], info_bar=False).astype(np.uint8)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_all_pictures_share_labels_no_stranger_and_hides_no_twin(tmp_path: Path, name: str) -> None:
    shared = ARTEFACTS[name]
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(shared(picture(category, number)))
            image.save(tmp_path / "labelled" / category / f"{number}.jpg", quality=95)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        strangers = [engine.search(shared(picture(category, 50))) for category in CATEGORIES]
        assert [answer.category for answer in strangers] == [None] * len(CATEGORIES)
        twins = [engine.search(shared(picture(category, 1))) for category in CATEGORIES]
        assert [answer.category for answer in twins] == list(CATEGORIES)


def test_copies_of_the_twin_are_no_rivals(tmp_path: Path) -> None:
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for quality in (95, 60, 30):
            image = Image.fromarray(picture(category, 1))
            image.save(tmp_path / "labelled" / category / f"{quality}.jpg", quality=quality)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            stretched = np.clip(picture(category, 1) * 0.5 + 60, 0, 255).astype(np.uint8)
            blurred = np.rint(gaussian_filter(stretched.astype(float), 2)).astype(np.uint8)
            answer = engine.search(blurred)
            assert (answer.grade, answer.category) == ("good", category)

"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from shelf import Shelf
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.indexing.run import index

# An example has no time limit, because the machine may be busy. By default, every run uses the same examples, so that a
# run fails only because of a change. HYPOTHESIS_PROFILE=explore draws new examples.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
_MICROGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "micrographs"


@pytest.fixture(scope="session")
def micrographs_dir() -> Path:
    """The folder of real micrographs beside the project. If there is no such folder, the tests that use it are
    skipped."""
    if not _MICROGRAPHS.is_dir():
        pytest.skip("no folder of real micrographs (shared/data/micrographs) beside the project")
    return _MICROGRAPHS


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Two micrographs of each of three categories, 320 x 240 pixels. Some prefixes of the file names are wrong."""
    root = tmp_path_factory.mktemp("shelf")
    made = Shelf(root / "collection", root / "lab.store", {})
    for category in ("Particles", "Tips", "Fibres"):
        (made.references / category).mkdir(parents=True)
        for number in range(2):
            pixels = synthesise(category, number, width=320, height=240).astype(np.uint8)
            made.pixels[category, number] = pixels
            Image.fromarray(pixels).save(made.reference(category, number), quality=100)
    index([made.references], made.store, workers=1)
    return made

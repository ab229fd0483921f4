"""Fixtures shared by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_MICROGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "micrographs"


@pytest.fixture(scope="session")
def micrographs_dir() -> Path:
    """The folder of real micrographs beside the project; tests that want it are skipped without it."""
    if not _MICROGRAPHS.is_dir():
        pytest.skip("no folder of real micrographs (shared/data/micrographs) beside the project")
    return _MICROGRAPHS

"""A small labelled collection and its store, shared by many tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shelf:
    """A small labelled collection and its store."""

    references: Path
    """Folder of the labelled JPEGs, with one folder per category."""
    store: Path
    pixels: dict[tuple[str, int], np.ndarray]
    """Grey pixels of each synthesised micrograph before JPEG encoding, by category and number."""

    def reference(self, category: str, number: int) -> Path:
        return self.references / category / f"L9_{number}.jpg"

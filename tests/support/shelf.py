"""A small labelled collection, indexed, that many tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shelf:
    """A small labelled collection, indexed."""

    references: Path
    """Folder of the labelled JPEGs, one folder a category."""
    store: Path
    pixels: dict[tuple[str, int], np.ndarray]
    """The grey pixels of each synthesised micrograph, before they became a JPEG, by category and number."""

    def reference(self, category: str, number: int) -> Path:
        return self.references / category / f"L9_{number}.jpg"

"""The gallery of a labelling run: images that a person should check first, next to their best candidates."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image
from twinscope_indexer.errors import ImageError, TwinscopeError
from twinscope_indexer.imaging.reader import read_image
from twinscope_service.matching.reasons import ReasonCode

from twinscope_client.labelling.grades import DECISION_GRADES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinscope_client.engine.protocol import Engine
    from twinscope_client.labelling.journal import Decision, Journal

EXHIBITS = 12
"""Maximum number of labelled images in the gallery, and maximum number of refused images in the gallery."""

_LONG_SIDE = 240  # pixels
_QUALITY = 80
_REFUSED = [name for name, grade in DECISION_GRADES.items() if not grade.labelled]


@dataclass(frozen=True, slots=True)
class Figure:
    """A reduced image, or the reason why no image can be shown."""

    role: str
    """Role of the image: ``query``, ``reference`` or ``rival``."""
    source: str
    """Path of the full-size image."""
    category: str = ""
    uri: str = ""
    """``data:`` URI of the reduced image as a JPEG; empty if no image can be shown."""
    note: str = ""
    """A remark about the image, for example the reason why no image can be shown; empty if there is no remark."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One decision, with the images of the query, the reference and the rival side by side."""

    decision: Decision
    figures: tuple[Figure, ...]

    @property
    def contradictions(self) -> str:
        """Contradictions in the instrument metadata; empty if the reason for the grade already names them."""
        in_reason = ReasonCode.INSTRUMENTS_CONTRADICT in self.decision.reason_codes
        return "" if in_reason else self.decision.contradictions

    @property
    def link(self) -> str:
        """URL of the labelled copy, relative to the output folder; empty if there is no copy."""
        return link_to(self.decision.output) if self.decision.labelled else ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The decisions that a person should check first."""

    accepted: tuple[Exhibit, ...]
    """Labelled images with the lowest SSIM, sorted by SSIM. If an image has no SSIM, the scene score is used."""
    refused: tuple[Exhibit, ...]
    """Images that have a candidate but got no label, grouped by grade. In each group, the best candidate comes
    first."""


def curate(journal: Journal, engine: Engine | None) -> Gallery:
    """Choose the decisions that the gallery shows, and read the images.

    Parameters
    ----------
    journal : Journal
    engine : Engine or None
        The engine that supplies the thumbnails of the references, or None if no engine is available.

    Returns
    -------
    Gallery
    """
    weakest = f"coalesce(ssim, scene_score), distance DESC, path, page LIMIT {EXHIBITS}"
    accepted = journal.decisions("output <> '' AND written", weakest)
    return Gallery(
        tuple(_exhibit(decision, engine) for decision in accepted),
        tuple(_exhibit(decision, engine) for decision in _nearest_refused(journal)),
    )


def link_to(path: str) -> str:
    """Convert a path into a URL. The path and the URL are relative to the output folder."""
    return quote(os.fsencode(path))


def _nearest_refused(journal: Journal) -> list[Decision]:
    """Choose refused images: one of each grade, then a second one of each grade, and so on.

    In each grade, the images with the best candidates are chosen first.
    """
    nearest = f"ssim IS NULL, ssim DESC, scene_score IS NULL, scene_score DESC, distance, path, page LIMIT {EXHIBITS}"
    by_grade = [journal.decisions(f"grade = '{grade}' AND match_id <> ''", nearest) for grade in _REFUSED]
    rotated = (decision for decision in chain.from_iterable(zip_longest(*by_grade)) if decision is not None)
    return sorted(islice(rotated, EXHIBITS), key=lambda decision: _REFUSED.index(decision.grade))


def _exhibit(decision: Decision, engine: Engine | None) -> Exhibit:
    figures = [
        _query(decision),
        _reference("reference", decision.match_id, decision.match_source, decision.category, engine),
    ]
    if decision.grade == "ambiguous" and decision.rival_id:
        figures.append(_reference("rival", decision.rival_id, decision.rival_source, decision.rival_category, engine))
    return Exhibit(decision, tuple(figures))


def _query(decision: Decision) -> Figure:
    try:
        pixels = read_image(decision.path, page=decision.page).pixels
        status = Path(decision.path).stat()
    except ImageError as error:
        return Figure("query", decision.query, note=error.detail)
    except OSError as error:
        return Figure("query", decision.query, note=error.strerror or str(error))
    except MemoryError:
        return Figure("query", decision.query, note="not enough memory to decode the image")
    changed = (status.st_size, status.st_mtime_ns) != (decision.size, decision.mtime_ns)
    note = "the file was modified after the comparison" if changed else ""
    return Figure("query", decision.query, uri=_data_uri(pixels), note=note)


def _reference(role: str, image_id: str, source: str, category: str, engine: Engine | None) -> Figure:
    if engine is None:
        return Figure(role, source, category, note="the store was not available")
    try:
        pixels = engine.thumbnail(image_id)
    except TwinscopeError as error:
        return Figure(role, source, category, note=str(error))
    if pixels is None:
        return Figure(role, source, category, note="the store holds no thumbnail of this reference")
    return Figure(role, source, category, uri=_data_uri(pixels))


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    reduced = Image.fromarray(pixels)
    reduced.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = BytesIO()
    reduced.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

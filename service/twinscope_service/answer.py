"""What a query is answered with: candidates, what was measured on each, and the grade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from twinscope_service.pixels import UPLOADS

if TYPE_CHECKING:
    from twinscope_indexer.catalog import Record

    from twinscope_service.policy import Policy

Grade = Literal["excellent", "good", "ambiguous", "unverified", "none", "unhashable"]
"""How sure an answer is.

``excellent``: the same acquisition (full-size SSIM above its threshold). ``good``: the same field, re-encoded,
resized, contrast-changed or slightly shifted (scene score above its threshold). ``ambiguous``: candidates of
different categories are equally near. ``unverified``: near by hash alone, as pixels were not available. ``none``: no
twin. ``unhashable``: the query has no structure that could identify it.
"""

LABELLED: tuple[Grade, ...] = ("excellent", "good")
"""The grades that carry a label."""


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate.

    Attributes
    ----------
    image_id : str
        16 hexadecimal digits, stable as long as the image stays in the store.
    source : str
        Where it is: a path, or ``archive!member``.
    category, code : str
        Its label.
    distance : int
        Hamming distance of the hashes in bits, 0 to 1024.
    scene_score : float or None
        Correlation of the registered, locally normalised thumbnails, -1 to 1; None where it was not computed.
    shift : (float, float) or None
        By which part of its width and height the query is shifted against the candidate.
    ssim : float or None
        Mean SSIM of the full-size standardised images, -1 to 1; None where it was not computed.
    note : str
        Why something was not computed; empty otherwise.
    published_prefix : str or None
        The code in its published file name: recorded, not believed.
    """

    image_id: str
    source: str
    category: str
    code: str
    distance: int
    scene_score: float | None = None
    shift: tuple[float, float] | None = None
    ssim: float | None = None
    note: str = ""
    published_prefix: str | None = None

    @property
    def order(self) -> tuple[float, float, int, str]:
        """Sort key: by SSIM where it was computed, then scene score, then distance, then id."""
        return (
            -self.ssim if self.ssim is not None else 2.0,
            -self.scene_score if self.scene_score is not None else 2.0,
            self.distance,
            self.image_id,
        )

    @classmethod
    def of(cls, record: Record, distance: int, note: str = "") -> Match:
        """Make an unverified candidate of a catalogue record; the note says why it is not verified."""
        source = record.path if record.root == UPLOADS else record.uri
        return cls(
            record.image_id, source, record.category, record.code, distance,
            note=note, published_prefix=record.published_prefix,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one query.

    Attributes
    ----------
    grade : str
        See `Grade`.
    matches : tuple of Match
        Candidates, best first.
    reason : str
        Why this grade, for people.
    query_hash : str or None
        The query's hash, hexadecimal; None if it is unhashable.
    policy : Policy
        The thresholds that decided.
    generation : int
        The state of the store that answered.
    recipe : str
        Of the hashes.
    taxonomy : str
        Version of the taxonomy that the best match was labelled by; empty without matches.
    """

    grade: Grade
    matches: tuple[Match, ...]
    reason: str
    query_hash: str | None
    policy: Policy
    generation: int
    recipe: str
    taxonomy: str = ""

    @property
    def best(self) -> Match | None:
        """The best candidate, labelled or not."""
        return self.matches[0] if self.matches else None

    @property
    def category(self) -> str | None:
        """The category to label the query with; None unless the grade is ``excellent`` or ``good``."""
        return self.matches[0].category if self.grade in LABELLED else None

    @property
    def code(self) -> str | None:
        """The code of `category`."""
        return self.matches[0].code if self.grade in LABELLED else None

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as plain values, for JSON."""
        from dataclasses import asdict

        return {"grade": self.grade, "category": self.category, "code": self.code} | asdict(self)

"""What a query is answered with: candidates, what was measured on each, and the grade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_service.matching.grades import LABELLED
from twinscope_service.thresholds import UNMOVED_SHARE

if TYPE_CHECKING:
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Record

    from twinscope_service.matching.grades import Grade
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.reasons import Reason

UPLOADS: Final = Path("uploads:")
"""The root of images that came through a server; no folder, so no path of the server is ever meant."""


@dataclass(frozen=True, slots=True)
class Transform:
    """How the query had to be changed to look like the candidate; in this frame the two were compared.

    Attributes
    ----------
    symmetry : str
        What was done to the query, such as ``rotated by 90, inverted``; rotations are clockwise. Empty: nothing.
    query_frame, reference_frame : str
        Which part of each was compared, such as ``bottom 7 % cut``; ``whole`` for all of it.
    """

    symmetry: str
    query_frame: str
    reference_frame: str

    @property
    def is_whole(self) -> bool:
        """Whether whole images were compared, pixel by pixel."""
        return self.query_frame == self.reference_frame == "whole"

    def __str__(self) -> str:
        """Say it in words."""
        parts = [f"query {self.symmetry}"] if self.symmetry else []
        parts += [f"query: {self.query_frame}"] if self.query_frame != "whole" else []
        parts += [f"reference: {self.reference_frame}"] if self.reference_frame != "whole" else []
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class ChanceOfError:
    """How likely it is that a match is wrong.

    Attributes
    ----------
    estimate : float
        0 to 1.
    low, high : float
        Interval that holds 95 % of the estimates from resampled collections.
    calibration : str
        What it was fitted on; ``shipped`` where the store has no calibration of its own.
    """

    estimate: float
    low: float
    high: float
    calibration: str


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
    transform : Transform or None
        How the query was changed to be compared; None where it was compared as it is.
    instrument : InstrumentMetadata or None
        What its instrument wrote, in one set of units; None where there is nothing, or the query was a bare hash.
    contradictions : tuple of str
        Why the metadata of its instrument and of the query's cannot belong to one acquisition; for people.
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
    transform: Transform | None = None
    instrument: InstrumentMetadata | None = None
    contradictions: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The id as the number that the store uses."""
        return int(self.image_id, 16)

    @property
    def comparable(self) -> bool:
        """Whether the full-size pixels of query and candidate lie over each other."""
        return (self.transform is None or self.transform.is_whole) and not self.moved

    @property
    def moved(self) -> bool:
        """Whether query and candidate show one field, but not quite the same part of it."""
        return self.shift is not None and max(map(abs, self.shift)) > UNMOVED_SHARE

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
        Why this grade, for people: the sentence of `reasons`.
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
    instrument : InstrumentMetadata or None
        What the query's instrument wrote, in one set of units; None where there is nothing.
    p_wrong : ChanceOfError or None
        How likely it is that the best match is wrong; None without one, without its scene score, and where two
        categories are equally near.
    reasons : tuple of Reason
        Why this grade, as codes with values; empty from a server that sends none.
    """

    grade: Grade
    matches: tuple[Match, ...]
    reason: str
    query_hash: str | None
    policy: Policy
    generation: int
    recipe: str
    taxonomy: str = ""
    instrument: InstrumentMetadata | None = None
    p_wrong: ChanceOfError | None = None
    reasons: tuple[Reason, ...] = ()

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

        values = {"grade": self.grade, "category": self.category, "code": self.code} | asdict(self)
        values["instrument"] = _plain(self.instrument)
        values["reasons"] = [reason.to_dict() for reason in self.reasons]
        for place, match in zip(values["matches"], self.matches, strict=True):
            place["instrument"] = _plain(match.instrument)
        return values


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one query."""

    answer: Answer
    pixels_would_change: bool
    """The query came without its pixels, and with them could be answered differently."""


def _plain(metadata: InstrumentMetadata | None) -> dict[str, Any] | None:
    return None if metadata is None else metadata.to_dict()

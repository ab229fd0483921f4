"""The answer to a query: its grade and its candidates with their measurements."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_indexer.image_id import image_number

from twinscope_service.matching.answer_page import page_of
from twinscope_service.matching.grades import LABELLED
from twinscope_service.matching.presentation import line_of, match_line_of, plain_fields, row_of
from twinscope_service.thresholds import UNMOVED_SHARE

if TYPE_CHECKING:
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Record

    from twinscope_service.matching.answer_page import Thumbnails
    from twinscope_service.matching.grades import Grade
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.presentation import Scalar
    from twinscope_service.matching.reasons import Reason

UPLOADS: Final = Path("uploads:")
"""The root of images that were uploaded to a server. It is not a folder, so it never names a path of the server."""


@dataclass(frozen=True, slots=True)
class Transform:
    """The change of the query and the frames in which query and candidate were compared.

    Attributes
    ----------
    symmetry : str
        The change of the query, such as ``rotated by 90, inverted``; rotations are clockwise. Empty if there is none.
    query_frame, reference_frame : str
        The frame of each that was compared, such as ``bottom 7 % cut``; ``whole`` for the whole image.
    """

    symmetry: str
    query_frame: str
    reference_frame: str

    @property
    def is_whole(self) -> bool:
        """Whether whole images were compared, pixel by pixel."""
        return self.query_frame == self.reference_frame == "whole"

    def __str__(self) -> str:
        """Return the transform in words."""
        changes = [f"query {self.symmetry}"] if self.symmetry else []
        changes += [f"query: {self.query_frame}"] if self.query_frame != "whole" else []
        changes += [f"reference: {self.reference_frame}"] if self.reference_frame != "whole" else []
        return "; ".join(changes)


@dataclass(frozen=True, slots=True)
class ChanceOfError:
    """The probability that a match is wrong.

    Attributes
    ----------
    estimate : float
        0 to 1.
    low, high : float
        Interval that contains 95 % of the estimates from resampled collections.
    calibration : str
        Name of the data that it was fitted on; ``shipped`` if the store has no calibration of its own.
    """

    estimate: float
    low: float
    high: float
    calibration: str


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """One candidate.

    Attributes
    ----------
    image_id : str
        16 hexadecimal digits, stable as long as the image stays in the store.
    source : str
        The file: a path, or ``archive!member``.
    category, code : str
        The label.
    distance : int
        Hamming distance of the hashes in bits, 0 to 1024.
    scene_score : float or None
        Correlation of the registered, locally normalised thumbnails, -1 to 1; None if it was not computed.
    shift : (float, float) or None
        Shift of the query against the candidate, as shares of its width and height.
    ssim : float or None
        Mean SSIM of the full-size standardised images, -1 to 1; None if it was not computed.
    note : str
        Why something was not computed; empty otherwise.
    published_prefix : str or None
        The code in the published file name. It is recorded but not used as a label.
    transform : Transform or None
        The change of the query before the comparison; None if it was compared unchanged.
    instrument : InstrumentMetadata or None
        Instrument metadata in one set of units; None if there are none or the query was a bare hash.
    contradictions : tuple of str
        Why the instrument metadata of candidate and query cannot belong to one acquisition; for people.
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

    def __repr__(self) -> str:
        return match_line_of(plain_fields(self))

    @property
    def number(self) -> int:
        """The image id as the number that the store uses."""
        return image_number(self.image_id)

    @property
    def comparable(self) -> bool:
        """Whether the full-size pixels of query and candidate are aligned."""
        return (self.transform is None or self.transform.is_whole) and not self.moved

    @property
    def moved(self) -> bool:
        """Whether query and candidate show one field with a shift between them."""
        return self.shift is not None and max(map(abs, self.shift)) > UNMOVED_SHARE

    @property
    def order(self) -> tuple[float, float, int, str]:
        """Sort key: SSIM if it was computed, then scene score, then distance, then id."""
        return (
            -self.ssim if self.ssim is not None else 2.0,
            -self.scene_score if self.scene_score is not None else 2.0,
            self.distance,
            self.image_id,
        )

    @classmethod
    def of(cls, record: Record, distance: int, note: str = "") -> Match:
        """Build an unverified candidate from a catalog record; the note states why it is not verified."""
        source = record.path if record.root == UPLOADS else record.uri
        return cls(
            record.image_id, source, record.category, record.code, distance,
            note=note, published_prefix=record.published_prefix,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The answer to one query.

    Attributes
    ----------
    grade : str
        See `Grade`.
    matches : tuple of Match
        Candidates, best first.
    reason : str
        Why the answer has this grade: the sentence made from `reasons`, for people.
    query_hash : str or None
        The hash of the query, hexadecimal; None if the query is unhashable.
    policy : Policy
        The thresholds that decided.
    generation : int
        The generation of the store that answered.
    recipe : str
        The recipe of the hashes.
    taxonomy : str
        Version of the taxonomy that labelled the best match; empty without matches.
    instrument : InstrumentMetadata or None
        Instrument metadata of the query in one set of units; None if there are none.
    p_wrong : ChanceOfError or None
        The probability that the best match is wrong; None if there is no match, if its scene score is unknown, if two
        categories fit equally well, or if something is shared apart from the field.
    reasons : tuple of Reason
        Why the answer has this grade, as codes with values; empty if the server sends none.
    thumbnails : Thumbnails or None
        The thumbnails that a notebook shows; not part of the answer's value.
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
    thumbnails: Thumbnails | None = field(default=None, compare=False, kw_only=True)

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
        """Return the answer as plain values for JSON."""
        return {"grade": self.grade, "category": self.category, "code": self.code} | plain_fields(self)

    def to_row(self) -> dict[str, Scalar]:
        """Return the answer and its best candidate as one flat table row; see `twinscope.columns`."""
        return row_of(self.to_dict())

    def __repr__(self) -> str:
        return line_of(self.to_dict())

    def _repr_html_(self) -> str:
        return page_of(self.to_dict(), self.thumbnails)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle everything except the thumbnails, which belong to the engine that answered."""
        return type(self), tuple(getattr(self, one.name) for one in fields(self) if one.compare)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one query."""

    answer: Answer
    pixels_would_change: bool
    """Whether the query came without its pixels, and the answer could differ with them."""

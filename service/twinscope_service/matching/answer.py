"""The answer to a query: the grade, and the candidates with their measurements."""

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
"""Value of `Record.root` for images that were uploaded to a server. This value is not the name of a folder, so the
value never refers to a path on the server."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Description of a comparison: the change of the query, and the frames that were compared.

    Attributes
    ----------
    symmetry : str
        Change of the query, such as ``rotated by 90, inverted``. Rotations are clockwise. Empty if the query was not
        changed.
    query_frame, reference_frame : str
        Frames of the query and of the reference that were compared, for example ``bottom 7 % cut``. ``whole`` means the
        whole image.
    """

    symmetry: str
    query_frame: str
    reference_frame: str

    @property
    def is_whole(self) -> bool:
        """Whether the whole images were compared, not frames of them."""
        return self.query_frame == self.reference_frame == "whole"

    def __str__(self) -> str:
        """Return a readable description of the transform."""
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
        Estimated probability, 0 to 1.
    low, high : float
        Lower and upper end of the interval that contains 95 % of the estimates. These estimates come from models that
        were fitted to resampled collections.
    calibration : str
        Name of the data that were used to fit the calibration. The name is ``shipped`` if the store has no calibration.
        In this case, the calibration that is part of Twinscope was used.
    """

    estimate: float
    low: float
    high: float
    calibration: str


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """One candidate of an answer, with its measurements.

    Attributes
    ----------
    image_id : str
        Id of the reference: 16 hexadecimal digits. The id does not change while the reference is in the store.
    source : str
        File of the reference: a path, or ``archive!member``.
    category, code : str
        Label of the reference: the name and the code of its category.
    distance : int
        Hamming distance, in bits, between the hash of the query and the hash of the candidate, 0 to 1024.
    scene_score : float or None
        Correlation of the two thumbnails after alignment and local normalisation, -1 to 1. None if the score was not
        computed.
    shift : (float, float) or None
        Shift of the content of the candidate relative to the content of the query. The first number is the shift to the
        right, divided by the width. The second number is the shift down, divided by the height. None if the shift was
        not computed.
    ssim : float or None
        Mean SSIM of the full-size standardised images, -1 to 1. None if the SSIM was not computed.
    note : str
        Reason why a measurement was not computed; empty otherwise.
    published_prefix : str or None
        Category code that is part of the published file name. The code is stored, but it is not used as a label.
    transform : Transform or None
        Change of the query before the comparison. None if the whole images were compared without a change.
    instrument : InstrumentMetadata or None
        Instrument metadata of the candidate, in the same units for all instruments. None if there are no metadata, or
        if the query was a hash without an image.
    contradictions : tuple of str
        One readable text for each contradiction between the instrument metadata of the candidate and of the query.
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
        """The image id as the integer that the store uses."""
        return image_number(self.image_id)

    @property
    def comparable(self) -> bool:
        """Whether query and candidate are aligned, so that their full-size pixels can be compared."""
        return (self.transform is None or self.transform.is_whole) and not self.moved

    @property
    def moved(self) -> bool:
        """Whether the shift between query and candidate is above `UNMOVED_SHARE`."""
        return self.shift is not None and max(map(abs, self.shift)) > UNMOVED_SHARE

    @property
    def order(self) -> tuple[float, float, int, str]:
        """The sort key: first the SSIM if it was computed, then the scene score, the distance and the image id."""
        return (
            -self.ssim if self.ssim is not None else 2.0,
            -self.scene_score if self.scene_score is not None else 2.0,
            self.distance,
            self.image_id,
        )

    @classmethod
    def of(cls, record: Record, distance: int, note: str = "") -> Match:
        """Build an unverified candidate from a catalog record. `note` explains why the candidate is not verified."""
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
        Verdict on the query; see `Grade`.
    matches : tuple of Match
        Candidates; the best candidate is first.
    reason : str
        Readable sentence that explains the grade. The sentence is made from `reasons`.
    query_hash : str or None
        Hash of the query as hexadecimal digits. None if the query is unhashable.
    policy : Policy
        Thresholds that were used for this answer.
    generation : int
        Generation of the store that was searched.
    recipe : str
        Recipe of the hashes.
    taxonomy : str
        Version of the taxonomy from which the label of the best match comes. Empty if there are no matches.
    instrument : InstrumentMetadata or None
        Instrument metadata of the query, in the same units for all instruments. None if there are no metadata.
    p_wrong : ChanceOfError or None
        Probability that the best match is wrong. None if there is no match, or if the scene score of the best match is
        unknown. None also if two categories fit equally well, or if query and match may share something other than the
        field.
    reasons : tuple of Reason
        Codes with values that explain the grade. Empty if the server sends no codes.
    thumbnails : Thumbnails or None
        Source of the thumbnails that a notebook shows. This attribute is ignored when two answers are compared.
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
        """The best candidate, even if the answer gives no label; None if there are no candidates."""
        return self.matches[0] if self.matches else None

    @property
    def category(self) -> str | None:
        """The category of the best match; None if the grade is neither ``excellent`` nor ``good``."""
        return self.matches[0].category if self.grade in LABELLED else None

    @property
    def code(self) -> str | None:
        """The code of `category`; None if the answer gives no label."""
        return self.matches[0].code if self.grade in LABELLED else None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as a dictionary that JSON can represent."""
        return {"grade": self.grade, "category": self.category, "code": self.code} | plain_fields(self)

    def to_row(self) -> dict[str, Scalar]:
        """Return the answer and its best candidate as one row of a table; see `twinscope.columns`."""
        return row_of(self.to_dict())

    def __repr__(self) -> str:
        return line_of(self.to_dict())

    def _repr_html_(self) -> str:
        return page_of(self.to_dict(), self.thumbnails)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the answer without the thumbnails, because only the engine that made the answer can read them."""
        return type(self), tuple(getattr(self, one.name) for one in fields(self) if one.compare)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one query, and whether full-size pixels could change the answer."""

    answer: Answer
    pixels_would_change: bool
    """True if the query had no full-size pixels, and if the answer could be different with full-size pixels."""

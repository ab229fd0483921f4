"""The decision about one query image of a labelling run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from twinscope_indexer.sources.location import paged

STACK_CONFLICT: Final = "stack_pages_differ"
"""Code of the reason why a stack gets no copy: its pages have different labels, or a page has no label."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one query image, and the state of the output files."""

    path: str
    """Absolute path of the query."""
    size: int
    """Size of the query file in bytes."""
    mtime_ns: int
    """Modification time of the query file in nanoseconds."""
    sha256: str
    """SHA-256 of the query file in hexadecimal; empty if the file could not be read."""
    decided_by: str
    """Store, generation and policy that were used for the decision, as JSON."""
    decided_at: str
    """Time of the decision in UTC, in the format of ISO 8601."""
    grade: str
    """Grade of the answer (see `Grade`), or ``failed`` if the image could not be read."""
    reason: str
    """Reason for the grade, as a sentence."""
    reasons: str = ""
    """Reasons for the grade as a JSON list, with the result of `Reason.to_dict` for each reason. The text is empty if
    the image could not be read."""
    category: str = ""
    """Category of the best candidate; empty if there is no candidate."""
    code: str = ""
    query_hash: str = ""
    distance: int | None = None
    ssim: float | None = None
    scene_score: float | None = None
    symmetry: str = ""
    """Change of the query before the comparison with the best candidate, such as ``rotated by 90, inverted``; empty if
    the query was not changed."""
    query_frame: str = ""
    """Frame of the query that was compared, such as ``bottom 7 % cut``, or ``whole`` for the whole image. The text is
    empty if there is no candidate."""
    reference_frame: str = ""
    """Frame of the best candidate that was compared."""
    shift_x: float | None = None
    """Horizontal shift between query and best candidate, as a fraction of the width of the query. The shift is measured
    after `symmetry` was applied to the query."""
    shift_y: float | None = None
    """Vertical shift between query and best candidate, as a fraction of the height of the query. The shift is measured
    after `symmetry` was applied to the query."""
    match_id: str = ""
    match_source: str = ""
    published_prefix: str = ""
    rival_id: str = ""
    """Id of the best candidate of another category; empty if there is no such candidate."""
    rival_source: str = ""
    rival_category: str = ""
    rival_distance: int | None = None
    rival_ssim: float | None = None
    rival_scene_score: float | None = None
    rival_transform: str = ""
    """Frame and orientation in which the rival was compared; empty if both images were compared unchanged."""
    instrument: str = ""
    """Instrument metadata of the query: the result of `InstrumentMetadata.to_dict` in JSON, always in the same
    units."""
    contradictions: str = ""
    """Contradictions in the instrument metadata: reasons why query and best candidate cannot show the same
    acquisition."""
    p_wrong: float | None = None
    """Estimated probability that the best candidate is wrong."""
    p_wrong_low: float | None = None
    """Lower end of the 95 % interval of `p_wrong`."""
    p_wrong_high: float | None = None
    """Upper end of the 95 % interval of `p_wrong`."""
    generation: int = 0
    recipe: str = ""
    taxonomy: str = ""
    policy: str = ""
    output: str = ""
    """Path that is reserved for the labelled copy, relative to the output folder; empty if the image gets no copy."""
    jpeg_output: str = ""
    sidecar: bool = False
    """Whether a JSON file is written next to the copy; it contains the origin of the label and the metadata."""
    written: bool = False
    """Whether all output files of the decision were written."""
    problem: str = ""
    """Reason why the labelled copy could not be written; empty if there was no problem."""
    earlier_output: str = ""
    """Paths of copies from earlier runs whose label or content is outdated. Each line contains one path; the name of a
    copy contains no line break. These copies are not deleted."""
    page: int = 0
    """Number of the page if the query is a page of a stack, counted from 1. 0 if the file is one image."""
    stack_conflict: str = ""
    """Labels of the pages of the stack, if they differ or if a page has no label. The stack then gets no copy."""
    fault: str = ""
    """Kind of the fault if the image could not be read, such as ``too_large``; see `ImageError`. Otherwise empty."""

    @property
    def reason_codes(self) -> frozenset[str]:
        """The codes of all reasons: the codes of the answer (see `ReasonCode`), and `STACK_CONFLICT`."""
        codes = frozenset(reason["code"] for reason in json.loads(self.reasons or "[]"))
        return codes | {STACK_CONFLICT} if self.stack_conflict else codes

    @property
    def query(self) -> str:
        """Location of the query: the path, with ``#page=N`` for a page of a stack."""
        return paged(self.path, self.page)

    @property
    def explanation(self) -> str:
        """Reason why the query has no copy, or the reason for its grade, as a sentence."""
        if self.stack_conflict:
            return f"{self.reason}; but the stack got no copy, because its pages differ: {self.stack_conflict}"
        return self.problem or self.reason

    @property
    def failed(self) -> bool:
        """Whether the image could not be read."""
        return self.grade == "failed"

    @property
    def labelled(self) -> bool:
        """Whether a labelled copy was written."""
        return bool(self.output) and self.written

"""Grades: how sure an answer is; their order, meaning, colour, and whether they carry a label.

This table is the only list of grades. The wire, the Node client, the command and the report take theirs from it, or
are compared with it by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Grade = Literal["excellent", "good", "doubtful", "ambiguous", "unverified", "none", "unhashable"]
"""How sure an answer is; see `GRADES`."""


@dataclass(frozen=True, slots=True)
class GradeInfo:
    """What is to be known of one grade.

    Attributes
    ----------
    name : str
        A `Grade`; a client may add grades of its own to its tables.
    labelled : bool
        Whether it carries a label.
    outcome : str
        What becomes of an image of this grade that gets no label: ``for_review``, ``no_twin``, ``unhashable`` or
        ``failed``; ``withheld`` of a grade that carries one.
    colour : str
        In plots. Distinguishable with any colour vision (M. Okabe, K. Ito, "Color Universal Design", 2008).
    light, dark : str
        On pages, on a light and on a dark ground: the same hues with enough contrast for text (WCAG 2.2, 4.5 to 1).
    marker : str
        Matplotlib's name of the marker in plots.
    meaning : str
        One or two sentences for people.
    """

    name: str
    labelled: bool
    outcome: str
    colour: str
    light: str
    dark: str
    marker: str
    meaning: str


GRADES: Final = (
    GradeInfo(
        "excellent", True, "withheld", "#0072B2", "#0072b2", "#5fb4ea", "o",
        "The same acquisition as the reference: the full-size pixels agree.",
    ),
    GradeInfo(
        "good", True, "withheld", "#009E73", "#00795a", "#3fc79b", "s",
        "The same field of view, stored differently: compressed, resized, contrast or brightness changed, or slightly "
        "shifted.",
    ),
    GradeInfo(
        "doubtful", False, "for_review", "#D55E00", "#6e2a00", "#f55200", "v",
        "Pixels show a twin, but something speaks against it: the metadata of the instruments contradict each other; "
        "the pictures agree in some regions only, or in outlines only; another reference looks much like the query as "
        "well; or the match is too likely to be wrong. Look at both pictures.",
    ),
    GradeInfo(
        "ambiguous", False, "for_review", "#E69F00", "#a86400", "#f0b13c", "D",
        "References of different categories fit equally well. Only a person can tell which label is right.",
    ),
    GradeInfo(
        "unverified", False, "for_review", "#CC79A7", "#a8487f", "#e59cc6", "^",
        "The hash is close to a reference, but the pictures could not be compared, or agree too little to be sure. "
        "A hint, not a match.",
    ),
    GradeInfo(
        "none", False, "no_twin", "#555555", "#555f6c", "#a5b0bd", "x",
        "No reference shows this field of view. The collection may not have it.",
    ),
    GradeInfo(
        "unhashable", False, "unhashable", "#777777", "#555f6c", "#a5b0bd", "P",
        "Too little structure to recognise: blank, uniform, nothing but noise, or saturated.",
    ),
)  # fmt: skip
"""All grades of answers, the surest first."""

GRADE_NAMES: Final[tuple[Grade, ...]] = get_args(Grade)
LABELLED: Final = frozenset(grade.name for grade in GRADES if grade.labelled)
"""Names of the grades that carry a label."""

"""Grades: their order, meaning, colour, and whether they carry a label.

This table is the only list of grades. The wire, the Node client, the command and the report either read it or are
compared with it by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Grade = Literal["excellent", "good", "doubtful", "ambiguous", "unverified", "none", "unhashable"]
"""The verdict on a query; see `GRADES`."""


@dataclass(frozen=True, slots=True)
class GradeInfo:
    """The properties of one grade.

    Attributes
    ----------
    name : str
        A `Grade`; a client may add its own grades to its tables.
    labelled : bool
        Whether the grade carries a label.
    outcome : str
        Outcome for an image of this grade that gets no label: ``for_review``, ``no_twin``, ``unhashable`` or
        ``failed``; ``withheld`` for a grade that carries a label.
    colour : str
        Colour in plots. Distinguishable with any colour vision (M. Okabe, K. Ito, "Color Universal Design", 2008).
    light, dark : str
        Colours on pages with a light and with a dark background: the same hues with enough contrast for text (WCAG
        2.2, 4.5 to 1).
    marker : str
        Matplotlib marker in plots.
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
        "The same field as the reference, stored differently: compressed, resized, slightly shifted, or with another "
        "contrast or brightness.",
    ),
    GradeInfo(
        "doubtful", False, "for_review", "#D55E00", "#6e2a00", "#f55200", "v",
        "The pixels show a twin, but something speaks against it: the metadata of the instruments disagree; the images "
        "agree in some regions only, or in outlines only; another reference also resembles the query; or the match is "
        "too likely to be wrong. Compare the two images.",
    ),
    GradeInfo(
        "ambiguous", False, "for_review", "#E69F00", "#a86400", "#f0b13c", "D",
        "References of different categories fit equally well. A person must decide which label is right.",
    ),
    GradeInfo(
        "unverified", False, "for_review", "#CC79A7", "#a8487f", "#e59cc6", "^",
        "The hash is close to that of a reference, but the images were not compared, or agree too little for a label. "
        "This is a hint, not a match.",
    ),
    GradeInfo(
        "none", False, "no_twin", "#555555", "#555f6c", "#a5b0bd", "x",
        "No reference was found that shows this field. The collection may not contain it.",
    ),
    GradeInfo(
        "unhashable", False, "unhashable", "#777777", "#555f6c", "#a5b0bd", "P",
        "The image has too little structure to be recognised: it is blank, uniform, saturated or only noise.",
    ),
)  # fmt: skip
"""All grades of answers, the most certain first."""

GRADE_NAMES: Final[tuple[Grade, ...]] = get_args(Grade)
LABELLED: Final = frozenset(grade.name for grade in GRADES if grade.labelled)
"""Names of the grades that carry a label."""

"""Grades: the order, the meaning and the colour of each grade, and whether an answer with this grade gives a label.

The table in this module is the only list of grades. The command and the report use the table. Tests compare the table
with the grades of the network protocol and of the Node client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Grade = Literal["excellent", "good", "doubtful", "ambiguous", "unverified", "none", "unhashable"]
"""The verdict on a query; see `GRADES`."""


@dataclass(frozen=True, slots=True)
class GradeInfo:
    """Properties of one grade.

    Attributes
    ----------
    name : str
        A `Grade`, or the name of an additional grade in the table of a client.
    labelled : bool
        Whether an answer with this grade gives a label.
    outcome : str
        Outcome of an image that has this grade but gets no label. If the grade gives no label, the outcome is
        ``for_review``, ``no_twin``, ``unhashable`` or ``failed``. If the grade gives a label, the outcome is
        ``withheld``.
    colour : str
        Colour in plots. People with colour blindness can distinguish all colours (M. Okabe, K. Ito, "Color Universal
        Design", 2008).
    light, dark : str
        Text colours on pages with a light and with a dark background. Both colours have the same hue as in plots, and
        enough contrast for text (WCAG 2.2, 4.5 to 1).
    marker : str
        Matplotlib marker in plots.
    meaning : str
        Readable description of the grade in a few sentences.
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
        "The image shows the same acquisition as the reference: the full-size pixels agree.",
    ),
    GradeInfo(
        "good", True, "withheld", "#009E73", "#00795a", "#3fc79b", "s",
        "The image shows the same field as the reference, but the two images differ. One image may be compressed, "
        "resized or slightly shifted, or may have another contrast or brightness.",
    ),
    GradeInfo(
        "doubtful", False, "for_review", "#D55E00", "#6e2a00", "#f55200", "v",
        "The pixels show a twin, but there is evidence against the match. The instrument metadata may disagree, the "
        "images may agree in some regions only or in outlines only, or another reference may also resemble the query. "
        "The probability of a wrong match may also be too high. Compare the two images.",
    ),
    GradeInfo(
        "ambiguous", False, "for_review", "#E69F00", "#a86400", "#f0b13c", "D",
        "References of different categories fit equally well. A person must decide which category is correct.",
    ),
    GradeInfo(
        "unverified", False, "for_review", "#CC79A7", "#a8487f", "#e59cc6", "^",
        "The hash is close to the hash of a reference. However, the images were not compared, or they do not agree "
        "enough for a label. The reference is a hint, not a match.",
    ),
    GradeInfo(
        "none", False, "no_twin", "#555555", "#555f6c", "#a5b0bd", "x",
        "No reference was found that shows the field of the image. The collection may not contain this field.",
    ),
    GradeInfo(
        "unhashable", False, "unhashable", "#777777", "#555f6c", "#a5b0bd", "P",
        "The image has too little structure to be recognised: it is blank, uniform, saturated or only noise.",
    ),
)  # fmt: skip
"""All grades of answers; the most certain grade is first."""

GRADE_NAMES: Final[tuple[Grade, ...]] = get_args(Grade)
LABELLED: Final = frozenset(grade.name for grade in GRADES if grade.labelled)
"""Names of the grades with which an answer gives a label."""

"""Decision thresholds that are fixed: each with its unit, and what it was chosen on.

Those that a caller can set are the fields of `matching.policy.Policy`; `matching.policy.threshold_table` lists both.
Numbers that only bound work or rounding stand in the modules that use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One row of the table.

    Attributes
    ----------
    name : str
    value : float
    unit : str
    meaning : str
        What it decides.
    chosen_on : str
        The measurement that it was chosen on; empty where a convention or a request of users chose it.
    """

    name: str
    value: float
    unit: str
    meaning: str
    chosen_on: str


_rows: list[Threshold] = []


def _listed(name: str, value: _Number, unit: str, meaning: str, chosen_on: str) -> _Number:
    """Add a row to the table, and return its value."""
    _rows.append(Threshold(name, value, unit, meaning, chosen_on))
    return value


# Copies and look-alikes: the query and its twin among other references.
SURE_BITS: Final = _listed(
    "sure_bits", 40, "bits",
    "A twin up to here needs no comparison with other references; re-encoded copies lie no farther from each other.",
    "Pictures of different fields that share half a panel were as near as 72 bits.",
)  # fmt: skip
RECORDING_BITS: Final = _listed(
    "recording_bits", 200, "bits",
    "A twin up to here has no look-alikes, and two references up to here are recordings of one field.",
    "Pictures of different fields with one camera pattern stronger than the fields are as near; they cannot be told "
    "from recordings of one field.",
)  # fmt: skip
TEXTURE_FROM_BITS: Final = _listed(
    "texture_from_bits", 300, "bits",
    "Beyond this distance query and twin must agree in fine structure as well.",
    "The default of max_distance: what lies within was asked for nothing more.",
)  # fmt: skip
COPY_SCENE: Final = _listed(
    "copy_scene", 0.95, "scene score",
    "Two references of one category from here on are copies of one field, with another info bar or encoding.",
    "What else two references share makes less.",
)  # fmt: skip
MOVED_COPY_SCENE: Final = _listed(
    "moved_copy_scene", 0.8, "scene score",
    "The same of two references that are shifted against each other by more than unmoved_share.",
    "What pictures share besides the field does not move.",
)  # fmt: skip
UNMOVED_SHARE: Final = _listed(
    "unmoved_share", 0.01, "share of the frame",
    "Shift up to which two pictures lie over each other; then full-size pixels can be compared.",
    "",
)  # fmt: skip
LOOKALIKE_SCENE: Final = _listed(
    "lookalike_scene", 0.35, "scene score",
    "A reference from here on looks like the query.",
    "Of 15,399 pairs of real micrographs of different scenes none scored above 0.32.",
)  # fmt: skip
WEAK_TWIN_SCENE: Final = _listed(
    "weak_twin_scene", 0.6, "scene score",
    "Below it a twin is weak: no other reference may reach lookalike_of_weak_scene.",
    "Weak right twins had others of 0.16 at most.",
)  # fmt: skip
LOOKALIKE_OF_WEAK_SCENE: Final = _listed(
    "lookalike_of_weak_scene", 0.25, "scene score",
    "A reference from here on looks like the query as well where its twin is weak.",
    "Weak right twins had others of 0.16 at most.",
)  # fmt: skip
LEFT_CORRELATION: Final = _listed(
    "left_correlation", 0.55, "partial correlation",
    "Query and twin must correlate by this once what they share with look-alikes is taken out.",
    "Different fields in twelve collections with shared artefacts: at most 0.53; right twins mostly above 0.7.",
)  # fmt: skip
LEFT_CORRELATION_BESIDE_ONE: Final = _listed(
    "left_correlation_beside_one", 0.75, "partial correlation",
    "The same where there is one look-alike: it may hold little of what is shared, and then explains less.",
    "As left_correlation.",
)  # fmt: skip
EXPLAINED_CORRELATION: Final = _listed(
    "explained_correlation", 0.1, "partial correlation",
    "Below it, once the twin is taken out, the twin explains a look-alike: it is a noisier recording of the twin.",
    "As left_correlation.",
)  # fmt: skip
LONE_FACTOR: Final = _listed(
    "lone_factor", 3.0, "ratio",
    "A lone candidate is this many times more like the query than any other reference.",
    "Micrographs under noise: benchmarks/accuracy.py, group C.",
)  # fmt: skip
LONE_COMPANY: Final = _listed(
    "lone_company", 8, "references",
    "So many others must have been compared before a candidate counts as alone.",
    "",
)  # fmt: skip

# Candidates found by frames.
FAR_CANDIDATES: Final = _listed(
    "far_candidates", 4, "references",
    "So many beyond max_distance are compared.",
    "The twin is nearly always the nearest.",
)  # fmt: skip
FAR_WINDOW_SCENE: Final = _listed(
    "far_window_scene", 0.75, "scene score",
    "A window of a reference beyond max_distance is believed from here on.",
    "Windows are small and many: of 120 synthetic micrographs wrong ones reached 0.63; right ones had 0.79 or more.",
)  # fmt: skip
WHOLE_PREFERENCE: Final = _listed(
    "whole_preference", 0.02, "scene score",
    "Whole images are preferred to windows of them if they score at most this much less.",
    "",
)  # fmt: skip

# Agreement by region.
REGION_SHARE: Final = _listed(
    "region_share", 0.3, "share of the median region",
    "A region with less correlation than this share does not agree.",
    "Real micrographs, annotated, rotated, under noise.",
)  # fmt: skip
CLEAR_REGION: Final = _listed(
    "clear_region", 0.85, "correlation",
    "Where the median region has as much, clear_region_share counts in place of region_share.",
    "There is little noise then, and normalised pixels beside a shared panel resemble it.",
)  # fmt: skip
CLEAR_REGION_SHARE: Final = _listed(
    "clear_region_share", 0.55, "share of the median region",
    "A region with less correlation than this share does not agree, where the median region is clear.",
    "As region_share.",
)  # fmt: skip
REGIONS_APART: Final = _listed(
    "regions_apart", 5, "regions of 25",
    "So many need not agree: a label, an arrow or a scale bar may cover them.",
    "Other fields with one half a panel or one logo: more do not; of 178 real micrographs, annotated, rotated, under "
    "noise: at most 4 did not.",
)  # fmt: skip
INNER_REGIONS_APART: Final = _listed(
    "inner_regions_apart", 3, "regions of 9",
    "So many of the nine in the middle need not agree.",
    "As regions_apart.",
)  # fmt: skip
INNER_REGION_SHARE: Final = _listed(
    "inner_region_share", 0.7, "share of the median region",
    "The median of the nine regions in the middle must have this share.",
    "Different fields inside one aperture: up to 0.65; right twins: at least 0.78.",
)  # fmt: skip
CLIPPED_REGION: Final = _listed(
    "clipped_region", 0.9, "share of the pixels",
    "A region with so many pixels at one end of the grey scale is clipped; then it need not agree.",
    "",
)  # fmt: skip
REGIONS_CLIPPED: Final = _listed(
    "regions_clipped", 8, "regions of 25",
    "So many may be excused as clipped.",
    "A blank picture beside a panel of half the field would need more.",
)  # fmt: skip

# Agreement in fine structure.
TEXTURE_BITS: Final = _listed(
    "texture_bits", 370, "bits",
    "Hashes of one field, laid over each other, differ in no more.",
    "Of 1,198 right twins beyond 200 bits 11 had more, all bare gratings and slots; of 167 other fields with like "
    "grids, holes or single shapes 5 had no more.",
)  # fmt: skip
TEXTURE_BITS_IF_CLEAR: Final = _listed(
    "texture_bits_if_clear", 340, "bits",
    "The same where the scene score is at least clear_texture_scene.",
    "Noise lowers both; where outlines agree this well and the rest does not, the outlines may be all there is.",
)  # fmt: skip
CLEAR_TEXTURE_SCENE: Final = _listed(
    "clear_texture_scene", 0.8, "scene score",
    "From here on texture_bits_if_clear counts.",
    "As texture_bits_if_clear.",
)  # fmt: skip

# The noise residual of full-size pixels.
NOISE_PROOF: Final = _listed(
    "noise_proof", 20.0, "standard deviations",
    "A noise residual from here on proves one exposure.",
    "Recordings of one exposure: 20 to 200; less where turned or enlarged by a little, or after heavy noise.",
)  # fmt: skip
NOISE_CHANCE: Final = _listed(
    "noise_chance", 12.0, "standard deviations",
    "Other references near the twin must stay at or below this, and at or below half of the twin's value.",
    "Different fields under like grids have up to this, by their outlines.",
)  # fmt: skip

# Calibration.
SECOND_LABEL_SCENE: Final = _listed(
    "second_label_scene", 0.9, "scene score",
    "`calibrate` takes an image of another category from here on for a copy under a second label, if it agrees in "
    "fine structure.",
    "",
)  # fmt: skip

FIXED_THRESHOLDS: Final = tuple(_rows)
"""All of the above, in their order."""

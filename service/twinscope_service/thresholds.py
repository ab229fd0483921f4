"""Fixed decision thresholds, each with its unit and the measurement that it was chosen on.

Thresholds that a caller can set are fields of `matching.policy.Policy`; `matching.policy.threshold_table` lists both
kinds. Numbers that only limit work or rounding are defined in the modules that use them.
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
        The measurement that it was chosen on; empty if a convention or a request of users decided it.
    """

    name: str
    value: float
    unit: str
    meaning: str
    chosen_on: str


_rows: list[Threshold] = []


def _listed(name: str, value: _Number, unit: str, meaning: str, chosen_on: str) -> _Number:
    """Add a row to the table and return its value."""
    _rows.append(Threshold(name, value, unit, meaning, chosen_on))
    return value


# Copies and look-alikes: the query and its twin among other references.
SURE_BITS: Final = _listed(
    "sure_bits", 40, "bits",
    "Up to this distance, a twin is not compared with other references; re-encoded copies are no farther apart.",
    "Images of different fields that share half a panel were as near as 72 bits.",
)  # fmt: skip
RECORDING_BITS: Final = _listed(
    "recording_bits", 200, "bits",
    "Up to this distance, a twin is not checked for look-alikes, and two references are recordings of one field.",
    "Images of different fields are this near if they share a camera pattern that is stronger than the fields; they "
    "cannot be distinguished from recordings of one field.",
)  # fmt: skip
TEXTURE_FROM_BITS: Final = _listed(
    "texture_from_bits", 300, "bits",
    "Beyond this distance, query and twin must also agree in fine structure.",
    "The default of max_distance: nearer candidates need no further test.",
)  # fmt: skip
COPY_SCENE: Final = _listed(
    "copy_scene", 0.95, "scene score",
    "From this scene score, two references of one category are copies of one field, with another info bar or encoding.",
    "References that share something other than the field score less.",
)  # fmt: skip
MOVED_COPY_SCENE: Final = _listed(
    "moved_copy_scene", 0.8, "scene score",
    "The same for two references that are shifted against each other by more than unmoved_share.",
    "What images share apart from the field does not move.",
)  # fmt: skip
UNMOVED_SHARE: Final = _listed(
    "unmoved_share", 0.01, "share of the frame",
    "Up to this shift, two images count as aligned, and their full-size pixels can be compared.",
    "",
)  # fmt: skip
LOOKALIKE_SCENE: Final = _listed(
    "lookalike_scene", 0.35, "scene score",
    "From this scene score, a reference looks like the query.",
    "None of 15,399 pairs of real micrographs of different scenes scored above 0.32.",
)  # fmt: skip
WEAK_TWIN_SCENE: Final = _listed(
    "weak_twin_scene", 0.6, "scene score",
    "Below this scene score, a twin is weak: no other reference may reach lookalike_of_weak_scene.",
    "If a correct twin was weak, other references scored at most 0.16.",
)  # fmt: skip
LOOKALIKE_OF_WEAK_SCENE: Final = _listed(
    "lookalike_of_weak_scene", 0.25, "scene score",
    "From this scene score, a reference also looks like the query if the twin is weak.",
    "If a correct twin was weak, other references scored at most 0.16.",
)  # fmt: skip
LEFT_CORRELATION: Final = _listed(
    "left_correlation", 0.55, "partial correlation",
    "Query and twin must correlate by at least this after what they share with look-alikes is removed.",
    "Different fields in twelve collections with shared artefacts: at most 0.53; correct twins: mostly above 0.7.",
)  # fmt: skip
LEFT_CORRELATION_BESIDE_ONE: Final = _listed(
    "left_correlation_beside_one", 0.75, "partial correlation",
    "The same if there is one look-alike: it may contain little of what is shared, and then explains less.",
    "As left_correlation.",
)  # fmt: skip
EXPLAINED_CORRELATION: Final = _listed(
    "explained_correlation", 0.1, "partial correlation",
    "If query and look-alike correlate less than this after the twin is removed, the twin explains the look-alike: it "
    "is a noisier recording of the twin.",
    "As left_correlation.",
)  # fmt: skip
LONE_FACTOR: Final = _listed(
    "lone_factor", 3.0, "ratio",
    "The scene score of a lone candidate is at least this many times that of any other reference.",
    "Micrographs under noise: benchmarks/accuracy.py, group C.",
)  # fmt: skip
LONE_COMPANY: Final = _listed(
    "lone_company", 8, "references",
    "A candidate counts as lone only if at least this many other references were compared.",
    "",
)  # fmt: skip

# Candidates found by frames.
FAR_CANDIDATES: Final = _listed(
    "far_candidates", 4, "references",
    "At most this many references beyond max_distance are compared.",
    "The twin is nearly always the nearest.",
)  # fmt: skip
FAR_WINDOW_SCENE: Final = _listed(
    "far_window_scene", 0.75, "scene score",
    "From this scene score, a window of a reference beyond max_distance is accepted.",
    "Windows are small and numerous: for 120 synthetic micrographs, wrong windows scored up to 0.63, right ones at "
    "least 0.79.",
)  # fmt: skip
WHOLE_PREFERENCE: Final = _listed(
    "whole_preference", 0.02, "scene score",
    "Whole images are preferred to windows of them if their scene score is at most this much lower.",
    "",
)  # fmt: skip

# Agreement by region.
REGION_SHARE: Final = _listed(
    "region_share", 0.3, "share of the median region",
    "A region whose correlation is below this share does not agree.",
    "Real micrographs: annotated, rotated, under noise.",
)  # fmt: skip
CLEAR_REGION: Final = _listed(
    "clear_region", 0.85, "correlation",
    "From this correlation of the median region, clear_region_share replaces region_share.",
    "Such images have little noise, and next to a shared panel the normalised pixels resemble the panel.",
)  # fmt: skip
CLEAR_REGION_SHARE: Final = _listed(
    "clear_region_share", 0.55, "share of the median region",
    "If the median region is clear, a region whose correlation is below this share does not agree.",
    "As region_share.",
)  # fmt: skip
REGIONS_APART: Final = _listed(
    "regions_apart", 5, "regions of 25",
    "Up to this many regions may disagree: a label, an arrow or a scale bar may cover them.",
    "Different fields that share half a panel or a logo: more regions disagree. 178 real micrographs, annotated, "
    "rotated, under noise: at most 4 disagree.",
)  # fmt: skip
INNER_REGIONS_APART: Final = _listed(
    "inner_regions_apart", 3, "regions of 9",
    "Up to this many of the nine regions in the middle may disagree.",
    "As regions_apart.",
)  # fmt: skip
INNER_REGION_SHARE: Final = _listed(
    "inner_region_share", 0.7, "share of the median region",
    "The median of the nine regions in the middle must have at least this share.",
    "Different fields inside one aperture: up to 0.65; correct twins: at least 0.78.",
)  # fmt: skip
CLIPPED_REGION: Final = _listed(
    "clipped_region", 0.9, "share of the pixels",
    "A region with at least this share of its pixels at one end of the grey scale is clipped and need not agree.",
    "",
)  # fmt: skip
REGIONS_CLIPPED: Final = _listed(
    "regions_clipped", 8, "regions of 25",
    "Up to this many regions are exempt because they are clipped.",
    "A blank image beside a panel of half the field would need more.",
)  # fmt: skip

# Agreement in fine structure.
TEXTURE_BITS: Final = _listed(
    "texture_bits", 370, "bits",
    "The hashes of two aligned images of one field differ by at most this.",
    "Of 1,198 correct twins beyond 200 bits, 11 differed by more, all bare gratings and slots. Of 167 other fields "
    "with similar grids, holes or single shapes, 5 did not differ by more.",
)  # fmt: skip
TEXTURE_BITS_IF_CLEAR: Final = _listed(
    "texture_bits_if_clear", 340, "bits",
    "The same if the scene score is at least clear_texture_scene.",
    "Noise reduces both agreements. If the outlines agree this well and the rest does not, the images may share the "
    "outlines only.",
)  # fmt: skip
CLEAR_TEXTURE_SCENE: Final = _listed(
    "clear_texture_scene", 0.8, "scene score",
    "From this scene score, texture_bits_if_clear applies.",
    "As texture_bits_if_clear.",
)  # fmt: skip

# The noise residual of full-size pixels.
NOISE_PROOF: Final = _listed(
    "noise_proof", 20.0, "standard deviations",
    "From this value, a noise residual proves that two images come from one exposure.",
    "Recordings of one exposure: 20 to 200; less if rotated or enlarged slightly, or after heavy noise.",
)  # fmt: skip
NOISE_CHANCE: Final = _listed(
    "noise_chance", 12.0, "standard deviations",
    "Other references near the twin must not exceed this value, nor half of the twin's value.",
    "Different fields under similar grids reach up to this value because of their outlines.",
)  # fmt: skip

# Calibration.
SECOND_LABEL_SCENE: Final = _listed(
    "second_label_scene", 0.9, "scene score",
    "From this scene score, `calibrate` treats an image of another category as a copy under a second label, if the "
    "fine structure agrees.",
    "",
)  # fmt: skip

FIXED_THRESHOLDS: Final = tuple(_rows)
"""All fixed thresholds, in the order above."""

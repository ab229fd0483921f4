"""Fixed decision thresholds. Each threshold has a unit, and names the measurement on which its value is based.

Thresholds that a caller can set are attributes of `matching.policy.Policy`. `matching.policy.threshold_table` lists all
thresholds: the fixed thresholds, and the thresholds that a caller can set. Numbers that only limit computing time or
rounding errors are defined in the modules that use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from twinscope_indexer.metadata.calibration import SCALE_TOLERANCE
from twinscope_indexer.metadata.consistency import ANGLE_TOLERANCE, ENERGY_TOLERANCE, HEIGHT_TOLERANCE_MM

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One decision threshold, as a row of the table of all thresholds.

    Attributes
    ----------
    name : str
    value : float
    unit : str
    meaning : str
        Description of the decision that depends on the threshold.
    chosen_on : str
        The measurement on which the value is based. Empty if the value is a convention or was requested by users.
    """

    name: str
    value: float
    unit: str
    meaning: str
    chosen_on: str


_rows: list[Threshold] = []


def _listed(name: str, value: _Number, unit: str, meaning: str, chosen_on: str) -> _Number:
    """Add a threshold to the table of fixed thresholds and return its value."""
    _rows.append(Threshold(name, value, unit, meaning, chosen_on))
    return value


# Copies and look-alikes: comparison of the query and its twin with other references.
SURE_BITS: Final = _listed(
    "sure_bits", 40, "bits",
    "If the distance between query and twin is at most this value, the twin is not compared with other references. "
    "The distance between an image and its re-encoded copy is not above this value.",
    "Two images of different fields that share half a panel had a distance of at least 72 bits.",
)  # fmt: skip
RECORDING_BITS: Final = _listed(
    "recording_bits", 200, "bits",
    "If the distance between query and twin is at most this value, Twinscope does not search for look-alikes. If the "
    "distance between two references is at most this value, both references show the same field.",
    "Images of different fields have such small distances if both images contain a camera pattern that is stronger "
    "than the fields. The hashes of such images cannot be distinguished from the hashes of images of the same field.",
)  # fmt: skip
TEXTURE_FROM_BITS: Final = _listed(
    "texture_from_bits", 300, "bits",
    "If the distance between query and twin is above this value, query and twin must also agree in fine structure.",
    "The value is the default of max_distance. At smaller distances, the fine structure is not tested.",
)  # fmt: skip
COPY_SCENE: Final = _listed(
    "copy_scene", 0.95, "scene score",
    "If two references have the same category, and their scene score is at least this value, the two references are "
    "copies of one field. Copies may have different info bars or encodings.",
    "References that share something other than the field have lower scene scores.",
)  # fmt: skip
MOVED_COPY_SCENE: Final = _listed(
    "moved_copy_scene", 0.8, "scene score",
    "If the shift between two references is above unmoved_share, this value replaces copy_scene.",
    "If two images share an artefact, such as a panel, the artefact is at the same position in both images.",
)  # fmt: skip
UNMOVED_SHARE: Final = _listed(
    "unmoved_share", 0.01, "share of the frame",
    "If the shift between two images is at most this value, the images count as aligned, and their full-size pixels "
    "can be compared.",
    "",
)  # fmt: skip
LOOKALIKE_SCENE: Final = _listed(
    "lookalike_scene", 0.35, "scene score",
    "If the scene score between query and reference is at least this value, the reference resembles the query.",
    "None of 15,399 pairs of real micrographs of different scenes had a scene score above 0.32.",
)  # fmt: skip
WEAK_TWIN_SCENE: Final = _listed(
    "weak_twin_scene", 0.6, "scene score",
    "If the scene score between query and twin is below this value, the twin is weak. If the scene score of another "
    "reference is then at least lookalike_of_weak_scene, the query gets no label.",
    "In searches with a weak but correct twin, the scene scores of all other references were at most 0.16.",
)  # fmt: skip
LOOKALIKE_OF_WEAK_SCENE: Final = _listed(
    "lookalike_of_weak_scene", 0.25, "scene score",
    "If the twin is weak, and the scene score between query and reference is at least this value, the reference "
    "resembles the query.",
    "In searches with a weak but correct twin, the scene scores of all other references were at most 0.16.",
)  # fmt: skip
LEFT_CORRELATION: Final = _listed(
    "left_correlation", 0.55, "partial correlation",
    "Minimum correlation between query and twin after the influence of the look-alikes is removed.",
    "In twelve collections with shared artefacts, the remaining correlation was at most 0.53 for different fields and "
    "mostly above 0.7 for correct twins.",
)  # fmt: skip
LEFT_CORRELATION_BESIDE_ONE: Final = _listed(
    "left_correlation_beside_one", 0.75, "partial correlation",
    "If there is only one look-alike, this value replaces left_correlation. A single look-alike may contain only a "
    "part of the shared artefact, so too much of the correlation can remain.",
    "The value is based on the same measurement as left_correlation.",
)  # fmt: skip
EXPLAINED_CORRELATION: Final = _listed(
    "explained_correlation", 0.1, "partial correlation",
    "The influence of the twin is removed from the correlation between query and look-alike. If the remaining "
    "correlation is below this value, the look-alike is a noisier recording of the twin.",
    "The value is based on the same measurement as left_correlation.",
)  # fmt: skip
LONE_FACTOR: Final = _listed(
    "lone_factor", 3.0, "ratio",
    "A candidate counts as lone if its scene score is at least this many times the scene score of any other reference.",
    "The value was chosen with micrographs to which noise was added: benchmarks/accuracy.py, group C.",
)  # fmt: skip
LONE_COMPANY: Final = _listed(
    "lone_company", 8, "references",
    "A candidate can count as lone only if at least this many other references were compared with the query.",
    "",
)  # fmt: skip

# Candidates found by frames.
FAR_CANDIDATES: Final = _listed(
    "far_candidates", 4, "references",
    "Maximum number of references at distances above max_distance that are compared with the query.",
    "The twin is nearly always the nearest of these references.",
)  # fmt: skip
FAR_WINDOW_SCENE: Final = _listed(
    "far_window_scene", 0.75, "scene score",
    "If the distance of a reference is above max_distance, a window of the reference is accepted only if the scene "
    "score of the window is at least this value.",
    "A store contains many small windows. For 120 synthetic micrographs, the scene scores of wrong windows were at "
    "most 0.63, and the scene scores of correct windows were at least 0.79.",
)  # fmt: skip
WHOLE_PREFERENCE: Final = _listed(
    "whole_preference", 0.02, "scene score",
    "The comparison of two whole images replaces the comparison of their windows if the scene score of the whole "
    "images is lower by at most this value.",
    "",
)  # fmt: skip

# Agreement by region.
REGION_SHARE: Final = _listed(
    "region_share", 0.3, "share of the median correlation",
    "A region does not agree if its correlation is below this share of the median correlation of all regions.",
    "The value was chosen with real micrographs that were annotated, rotated or made noisy.",
)  # fmt: skip
CLEAR_REGION: Final = _listed(
    "clear_region", 0.85, "correlation",
    "If the median correlation of the regions is at least this value, clear_region_share replaces region_share.",
    "Images with such a high median contain little noise. If two images share a panel, the normalisation changes "
    "the pixels beside the panel in both images. Therefore, regions of different fields can also correlate.",
)  # fmt: skip
CLEAR_REGION_SHARE: Final = _listed(
    "clear_region_share", 0.55, "share of the median correlation",
    "If the median correlation of the regions is at least clear_region, a region does not agree if its correlation is "
    "below this share of the median.",
    "The value is based on the same measurement as region_share.",
)  # fmt: skip
REGIONS_APART: Final = _listed(
    "regions_apart", 5, "regions of 25",
    "Maximum number of regions that may disagree. A label, an arrow or a scale bar may cover these regions.",
    "For images of different fields that share half a panel or a logo, more than 5 regions disagree. For 178 real "
    "micrographs that were annotated, rotated or made noisy, at most 4 regions disagree.",
)  # fmt: skip
INNER_REGIONS_APART: Final = _listed(
    "inner_regions_apart", 3, "regions of 9",
    "Maximum number of the nine regions in the middle of the image that may disagree.",
    "The value is based on the same measurement as regions_apart.",
)  # fmt: skip
INNER_REGION_SHARE: Final = _listed(
    "inner_region_share", 0.7, "share of the median correlation",
    "The median correlation of the nine regions in the middle must be at least this share of the median correlation of "
    "all regions.",
    "The share was at most 0.65 for different fields inside the same aperture, and at least 0.78 for correct twins.",
)  # fmt: skip
CLIPPED_REGION: Final = _listed(
    "clipped_region", 0.9, "share of the pixels",
    "A region is clipped if at least this share of its pixels is at one end of the grey scale. Clipped regions do not "
    "have to agree.",
    "",
)  # fmt: skip
REGIONS_CLIPPED: Final = _listed(
    "regions_clipped", 8, "regions of 25",
    "Maximum number of regions that may disagree because they are clipped.",
    "If a panel covers half the field, and the rest of one image is blank, more than this many regions are clipped.",
)  # fmt: skip

# Agreement in fine structure.
TEXTURE_BITS: Final = _listed(
    "texture_bits", 370, "bits",
    "Maximum distance between the hashes of two aligned images that agree in fine structure.",
    "Of 1,198 correct twins at distances above 200 bits, 11 exceeded this value; all 11 show bare gratings or slots. "
    "Of 167 images of other fields with similar grids, holes or single shapes, 5 did not exceed this value.",
)  # fmt: skip
TEXTURE_BITS_IF_CLEAR: Final = _listed(
    "texture_bits_if_clear", 340, "bits",
    "If the scene score is at least clear_texture_scene, this value replaces texture_bits.",
    "Noise reduces the agreement of the outlines and of the fine structure. If the outlines agree well and the fine "
    "structure does not, the images may have only the outlines in common.",
)  # fmt: skip
CLEAR_TEXTURE_SCENE: Final = _listed(
    "clear_texture_scene", 0.8, "scene score",
    "If the scene score is at least this value, texture_bits_if_clear replaces texture_bits.",
    "The value was chosen for the same reason as texture_bits_if_clear.",
)  # fmt: skip

# The noise residual of full-size pixels.
NOISE_PROOF: Final = _listed(
    "noise_proof", 20.0, "standard deviations",
    "If the noise residual between two images is at least this value, both images show the same acquisition.",
    "The noise residual between two copies of one acquisition was 20 to 200. The noise residual was lower if one "
    "image was slightly rotated, slightly enlarged or very noisy.",
)  # fmt: skip
NOISE_CHANCE: Final = _listed(
    "noise_chance", 12.0, "standard deviations",
    "Other references near the twin are also compared with the query. If one of their noise residuals is above this "
    "value, or above half the noise residual of the twin, the noise residual of the twin is not used as proof.",
    "If different fields lie under similar grids, the outlines of the grids can cause noise residuals up to this "
    "value.",
)  # fmt: skip

# The shapes of two images.
LEAST_ASPECT: Final = _listed(
    "least_aspect", 0.8, "ratio",
    "The aspect of an image is its height divided by its width. If the smaller of two aspects divided by the larger is "
    "below this value, the images are not compared, and their scene score is 0.",
    "An info bar of 14 % of the height changes the aspect to 0.86 of its value.",
)  # fmt: skip
SAME_ASPECT: Final = _listed(
    "same_aspect", 0.99, "ratio",
    "If the smaller of two aspects divided by the larger is below this value, the images are also compared without "
    "the rows at the bottom that only the higher image has.",
    "Rounding of the sides to whole pixels changes the aspect by less than this.",
)  # fmt: skip

LARGEST_SHIFT: Final = _listed(
    "largest_shift", 1 / 6, "share of height and width",
    "Maximum shift between two fields that a comparison finds.",
    "",
)  # fmt: skip

# Instrument metadata. The comparison is a part of the indexer, so its module defines the values.
_listed(
    "energy_tolerance", ENERGY_TOLERANCE, "relative difference",
    "If two beam energies differ by more than this value, the instrument metadata contradict each other.",
    "",
)  # fmt: skip
_listed(
    "height_tolerance", HEIGHT_TOLERANCE_MM, "mm",
    "If two stage heights differ by more than this value, the instrument metadata contradict each other.",
    "Backlash and drift of a stage, and the scatter of the eucentric height, are smaller.",
)  # fmt: skip
_listed(
    "angle_tolerance", ANGLE_TOLERANCE, "degrees",
    "If two tilts or two rotations of a stage differ by more than this value, the instrument metadata contradict each "
    "other.",
    "A rotation by 1 degree moves the corners of a field by 1 % of its width.",
)  # fmt: skip
_listed(
    "scale_tolerance", SCALE_TOLERANCE, "relative difference",
    "If two pixel sizes and also the two field widths differ by more than this value, the instrument metadata "
    "contradict each other.",
    "Instruments write a calibration with three or four digits.",
)  # fmt: skip

# Calibration.
SECOND_LABEL_SCENE: Final = _listed(
    "second_label_scene", 0.9, "scene score",
    "`calibrate` treats an image of another category as a copy with a second label if two conditions are met: the "
    "scene score is at least this value, and the images agree in fine structure.",
    "",
)  # fmt: skip

FIXED_THRESHOLDS: Final = tuple(_rows)
"""All fixed thresholds, in the order of their definition in this module."""

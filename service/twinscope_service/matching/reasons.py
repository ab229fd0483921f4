"""Reasons: codes with values that explain the grade of an answer. Only this module makes a sentence of the codes.

Programs should use the codes and values. The sentence is only for reading. The text of the sentence may change with any
release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@unique
class ReasonCode(StrEnum):
    """Codes of the reasons that explain the grade of an answer.

    The network protocol uses the same names in capitals, with the prefix ``REASON_CODE_``. The first reason of an
    answer states the result of the search; the other reasons add details. The description of each code lists the names
    of its values in brackets. Values are numbers or texts.
    """

    NO_REFERENCE_NEAR = "no_reference_near"
    """No reference is within the maximum distance of the query (max_distance, in bits)."""
    NOTHING_FARTHER = "nothing_farther"
    """References at larger distances were also compared, but none of them shows the field (far_distance, in bits)."""
    OTHER_FIELD = "other_field"
    """The most similar reference shows another field (distance, scene_score, good_scene)."""
    NOT_VERIFIED = "not_verified"
    """The hash of a reference is near the hash of the query, but the pixels were not compared (distance, detail)."""
    SAME_ACQUISITION = "same_acquisition"
    """The full-size pixels of query and reference agree (ssim, excellent_ssim)."""
    SAME_FIELD = "same_field"
    """The thumbnails of query and reference show the same field (scene_score, good_scene)."""
    LONE_FIELD = "lone_field"
    """The thumbnails show the same field despite noise, and no other reference is nearly as similar (scene_score)."""
    TRANSFORMED = "transformed"
    """Query and reference were compared in another frame or orientation (transform)."""
    FULL_SIZE_MISSING = "full_size_missing"
    """The full-size pixels could not be compared (detail)."""
    NOISE_AGREES = "noise_agrees"
    """The noise of the full-size pixels agrees (deviations, in standard deviations)."""
    TWO_CATEGORIES = "two_categories"
    """References of two categories fit equally well (category, measured, other_category, other_measured,
    other_source)."""
    INSTRUMENTS_CONTRADICT = "instruments_contradict"
    """The instrument metadata of query and reference disagree (contradictions)."""
    SOME_REGIONS_ONLY = "some_regions_only"
    """Query and reference agree in some regions only."""
    LOOKALIKE = "lookalike"
    """Another reference also resembles the query (scene_score)."""
    OUTLINES_ONLY = "outlines_only"
    """Query and reference agree in outlines only, not in fine structure."""
    P_WRONG_UNKNOWN = "p_wrong_unknown"
    """The probability of a wrong match has a limit, but the probability is unknown."""
    P_WRONG_ABOVE_LIMIT = "p_wrong_above_limit"
    """The probability that the match is wrong is above the limit (p_wrong, max_p_wrong)."""
    UNHASHABLE = "unhashable"
    """The image has too little structure for a hash (lack, detail)."""
    LEGACY_ABOVE = "legacy_above"
    """Policy ``legacy``: the SSIM is above the threshold (ssim, excellent_ssim)."""
    LEGACY_BELOW = "legacy_below"
    """Policy ``legacy``: the SSIM is not above the threshold (ssim, excellent_ssim)."""
    LEGACY_PRELIMINARY = "legacy_preliminary"
    """Policy ``legacy``: the hash is near, but no SSIM was computed (distance)."""
    UNKNOWN = "unknown"
    """A code that this client does not know because the server is newer. The sentence of the answer explains the
    reason."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason that explains the grade of an answer.

    Attributes
    ----------
    code : ReasonCode
    values : mapping of str to float or str
        Values by name; `ReasonCode` lists the names. The units are the same as in `Policy` and `Match`.
    """

    code: ReasonCode
    values: Mapping[str, float | str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.code, tuple(sorted(self.values.items()))))

    def to_dict(self) -> dict[str, Any]:
        """Return the reason as a dictionary for JSON: the ``code``, then the values by name."""
        return {"code": self.code.value} | {name: _plain(value) for name, value in sorted(self.values.items())}


def _plain(value: float | str) -> float | str:
    """Return a value; a whole number is returned as an integer.

    The network protocol sends all numbers as floats, but JSON distinguishes 1 from 1.0.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def reason(code: ReasonCode, **values: float | str) -> Reason:
    """Build a reason from its values. Numbers become floats, as in the network protocol."""
    return Reason(code, {name: value if isinstance(value, str) else float(value) for name, value in values.items()})


_SHARED: Final = (
    "; check whether the images share something other than the field, such as an aperture, a panel, dust or a camera "
    "pattern"
)
_CLAUSES: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.NO_REFERENCE_NEAR: "no reference within {max_distance:g} bits of the query",
    ReasonCode.NOTHING_FARTHER: "; a search up to {far_distance:g} bits found no reference that shows the same field",
    ReasonCode.OTHER_FIELD: (
        "the most similar reference ({distance:g} bits away) shows another field: "
        "scene score {scene_score:.3f} < {good_scene:g}"
    ),
    ReasonCode.NOT_VERIFIED: "the nearest reference ({distance:g} bits away) was not verified: {detail}",
    ReasonCode.SAME_ACQUISITION: "same acquisition: SSIM {ssim:.3f} > {excellent_ssim:g}",
    ReasonCode.SAME_FIELD: "same field: scene score {scene_score:.3f} >= {good_scene:g}",
    ReasonCode.LONE_FIELD: (
        "same field despite heavy noise: scene score {scene_score:.3f}, and no other reference is nearly as similar"
    ),
    ReasonCode.TRANSFORMED: " ({transform})",
    ReasonCode.FULL_SIZE_MISSING: " ({detail})",
    ReasonCode.NOISE_AGREES: "; the noise also agrees, {deviations:.0f} standard deviations above chance",
    ReasonCode.TWO_CATEGORIES: (
        "two categories fit equally well: {category} ({measured}) and {other_category} "
        "({other_measured}, {other_source})"
    ),
    ReasonCode.INSTRUMENTS_CONTRADICT: "; but the instrument metadata disagree: {contradictions}",
    ReasonCode.SOME_REGIONS_ONLY: f"; but the images agree in some regions only{_SHARED}",
    ReasonCode.LOOKALIKE: (
        f"; but another reference also resembles the query (scene score {{scene_score:.3f}}){_SHARED}"
    ),
    ReasonCode.OUTLINES_ONLY: (
        "; but the images agree in outlines only, not in fine structure; check whether the images show similar grids "
        "or single shapes"
    ),
    ReasonCode.P_WRONG_UNKNOWN: "; but the probability that the match is wrong is unknown",
    ReasonCode.P_WRONG_ABOVE_LIMIT: (
        "; but the match is too likely to be wrong: probability {p_wrong:.2g} > {max_p_wrong:g}"
    ),
    ReasonCode.UNHASHABLE: "{lack}: {detail}",
    ReasonCode.LEGACY_ABOVE: "SSIM {ssim:.3f} > {excellent_ssim:g}",
    ReasonCode.LEGACY_BELOW: "SSIM {ssim:.3f} <= {excellent_ssim:g}; the legacy scripts would still label the image",
    ReasonCode.LEGACY_PRELIMINARY: "preliminary match at a distance of {distance:g} bits, not verified by SSIM",
    ReasonCode.UNKNOWN: "",
}
"""The part of the sentence for each code, with the punctuation that joins the part to the previous part."""


def sentence(reasons: Iterable[Reason]) -> str:
    """Return the reasons as one readable sentence."""
    return "".join(_CLAUSES[reason.code].format_map(reason.values) for reason in reasons)

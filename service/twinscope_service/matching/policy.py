"""Policies: named sets of thresholds that decide whether a reference counts as a twin.

The unit, the range, the protobuf field and the descriptions of a threshold are defined in one place: in the metadata of
its field of `Policy`. The command and the report use these descriptions.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, get_args

from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.reach import REACHES, Reach

from twinscope_service.errors import OptionError
from twinscope_service.matching.name_rules import MAX_POLICY_NAME, name_faults
from twinscope_service.thresholds import FIXED_THRESHOLDS, Threshold

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_K: Final = 1000
FullSize = Literal["never", "best", "all"]
FULL_SIZES: Final[tuple[FullSize, ...]] = get_args(FullSize)

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Setting:
    """Properties of one threshold that a caller can set.

    Attributes
    ----------
    name : str
        Name of the field of `Policy`.
    default : float
    unit : str
        ``bits``, ``SSIM``, ``scene score``, ``probability`` or ``candidates``.
    low, high : float
        Smallest and largest allowed value.
    whole : bool
        Whether the threshold must be a whole number.
    wire : str
        Name of the field of the protobuf message ``twinscope.v1.Policy``.
    help : str
        Help text of the option of the command. The command appends the default value to the help text.
    label : str
        Short description of the threshold in the report and in the table of thresholds.
    chosen_on : str
        The measurement on which the default is based; see `Threshold`.
    optional : bool
        Whether a client that sends a policy with a rule may omit the threshold. True for thresholds that were added
        after the first version of the network protocol.
    left_out : float
        Value that replaces an omitted threshold. With this value, the threshold has no effect.
    """

    name: str
    default: float
    unit: str
    low: float
    high: float
    whole: bool
    wire: str
    help: str
    label: str
    chosen_on: str
    optional: bool = False
    left_out: float = 0


def _setting(
    default: _Number,
    unit: str,
    between: tuple[_Number, _Number],
    *,
    help: str,
    label: str,
    chosen_on: str = "",
    wire: str = "",
    left_out: float | None = None,
) -> Any:
    facts = {
        "unit": unit, "low": between[0], "high": between[1], "whole": isinstance(default, int), "wire": wire,
        "help": help, "label": label, "chosen_on": chosen_on, "optional": left_out is not None,
        "left_out": left_out or 0,
    }  # fmt: skip
    return field(default=default, metadata=facts)


class Thresholds(TypedDict, total=False):
    """Thresholds that a search can change in its policy. `Policy` describes them; None keeps the current value."""

    k: int | None
    max_distance: int | None
    far_distance: int | None
    ssim_distance: int | None
    excellent_ssim: float | None
    good_scene: float | None
    lone_scene: float | None
    ssim_margin: float | None
    scene_margin: float | None
    max_p_wrong: float | None
    reach: Reach | None
    ssim: FullSize | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds of one request. Every answer contains the policy that was used for it.

    Raises
    ------
    OptionError
        If a threshold is out of range, or if the name is empty or longer than 64 bytes.
    """

    name: str = "default"
    """Name of the policy: ``default`` or ``legacy``. The policy ``legacy`` uses the rule of the scripts that Twinscope
    replaces. If thresholds were changed, ``+changes`` is appended to the name."""
    rule: Literal["scene", "legacy"] = "scene"
    """Rule that is used to verify candidates: ``scene`` (scene score, then SSIM) or ``legacy`` (the legacy rule)."""
    k: int = _setting(
        5, "candidates", (1, MAX_K), help="maximum number of candidates", label="maximum number of candidates",
    )  # fmt: skip
    """Maximum number of candidates for each query, 1 to 1000."""
    max_distance: int = _setting(
        300, "bits", (0, BITS), wire="max_distance_bits",
        help="maximum Hamming distance between query and candidate, in bits",
        label="maximum distance between query and candidate (bits)",
        chosen_on="The distance between unrelated micrographs is about 510 bits, and rarely below 400 bits.",
    )  # fmt: skip
    """Maximum distance between query and candidate, in bits. References at larger distances are compared only if no
    candidate is a twin; see `far_distance`."""
    far_distance: int = _setting(
        430, "bits", (0, BITS), wire="far_distance_bits", left_out=0,
        help="if no candidate is a twin, also compare the few nearest references up to this Hamming distance, in bits",
        label="maximum distance of the references that are compared if no candidate is a twin (bits)",
        chosen_on="Noise and fine stripes can change this many bits of a hash.",
    )  # fmt: skip
    """Maximum distance, in bits, of references that are compared only if no candidate within `max_distance` is a twin.

    Noise and fine stripes can change this many bits of a hash. The few nearest of these references are compared, and
    their pixels decide. After that, references are compared if their brightest or darkest quarter resembles the same
    quarter of the query. These references can be at any distance, because all other pixels may have become black or
    white. If `far_distance` is not above `max_distance`, references at distances above `max_distance` are not
    compared."""
    ssim_distance: int = _setting(
        BITS, "bits", (0, BITS), wire="ssim_distance_bits",
        help="maximum Hamming distance, in bits, of candidates whose full-size pixels are compared",
        label="maximum distance of candidates whose SSIM is computed (bits)",
    )  # fmt: skip
    """Maximum distance, in bits, of candidates that are verified by full-size SSIM. Only the policy ``legacy`` limits
    this distance."""
    excellent_ssim: float = _setting(
        0.95, "SSIM", (-1.0, 1.0),
        help="full-size SSIM above which a candidate shows the same acquisition as the query",
        label="excellent if the SSIM is above this value",
        chosen_on="The legacy scripts used this value. The SSIM of real twins that show one acquisition is at least "
        "0.97.",
    )  # fmt: skip
    """Full-size SSIM above which a candidate shows the same acquisition as the query."""
    good_scene: float = _setting(
        0.5, "scene score", (-1.0, 1.0),
        help="minimum scene score of a candidate that shows the same field as the query",
        label="good if the scene score is at least this value",
        chosen_on="None of 15,399 pairs of real micrographs of different scenes had a scene score above 0.32. The "
        "scene score between an image and its re-encoded, resized, equalised or noisy copy was at least 0.62.",
    )  # fmt: skip
    """Minimum scene score of a candidate that shows the same field as the query."""
    lone_scene: float = _setting(
        0.35, "scene score", (-1.0, 1.0), left_out=1.0,
        help="minimum scene score of a candidate that shows the same field despite heavy noise; it replaces "
        "--good-scene if no other reference has more than a third of the candidate's scene score",
        label="good if the scene score is at least this value and three times the scene score of any other reference",
        chosen_on="The value is based on the same measurement as good_scene: the scene scores of different scenes were "
        "at most 0.32.",
    )  # fmt: skip
    """Minimum scene score of a candidate that shows the same field despite heavy noise. This minimum replaces
    `good_scene` if no other reference has more than a third of the candidate's scene score. A value that is not below
    `good_scene` has no effect."""
    ssim_margin: float = _setting(
        0.02, "SSIM", (0.0, 2.0),
        help="an answer is ambiguous if the SSIM of a candidate of another category is lower by at most this value",
        label="ambiguous if the SSIMs of two categories differ by at most this value",
    )  # fmt: skip
    """Maximum difference of the SSIMs of two categories for the grade ``ambiguous``. SSIMs are compared if the best
    match shows the same acquisition as the query."""
    scene_margin: float = _setting(
        0.1, "scene score", (0.0, 2.0),
        help="an answer is ambiguous if the scene score of a candidate of another category is lower by at most this "
        "value",
        label="ambiguous if the scene scores of two categories differ by at most this value",
    )  # fmt: skip
    """Maximum difference of the scene scores of two categories for the grade ``ambiguous``. Scene scores are compared
    if the best match shows the same field as the query."""
    reach: Reach = "windows"
    """Frames that are compared if the comparison of the whole images finds no twin. ``frame``: no other frames.
    ``views``: the image without its info bar, and all symmetries. ``windows``: also smaller frames of the field. Frames
    that the store does not have cannot be searched."""
    ssim: FullSize = "best"
    """Candidates that are compared at full size. ``never``: no candidates, so no answer can be ``excellent``. ``best``:
    the candidates that can change the answer. ``all``: all candidates that show the same field. The legacy rule ignores
    this setting."""
    max_p_wrong: float = _setting(
        0.05, "probability", (0.0, 1.0), left_out=1.0,
        help="maximum probability that a labelled match is wrong; above this value, a person must review the match; 1 "
        "means no limit",
        label="doubtful if the probability of a wrong match is above this value",
        chosen_on="The value was chosen with the calibration that is part of Twinscope; see docs/accuracy.md, "
        "\"The limit on p_wrong\".",
    )  # fmt: skip
    """Maximum probability that a labelled match is wrong. A match with a higher probability is ``doubtful``. If the
    value is 1, there is no limit."""

    def __post_init__(self) -> None:
        faults = tuple(name_faults(self.name, MAX_POLICY_NAME))
        if faults:
            msg = f"the name of a policy {faults[0]}"
            raise OptionError(msg)
        for name in ("rule", *THRESHOLDS):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))

    def adjusted(self, changes: Mapping[str, object]) -> Policy:
        """Return a copy of the policy with changed thresholds, `reach` or `ssim`; None keeps the current value.

        If `max_distance` is changed, but `far_distance` is not changed, references at distances above `max_distance`
        are not compared. If `good_scene` is changed, but `lone_scene` is not changed, no candidate with a scene score
        below `good_scene` is a twin.

        Raises
        ------
        OptionError
            If a threshold is unknown, or if its value is out of range.
        """
        for name in changes.keys() - THRESHOLDS:
            raise OptionError.unknown("threshold", name, THRESHOLDS)
        given = {name: _checked(name, value) for name, value in changes.items() if value is not None}
        if "max_distance" in given:  # a limit set by the caller also applies to far candidates
            given = {"far_distance": given["max_distance"]} | given
        if given.get("good_scene", self.good_scene) != self.good_scene:
            given = {"lone_scene": given["good_scene"]} | given
        different = {name: value for name, value in given.items() if value != getattr(self, name)}
        if not different:
            return self
        name = self.name if self.name.endswith("+changes") else f"{self.name}+changes"
        return replace(self, name=name, **different)  # type: ignore[arg-type]


def _settings() -> tuple[Setting, ...]:
    of_thresholds = (one for one in fields(Policy) if one.metadata)
    return tuple(
        Setting(
            name=one.name,
            default=float(one.default),  # type: ignore[arg-type]
            **(dict(one.metadata) | {"wire": one.metadata["wire"] or one.name}),
        )
        for one in of_thresholds
    )


SETTINGS: Final = _settings()
"""All thresholds that a caller can set, in the order of the fields of `Policy`."""
_SETTING: Final = {setting.name: setting for setting in SETTINGS}
_WORDS: Final[dict[str, tuple[str, ...]]] = {"rule": ("scene", "legacy"), "reach": REACHES, "ssim": FULL_SIZES}
THRESHOLDS: Final = Thresholds.__optional_keys__
"""Names of the fields of a policy that a request may change."""


def _checked(name: str, value: Any) -> str | int | float:
    """Check that a value is in the range of its threshold, and return the value; numbers become `int` or `float`."""
    if name in _WORDS:
        if isinstance(value, str) and value in _WORDS[name]:
            return value
        msg = f"{name} must be one of {', '.join(_WORDS[name])}; got {value!r}"
        raise OptionError(msg)
    setting = _SETTING[name]
    kind: Any = numbers.Integral if setting.whole else numbers.Real
    if isinstance(value, kind) and not isinstance(value, bool) and setting.low <= value <= setting.high:
        return int(value) if setting.whole else float(value)
    whole = "whole " if setting.whole else ""
    msg = f"{name} must be a {whole}number from {setting.low:g} to {setting.high:g}, got {value!r}"
    raise OptionError(msg)


_FORMER_NAMES: Final = {"reference": "legacy"}
"""Current policy name for each former name; earlier clients use the former names."""

POLICIES: Final = {
    "default": Policy(),
    # The legacy rule compares the two nearest references. A reference at a distance below 150 bits is a preliminary
    # match. If the distance is below 120 bits, the reference is verified by SSIM. The grade is excellent if the SSIM is
    # above 0.95.
    "legacy": Policy(
        name="legacy", rule="legacy", k=2, max_distance=149, far_distance=149, ssim_distance=119, reach="frame",
        max_p_wrong=1.0,
    ),
}  # fmt: skip


def named_policy(name: str) -> Policy:
    """Return the policy whose current or former name is `name`.

    Raises
    ------
    OptionError
        If no policy has this name. The message lists the known names.
    """
    current = _FORMER_NAMES.get(name, name)
    if current not in POLICIES:
        raise OptionError.unknown("policy", name, POLICIES)
    return POLICIES[current]


def threshold_table() -> tuple[Threshold, ...]:
    """Return all decision thresholds: first the thresholds that a caller can set, then the fixed thresholds."""
    settable = tuple(Threshold(one.name, one.default, one.unit, one.label, one.chosen_on) for one in SETTINGS)
    return settable + FIXED_THRESHOLDS

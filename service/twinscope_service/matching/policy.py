"""Policies: the named sets of thresholds that decide what counts as a twin.

The metadata of each field is the only source of its unit, range, wire field, and of its texts in the command and in the
report.
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
    """The properties of a threshold that a caller can set.

    Attributes
    ----------
    name : str
        The field of `Policy`.
    default : float
    unit : str
        ``bits``, ``SSIM``, ``scene score``, ``probability`` or ``candidates``.
    low, high : float
        The range of the threshold.
    whole : bool
        Whether the threshold is a whole number.
    wire : str
        The field of the message ``twinscope.v1.Policy``.
    help : str
        Help text of the command, which appends the default.
    label : str
        Label in the report.
    chosen_on : str
        See `Threshold`.
    optional : bool
        Whether a client may omit it from a policy with its own rule, because it was added later.
    left_out : float
        The value that is used if it is omitted; it has no effect.
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
    """Thresholds of the policy that a search can change, described in `Policy`. None means unchanged."""

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
    """The thresholds of one request; every answer carries the policy that decided it.

    Raises
    ------
    OptionError
        If a threshold is out of range, or if the name is empty or longer than 64 bytes.
    """

    name: str = "default"
    """``default``; ``legacy`` for the rule of the replaced scripts; ``...+changes`` if adjusted."""
    rule: Literal["scene", "legacy"] = "scene"
    """How candidates are verified: by scene score and then SSIM, or by the legacy rule."""
    k: int = _setting(
        5, "candidates", (1, MAX_K), help="number of candidates", label="number of candidates",
    )  # fmt: skip
    """Candidates taken from the index, 1 to 1000."""
    max_distance: int = _setting(
        300, "bits", (0, BITS), wire="max_distance_bits",
        help="search for references up to this Hamming distance",
        label="maximum distance of candidates (bits)",
        chosen_on="Unrelated micrographs are about 510 bits apart, rarely below 400.",
    )  # fmt: skip
    """Bits. Farther candidates are compared only if these show no twin; see `far_distance`."""
    far_distance: int = _setting(
        430, "bits", (0, BITS), wire="far_distance_bits", left_out=0,
        help="if none of those is a twin, compare the few nearest up to this distance",
        label="if none of these is a twin, the few nearest up to (bits)",
        chosen_on="Noise and fine stripes can change this many bits of a hash.",
    )  # fmt: skip
    """Bits. If no nearer reference shows the same field, the few nearest up to this distance are also compared: noise
    and fine stripes can change this many bits of a hash, and pixels decide. References with a similar brightest or
    darkest quarter are also compared, at any distance, because the rest may have become black or white. If this is not
    above `max_distance`, no farther reference is compared."""
    ssim_distance: int = _setting(
        BITS, "bits", (0, BITS), wire="ssim_distance_bits",
        help="compare full-size pixels up to this Hamming distance",
        label="SSIM computed up to (bits)",
    )  # fmt: skip
    """Bits. Farther candidates are not verified by full-size SSIM; only the ``legacy`` policy sets a limit."""
    excellent_ssim: float = _setting(
        0.95, "SSIM", (-1.0, 1.0),
        help="full-size SSIM above which a candidate is the same acquisition",
        label="excellent above this SSIM",
        chosen_on="The value of the legacy scripts; real twins of one acquisition score 0.97 or more.",
    )  # fmt: skip
    """Full-size SSIM above which a candidate is the same acquisition."""
    good_scene: float = _setting(
        0.5, "scene score", (-1.0, 1.0),
        help="scene score from which a candidate shows the same field",
        label="good from this scene score",
        chosen_on="None of 15,399 pairs of real micrographs of different scenes scored above 0.32; the same field "
        "re-encoded, resized, with noise or equalised scored 0.62 or more.",
    )  # fmt: skip
    """Scene score from which a candidate shows the same field."""
    lone_scene: float = _setting(
        0.35, "scene score", (-1.0, 1.0), left_out=1.0,
        help="the same if no other reference scores more than a third of the candidate, as under heavy noise",
        label="good from this scene score if no other reference is close",
        chosen_on="As good_scene: above the 0.32 of different scenes.",
    )  # fmt: skip
    """Scene score from which a candidate shows the same field if no other reference scores more than a third of it, as
    under heavy noise. No effect if it is not below `good_scene`."""
    ssim_margin: float = _setting(
        0.02, "SSIM", (0.0, 2.0),
        help="candidates of two categories are ambiguous if their SSIMs are this close",
        label="two categories are ambiguous within (SSIM)",
    )  # fmt: skip
    """An SSIM of another category this close to that of the same acquisition makes the answer ambiguous."""
    scene_margin: float = _setting(
        0.1, "scene score", (0.0, 2.0),
        help="the same for scene scores",
        label="two categories are ambiguous within (scene score)",
    )  # fmt: skip
    """A scene score of another category this close to that of the same field makes the answer ambiguous."""
    reach: Reach = "windows"
    """Which frames are searched if the whole image has no twin, as far as the store has them: ``frame``: none,
    ``views``: without info bars and in all symmetries, ``windows``: also smaller frames of the field."""
    ssim: FullSize = "best"
    """Which candidates are compared at full size: ``never`` any (then no answer is ``excellent``), the ``best`` that
    can change the answer, or ``all`` of the same field. The legacy rule ignores this."""
    max_p_wrong: float = _setting(
        0.05, "probability", (0.0, 1.0), left_out=1.0,
        help="a match that is more likely than this to be wrong is sent to review, not labelled; 1: no limit",
        label="doubtful above this probability of being wrong",
        chosen_on="The shipped calibration: see docs/accuracy.md, \"The limit on p_wrong\".",
    )  # fmt: skip
    """A match that is more likely than this to be wrong is ``doubtful``; 1 means no limit."""

    def __post_init__(self) -> None:
        faults = tuple(name_faults(self.name, MAX_POLICY_NAME))
        if faults:
            msg = f"the name of a policy {faults[0]}"
            raise OptionError(msg)
        for name in ("rule", *THRESHOLDS):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))

    def adjusted(self, changes: Mapping[str, object]) -> Policy:
        """Return a policy with some thresholds, `reach` or `ssim` changed; None means unchanged.

        If `max_distance` is changed and `far_distance` is not, no farther reference is compared. If `good_scene` is
        changed and `lone_scene` is not, no candidate below it is a twin.

        Raises
        ------
        OptionError
            If a threshold is unknown or out of range.
        """
        for name in changes.keys() - THRESHOLDS:
            raise OptionError.unknown("threshold", name, THRESHOLDS)
        given = {name: _checked(name, value) for name, value in changes.items() if value is not None}
        if "max_distance" in given:  # an explicit limit also applies to far candidates
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
"""Every threshold that a caller can set, in the order of `Policy`."""
_SETTING: Final = {setting.name: setting for setting in SETTINGS}
_WORDS: Final[dict[str, tuple[str, ...]]] = {"rule": ("scene", "legacy"), "reach": REACHES, "ssim": FULL_SIZES}
THRESHOLDS: Final = Thresholds.__optional_keys__
"""The names that a request may change in a policy."""


def _checked(name: str, value: Any) -> str | int | float:
    """Check the range of a threshold and return its value, numbers as `int` or `float`."""
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
"""Policy names that earlier clients use."""

POLICIES: Final = {
    "default": Policy(),
    # The two nearest: a preliminary match below 150 bits, verified by SSIM below 120, excellent above 0.95.
    "legacy": Policy(
        name="legacy", rule="legacy", k=2, max_distance=149, far_distance=149, ssim_distance=119, reach="frame",
        max_p_wrong=1.0,
    ),
}  # fmt: skip


def named_policy(name: str) -> Policy:
    """Return the policy with a name or former name.

    Raises
    ------
    OptionError
        If there is none; the message lists the names.
    """
    current = _FORMER_NAMES.get(name, name)
    if current not in POLICIES:
        raise OptionError.unknown("policy", name, POLICIES)
    return POLICIES[current]


def threshold_table() -> tuple[Threshold, ...]:
    """Return every decision threshold: first those that a caller can set, then the fixed ones."""
    settable = tuple(Threshold(one.name, one.default, one.unit, one.label, one.chosen_on) for one in SETTINGS)
    return settable + FIXED_THRESHOLDS

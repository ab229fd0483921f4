"""Policies: the named sets of thresholds that decide what counts as the same image.

The metadata of each field is the only place that says its unit, range, wire field, and the texts of the command and of
the report.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

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
    """What is to be known of a threshold that a caller can set.

    Attributes
    ----------
    name : str
        The field of `Policy`.
    default : float
    unit : str
        ``bits``, ``SSIM``, ``scene score``, ``probability`` or ``candidates``.
    low, high : float
        Its range.
    whole : bool
        Whether it is a whole number.
    wire : str
        The field of the message ``twinscope.v1.Policy``.
    help : str
        For the command; the default is added to it.
    label : str
        For the report.
    chosen_on : str
        See `Threshold`.
    optional : bool
        Whether a client may leave it out of a policy with a rule of its own, since it was added later.
    left_out : float
        What that means then: no effect.
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


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds of one request; every answer carries those it was decided by.

    Raises
    ------
    OptionError
        If a threshold is out of range, or the name empty or longer than 64 bytes.
    """

    name: str = "default"
    """``default``; ``legacy`` for the rule of the scripts that Twinscope replaces; ``...+changes`` if adjusted."""
    rule: Literal["scene", "legacy"] = "scene"
    """How candidates are verified: by scene score and then SSIM, or as the old scripts did."""
    k: int = _setting(
        5, "candidates", (1, MAX_K), help="candidates to look at", label="candidates looked at",
    )  # fmt: skip
    """Candidates taken from the index, 1 to 1000."""
    max_distance: int = _setting(
        300, "bits", (0, BITS), wire="max_distance_bits",
        help="look at references up to this Hamming distance",
        label="candidates looked at up to (bits)",
        chosen_on="Unrelated micrographs are about 510 bits apart, rarely below 400.",
    )  # fmt: skip
    """Bits. Farther candidates are looked at only where these show no twin; see `far_distance`."""
    far_distance: int = _setting(
        430, "bits", (0, BITS), wire="far_distance_bits", left_out=0,
        help="if none of those is a twin, compare the few nearest up to here",
        label="where none of these is a twin, the few nearest up to (bits)",
        chosen_on="Noise and fine stripes move a hash that far.",
    )  # fmt: skip
    """Bits. Where nothing nearer shows the same field, the few nearest up to here are compared as well: noise and fine
    stripes move a hash that far, and pixels decide. So are references whose brightest or darkest quarter is alike, at
    any distance, since the rest may have gone black or white. If it is not above `max_distance`, nothing beyond that
    is looked at."""
    ssim_distance: int = _setting(
        BITS, "bits", (0, BITS), wire="ssim_distance_bits",
        help="compare full-size pixels up to this Hamming distance",
        label="SSIM computed up to (bits)",
    )  # fmt: skip
    """Bits. Farther candidates are not verified by full-size SSIM; no limit but in the ``legacy`` policy."""
    excellent_ssim: float = _setting(
        0.95, "SSIM", (-1.0, 1.0),
        help="full-size SSIM above which it is the same acquisition",
        label="excellent above this SSIM",
        chosen_on="The replaced scripts had it; real twins of one acquisition score 0.97 or more.",
    )  # fmt: skip
    """Full-size SSIM above which a candidate is the same acquisition."""
    good_scene: float = _setting(
        0.5, "scene score", (-1.0, 1.0),
        help="scene score from which it is the same field",
        label="good from this scene score",
        chosen_on="Of 15,399 pairs of real micrographs of different scenes none scored above 0.32; the same field "
        "re-encoded, resized, with noise or equalised scored 0.62 or more.",
    )  # fmt: skip
    """Scene score from which a candidate shows the same field."""
    lone_scene: float = _setting(
        0.35, "scene score", (-1.0, 1.0), left_out=1.0,
        help="the same if no other reference has a third of it, as under noise",
        label="good from this one if nothing else comes near",
        chosen_on="As good_scene: above the 0.32 of different scenes.",
    )  # fmt: skip
    """Scene score from which that is so if no other reference has a third of it, as under much noise. No effect if it
    is not below `good_scene`."""
    ssim_margin: float = _setting(
        0.02, "SSIM", (0.0, 2.0),
        help="candidates of two categories with closer SSIMs are ambiguous",
        label="categories are ambiguous within (SSIM)",
    )  # fmt: skip
    """A candidate of another category with an SSIM this close to that of the same acquisition makes it ambiguous."""
    scene_margin: float = _setting(
        0.1, "scene score", (0.0, 2.0),
        help="the same for scene scores",
        label="categories are ambiguous within (scene score)",
    )  # fmt: skip
    """A candidate of another category with a scene score this close to that of the same field makes it ambiguous."""
    reach: Reach = "windows"
    """Which frames are tried where the image as it is has no twin, as far as the store has them: ``frame`` none,
    ``views`` without info bars and in all symmetries, ``windows`` parts of the field as well."""

    ssim: FullSize = "best"
    """Which candidates are compared at full size: ``never`` any (nothing is ``excellent`` then), the ``best`` that can
    change the answer, or ``all`` of the same field. The rule of the old scripts does not look at it."""
    max_p_wrong: float = _setting(
        0.05, "probability", (0.0, 1.0), left_out=1.0,
        help="matches more likely than this to be wrong are not labelled but sent to review; 1: no limit",
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

        Where `max_distance` is changed and `far_distance` is not, nothing is looked at beyond it; where `good_scene`
        is changed and `lone_scene` is not, nothing below it is a twin.

        Raises
        ------
        OptionError
            If a threshold is unknown or out of range.
        """
        for name in changes.keys() - THRESHOLDS:
            raise OptionError.unknown("threshold", name, THRESHOLDS)
        given = {name: _checked(name, value) for name, value in changes.items() if value is not None}
        if "max_distance" in given:  # a caller who sets a limit means it
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
THRESHOLDS: Final = frozenset((*_SETTING, "reach", "ssim"))
"""What a request may change of a policy."""


def _checked(name: str, value: Any) -> str | int | float:
    """Return the value of a threshold, numbers as `int` or `float`, if it is in its range."""
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
"""Names by which earlier clients know a policy."""

POLICIES: Final = {
    "default": Policy(),
    # Two nearest, below 150 bits a preliminary match, below 120 verified by SSIM, above 0.95 excellent.
    "legacy": Policy(
        name="legacy", rule="legacy", k=2, max_distance=149, far_distance=149, ssim_distance=119, reach="frame",
        max_p_wrong=1.0,
    ),
}  # fmt: skip


def named_policy(name: str) -> Policy:
    """Return a policy by its name, or by its former name.

    Raises
    ------
    OptionError
        If there is none; the message lists them.
    """
    current = _FORMER_NAMES.get(name, name)
    if current not in POLICIES:
        raise OptionError.unknown("policy", name, POLICIES)
    return POLICIES[current]


def threshold_table() -> tuple[Threshold, ...]:
    """Return every decision threshold: those that a caller can set, then the fixed ones."""
    settable = tuple(Threshold(one.name, one.default, one.unit, one.label, one.chosen_on) for one in SETTINGS)
    return settable + FIXED_THRESHOLDS

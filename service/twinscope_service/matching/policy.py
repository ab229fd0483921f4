"""Policies: the named sets of thresholds that decide what counts as the same image."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from twinscope_indexer.hashing.frames import REACHES, Reach
from twinscope_indexer.hashing.perceptual import BITS

from twinscope_service.errors import OptionError
from twinscope_service.matching.name_rules import MAX_POLICY_NAME, name_faults

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_K: Final = 1000
FullSize = Literal["never", "best", "all"]
FULL_SIZES: Final[tuple[FullSize, ...]] = get_args(FullSize)


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds of one request; every answer carries those it was decided by.

    Raises
    ------
    OptionError
        If a threshold is out of range, or the name empty or longer than 64 bytes.
    """

    name: str = "default"
    """``default``; ``reference`` for the rule of the scripts that Twinscope replaces; ``...+changes`` if adjusted."""
    rule: Literal["scene", "reference"] = "scene"
    """How candidates are verified: by scene score and then SSIM, or as the old scripts did."""
    k: int = 5
    """Candidates taken from the index, 1 to 1000."""
    max_distance: int = 300
    """Bits. Farther candidates are looked at only where these show no twin; see `far_distance`. Unrelated micrographs
    are about 510 bits apart, rarely below 400."""
    far_distance: int = 430
    """Bits. Where nothing nearer shows the same field, the few nearest up to here are compared as well: noise and fine
    stripes move a hash that far, and pixels decide. So are references whose brightest or darkest quarter is alike, at
    any distance, since the rest may have gone black or white. If it is not above `max_distance`, nothing beyond that
    is looked at."""
    ssim_distance: int = BITS
    """Bits. Farther candidates are not verified by full-size SSIM; no limit but in the ``reference`` policy."""
    excellent_ssim: float = 0.95
    """Full-size SSIM above which a candidate is the same acquisition."""
    good_scene: float = 0.5
    """Scene score from which a candidate shows the same field. Of 15,399 pairs of real micrographs of different scenes
    none scored above 0.32; the same field re-encoded, resized, with noise or equalised scored 0.62 or more."""
    lone_scene: float = 0.35
    """Scene score from which that is so if no other reference has a third of it, as under much noise. No effect if it
    is not below `good_scene`."""
    ssim_margin: float = 0.02
    """A candidate of another category with an SSIM this close to that of the same acquisition makes it ambiguous."""
    scene_margin: float = 0.1
    """A candidate of another category with a scene score this close to that of the same field makes it ambiguous."""
    reach: Reach = "windows"
    """Which frames are tried where the image as it is has no twin, as far as the store has them: ``frame`` none,
    ``views`` without info bars and in all symmetries, ``windows`` parts of the field as well."""

    ssim: FullSize = "best"
    """Which candidates are compared at full size: ``never`` any (nothing is ``excellent`` then), the ``best`` that can
    change the answer, or ``all`` of the same field. The rule of the old scripts does not look at it."""
    max_p_wrong: float = 1.0
    """A match that is more likely than this to be wrong is ``doubtful``; 1 means no limit."""

    def __post_init__(self) -> None:
        faults = tuple(name_faults(self.name, MAX_POLICY_NAME))
        if faults:
            msg = f"the name of a policy {faults[0]}"
            raise OptionError(msg)
        for threshold in (*_WORDS, *_WHOLE, *_REAL):
            object.__setattr__(self, threshold, _checked(threshold, getattr(self, threshold)))

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
        if "max_distance" in given:  # who draws a line means it
            given = {"far_distance": given["max_distance"]} | given
        if given.get("good_scene", self.good_scene) != self.good_scene:
            given = {"lone_scene": given["good_scene"]} | given
        different = {name: value for name, value in given.items() if value != getattr(self, name)}
        if not different:
            return self
        name = self.name if self.name.endswith("+changes") else f"{self.name}+changes"
        return replace(self, name=name, **different)  # type: ignore[arg-type]


_WORDS: Final[dict[str, tuple[str, ...]]] = {"rule": ("scene", "reference"), "reach": REACHES, "ssim": FULL_SIZES}
_WHOLE: Final = {"k": (1, MAX_K), "max_distance": (0, BITS), "far_distance": (0, BITS), "ssim_distance": (0, BITS)}
_REAL: Final = {
    "excellent_ssim": (-1, 1),
    "good_scene": (-1, 1),
    "lone_scene": (-1, 1),
    "ssim_margin": (0, 2),
    "scene_margin": (0, 2),
    "max_p_wrong": (0, 1),
}
THRESHOLDS: Final = frozenset((*_WORDS, *_WHOLE, *_REAL)) - {"rule"}
"""What a request may change of a policy."""


def _checked(threshold: str, value: Any) -> str | int | float:
    """Return the value of a threshold, numbers as `int` or `float`, if it is in its range."""
    if threshold in _WORDS:
        if isinstance(value, str) and value in _WORDS[threshold]:
            return value
        msg = f"{threshold} must be one of {', '.join(_WORDS[threshold])}; got {value!r}"
        raise OptionError(msg)
    whole = threshold in _WHOLE
    low, high = (_WHOLE if whole else _REAL)[threshold]
    kind: Any = numbers.Integral if whole else numbers.Real
    if isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high:
        return int(value) if whole else float(value)
    msg = f"{threshold} must be a {'whole ' if whole else ''}number from {low} to {high}, got {value!r}"
    raise OptionError(msg)


POLICIES: Final = {
    "default": Policy(),
    # Two nearest, below 150 bits a preliminary match, below 120 verified by SSIM, above 0.95 excellent.
    "reference": Policy(
        name="reference", rule="reference", k=2, max_distance=149, far_distance=149, ssim_distance=119, reach="frame"
    ),
}


def named_policy(name: str) -> Policy:
    """Return a policy by its name.

    Raises
    ------
    OptionError
        If there is none; the message lists them.
    """
    if name not in POLICIES:
        raise OptionError.unknown("policy", name, POLICIES)
    return POLICIES[name]

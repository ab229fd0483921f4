"""The evaluation of a labelling run: recall, precision, false labels, and how well each score separates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from twinscope_client.evaluation.assignment import is_twin, readable
from twinscope_client.evaluation.legacy_rule import REFUSED, LegacyAnswer, legacy_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twinscope_client.evaluation.truth import TruthRow
    from twinscope_client.labelling.journal import Decision

Kind = Literal["all", "transform", "category"]
ScoreName = Literal["scene_score", "ssim", "distance"]
SCORES: Final[dict[ScoreName, int]] = {"scene_score": 1, "ssim": 1, "distance": -1}
"""The scores of a candidate; 1 if more is better, -1 if less is better."""

NO_TWIN: Final = "(no twin)"
NO_TRANSFORM: Final = "(none named)"
_QUANTILE: Final = NormalDist().inv_cdf(0.975)
"""Quantile of the normal distribution for 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a run, with the truth about it."""

    image: str
    """Path of the image."""
    truth: str
    """The right category; empty: the image has no twin and must be refused."""
    label: str
    """Category of the label; empty: refused."""
    nearest: str = ""
    """Category of the best candidate, labelled or not; empty if there is none."""
    scene_score: float | None = None
    ssim: float | None = None
    distance: int | None = None
    """Distance of the best candidate in bits. Like its scores, None if not computed."""
    transform: str = ""
    grade: str = ""
    reference: str = ""
    """Source of the best candidate."""
    twin: str = ""
    """The right reference; empty if the truth does not name it."""
    legacy: LegacyAnswer = REFUSED
    """Answer of the legacy rule."""

    @classmethod
    def of(cls, decision: Decision, row: TruthRow) -> Case:
        """Combine the decision of a run with the truth."""
        return cls(
            readable(decision.path), row.category, decision.category if decision.labelled else "",
            decision.category, decision.scene_score, decision.ssim, decision.distance,
            row.transform, decision.grade, readable(decision.match_source), row.twin, legacy_answer(decision),
        )  # fmt: skip

    @property
    def right(self) -> bool:
        """Whether the image has the right label."""
        return bool(self.label) and self.label == self.truth

    @property
    def wrong(self) -> bool:
        """Whether the image has a false label."""
        return bool(self.label) and self.label != self.truth

    @property
    def genuine(self) -> bool:
        """Whether the best candidate is of the right category."""
        return bool(self.truth) and self.nearest == self.truth

    @property
    def by_another(self) -> bool:
        """Whether the label is right, but from a reference other than the twin that the truth names."""
        return self.right and bool(self.twin) and not is_twin(self.reference, self.twin)


class Share(NamedTuple):
    """A number of items out of a total."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None if the total is 0."""
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % score interval of the share; None if the total is 0.

        See E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
        """
        if not self.whole:
            return None
        share, weight = self.part / self.whole, _QUANTILE**2 / self.whole
        centre = share + weight / 2
        spread = _QUANTILE * math.sqrt(share * (1 - share) / self.whole + weight / (4 * self.whole))
        low, high = (centre - spread) / (1 + weight), (centre + spread) / (1 + weight)
        # At the ends the formula gives exactly 0 and 1, except for rounding.
        return (0.0 if self.part == 0 else low, 1.0 if self.part == self.whole else high)


class Separation(NamedTuple):
    """How many twins a single score would find without any false label."""

    found: Share
    """Twins at or beyond the threshold, out of all images that have a twin."""
    threshold: float | None
    """Score of the weakest of these twins; None if there are none."""
    nearest_false: float | None
    """Best score of a candidate of a wrong category; None if there is none."""


@dataclass(frozen=True, slots=True)
class LegacyTally:
    """The outcomes of the legacy rule for the images of a group."""

    right: int
    wrong: int
    refused: int
    unknown: int
    unknown_twins: int
    """Images with an unknown outcome that have a twin."""
    recall: Share
    """Computed from the known outcomes: a lower bound if `unknown_twins` is not 0."""

    @property
    def precision(self) -> Share:
        """Right labels out of all labels; meaningless unless `unknown` is 0."""
        return Share(self.right, self.right + self.wrong)


@dataclass(frozen=True, slots=True)
class Group:
    """The numbers for all images, for the images with one transform, or for those of one true category."""

    kind: Kind
    name: str
    images: int
    twins: int
    """Images that have a twin in the collection."""
    right: int
    wrong: int
    by_another: int
    """Right labels from a reference other than the twin that the truth names."""
    separations: dict[ScoreName, Separation]
    legacy: LegacyTally

    @property
    def labelled(self) -> int:
        """Number of labelled images."""
        return self.right + self.wrong

    @property
    def refused(self) -> int:
        """Number of images without a label, including images that could not be read."""
        return self.images - self.labelled

    @property
    def recall(self) -> Share:
        """Right labels out of all images that have a twin."""
        return Share(self.right, self.twins)

    @property
    def precision(self) -> Share:
        """Right labels out of all labels."""
        return Share(self.right, self.labelled)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a labelling run."""

    cases: list[Case]
    """In the order of their paths."""
    groups: list[Group]
    """All images; then by transform, if the truth names any; then by category."""

    @property
    def false_labels(self) -> list[Case]:
        """Images with a false label."""
        return [case for case in self.cases if case.wrong]

    @property
    def legacy_unknown(self) -> dict[str, int]:
        """Why the answer of the legacy rule is unknown, with the number of images; the most frequent first."""
        return dict(Counter(case.legacy.unknown for case in self.cases if case.legacy.unknown).most_common())


def evaluate(cases: Iterable[Case]) -> Evaluation:
    """Evaluate the images of a run.

    Parameters
    ----------
    cases : iterable of Case

    Returns
    -------
    Evaluation
    """
    ordered = sorted(cases, key=lambda case: case.image)
    groups = [_group("all", "all", ordered)]
    if any(case.transform for case in ordered):
        groups += _groups("transform", ((case.transform or NO_TRANSFORM, case) for case in ordered))
    groups += _groups("category", ((case.truth or NO_TWIN, case) for case in ordered))
    return Evaluation(ordered, groups)


def separate(genuine: Sequence[float], false: Sequence[float], twins: int, sense: int = 1) -> Separation:
    """Find the threshold of a score that accepts as many twins as possible without any false label.

    Parameters
    ----------
    genuine, false : sequence of float
        Scores of candidates of the right and of a wrong category.
    twins : int
        Number of images that have a twin, including those without such a score.
    sense : {1, -1}
        1: a label needs at least the threshold; -1: at most.

    Returns
    -------
    Separation
    """
    nearest = max((sense * score for score in false), default=-math.inf)
    accepted = [score for score in genuine if sense * score > nearest]
    threshold = min(accepted, key=lambda score: sense * score, default=None)
    return Separation(Share(len(accepted), twins), threshold, sense * nearest if false else None)


def scores(cases: Iterable[Case], name: ScoreName) -> tuple[list[float], list[float]]:
    """Return the computed scores of best candidates of the right category, and of those of wrong categories."""
    split: tuple[list[float], list[float]] = [], []
    for case in cases:
        score = getattr(case, name)
        if score is not None:
            split[not case.genuine].append(score)
    return split


def _groups(kind: Kind, named: Iterable[tuple[str, Case]]) -> list[Group]:
    members: dict[str, list[Case]] = defaultdict(list)
    for name, case in named:
        members[name].append(case)
    last = {NO_TWIN, NO_TRANSFORM}
    return [_group(kind, name, members[name]) for name in sorted(members, key=lambda name: (name in last, name))]


def _group(kind: Kind, name: str, cases: Sequence[Case]) -> Group:
    twins = sum(bool(case.truth) for case in cases)
    return Group(
        kind, name, len(cases), twins, sum(case.right for case in cases), sum(case.wrong for case in cases),
        sum(case.by_another for case in cases),
        {score: separate(*scores(cases, score), twins, sense) for score, sense in SCORES.items()},
        _legacy_tally(cases, twins),
    )  # fmt: skip


def _legacy_tally(cases: Sequence[Case], twins: int) -> LegacyTally:
    unknown = [case for case in cases if case.legacy.unknown]
    labelled = [case for case in cases if case.legacy.category]
    right = sum(case.legacy.category == case.truth for case in labelled)
    return LegacyTally(
        right, len(labelled) - right, len(cases) - len(labelled) - len(unknown), len(unknown),
        sum(bool(case.truth) for case in unknown), Share(right, twins),
    )  # fmt: skip

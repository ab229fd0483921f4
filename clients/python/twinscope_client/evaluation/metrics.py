"""The evaluation of a labelling run: recall, precision, false labels, and the recall that each score reaches alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from twinscope_client.evaluation.assignment import is_twin, readable
from twinscope_client.evaluation.legacy_rule import REFUSED, LegacyAnswer, legacy_answer
from twinscope_client.labelling.report.summary import outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twinscope_client.evaluation.truth import TruthRow
    from twinscope_client.labelling.journal import Decision

Kind = Literal["all", "transform", "category"]
ScoreName = Literal["scene_score", "ssim", "distance"]
SCORES: Final[dict[ScoreName, int]] = {"scene_score": 1, "ssim": 1, "distance": -1}
"""The scores of a candidate. The value is 1 if a larger score is better, and -1 if a smaller score is better."""

NO_TWIN: Final = "(no twin)"
NO_TRANSFORM: Final = "(none named)"
_QUANTILE: Final = NormalDist().inv_cdf(0.975)
"""Quantile of the normal distribution that is used to compute 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a run, with the decision of the run and the right category."""

    image: str
    """Path of the image."""
    truth: str
    """Name of the right category; empty if the image has no twin and must not be labelled."""
    label: str
    """Category of the label; empty if the image has no label."""
    nearest: str = ""
    """Category of the best candidate, even if the image has no label; empty if there is no candidate."""
    scene_score: float | None = None
    """Scene score of the best candidate; None if it was not computed."""
    ssim: float | None = None
    """SSIM of the best candidate; None if it was not computed."""
    distance: int | None = None
    """Distance of the best candidate in bits; None if it was not computed."""
    transform: str = ""
    grade: str = ""
    reason: str = ""
    """Reason for the grade, as a sentence."""
    reference: str = ""
    """Path of the reference that is the best candidate."""
    twin: str = ""
    """Path of the right reference; empty if the truth table names no reference."""
    legacy: LegacyAnswer = REFUSED
    """Answer of the legacy rule for the image."""

    @classmethod
    def of(cls, decision: Decision, row: TruthRow) -> Case:
        """Create a case from the decision about an image, and from the row for this image in the truth table."""
        return cls(
            readable(decision.query), row.category, decision.category if decision.labelled else "",
            decision.category, decision.scene_score, decision.ssim, decision.distance,
            row.transform, decision.grade, _reason(decision), readable(decision.match_source),
            row.twin, legacy_answer(decision),
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
    def missed(self) -> bool:
        """Whether the image has a twin, but no label."""
        return bool(self.truth) and not self.label

    @property
    def rightly_refused(self) -> bool:
        """Whether the image has no twin and no label."""
        return not self.truth and not self.label

    @property
    def genuine(self) -> bool:
        """Whether the best candidate belongs to the right category."""
        return bool(self.truth) and self.nearest == self.truth

    @property
    def by_another(self) -> bool:
        """Whether the label is right, but comes from another reference than the twin in the truth table."""
        return self.right and bool(self.twin) and not is_twin(self.reference, self.twin)


class Share(NamedTuple):
    """A share: the number of items in a part, and the total number of items."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None if the total is 0."""
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval (Wilson score interval) of the share; None if the total is 0.

        See E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
        """
        if not self.whole:
            return None
        share, weight = self.part / self.whole, _QUANTILE**2 / self.whole
        centre = share + weight / 2
        spread = _QUANTILE * math.sqrt(share * (1 - share) / self.whole + weight / (4 * self.whole))
        low, high = (centre - spread) / (1 + weight), (centre + spread) / (1 + weight)
        # If the share is 0 or 1, one end of the interval is exactly 0 or 1, but the formula adds a rounding error.
        return (0.0 if self.part == 0 else low, 1.0 if self.part == self.whole else high)


class Separation(NamedTuple):
    """The recall of a single score, with a threshold that gives no false label."""

    found: Share
    """Recall: the share of the images with a twin that would get the right label."""
    threshold: float | None
    """Threshold that gives no false label: the worst score of the images in `found`; None if no image is found."""
    nearest_false: float | None
    """Best score of a candidate of a wrong category; None if there is no such candidate."""


@dataclass(frozen=True, slots=True)
class LegacyTally:
    """The results of the legacy rule for a group of images."""

    right: int
    wrong: int
    refused: int
    unknown: int
    unknown_twins: int
    """Number of images with a twin for which the answer of the legacy rule is unknown."""
    recall: Share
    """Recall, computed from the known answers. If `unknown_twins` is not 0, the real recall can be higher."""

    @property
    def precision(self) -> Share:
        """Share of the labels that are right; this value is valid only if `unknown` is 0."""
        return Share(self.right, self.right + self.wrong)


@dataclass(frozen=True, slots=True)
class Group:
    """The results for a group of images: for all images, for one transform, or for one category."""

    kind: Kind
    name: str
    images: int
    twins: int
    """Number of images that have a twin in the collection."""
    right: int
    wrong: int
    missed: int
    """Number of images that have a twin, but no label. Images that could not be read are included."""
    by_another: int
    """Number of right labels that come from another reference than the twin in the truth table."""
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
    def rightly_refused(self) -> int:
        """Number of images without a twin and without a label."""
        return self.refused - self.missed

    @property
    def recall(self) -> Share:
        """Share of the images with a twin that got the right label."""
        return Share(self.right, self.twins)

    @property
    def precision(self) -> Share:
        """Share of the labels that are right."""
        return Share(self.right, self.labelled)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a labelling run."""

    cases: list[Case]
    """Images of the run, sorted by path."""
    groups: list[Group]
    """First the group of all images, then one group for each transform, then one group for each category. If the table
    of truth names no transform, there are no groups for transforms."""

    @property
    def false_labels(self) -> list[Case]:
        """Images with a false label."""
        return [case for case in self.cases if case.wrong]

    @property
    def missed(self) -> list[Case]:
        """Images that have a twin, but no label."""
        return [case for case in self.cases if case.missed]

    @property
    def rightly_refused(self) -> list[Case]:
        """Images without a twin and without a label."""
        return [case for case in self.cases if case.rightly_refused]

    @property
    def legacy_unknown(self) -> dict[str, int]:
        """Number of images for each reason why an answer of the legacy rule is unknown, the largest number first."""
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
    """Find the threshold of a score that gives as many right labels as possible, but no false label.

    Parameters
    ----------
    genuine, false : sequence of float
        Scores of candidates: `genuine` for the right category, and `false` for wrong categories.
    twins : int
        Number of images that have a twin, including images for which the score was not computed.
    sense : {1, -1}
        1 if the score must be at least the threshold; -1 if the score must be at most the threshold.

    Returns
    -------
    Separation
    """
    nearest = max((sense * score for score in false), default=-math.inf)
    accepted = [score for score in genuine if sense * score > nearest]
    threshold = min(accepted, key=lambda score: sense * score, default=None)
    return Separation(Share(len(accepted), twins), threshold, sense * nearest if false else None)


def scores(cases: Iterable[Case], name: ScoreName) -> tuple[list[float], list[float]]:
    """Return the values of one score in two lists: first for right candidates, then for wrong candidates."""
    split: tuple[list[float], list[float]] = [], []
    for case in cases:
        score = getattr(case, name)
        if score is not None:
            split[not case.genuine].append(score)
    return split


def _reason(decision: Decision) -> str:
    """Return why an image got its grade. If the grade carries a label, also return why there is no labelled copy."""
    withheld = {"withheld": "the grade is lower than requested", "unwritten": "the copy was not written"}
    lacking = withheld.get(outcome(decision), "")
    return "; ".join(filter(None, (lacking, decision.problem, decision.reason)))


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
        sum(case.missed for case in cases), sum(case.by_another for case in cases),
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

"""The summary of a labelling run. All numbers are calculated while the journal is read once."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from twinscope_client.labelling.grades import DECISION_GRADES

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Decision, Journal

DISTANCE_BIN = 10
"""Width of a bar in the histogram of distances, in bits."""

SSIM_BINS = 100
"""Number of bars in the histogram of SSIM between 0 and 1."""

LIKELY_WRONG = 0.01
"""The report counts the labels whose probability of being wrong is higher than this limit."""

MOST_POINTS = 4000
"""Maximum number of points in the plot ``ssim_by_row``. If there are more points, only every n-th point is drawn."""


class Point(NamedTuple):
    """One point in the plot ``ssim_by_row``: the SSIM of one image."""

    row: int
    """Position of the image when all images of the run are sorted by path; the first position is 1."""
    ssim: float
    grade: str


@dataclass(slots=True)
class Survey:
    """All data of a run that the report needs."""

    summary: dict[str, Any]
    """Numbers of the run; see `summarise`."""
    points: list[Point]
    stride: int
    """The number n: `points` contains every n-th image for which the SSIM was computed."""


def summarise(journal: Journal) -> dict[str, Any]:
    """Return the numbers of a run, as they are written to ``summary.json``.

    Parameters
    ----------
    journal : Journal

    Returns
    -------
    dict
        Values that can be written to JSON. The same journal always gives the same values.

        - ``images`` is the number of images, and ``readable`` is the number of images that could be read. ``outcomes``
          contains the number of images for each outcome. The sum of these numbers is ``images``.
        - ``shares`` are ratios, or None if the divisor is 0. ``labelled_of_readable`` is the number of labelled images,
          divided by the number of readable images. ``excellent_of_readable`` is the number of images with the grade
          ``excellent``, divided by the number of readable images. ``excellent_of_labelled`` is the number of labelled
          images with the grade ``excellent``, divided by the number of labelled images.
        - ``labelled``, ``by_grade`` and ``by_category`` contain the number of images, and the means of SSIM, scene
          score and distance (in bits). A mean is calculated from the images for which the value was computed. If there
          are no such images, the mean is None. ``with_ssim`` is the number of images for which the SSIM was computed.
          The means of a category are calculated from the labelled images only. ``not_labelled`` is the number of images
          that got no label although their best candidate has this category.
        - ``p_wrong`` describes the estimated probability that a label is wrong. ``known`` is the number of labels with
          an estimate. ``likely_wrong`` is the number of labels with an estimate above ``likely_wrong_from``.
          ``largest`` is the largest estimate, or None if there are no estimates.
        - ``histograms`` contain the number of images for each grade and each bin. The key of a bin is the lower edge of
          the bin. A bin of distances includes its upper edge but not its lower edge; the first bin includes both edges.
          A bin of SSIM includes its lower edge but not its upper edge; the last bin includes both edges.
        - ``decided`` contains the times of the earliest and the latest decision (UTC). ``by`` is the number of
          different combinations of store, generation and policy. Images that could not be read are not included,
          because every run tries to read them again.
        - ``settings`` are the settings of the last run. ``finished`` is false if the last run was stopped before all
          images were processed.
    """
    return survey(journal).summary


def survey(journal: Journal) -> Survey:
    """Read all decisions of a run once, sorted by path, and return the data for the report."""
    stride = max(1, math.ceil(journal.scalar("count(ssim)") / MOST_POINTS))
    tally, points, compared = _Tally(), [], 0
    for row, decision in enumerate(journal.decisions(), 1):
        tally.add(decision)
        if decision.ssim is not None:
            if compared % stride == 0:
                points.append(Point(row, decision.ssim, decision.grade))
            compared += 1
    state = {"settings": journal.settings(), "finished": journal.finished}
    return Survey(tally.to_dict() | state, points, stride)


def outcome(decision: Decision) -> str:
    """Return the outcome of a run for one image.

    Returns
    -------
    str
        One of ``labelled``, ``withheld`` (the grade of the image is below the requested grade), ``unwritten`` (the
        copy could not be written, or the run was stopped before the copy was written), ``for_review``, ``no_twin``,
        ``unhashable`` and ``failed``.
    """
    if decision.labelled:
        return "labelled"
    grade = DECISION_GRADES.get(decision.grade)
    if grade is None:
        return "for_review"
    if decision.stack_conflict:
        return "for_review"
    return "unwritten" if grade.labelled and (decision.output or decision.problem) else grade.outcome


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.total += value
            self.count += 1

    @property
    def value(self) -> float | None:
        return _share(self.total, self.count)


@dataclass(slots=True)
class _Measures:
    """The number of images in a group, and the means of SSIM, scene score and distance of these images."""

    images: int = 0
    ssim: _Mean = field(default_factory=_Mean)
    scene_score: _Mean = field(default_factory=_Mean)
    distance: _Mean = field(default_factory=_Mean)

    def add(self, decision: Decision) -> None:
        self.images += 1
        self.ssim.add(decision.ssim)
        self.scene_score.add(decision.scene_score)
        self.distance.add(decision.distance)

    def means(self) -> dict[str, Any]:
        return {
            "mean_ssim": self.ssim.value,
            "with_ssim": self.ssim.count,
            "mean_scene_score": self.scene_score.value,
            "mean_distance": self.distance.value,
        }


@dataclass(slots=True)
class _Chances:
    """Summary of the estimated probabilities that labels are wrong."""

    known: int = 0
    likely_wrong: int = 0
    largest: float | None = None

    def add(self, p_wrong: float | None) -> None:
        if p_wrong is not None:
            self.known += 1
            self.likely_wrong += p_wrong > LIKELY_WRONG
            self.largest = max(p_wrong, self.largest or 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"likely_wrong_from": LIKELY_WRONG} | asdict(self)


@dataclass(slots=True)
class _Category:
    code: str
    grades: Counter[str] = field(default_factory=Counter)
    labelled: _Measures = field(default_factory=_Measures)
    refused: int = 0

    def add(self, decision: Decision) -> None:
        if decision.labelled:
            self.labelled.add(decision)
            self.grades[decision.grade] += 1
        else:
            self.refused += 1

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "labelled": self.labelled.images,
            "excellent": self.grades["excellent"],
            "good": self.grades["good"],
            "not_labelled": self.refused,
        } | self.labelled.means()


_OUTCOMES = ("labelled", "withheld", "unwritten", "for_review", "no_twin", "unhashable", "failed")


class _Tally:
    """All counts of a run. The required memory does not depend on the number of images."""

    def __init__(self) -> None:
        self._outcomes = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._grades = {grade: _Measures() for grade in DECISION_GRADES}
        self._labelled_grades: Counter[str] = Counter()
        self._labelled = _Measures()
        self._chances = _Chances()
        self._categories: dict[str, _Category] = {}
        self._distances: Counter[tuple[str, int]] = Counter()
        self._ssims: Counter[tuple[str, int]] = Counter()
        self._times: tuple[str, str] | None = None
        self._deciders: set[str] = set()
        self._stale = 0

    def add(self, decision: Decision) -> None:
        grade = decision.grade
        self._outcomes[outcome(decision)] += 1
        self._grades.setdefault(grade, _Measures()).add(decision)
        if decision.labelled:
            self._labelled.add(decision)
            self._chances.add(decision.p_wrong)
            self._labelled_grades[grade] += 1
        if decision.category:
            self._categories.setdefault(decision.category, _Category(decision.code)).add(decision)
        if decision.distance is not None:
            self._distances[grade, _distance_bin(decision.distance)] += 1
        if decision.ssim is not None:
            self._ssims[grade, _ssim_bin(decision.ssim)] += 1
        self._stale += bool(decision.earlier_output)
        if not decision.failed:
            first, last = self._times or (decision.decided_at, decision.decided_at)
            self._times = min(first, decision.decided_at), max(last, decision.decided_at)
            self._deciders.add(decision.decided_by)

    def to_dict(self) -> dict[str, Any]:
        readable = self._outcomes.total() - self._outcomes["failed"]
        labelled = self._labelled.images
        categories = sorted(self._categories.items(), key=lambda item: (len(item[1].code), item[1].code, item[0]))
        return {
            "images": self._outcomes.total(),
            "readable": readable,
            "outcomes": dict(self._outcomes),
            "shares": {
                "labelled_of_readable": _share(labelled, readable),
                "excellent_of_readable": _share(self._grades["excellent"].images, readable),
                "excellent_of_labelled": _share(self._labelled_grades["excellent"], labelled),
            },
            "labelled": {"images": labelled} | self._labelled.means(),
            "p_wrong": self._chances.to_dict(),
            "by_grade": {
                grade: {"images": group.images, "labelled": self._labelled_grades[grade]} | group.means()
                for grade, group in self._grades.items()
            },
            "by_category": {name: category.to_dict() for name, category in categories},
            "histograms": {
                "distance": {"bin_width": DISTANCE_BIN, "unit": "bits", "images": self._binned(self._distances, 0)},
                "ssim": {"bin_width": 1 / SSIM_BINS, "unit": "", "images": self._binned(self._ssims, 2)},
            },
            "decided": {
                "first": self._times[0] if self._times else None,
                "last": self._times[1] if self._times else None,
                "by": len(self._deciders),
            },
            "outdated_copies": self._stale,
        }

    def _binned(self, counts: Counter[tuple[str, int]], digits: int) -> dict[str, dict[str, int]]:
        width = DISTANCE_BIN if digits == 0 else 1 / SSIM_BINS
        binned: dict[str, dict[str, int]] = {grade: {} for grade in self._grades}
        for (grade, number), count in sorted(counts.items(), key=lambda item: item[0][1]):
            binned[grade][f"{number * width:.{digits}f}"] = count
        return {grade: images for grade, images in binned.items() if images}


def _distance_bin(distance: int) -> int:
    """Return the number of the bin for a distance: 0 to 10 bits, 11 to 20 bits, and so on.

    A threshold of 300 bits is therefore the border between two bins.
    """
    return max(0, (distance - 1) // DISTANCE_BIN)


def _ssim_bin(ssim: float) -> int:
    """Return the number of the bin for an SSIM.

    The last bin includes an SSIM of 1. A value on an edge, such as 0.29, is put into the bin above the edge, even if
    the value has a rounding error.
    """
    return min(math.floor(ssim * SSIM_BINS + 1e-9), SSIM_BINS - 1)


def _share(part: float, total: int) -> float | None:
    return round(part / total, 9) if total else None  # more digits would show only rounding errors

"""Outcomes of queries with a known right answer, and their counts: found, labelled, and labelled falsely.

A query is found if it would be labelled without the limit on ``p_wrong``. If only this limit sends the query to review,
the query counts as found and as held, but not as labelled. A false label counts only if it is really written.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from transforms import GROUPS, TRANSFORMS
from twinscope_service.matching.answer import Answer
from twinscope_service.matching.reasons import ReasonCode

Verdict = Literal["right", "wrong", "overlap", "refused"]
REFUSAL_GROUP: Final = "R"
LIMITS: Final = (0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Limits on ``p_wrong`` that the benchmarks compare."""
_OF_LIMIT: Final = {ReasonCode.P_WRONG_ABOVE_LIMIT, ReasonCode.P_WRONG_UNKNOWN}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one query."""

    transform: str
    group: str
    name: str
    category: str
    verdict: Verdict
    """Verdict on the match that was found. ``overlap``: the match shows a scene that overlaps the scene of the query;
    such a match counts neither as right nor as wrong."""
    held: bool
    """Whether only the limit on ``p_wrong`` sends the query to review."""
    grade: str
    reason: str
    candidate: Literal["", "own", "overlap", "other"]
    """Whether the best candidate shows the query's own scene, an overlapping scene or another scene; empty if there is
    no candidate."""
    candidate_name: str
    distance: int | None
    score: float | None
    ssim: float | None
    p_wrong: float | None
    milliseconds: float

    @property
    def false(self) -> bool:
        """Whether a false label was written for the query."""
        return self.verdict == "wrong" and not self.held


def is_held(codes: Iterable[str]) -> bool:
    """Check by the reason codes of an answer whether only the limit on ``p_wrong`` prevents its label.

    Twinscope checks the limit last. If there is other evidence against the match, no reason mentions the limit.
    """
    return not _OF_LIMIT.isdisjoint(codes)


def held_by_limit(answer: Answer) -> bool:
    """Check whether an answer has no label only because of the limit on ``p_wrong``."""
    return is_held(reason.code for reason in answer.reasons)


def found(answer: Answer) -> bool:
    """Check whether an answer has a label, or would have one without the limit on ``p_wrong``."""
    return answer.category is not None or held_by_limit(answer)


def count(outcomes: Sequence[Outcome], strangers: Sequence[float]) -> dict[str, Any]:
    """Count the outcomes of one transform.

    Parameters
    ----------
    outcomes : sequence of Outcome
    strangers : sequence of float
        Scene scores of the best candidates of all queries that must be refused.

    Returns
    -------
    dict
        Number of queries by outcome. ``right``: queries that were found; they are ``labelled`` or ``to review``.
        ``wrong``: queries that were labelled falsely. ``wrong to review``: queries that would have a false label
        without the limit.

        ``recall`` is the share of queries that were found. ``precision`` is the share of labels that are right, or None
        if there is no label. ``threshold at zero false`` is the highest scene score of a wrong candidate, among the
        queries of this transform and the queries that must be refused, or None if there is no wrong candidate.
        ``recall at zero false`` is the share of queries with a right candidate that has a higher scene score than this
        threshold.
    """
    verdicts = Counter(outcome.verdict for outcome in outcomes if not outcome.false)
    held = Counter(outcome.verdict for outcome in outcomes if outcome.held)
    labelled, false = verdicts["right"] - held["right"], sum(outcome.false for outcome in outcomes)
    others = [o.score for o in outcomes if o.candidate == "other" and o.score is not None]
    threshold = max([*others, *strangers], default=None)
    least = -1.0 if threshold is None else threshold
    above = sum(o.candidate == "own" and o.score is not None and o.score > least for o in outcomes)
    times = sorted(outcome.milliseconds for outcome in outcomes)
    return {
        "queries": len(outcomes), "right": verdicts["right"], "labelled": labelled, "to review": held["right"],
        "wrong": false, "wrong to review": held["wrong"],
        "overlap": verdicts["overlap"], "refused": verdicts["refused"],
        "recall": verdicts["right"] / len(outcomes),
        "precision": labelled / (labelled + false) if labelled + false else None,
        "threshold at zero false": threshold, "recall at zero false": above / len(outcomes),
        "median ms": times[len(times) // 2],
    }  # fmt: skip


def summarise(outcomes: Sequence[Outcome], reach: str | None) -> dict[str, Any]:
    """Count the outcomes by transform and by category, and check the targets of the groups."""
    strangers = [o.score for o in outcomes if o.group == REFUSAL_GROUP and o.candidate == "other" and o.score]
    by_transform: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    by_category: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        by_transform[outcome.group, outcome.transform].append(outcome)
        by_category[outcome.category][outcome.group].append(outcome)
    rows = []
    for (group, transform), some in by_transform.items():
        row = {"group": group, "transform": transform} | count(some, strangers)
        if group == REFUSAL_GROUP:
            row["met"] = row["wrong"] == 0
        else:
            demanded = reach == "windows" or not GROUPS[group].only_windows
            row["least recall"] = GROUPS[group].recall if demanded else None
            row["met"] = row["wrong"] == 0 and (not demanded or row["recall"] >= GROUPS[group].recall)
        rows.append(row)
    order = [(t.group, t.name) for t in TRANSFORMS]
    rows.sort(key=lambda row: order.index(k) if (k := (row["group"], row["transform"])) in order else len(order))
    categories = {
        category: {
            group: dict(Counter(_counted(o) for o in some)) | {"queries": len(some)}
            for group, some in sorted(groups.items())
        }
        for category, groups in sorted(by_category.items())
    }
    false = [o.score for o in outcomes if o.candidate == "other" and o.score is not None]
    return {
        "transforms": rows, "categories": categories, "highest score of a wrong candidate": max(false, default=None),
        "lowest score of a right label": min((o.score for o in outcomes if o.verdict == "right" and o.score),
                                             default=None),
        "failures": [asdict(o) for o in outcomes if failed(o)], "held": held_at(outcomes),
    }  # fmt: skip


def held_at(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Count the matches that would be labelled or sent to review with other limits on ``p_wrong``.

    Returns
    -------
    list of dict
        One dictionary for each limit of `LIMITS` and each group. A dictionary contains the number of right matches and
        the number of wrong matches that would be ``labelled``, and the numbers that would go ``to review``.
    """
    rows = []
    for limit in LIMITS:
        for group in sorted({outcome.group for outcome in outcomes}):
            some = [o for o in outcomes if o.group == group and o.verdict in {"right", "wrong"}]
            counts = Counter((o.verdict, limit < 1 and (o.p_wrong is None or o.p_wrong > limit)) for o in some)
            rows.append({
                "limit": limit, "group": group, "right labelled": counts["right", False],
                "right to review": counts["right", True], "wrong labelled": counts["wrong", False],
                "wrong to review": counts["wrong", True],
            })  # fmt: skip
    return rows


def _counted(outcome: Outcome) -> str:
    """Return the verdict of a query, or ``review`` if the limit prevented a false label."""
    return "review" if outcome.verdict == "wrong" and outcome.held else outcome.verdict


def failed(outcome: Outcome) -> bool:
    """Check whether an answer is a failure: the twin was not found, or an image that must be refused was labelled."""
    if outcome.group == REFUSAL_GROUP:
        return outcome.false or outcome.verdict == "overlap"
    return outcome.verdict != "right"


def table(result: dict[str, Any], failures: int) -> str:
    """Format the result as text tables, with at most `failures` failures for each transform and verdict."""
    parts = (
        _transform_lines(result["transforms"]),
        _limit_lines(result["held"]),
        _category_lines(result["categories"]),
        _failure_lines(result["failures"], failures),
    )
    return "\n\n".join("\n".join(lines) for lines in parts)


def _transform_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    head = (
        f"{'':3}{'transform':40}{'queries':>8}{'found':>7}{'labelled':>10}{'review':>8}{'wrong':>7}{'held':>6}"
        f"{'overlap':>9}{'refused':>9}{'recall':>9}{'least':>8}{'precision':>11}{'at 0 false':>12}{'above':>7}{'ms':>7}"
    )
    lines = [head]
    for row in rows:
        least = row.get("least recall")
        refusal = row["group"] == REFUSAL_GROUP
        recall = "" if refusal else f"{row['recall']:.1%}"
        above = row["threshold at zero false"]
        free = "" if refusal else f"{row['recall at zero false']:.1%}"
        precision = "" if refusal or row["precision"] is None else f"{row['precision']:.1%}"
        lines.append(
            f"{row['group']:3}{row['transform']:40}{row['queries']:8}{row['right']:7}{row['labelled']:10}"
            f"{row['to review']:8}{row['wrong']:7}{row['wrong to review']:6}"
            f"{row['overlap']:9}{row['refused']:9}{recall:>9}"
            f"{f'{least:.1%}' if least else '':>8}{precision:>11}{free:>12}"
            f"{'-' if above is None else f'{above:.3f}':>7}{row['median ms']:7.1f}{'' if row['met'] else '  MISSED'}"
        )
    return lines


def _limit_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    head = f"{'limit':>7}{'group':>7}{'right labelled':>16}{'to review':>11}{'wrong labelled':>16}{'to review':>11}"
    return [head] + [
        f"{row['limit']:7g}{row['group']:>7}{row['right labelled']:16}{row['right to review']:11}"
        f"{row['wrong labelled']:16}{row['wrong to review']:11}"
        for row in rows
    ]


def _category_lines(categories: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    groups = sorted({group for some in categories.values() for group in some})
    lines = [f"{'found, by category (group R: refused or to review)':52}" + "".join(f"{group:>12}" for group in groups)]
    for category, some in categories.items():
        cells = [f"{_as_wanted(some[g], g)}/{some[g]['queries']}" if g in some else "" for g in groups]
        lines.append(f"{category:52}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


def _failure_lines(failures: Sequence[dict[str, Any]], most: int) -> list[str]:
    shown: Counter[tuple[str, str, str]] = Counter()
    lines = []
    for failure in failures:
        group, transform, verdict = failure["group"], failure["transform"], failure["verdict"]
        shown[group, transform, verdict] += 1
        if shown[group, transform, verdict] <= most:
            match = f" -> {failure['candidate_name']}" if failure["candidate_name"] else ""
            lines.append(f"{group} {transform}: {failure['name']}: {verdict}: {failure['grade']}: "
                         f"{failure['reason']}{match}")  # fmt: skip
    hidden = sum(max(0, number - most) for number in shown.values())
    if hidden:
        lines.append(f"({hidden} more failures; --failures N prints more, and --out FILE.json writes all of them)")
    return lines


def _as_wanted(counts: dict[str, int], group: str) -> int:
    if group == REFUSAL_GROUP:
        return counts.get("refused", 0) + counts.get("review", 0)
    return counts.get("right", 0)


def plot(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Plot histograms of the scene scores of right and wrong candidates, one plot for each group."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for group in sorted({outcome.group for outcome in outcomes}):
        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        for candidate, label in (
            ("own", "same scene as the query"),
            ("overlap", "overlapping scene"),
            ("other", "another scene"),
        ):
            scores = [o.score for o in outcomes if (o.group, o.candidate) == (group, candidate) and o.score is not None]
            if scores:
                axes.hist(scores, bins=np.linspace(-0.2, 1, 61).tolist(), alpha=0.6, label=f"{label} ({len(scores)})")
        axes.set(xlabel="scene score of the best candidate", ylabel="queries", yscale="log", title=f"Group {group}")
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        figure.savefig(folder / f"scores-{group}.png", dpi=150)
        plt.close(figure)

"""The results of an evaluation as tables in plain text, as CSV, and as values for JSON."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Final

from twinscope_client.evaluation.metrics import SCORES
from twinscope_client.labelling.shares import percent, percentage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twinscope_client.evaluation.metrics import Case, Evaluation, Group, LegacyTally, ScoreName, Separation, Share

SCORE_TITLES: Final[dict[ScoreName, str]] = {
    "scene_score": "scene score", "ssim": "full-size SSIM", "distance": "Hamming distance",
}  # fmt: skip
LABEL_COLUMNS: Final = (
    "images", "twins", "labelled", "right", "wrong", "missed", "rightly refused", "recall (95 %)", "precision (95 %)",
)  # fmt: skip
LEGACY_COLUMNS: Final = ("right", "wrong", "refused", "unknown", "recall", "precision")
BY_SCORE_TITLE: Final = "Recall if only one score is used, with the threshold that gives no false label:"
LEGACY_TITLE: Final = 'Results of the legacy rule (policy "legacy") for the recorded candidates:'
_NOTHING: Final = "-"


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as values that can be written to JSON.

    Returns
    -------
    dict
        - ``groups``: one group for all images, one group for each transform, and one group for each category. ``kind``
          and ``name`` identify a group. Shares are numbers from 0 to 1, or None if the total is 0. ``legacy_rule``
          contains the results of the legacy rule. In the recall of the legacy rule, an image with an unknown answer
          counts as an image without a label.
        - ``false_labels``: the images with a false label.
        - ``missed``: the images that have a twin, but no label. ``reason`` is the reason why the run refused the image.
        - ``rightly_refused``: the images that have no twin and no label.
        - ``right_by_another_reference``: images whose label is right, but comes from another reference than the twin in
          the truth table.
        - ``legacy_rule_unknown``: number of images for each reason why the answer of the legacy rule is unknown.
    """
    return {
        "groups": [_group(group) for group in evaluation.groups],
        "false_labels": [_case(case) for case in evaluation.false_labels],
        "missed": [_case(case) for case in evaluation.missed],
        "rightly_refused": [_case(case) for case in evaluation.rightly_refused],
        "right_by_another_reference": [_case(case) for case in evaluation.cases if case.by_another],
        "legacy_rule_unknown": evaluation.legacy_unknown,
    }


def to_csv(evaluation: Evaluation) -> str:
    """Return the groups of an evaluation as CSV, with one row for each group.

    The names of the columns are the keys of a group in `to_dict`. For nested values, the keys are joined by dots.
    """
    rows = [dict(_flat(_group(group))) for group in evaluation.groups]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def to_text(evaluation: Evaluation) -> list[str]:
    """Return an evaluation as lines of text: tables, and lists of all missed images and of all false labels."""
    groups = evaluation.groups
    lines = [sentence(evaluation), "", *_table(groups, LABEL_COLUMNS, [label_cells(group) for group in groups])]
    lines += ["", BY_SCORE_TITLE, *_table(groups, tuple(SCORE_TITLES.values()), [score_cells(g) for g in groups])]
    missed = [missed_image(case) for case in evaluation.missed]
    false = [false_label(case) for case in evaluation.false_labels]
    lines += ["", f"Missed images, which have a twin but no label: {len(missed) or 'none'}"]
    lines += [*(f"  {line}" for line in missed), "", f"False labels: {len(false) or 'none'}"]
    return [*lines, *(f"  {line}" for line in false)]


def legacy_text(evaluation: Evaluation) -> list[str]:
    """Return the results of the legacy rule as lines of text."""
    groups = evaluation.groups
    table = _table(groups, LEGACY_COLUMNS, [legacy_cells(group.legacy) for group in groups])
    return [LEGACY_TITLE, *table, *(f"  {line}" for line in unknown_lines(evaluation))]


def unknown_lines(evaluation: Evaluation) -> list[str]:
    """Return lines that explain why answers of the legacy rule are unknown, and how to get these answers."""
    reasons = [f"Images with an unknown answer: {count:,} ({why})" for why, count in evaluation.legacy_unknown.items()]
    advice = "To get the unknown answers, evaluate a run of 'twinscope label --policy legacy'."
    return [*reasons, advice] if reasons else []


def sentence(evaluation: Evaluation) -> str:
    """Return one sentence about the outcome of the run."""
    total = evaluation.groups[0]
    another = f" ({total.by_another:,} by a reference other than the named twin)" if total.by_another else ""
    return (
        f"{total.images:,} images, {total.twins:,} with a twin: {total.right:,} labelled correctly{another}, "
        f"{total.wrong:,} labelled wrongly, {total.missed:,} missed, {total.rightly_refused:,} rightly refused."
    )


def label_cells(group: Group) -> tuple[str, ...]:
    """Return the cells of `LABEL_COLUMNS` for a group."""
    counts = (group.images, group.twins, group.labelled, group.right, group.wrong, group.missed, group.rightly_refused)
    return (*map(str, counts), _with_interval(group.recall), _with_interval(group.precision))


def score_cells(group: Group) -> tuple[str, ...]:
    """Return one cell for each score: the recall if only this score is used, and the threshold."""
    return tuple(_separated(group.separations[name], sense) for name, sense in SCORES.items())


def legacy_cells(legacy: LegacyTally) -> tuple[str, ...]:
    """Return the cells of `LEGACY_COLUMNS` for a group.

    If the answer of the legacy rule is unknown for some images with a twin, the recall is a lower limit.
    """
    recall = _percent(legacy.recall)
    if legacy.unknown_twins:
        # A lower limit is rounded down, so that the limit is true.
        least = math.floor(1000 * (legacy.recall.value or 0) + 1e-9) / 10
        recall = f">= {least:.1f} %" if legacy.unknown_twins < legacy.recall.whole else _NOTHING
    precision = _NOTHING if legacy.unknown else _percent(legacy.precision)
    unknown = str(legacy.unknown)
    return (str(legacy.right), str(legacy.wrong), str(legacy.refused), unknown, recall, precision)


def false_label(case: Case) -> str:
    """Return one line about a false label."""
    transform = f", {case.transform}" if case.transform else ""
    truth = f"the right category is {case.truth}" if case.truth else "the image has no twin"
    return f"{case.image}{transform}: labelled {case.label} ({case.grade}, from {case.reference}), but {truth}"


def missed_image(case: Case) -> str:
    """Return one line about an image that has a twin, but no label."""
    transform = f", {case.transform}" if case.transform else ""
    reason = f": {_one_line(case.reason)}" if case.reason else ""
    return f"{case.image}{transform}: no label, but the right category is {case.truth} ({case.grade}{reason})"


def shown_threshold(separation: Separation, sense: int) -> str:
    """Return a threshold as text. A threshold that is not an integer has at least three decimals.

    If a wrong candidate would reach the rounded threshold, more decimals are kept.
    """
    threshold, false = separation.threshold, separation.nearest_false
    if threshold is None:
        return _NOTHING
    if float(threshold).is_integer():
        return str(int(threshold))
    rounded = math.floor if sense > 0 else math.ceil
    for digits in range(3, 15):
        shown = rounded(threshold * 10**digits) / 10**digits
        if sense * shown <= sense * threshold and (false is None or sense * shown > sense * false):
            return f"{shown:.{digits}f}"
    return repr(threshold)


def _percent(share: Share) -> str:
    return _NOTHING if share.value is None else percent(share.value)


def _with_interval(share: Share) -> str:
    interval = share.interval
    if interval is None:
        return _NOTHING
    return f"{_percent(share)} ({percentage(interval[0])} to {percentage(interval[1])})"


def _separated(separation: Separation, sense: int) -> str:
    if not separation.found.whole:
        return _NOTHING
    recall = _percent(separation.found)
    if separation.threshold is None:
        return recall
    return f"{recall} at {'>=' if sense > 0 else '<='} {shown_threshold(separation, sense)}"


def _table(groups: Sequence[Group], columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of text: a header, a title for each kind of group, and a row for each group."""
    names = [group.name if group.kind == "all" else f"  {_one_line(group.name)}" for group in groups]
    first = max(map(len, [*names, "transform"]))
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = ["  ".join([" " * first, *(title.rjust(width) for title, width in zip(columns, widths, strict=True))])]
    kind = "all"
    for group, name, row in zip(groups, names, cells, strict=True):
        if group.kind != kind:
            kind = group.kind
            lines.append(kind)
        lines.append("  ".join([name.ljust(first), *(c.rjust(width) for c, width in zip(row, widths, strict=True))]))
    return [line.rstrip() for line in lines]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _group(group: Group) -> dict[str, Any]:
    recall, precision = (share.interval or (None, None) for share in (group.recall, group.precision))
    return {
        "kind": group.kind, "name": group.name, "images": group.images, "twins": group.twins,
        "labelled": group.labelled, "right": group.right, "wrong": group.wrong, "refused": group.refused,
        "right_by_another_reference": group.by_another,
        "missed": group.missed, "rightly_refused": group.rightly_refused,
        "recall": group.recall.value, "recall_low": recall[0], "recall_high": recall[1],
        "precision": group.precision.value, "precision_low": precision[0], "precision_high": precision[1],
        "at_zero_false": {
            name: {"recall": s.found.value, "threshold": s.threshold, "nearest_false": s.nearest_false}
            for name, s in group.separations.items()
        },
        "legacy_rule": {
            "right": group.legacy.right, "wrong": group.legacy.wrong, "refused": group.legacy.refused,
            "unknown": group.legacy.unknown, "unknown_twins": group.legacy.unknown_twins,
            "recall": group.legacy.recall.value,
            "precision": None if group.legacy.unknown else group.legacy.precision.value,
        },
    }  # fmt: skip


def _case(case: Case) -> dict[str, Any]:
    return {
        "image": case.image, "transform": case.transform, "said": case.label, "truth": case.truth or None,
        "grade": case.grade, "reason": case.reason, "scene_score": case.scene_score, "ssim": case.ssim,
        "distance": case.distance, "reference": case.reference, "twin": case.twin,
    }  # fmt: skip


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

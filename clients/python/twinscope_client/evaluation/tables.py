"""An evaluation as tables: of plain text, of CSV, and as plain values for JSON."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Final

from twinscope_client.evaluation.metrics import SCORES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twinscope_client.evaluation.metrics import Case, Evaluation, Group, OldTally, ScoreName, Separation, Share

SCORE_TITLES: Final[dict[ScoreName, str]] = {
    "scene_score": "scene score", "ssim": "full-size SSIM", "distance": "Hamming distance",
}  # fmt: skip
LABEL_COLUMNS: Final = ("images", "twins", "labelled", "right", "wrong", "refused", "recall (95 %)", "precision")
OLD_COLUMNS: Final = ("right", "wrong", "refused", "unknown", "recall", "precision")
BY_SCORE_TITLE: Final = "Recall by one score alone, at the threshold that lets no false label through:"
OLD_TITLE: Final = 'The old rule (policy "reference") on the recorded candidates:'
_NOTHING: Final = "-"


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Give an evaluation as plain values.

    Returns
    -------
    dict
        - ``groups``: one for all images, each transform and each category (``kind``, ``name``); shares are 0 to 1,
          None of nothing. ``old_rule.recall`` counts unknown images as not found.
        - ``false_labels``: the images with a false label.
        - ``right_by_another_reference``: images with the right label, but not from the twin that the truth names.
        - ``old_rule_unknown``: why the run does not tell what the old rule would have said, and of how many images.
    """
    return {
        "groups": [_group(group) for group in evaluation.groups],
        "false_labels": [_case(case) for case in evaluation.false_labels],
        "right_by_another_reference": [_case(case) for case in evaluation.cases if case.by_another],
        "old_rule_unknown": evaluation.old_unknown,
    }


def to_csv(evaluation: Evaluation) -> str:
    """Give the groups of an evaluation as CSV, one a row; the columns are the paths of `to_dict`'s values."""
    rows = [dict(_flat(_group(group))) for group in evaluation.groups]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def to_text(evaluation: Evaluation) -> list[str]:
    """Give an evaluation as lines for people: the tables, and every false label."""
    groups = evaluation.groups
    lines = [sentence(evaluation), "", *_table(groups, LABEL_COLUMNS, [label_cells(group) for group in groups])]
    lines += ["", BY_SCORE_TITLE, *_table(groups, tuple(SCORE_TITLES.values()), [score_cells(g) for g in groups])]
    lines += ["", OLD_TITLE, *_table(groups, OLD_COLUMNS, [old_cells(group.old) for group in groups])]
    lines += [f"  {line}" for line in unknown_lines(evaluation)]
    false = [false_label(case) for case in evaluation.false_labels]
    return [*lines, "", f"False labels: {len(false) or 'none'}", *(f"  {line}" for line in false)]


def unknown_lines(evaluation: Evaluation) -> list[str]:
    """Say why the run does not tell what the old rule would have said, and how to know."""
    reasons = [f"{count:,} unknown: {why}" for why, count in evaluation.old_unknown.items()]
    return [*reasons, "A run of 'twinscope label --policy reference', evaluated, would tell."] if reasons else []


def sentence(evaluation: Evaluation) -> str:
    """Say in one sentence how the run did."""
    total = evaluation.groups[0]
    another = f" ({total.by_another:,} by another reference than the twin named)" if total.by_another else ""
    return (
        f"{total.images:,} images, {total.twins:,} with a twin: {total.right:,} labelled rightly{another}, "
        f"{total.wrong:,} falsely, {total.refused:,} refused."
    )


def label_cells(group: Group) -> tuple[str, ...]:
    """Give what stands below `LABEL_COLUMNS` for a group."""
    counts = (group.images, group.twins, group.labelled, group.right, group.wrong, group.refused)
    return (*map(str, counts), _with_interval(group.recall), percent(group.precision.value))


def score_cells(group: Group) -> tuple[str, ...]:
    """Give the recall by each score alone, and the threshold."""
    return tuple(_separated(group.separations[name], sense) for name, sense in SCORES.items())


def old_cells(old: OldTally) -> tuple[str, ...]:
    """Give what stands below `OLD_COLUMNS` for a group; a recall is a lower bound where some twins are unknown."""
    recall = percent(old.recall.value)
    if old.unknown_twins:
        recall = f">= {recall}" if old.unknown_twins < old.recall.whole else _NOTHING
    precision = _NOTHING if old.unknown else percent(old.precision.value)
    unknown = str(old.unknown)
    return (str(old.right), str(old.wrong), str(old.refused), unknown, recall, precision)


def false_label(case: Case) -> str:
    """Say what is wrong with a label."""
    told = f", {case.transform}" if case.transform else ""
    truth = f"is {case.truth}" if case.truth else "has no twin"
    return f"{case.image}{told}: said {case.said} ({case.grade}, as {case.reference}), {truth}"


def shown_threshold(separation: Separation, sense: int) -> str:
    """Give a threshold with as few decimals, at least three, as still keep the nearest false score out."""
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


def percent(share: float | None) -> str:
    """Give a share in percent, rounded down, so that 100 % means all."""
    return _NOTHING if share is None else f"{_tenths(share):.1f} %"


def _tenths(share: float) -> float:
    return math.floor(share * 1000 + 1e-9) / 10


def _with_interval(share: Share) -> str:
    interval = share.interval
    if interval is None:
        return _NOTHING
    low, high = interval
    return f"{percent(share.value)} ({_tenths(low):.1f} to {math.ceil(high * 1000 - 1e-9) / 10:.1f})"


def _separated(separation: Separation, sense: int) -> str:
    if not separation.found.whole:
        return _NOTHING
    recall = percent(separation.found.value)
    if separation.threshold is None:
        return recall
    return f"{recall} at {'>=' if sense > 0 else '<='} {shown_threshold(separation, sense)}"


def _table(groups: Sequence[Group], columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a row for each group below the columns; groups of a kind stand together under its name."""
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
    interval = group.recall.interval or (None, None)
    return {
        "kind": group.kind, "name": group.name, "images": group.images, "twins": group.twins,
        "labelled": group.labelled, "right": group.right, "wrong": group.wrong, "refused": group.refused,
        "right_by_another_reference": group.by_another,
        "recall": group.recall.value, "recall_low": interval[0], "recall_high": interval[1],
        "precision": group.precision.value,
        "at_zero_false": {
            name: {"recall": s.found.value, "threshold": s.threshold, "nearest_false": s.nearest_false}
            for name, s in group.separations.items()
        },
        "old_rule": {
            "right": group.old.right, "wrong": group.old.wrong, "refused": group.old.refused,
            "unknown": group.old.unknown, "unknown_twins": group.old.unknown_twins, "recall": group.old.recall.value,
            "precision": None if group.old.unknown else group.old.precision.value,
        },
    }  # fmt: skip


def _case(case: Case) -> dict[str, Any]:
    return {
        "image": case.image, "transform": case.transform, "said": case.said, "truth": case.truth or None,
        "grade": case.grade, "scene_score": case.scene_score, "ssim": case.ssim, "distance": case.distance,
        "reference": case.reference, "twin": case.twin,
    }  # fmt: skip


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

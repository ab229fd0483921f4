"""Measurements against a peer, their targets, and the table of the results."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Kind = Literal["faster", "share", "rate", "value"]


@dataclass(frozen=True)
class Target:
    """The target of a row.

    ``faster``: the peer's time over ours, at least the limit. ``share``: our figure over the peer's, at most the limit.
    ``rate``: our rate over the peer's, at least the limit. ``value``: our figure alone, at most the limit.
    """

    kind: Kind
    limit: float | None = None
    """None: no target, the ratio is only printed."""

    def ratio(self, peer: float, ours: float) -> float:
        """Return the figure that the target limits."""
        if self.kind == "value":
            return ours
        return peer / ours if self.kind == "faster" else ours / peer

    def met(self, ratio: float) -> bool | None:
        """Return whether a figure meets the target; None without a target."""
        if self.limit is None:
            return None
        return ratio >= self.limit if self.kind in {"faster", "rate"} else ratio <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    stage: str
    peer: str
    unit: str
    theirs: float | None
    ours: float
    ratio: float
    least: float
    most: float
    kind: Kind
    limit: float | None
    met: bool | None
    cores: int
    note: str = ""


def row(
    stage: str, peer: str, pairs: Sequence[tuple[float, float]], target: Target, *, unit: str = "ms", note: str = ""
) -> Row:
    """Build a line from the measurements of all rounds: the peer's figure and ours, for each round.

    The ratio is that of the medians; the spread is the smallest and the largest ratio of a round.
    """
    theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [target.ratio(*pair) for pair in pairs]
    ratio = target.ratio(theirs, ours)
    shown = theirs if peer else None
    found = (ratio, min(ratios), max(ratios), target.kind, target.limit, target.met(ratio))
    return Row(stage, peer, unit, shown, ours, *found, cores_at_hand(), note)


def alternating(
    theirs: Callable[[], object], ours: Callable[[], object], rounds: int, times: int = 1
) -> list[tuple[float, float]]:
    """Time two callables in alternating rounds, in milliseconds, after one round that is not counted.

    A callable that takes less than a few milliseconds is called several `times` in a round.
    """
    theirs()
    ours()
    return [(milliseconds(theirs, times), milliseconds(ours, times)) for _ in range(rounds)]


def milliseconds(work: Callable[[], object], times: int = 1) -> float:
    """Return the mean time of one call over some calls, in milliseconds."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1000 * (time.perf_counter() - start) / times


def restrict(cores: int) -> None:
    """Restrict this process to some cores, also in `os.cpu_count`; call it before other imports."""
    if cores >= len(os.sched_getaffinity(0)):
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    os.cpu_count = lambda: cores  # the scan and the thread pools read it when they are imported
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores))


def cores_at_hand() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


HEADINGS = ("stage", "cores", "peer", "peer's", "ours", "ratio", "spread", "target", "")


def cells(one: Row) -> tuple[str, ...]:
    """Format one line as the cells of a table."""
    theirs = "" if one.theirs is None else f"{_figure(one.theirs)} {one.unit}"
    ratio = _ratio(one, one.ratio)
    spread = f"{_ratio(one, one.least)} to {_ratio(one, one.most)}" if one.least < one.most else ""
    sign = ">=" if one.kind in {"faster", "rate"} else "<="
    target = "" if one.limit is None else f"{sign} {_ratio(one, one.limit)}"
    verdict = {None: "", True: "met", False: "MISSED"}[one.met]
    return (
        one.stage, str(one.cores), one.peer, theirs, f"{_figure(one.ours)} {one.unit}", ratio, spread, target, verdict
    )  # fmt: skip


def _ratio(one: Row, figure: float) -> str:
    if one.kind == "faster":
        return f"{figure:.1f}x"
    return f"{_figure(figure)} {one.unit}" if one.kind == "value" else f"{figure:.2f}"


def _figure(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def text_table(rows: Iterable[Row]) -> str:
    """Format the table for a terminal."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligns = ("<", ">", "<", ">", ">", ">", ">", ">", "<")
    return "\n".join(
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(line, aligns, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(rows: Iterable[Row]) -> str:
    """Format the table for a document."""
    lines = [HEADINGS, ("---", "---:", "---", "---:", "---:", "---:", "---:", "---:", "---"), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain values."""
    return [asdict(one) for one in rows]

"""Timing of Twinscope and another tool (the peer), targets for the ratio of their times, and the table of results."""

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
    """The target of a row of the table. The kind determines the figure that is compared with the limit.

    ``faster``: the peer's time divided by Twinscope's time must be at least the limit. ``share``: Twinscope's figure
    divided by the peer's figure must be at most the limit. ``rate``: Twinscope's rate divided by the peer's rate must
    be at least the limit. ``value``: Twinscope's figure alone must be at most the limit.
    """

    kind: Kind
    limit: float | None = None
    """Limit for the figure; None if the figure is only printed and there is no target."""

    def ratio(self, peer: float, ours: float) -> float:
        """Return the figure that is compared with the limit."""
        if self.kind == "value":
            return ours
        return peer / ours if self.kind == "faster" else ours / peer

    def met(self, ratio: float) -> bool | None:
        """Return whether a figure meets the target, or None if there is no target."""
        if self.limit is None:
            return None
        return ratio >= self.limit if self.kind in {"faster", "rate"} else ratio <= self.limit


@dataclass(frozen=True)
class Row:
    """One row of the table of results."""

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
    """Build a row of the table from the measurements of all rounds.

    For each round, `pairs` contains the peer's figure and Twinscope's figure. The ratio of the row is the ratio of the
    medians. The spread consists of the smallest and the largest ratio of a round.
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
    """Time two callables in alternating rounds and return the times of each round, in milliseconds.

    Before the first round, each callable is called once without timing. If a callable takes less than a few
    milliseconds, it should be called several times in a round; `times` is the number of calls.
    """
    theirs()
    ours()
    return [(milliseconds(theirs, times), milliseconds(ours, times)) for _ in range(rounds)]


def milliseconds(work: Callable[[], object], times: int = 1) -> float:
    """Call a function `times` times, and return the mean time of one call in milliseconds."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1000 * (time.perf_counter() - start) / times


def restrict(cores: int) -> None:
    """Restrict this process to `cores` cores, and make `os.cpu_count` return this number.

    Call this function before other modules are imported, because they read the number of cores on import.
    """
    if cores >= len(os.sched_getaffinity(0)):
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    os.cpu_count = lambda: cores  # the modules of the scan and of the thread pools call cpu_count on import
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores))


def cores_at_hand() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


HEADINGS = ("stage", "cores", "peer", "peer's", "ours", "ratio", "spread", "target", "")


def cells(one: Row) -> tuple[str, ...]:
    """Format one row as the cells of a table."""
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
    """Format the table in Markdown for a document."""
    lines = [HEADINGS, ("---", "---:", "---", "---:", "---:", "---:", "---:", "---:", "---"), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as dictionaries of plain JSON values."""
    return [asdict(one) for one in rows]

"""What was measured beside a peer, what was wanted of it, and the table of it."""

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
    """What is wanted of a row.

    ``faster``: the peer's time over ours, at least so much. ``share``: our figure over the peer's, at most so much.
    ``rate``: our rate over the peer's, at least so much. ``value``: our figure alone, at most so much.
    """

    kind: Kind
    limit: float | None = None
    """None where nothing is wanted, and the ratio is only told."""

    def ratio(self, peer: float, ours: float) -> float:
        """Give the figure that the target is about."""
        if self.kind == "value":
            return ours
        return peer / ours if self.kind == "faster" else ours / peer

    def met(self, ratio: float) -> bool | None:
        """Tell whether a figure is good enough; None where nothing is wanted."""
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
    """Make a line of what rounds have measured: the peer's figure and ours, of each round.

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
    """Time two callables in alternating rounds, after one that is not counted; milliseconds.

    What takes less than a few milliseconds is called several `times` in a round.
    """
    theirs()
    ours()
    return [(milliseconds(theirs, times), milliseconds(ours, times)) for _ in range(rounds)]


def milliseconds(work: Callable[[], object], times: int = 1) -> float:
    """Time one call, on average over some."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1000 * (time.perf_counter() - start) / times


def restrict(cores: int) -> None:
    """Keep this process to some cores, and let what asks for their number believe it; before anything is imported."""
    if cores >= len(os.sched_getaffinity(0)):
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    os.cpu_count = lambda: cores  # the scan and the thread pools ask for it when they are imported
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores))


def cores_at_hand() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


HEADINGS = ("stage", "cores", "peer", "peer's", "ours", "ratio", "spread", "target", "")


def cells(one: Row) -> tuple[str, ...]:
    """Write one line for people."""
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
    """Set the table for a terminal."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligns = ("<", ">", "<", ">", ">", ">", ">", ">", "<")
    return "\n".join(
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(line, aligns, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(rows: Iterable[Row]) -> str:
    """Set the table for a document."""
    lines = [HEADINGS, ("---", "---:", "---", "---:", "---:", "---:", "---:", "---:", "---"), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Give the rows as plain values."""
    return [asdict(one) for one in rows]

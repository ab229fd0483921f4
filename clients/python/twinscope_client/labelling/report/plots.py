"""The plots of a labelling run: histograms of distance and SSIM, and a plot with the SSIM of each image."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from twinscope_indexer.hashing.codes import BITS

from twinscope_client.labelling.grades import DECISION_GRADES
from twinscope_client.labelling.report.summary import DISTANCE_BIN, SSIM_BINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from twinscope_client.labelling.report.summary import Point, Survey

_COLOURS = {name: grade.colour for name, grade in DECISION_GRADES.items()}
_MARKERS = {name: grade.marker for name, grade in DECISION_GRADES.items()}
_OTHER = "#999999"
_INK = "#222222"


def draw(run: Survey) -> dict[str, bytes]:
    """Draw the plots of a run.

    Parameters
    ----------
    run : Survey

    Returns
    -------
    dict of bytes
        The PNG files, with the keys ``distance``, ``ssim`` and ``ssim_by_row``. The same run always gives the same
        bytes.
    """
    policy = run.summary["settings"].get("policy") or {}
    histograms = run.summary["histograms"]
    return {
        "distance": _distance(histograms["distance"]["images"], policy),
        "ssim": _ssim(histograms["ssim"]["images"], policy.get("excellent_ssim")),
        "ssim_by_row": _by_row(run, policy.get("excellent_ssim")),
    }


def _distance(images: dict[str, dict[str, int]], policy: Mapping[str, Any]) -> bytes:
    figure, axes = _canvas("Hamming distance (bits)", f"Images per {DISTANCE_BIN} bits")
    seen = [int(edge) for edges in images.values() for edge in edges]
    usual, far = policy.get("max_distance"), policy.get("far_distance")
    end = min(BITS, max([100, *(edge + DISTANCE_BIN for edge in seen), max(usual or 0, far or 0) + 2 * DISTANCE_BIN]))
    _bars(axes, images, 0, math.ceil(end / DISTANCE_BIN), DISTANCE_BIN)
    if usual is not None:
        _threshold(axes, usual, f"maximum distance of the search: {usual} bits")
        if far is not None and far > usual:
            _threshold(axes, far, f"maximum distance if no twin was found: {far} bits", row=1)
    return _png(figure, axes, "No image had a candidate" if not images else "")


def _ssim(images: dict[str, dict[str, int]], excellent: float | None) -> bytes:
    figure, axes = _canvas("Full-size SSIM (1: identical)", f"Images per {1 / SSIM_BINS:g}")
    seen = [float(edge) for edges in images.values() for edge in edges]
    low = math.floor(min([0.8, *seen, (1.0 if excellent is None else excellent) - 0.05]) * 10)
    _bars(axes, images, low * SSIM_BINS // 10, SSIM_BINS, 1 / SSIM_BINS)
    if excellent is not None:
        _threshold(axes, excellent, f"excellent above {excellent:g}")
    return _png(figure, axes, "No SSIM was computed" if not images else "")


def _by_row(run: Survey, excellent: float | None) -> bytes:
    total = run.summary["images"]
    shown = f"; 1 of {run.stride:,} points is shown" if run.stride > 1 else ""
    figure, axes = _canvas(f"Number of the image (sorted by path{shown})", "Full-size SSIM (1: identical)", 12)
    for grade, points in _by_grade(run.points).items():
        axes.scatter(
            [point.row for point in points], [point.ssim for point in points], label=f"{grade} ({len(points):,})",
            color=_COLOURS.get(grade, _OTHER), marker=_MARKERS.get(grade, "."),
            s=26 if len(run.points) < 500 else 8, alpha=0.85, linewidths=0.8,
        )  # fmt: skip
    low = min([0.8, *(point.ssim for point in run.points), (1.0 if excellent is None else excellent) - 0.05])
    axes.set_ylim(math.floor(low * 10) / 10 - 0.02, 1.02)
    axes.set_xlim(0.5 - 0.01 * total, max(total, 1) + 0.5 + 0.01 * total)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    if excellent is not None:
        axes.axhline(excellent, color=_INK, linestyle="--", linewidth=1)
        # The text is placed next to the plot, so that the text hides no point.
        axes.annotate(
            f"excellent\nabove {excellent:g}", (1.005, excellent), xycoords=("axes fraction", "data"),
            va="center", fontsize=9, color=_INK, annotation_clip=False,
        )  # fmt: skip
    return _png(figure, axes, "No SSIM was computed" if not run.points else "")


def _by_grade(points: list[Point]) -> dict[str, list[Point]]:
    grouped: dict[str, list[Point]] = {}
    for point in points:
        grouped.setdefault(point.grade, []).append(point)
    known = [grade for grade in _COLOURS if grade in grouped]
    return {grade: grouped[grade] for grade in [*known, *sorted(set(grouped) - set(known))]}


def _canvas(x: str, y: str, width: float = 6.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 3.5), layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white")
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(axes: Axes, images: dict[str, dict[str, int]], first: int, last: int, width: float) -> None:
    """Draw a histogram for each grade. The axis is logarithmic, so that even a single image is visible."""
    edges = [value * width for value in range(first, last + 1)]
    for grade, bins in images.items():
        counts = [0] * (last - first)
        for edge, count in bins.items():
            counts[round(float(edge) / width) - first] += count
        colour = _COLOURS.get(grade, _OTHER)
        # An empty bin is drawn at the lower end of the axis, because a logarithmic axis cannot show 0.
        heights = [count or _LOWEST for count in counts]
        axes.stairs(heights, edges, baseline=_LOWEST, fill=True, color=colour, alpha=0.25)
        axes.stairs(heights, edges, baseline=_LOWEST, color=colour, linewidth=1.4, label=f"{grade} ({sum(counts):,})")
    most = max((count for bins in images.values() for count in bins.values()), default=1)
    axes.set_yscale("log")
    axes.set_ylim(_LOWEST, max(12.0, most * 3.0))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if most > 300 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(edges[0], edges[-1])


_LOWEST = 0.6
"""Lower end of the logarithmic axis that shows the number of images."""


def _threshold(axes: Axes, value: float, label: str, row: int = 0) -> None:
    """Draw a threshold as a dashed line with a label; `row` is the row of the label, counted from the top."""
    axes.axvline(value, color=_INK, linestyle="--", linewidth=1)
    left, right = axes.get_xlim()
    leftwards = value > (left + right) / 2
    axes.annotate(
        label, (value, 0.98 - 0.08 * row), xycoords=("data", "axes fraction"), xytext=(-4 if leftwards else 4, 0),
        textcoords="offset points", ha="right" if leftwards else "left", va="top", fontsize=9, color=_INK,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _thousands(value: float, _position: int | None) -> str:
    return f"{value:,.0f}"


def _png(figure: Figure, axes: Axes, instead: str) -> bytes:
    if instead:
        axes.text(0.5, 0.5, instead, transform=axes.transAxes, ha="center", va="center", color="#666666", fontsize=12)
    else:
        figure.legend(loc="outside upper left", ncols=3 if figure.get_figwidth() < 10 else 6, frameon=False, fontsize=9)
    buffer = BytesIO()
    # The file does not contain the name and version of the software. Therefore, equal plots give equal files.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

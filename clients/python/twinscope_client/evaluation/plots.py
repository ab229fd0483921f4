"""The plots of an evaluation: distributions of the scores of right and of wrong candidates."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from twinscope_client.evaluation.metrics import SCORES, scores
from twinscope_client.evaluation.tables import shown_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from twinscope_client.evaluation.metrics import Evaluation, ScoreName, Separation

# Distinguishable with any colour vision: M. Okabe, K. Ito, "Color Universal Design" (2008).
_RIGHT: Final = "#0072B2"
_WRONG: Final = "#D55E00"
_INK: Final = "#222222"
_LOWEST: Final = 0.6
"""Lower end of the logarithmic axis of counts."""

_LEAST_BINS: Final = 10
_BEST: Final[dict[ScoreName, float]] = {"scene_score": 1, "ssim": 1, "distance": 0}
_WIDTHS: Final[dict[ScoreName, float]] = {"scene_score": 0.02, "ssim": 0.02, "distance": 10}
_AXES: Final[dict[ScoreName, str]] = {
    "scene_score": "Scene score of the best candidate (1: the same field)",
    "ssim": "Full-size SSIM of the best candidate (1: identical)",
    "distance": "Hamming distance of the best candidate (bits)",
}


def draw(evaluation: Evaluation) -> dict[ScoreName, bytes]:
    """Draw a histogram of each score, for candidates of the right category and for wrong ones.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    dict of bytes
        PNG files by score; the same bytes for the same evaluation.
    """
    return {name: _histogram(evaluation, name) for name in SCORES}


def _histogram(evaluation: Evaluation, name: ScoreName) -> bytes:
    right, wrong = scores(evaluation.cases, name)
    figure = Figure(figsize=(8, 3.8), layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white")
    width = _WIDTHS[name]
    axes.set_xlabel(_AXES[name], color=_INK)
    axes.set_ylabel(f"Images per {width:g}{' bits' if name == 'distance' else ''}", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    if not right and not wrong:
        axes.text(0.5, 0.5, "Not computed for any image", transform=axes.transAxes, ha="center", color="#666666")
        return _png(figure)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    edges = _edges([*right, *wrong], width, _BEST[name])
    most = max(
        _stairs(axes, right, edges, _RIGHT, f"candidate of the right category ({len(right):,})"),
        _stairs(axes, wrong, edges, _WRONG, f"wrong candidate, or no twin ({len(wrong):,})"),
    )
    axes.set_yscale("log")
    axes.set_ylim(_LOWEST, max(12.0, most * 3.0))
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if most > 300 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _threshold(axes, evaluation.groups[0].separations[name], SCORES[name])
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return _png(figure)


def _edges(values: list[float], width: float, best: float) -> NDArray[np.floating[Any]]:
    """Return the edges of at least ten bins, multiples of the width, that cover all values and the best one."""
    first = math.floor(min([*values, best]) / width + 1e-9)
    last = math.ceil(max([*values, best]) / width - 1e-9)
    if best <= min(values):
        last = max(last, first + _LEAST_BINS)
    return np.arange(min(first, last - _LEAST_BINS), last + 1) * width


def _stairs(axes: Axes, values: list[float], edges: NDArray[np.floating[Any]], colour: str, label: str) -> int:
    """Draw one histogram, outlined and lightly filled so that one behind it is visible; return its highest count."""
    # A score on an edge belongs to the bin above it, in spite of rounding; the last bin includes both edges.
    counts, _ = np.histogram(np.clip(np.asarray(values) + 1e-9, edges[0], edges[-1]), edges)
    heights = np.maximum(counts, _LOWEST)  # the logarithm of 0 would leave the outline open
    axes.stairs(heights, edges, baseline=_LOWEST, fill=True, color=colour, alpha=0.25)
    axes.stairs(heights, edges, baseline=_LOWEST, color=colour, linewidth=1.4, label=label)
    return int(counts.max())


def _threshold(axes: Axes, separation: Separation, sense: int) -> None:
    """Draw the threshold that gives no false label, if there is one."""
    if separation.threshold is None:
        return
    axes.axvline(separation.threshold, color=_INK, linestyle="--", linewidth=1)
    left, right = axes.get_xlim()
    leftwards = separation.threshold > (left + right) / 2
    label = f"no false label {'from' if sense > 0 else 'up to'} {shown_threshold(separation, sense)}"
    axes.annotate(
        label, (separation.threshold, 0.98), xycoords=("data", "axes fraction"), xytext=(-4 if leftwards else 4, 0),
        textcoords="offset points", ha="right" if leftwards else "left", va="top", fontsize=9, color=_INK,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # The software name and version are left out, so that the file depends only on the plot.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

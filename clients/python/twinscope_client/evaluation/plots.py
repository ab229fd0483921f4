"""The plots of an evaluation: for each score, histograms of right candidates and of wrong candidates."""

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

# People with colour blindness can also distinguish these colours: M. Okabe, K. Ito, "Color Universal Design" (2008).
_RIGHT: Final = "#0072B2"
_WRONG: Final = "#D55E00"
_INK: Final = "#222222"
_LOWEST: Final = 0.6
"""Lower end of the logarithmic axis that shows the number of images."""

_LEAST_BINS: Final = 10
_BEST: Final[dict[ScoreName, float]] = {"scene_score": 1, "ssim": 1, "distance": 0}
_WIDTHS: Final[dict[ScoreName, float]] = {"scene_score": 0.02, "ssim": 0.02, "distance": 10}
_AXES: Final[dict[ScoreName, str]] = {
    "scene_score": "Scene score of the best candidate (1: the same field)",
    "ssim": "Full-size SSIM of the best candidate (1: identical)",
    "distance": "Hamming distance of the best candidate (bits)",
}


def draw(evaluation: Evaluation) -> dict[ScoreName, bytes]:
    """Draw a plot for each score, with one histogram for right candidates and one histogram for wrong candidates.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    dict of bytes
        The PNG file for each score; each key is the name of a score. The same evaluation always gives the same bytes.
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
        axes.text(0.5, 0.5, "No image has this score", transform=axes.transAxes, ha="center", color="#666666")
        return _png(figure)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    edges = _edges([*right, *wrong], width, _BEST[name])
    most = max(
        _stairs(axes, right, edges, _RIGHT, f"candidate of the right category ({len(right):,})"),
        _stairs(axes, wrong, edges, _WRONG, f"candidate of a wrong category, or no twin ({len(wrong):,})"),
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
    """Return the edges of the bins of a histogram; each edge is a multiple of the bin width.

    There are at least ten bins. The bins cover all values and the best possible value.
    """
    first = math.floor(min([*values, best]) / width + 1e-9)
    last = math.ceil(max([*values, best]) / width - 1e-9)
    if best <= min(values):
        last = max(last, first + _LEAST_BINS)
    return np.arange(min(first, last - _LEAST_BINS), last + 1) * width


def _stairs(axes: Axes, values: list[float], edges: NDArray[np.floating[Any]], colour: str, label: str) -> int:
    """Draw one histogram, and return the highest count.

    The histogram has an outline and a transparent fill, so that another histogram behind it is visible.
    """
    # A score on an edge is counted in the bin above the edge, even if the score has a rounding error. The last bin
    # includes both edges.
    counts, _ = np.histogram(np.clip(np.asarray(values) + 1e-9, edges[0], edges[-1]), edges)
    heights = np.maximum(counts, _LOWEST)  # a logarithmic axis cannot show a count of 0
    axes.stairs(heights, edges, baseline=_LOWEST, fill=True, color=colour, alpha=0.25)
    axes.stairs(heights, edges, baseline=_LOWEST, color=colour, linewidth=1.4, label=label)
    return int(counts.max())


def _threshold(axes: Axes, separation: Separation, sense: int) -> None:
    """Draw the threshold that gives no false label, if there is such a threshold."""
    if separation.threshold is None:
        return
    axes.axvline(separation.threshold, color=_INK, linestyle="--", linewidth=1)
    left, right = axes.get_xlim()
    leftwards = separation.threshold > (left + right) / 2
    label = f"no false label at {'or above' if sense > 0 else 'or below'} {shown_threshold(separation, sense)}"
    axes.annotate(
        label, (separation.threshold, 0.98), xycoords=("data", "axes fraction"), xytext=(-4 if leftwards else 4, 0),
        textcoords="offset points", ha="right" if leftwards else "left", va="top", fontsize=9, color=_INK,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # The file does not contain the name and version of the software. Therefore, equal plots give equal files.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

"""Draw the pictures in the README and in the documentation.

The pictures show decisions about synthetic micrographs, and the architecture.

python docs/figures.py [FOLDER]

If FOLDER is missing, the script uses docs/images. The script indexes a synthetic collection, searches the store for
each query, and draws the answers of Twinscope.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
import twinscope
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image
from twinscope_client.demo.acquisition import CATEGORIES, synthesise
from twinscope_service.matching.grades import GRADES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from twinscope_service.matching.answer import Answer

    Pixels = NDArray[np.uint8]

SIZE: Final = (640, 480)
"""Width and height of the micrographs, in pixels."""
PER_CATEGORY: Final = 6
COLOUR: Final = {grade.name: grade.light for grade in GRADES}
TURNED: Final = "Nanowires"
TWICE: Final = "Particles"
MASKED: Final = "Films_Coated_Surface"
HALF_WIDTH: Final = 6.6
"""Half of the width of a box in the picture of the architecture. The unit is 1 % of the width of the picture."""
LABELLED: Final = """\
├ Tips/
│ └ L9_sample_007.tif
├ Nanowires/
│ └ …
├ report.html
├ matches.csv
├ review.csv
└ labels.jsonl"""
_INK, _FAINT, _PAPER = "#1c2733", "#5c6975", "#ffffff"


@dataclass(frozen=True, slots=True)
class Decision:
    """A query and the answer to it."""

    title: str
    pixels: Pixels
    answer: Answer
    reason: str
    """Reason of the answer. Paths in this text are relative to the temporary folder."""
    reference: Pixels | None
    """Grey pixels of the best candidate; None if there is no candidate."""


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams |= {"font.family": "DejaVu Sans", "svg.hashsalt": "twinscope"}
    draw_architecture(folder / "architecture.png")
    with tempfile.TemporaryDirectory() as work:
        write_references(Path(work) / "collection")
        twinscope.index(Path(work) / "collection", store=Path(work) / "store")
        with twinscope.connect(Path(work) / "store") as engine:
            decisions = {name: decide(engine, title, pixels, f"{work}/") for name, (title, pixels) in queries().items()}
    draw_twin(decisions["excellent"], folder / "twin.png")
    for name, decision in decisions.items():
        if decision.answer.grade != name.partition("-")[0]:
            raise SystemExit(f"the query for {name} is {decision.answer.grade}: {decision.answer.reason}")
        draw_decision(decision, folder / f"decision-{name}.png")


def write_references(folder: Path) -> None:
    """Write a labelled collection.

    Each category has six fields. One field is also stored under a second category. Four fields have the same aperture
    in front of them.
    """
    for category in CATEGORIES:
        (folder / category).mkdir(parents=True)
        for number in range(PER_CATEGORY):
            save(field(category, number), folder / category / f"{number}.jpg")
    save(field(TWICE, 0), folder / "Powder" / "also.jpg")
    for number in range(4):
        save(behind_aperture(field(MASKED, 100 + number)), folder / MASKED / f"aperture-{number}.jpg")


def queries() -> dict[str, tuple[str, Pixels]]:
    """Return a title and the pixels of each query. The keys are the grades that the queries must get."""
    dark = np.rint(255 * (field(TURNED, 1) / 255.0) ** 1.8).astype(np.uint8)
    return {
        "excellent": ("the TIFF of a published JPEG", field("Tips", 2)),
        "good": ("rotated by 90 degrees, darker, bar cut", np.rot90(dark[:420]).copy()),
        "doubtful": ("another field behind the same aperture", behind_aperture(field(MASKED, 200))),
        "ambiguous": ("a field that is stored under two labels", field(TWICE, 0)),
        "none": ("a field that is not in the collection", field("Fibres", 300)),
        "unhashable": ("a blank frame", np.full(SIZE[::-1], 23, np.uint8)),
    }


def field(category: str, seed: int) -> Pixels:
    """Create a synthetic micrograph (uint8) with the shape (480, 640)."""
    return synthesise(category, seed, width=SIZE[0], height=SIZE[1])


def behind_aperture(pixels: Pixels) -> Pixels:
    """Return the field behind a round aperture. All pixels outside the aperture are dark."""
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    outside = (rows - 230) ** 2 + (columns - 320) ** 2 > 150**2
    return np.where(outside, np.uint8(8), pixels)


def save(pixels: Pixels, path: Path) -> None:
    """Write a JPEG with the quality 100, as in the published collection."""
    Image.fromarray(pixels).save(path, quality=100)


def decide(engine: twinscope.Engine, title: str, pixels: Pixels, folder: str) -> Decision:
    """Search the store for a query."""
    answer = engine.search(pixels)
    reference = np.asarray(Image.open(answer.matches[0].source).convert("L")) if answer.matches else None
    return Decision(title, pixels, answer, answer.reason.replace(folder, ""), reference)


def draw_decision(decision: Decision, path: Path) -> None:
    """Draw a query, its best candidate, and the grade, reason and scores of the answer."""
    figure = Figure(figsize=(10, 2.7), facecolor=_PAPER)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    show(left, decision.pixels, f"query: {decision.title}")
    answer = decision.answer
    if decision.reference is None:
        middle.axis("off")
        middle.text(0.5, 0.5, "no candidate", ha="center", va="center", color=_FAINT, transform=middle.transAxes)
    else:
        show(middle, decision.reference, f"best candidate: {answer.matches[0].category}")
    right.axis("off")
    label = "no label" if answer.category is None else answer.category
    right.text(0, 0.97, f"{answer.grade}: {label}", color=COLOUR[answer.grade], weight="bold", fontsize=13, va="top")
    right.text(0, 0.76, textwrap.fill(decision.reason, 46), color=_INK, fontsize=9, va="top", linespacing=1.4)
    right.text(0, 0.02, measures(answer), color=_FAINT, fontsize=9, va="bottom", linespacing=1.4)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.02, wspace=0.06)
    figure.savefig(path, dpi=110)


def measures(answer: Answer) -> str:
    """Return the scores and `p_wrong` of the best candidate in two lines. Without a candidate, return an empty text."""
    if not answer.matches:
        return ""
    best = answer.matches[0]
    scores = (("scene score", best.scene_score), ("SSIM", best.ssim))
    shown = [f"{best.distance} bits", *(f"{name} {value:.3f}" for name, value in scores if value is not None)]
    return "\n".join(
        (", ".join(shown), "no p_wrong" if answer.p_wrong is None else f"p_wrong {answer.p_wrong.estimate:.4f}")
    )


def draw_twin(decision: Decision, path: Path) -> None:
    """Draw a TIFF, its twin, and the folder that ``twinscope label`` writes."""
    figure = Figure(figsize=(10, 3.1), facecolor=_PAPER)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    show(left, decision.pixels, "tiffs/sample_007.tif: metadata, no label")
    if decision.reference is None:
        raise SystemExit("the query of the first picture has no candidate")
    show(middle, decision.reference, "collection/Tips/2.jpg: label, no metadata")
    right.axis("off")
    right.set_title("labelled/", fontsize=9, color=_INK, loc="left", family="monospace")
    right.text(0, 0.96, LABELLED, family="monospace", fontsize=10, va="top", color=_INK, linespacing=1.5)
    best = decision.answer.matches[0]
    words = f"{decision.answer.grade}: {best.distance} bits, scene score {best.scene_score:.2f}, SSIM {best.ssim:.2f}"
    figure.text(0.335, 0.03, words, ha="center", color=COLOUR[decision.answer.grade], weight="bold", fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.11, wspace=0.05)
    figure.savefig(path, dpi=110)


def show(axes: Axes, pixels: Pixels, title: str) -> None:
    """Show an image without axes."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    axes.set_title(title, fontsize=9, color=_INK)
    axes.axis("off")


def draw_architecture(path: Path) -> None:
    """Draw the steps in which the four layers process a reference and a query."""
    figure = Figure(figsize=(10, 4.3), facecolor=_PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 43)
    axes.axis("off")
    floors = (
        (31.5, "clients", "Python, command, Node"), (19, "service", "matching, gRPC server"),
        (6.5, "indexer", "images, hashes, store"),
        (0.3, "proto", "wire contract twinscope.v1, used by service and clients"),
    )  # fmt: skip
    for bottom, name, words in floors:
        height = 5 if name == "proto" else 11.2
        box(axes, (0.8, bottom, 98.4, height), "", "#f3f6f9")
        if name == "proto":
            axes.text(2, bottom + 2.5, f"{name}   {words}", va="center", color=_FAINT, fontsize=9)
            continue
        axes.text(2, bottom + height - 2.4, name, weight="bold", color=_INK, fontsize=10)
        axes.text(
            2, bottom + height - 4.8, textwrap.fill(words, 16), va="top", color=_FAINT, fontsize=8, linespacing=1.4
        )
    middle = {"clients": 34, "service": 21.5, "indexer": 9}
    steps = {
        "TIFF": (22, "clients", "TIFFs\nno label"), "labelled": (88, "clients", "labelled copies,\nreport, tables"),
        "search": (22, "service", "search\nnearest hashes"), "scene": (38.5, "service", "scene score\nthumbnails"),
        "ssim": (55, "service", "SSIM\nfull size"), "lookalikes": (71.5, "service", "look-alikes,\nmetadata"),
        "verdict": (88, "service", "verdict: grade,\nreasons, p_wrong"),
        "collection": (88, "indexer", "labelled\ncollection"), "imaging": (71.5, "indexer", "imaging\ngrey pixels"),
        "hashing": (55, "indexer", "hashing\n1024 bits"), "store": (38.5, "indexer", "store: catalog,\nthumbnails"),
        "index": (22, "indexer", "index\nHamming search"),
    }  # fmt: skip
    for x, floor, words in steps.values():
        box(axes, (x - HALF_WIDTH, middle[floor] - 1.2, 2 * HALF_WIDTH, 7), words, _PAPER)
    for first, second in (
        ("search", "scene"), ("scene", "ssim"), ("ssim", "lookalikes"), ("lookalikes", "verdict"),
        ("collection", "imaging"), ("imaging", "hashing"), ("hashing", "store"), ("store", "index"),
    ):  # fmt: skip
        arrow(axes, edge(steps, middle, first, second), edge(steps, middle, second, first))
    arrow(axes, (22, middle["clients"] - 1.2), (22, middle["service"] + 5.8))
    arrow(axes, (22, middle["indexer"] + 5.8), (22, middle["service"] - 1.2))
    arrow(axes, (88, middle["service"] + 5.8), (88, middle["clients"] - 1.2))
    figure.savefig(path, dpi=110)


def edge(
    steps: dict[str, tuple[float, str, str]], middle: dict[str, float], one: str, other: str
) -> tuple[float, float]:
    """Return the middle of one side of a box: the side towards another box in the same layer."""
    x, floor, _ = steps[one]
    return x + (HALF_WIDTH if steps[other][0] > x else -HALF_WIDTH), middle[floor] + 2.3


def box(axes: Axes, bounds: tuple[float, float, float, float], words: str, colour: str) -> None:
    """Draw a box with round corners and centred text. `bounds` are left, bottom, width and height of the box."""
    left, bottom, width, height = bounds
    axes.add_patch(
        FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=colour, ec="#b8c4cf")
    )
    axes.text(
        left + width / 2, bottom + height / 2, words, ha="center", va="center", fontsize=8, color=_INK, linespacing=1.4
    )


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow from one point to another."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=_FAINT, lw=1.1, shrinkA=0, shrinkB=0)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("images"))

"""The page of an evaluation: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from twinscope_client.evaluation.tables import (
    BY_SCORE_TITLE,
    LABEL_COLUMNS,
    OLD_COLUMNS,
    OLD_TITLE,
    SCORE_TITLES,
    label_cells,
    old_cells,
    score_cells,
    sentence,
    unknown_lines,
)
from twinscope_client.labelling.report.page import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinscope_client.evaluation.metrics import Evaluation, ScoreName


LISTED = 200
"""Rows of a list in the page; evaluation.json has all of them."""


def render(evaluation: Evaluation, plots: Mapping[ScoreName, bytes], described: Mapping[str, Any]) -> str:
    """Render the page.

    Parameters
    ----------
    evaluation : Evaluation
    plots : mapping of bytes
        PNG files by score.
    described : mapping
        What evaluation.json holds; for ``run``, ``truth``, ``right_by_another_reference``, ``rows_without_image`` and
        ``images_without_row``.

    Returns
    -------
    str
        HTML; all text is escaped, and what cannot be printed is shown as an escape sequence.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalised, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    groups = evaluation.groups
    return template.render(
        sentence=sentence(evaluation),
        described=described,
        groups=groups,
        tables=[
            ("Labels", LABEL_COLUMNS, [label_cells(group) for group in groups]),
            (BY_SCORE_TITLE.rstrip(":"), tuple(SCORE_TITLES.values()), [score_cells(group) for group in groups]),
            (OLD_TITLE.rstrip(":"), OLD_COLUMNS, [old_cells(group.old) for group in groups]),
        ],
        unknown=unknown_lines(evaluation),
        false_labels=evaluation.false_labels,
        plots={
            SCORE_TITLES[name]: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in plots.items()
        },
        lists=_lists(described),
        listed=LISTED,
    )


def _lists(described: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give what is listed at the foot of the page, by heading."""
    return {
        "Right labels by another reference than the twin named": [
            f"{case['image']}: {case['reference']}, not {case['twin']}"
            for case in described["right_by_another_reference"]
        ],
        "Rows of the truth that mean no image of the run": [
            f"line {row['line']}, {row['image']}: {row['reason']}" for row in described["rows_without_image"]
        ],
        "Images of the run without a row, left out": list(described["images_without_row"]),
    }


def _finalised(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

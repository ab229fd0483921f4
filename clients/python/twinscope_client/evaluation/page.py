"""The web page with the evaluation of a labelling run: one HTML file that needs no other files."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from twinscope_client.evaluation.tables import (
    BY_SCORE_TITLE,
    LABEL_COLUMNS,
    LEGACY_COLUMNS,
    LEGACY_TITLE,
    SCORE_TITLES,
    label_cells,
    legacy_cells,
    score_cells,
    sentence,
    unknown_lines,
)
from twinscope_client.labelling.report.page import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinscope_client.evaluation.metrics import Evaluation, ScoreName


LISTED = 200
"""Maximum number of rows in each list on the page; evaluation.json contains all rows."""


def render(
    evaluation: Evaluation, plots: Mapping[ScoreName, bytes], described: Mapping[str, Any], *, legacy_rule: bool
) -> str:
    """Render the page.

    Parameters
    ----------
    evaluation : Evaluation
    plots : mapping of bytes
        The content of the PNG file for each score; each key is the name of a score.
    described : mapping
        The content of evaluation.json. The page uses the keys ``run``, ``truth``, ``rightly_refused``,
        ``right_by_another_reference``, ``rows_without_image`` and ``images_without_row``.
    legacy_rule : bool
        Whether the page shows the results of the legacy rule.

    Returns
    -------
    str
        The page as HTML. All text is escaped, and unprintable characters are shown as escape sequences.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalised, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    groups = evaluation.groups
    legacy = (LEGACY_TITLE.rstrip(":"), LEGACY_COLUMNS, [legacy_cells(group.legacy) for group in groups])
    return template.render(
        sentence=sentence(evaluation),
        described=described,
        groups=groups,
        tables=[
            ("Labels", LABEL_COLUMNS, [label_cells(group) for group in groups]),
            (BY_SCORE_TITLE.rstrip(":"), tuple(SCORE_TITLES.values()), [score_cells(group) for group in groups]),
            *([legacy] if legacy_rule else []),
        ],
        unknown=unknown_lines(evaluation) if legacy_rule else [],
        false_labels=evaluation.false_labels,
        missed=evaluation.missed,
        plots={
            SCORE_TITLES[name]: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in plots.items()
        },
        lists=_lists(described),
        listed=LISTED,
    )


def _lists(described: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lists at the bottom of the page; the keys are the headings."""
    return {
        "Images without a twin that rightly got no label": [case["image"] for case in described["rightly_refused"]],
        "Right labels from another reference than the twin in the truth table": [
            f"{case['image']}: {case['reference']}, not {case['twin']}"
            for case in described["right_by_another_reference"]
        ],
        "Rows of the truth table for which no image was found": [
            f"line {row['line']}, {row['image']}: {row['reason']}" for row in described["rows_without_image"]
        ],
        "Images that were not evaluated: the truth table has no row for them": list(described["images_without_row"]),
    }


def _finalised(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

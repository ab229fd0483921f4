"""The report of a labelling run: a summary in JSON, plots, and an HTML page."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from twinscope_indexer.errors import MissingExtraError, extra_needed

from twinscope_client.labelling.report.summary import Survey, summarise, survey
from twinscope_client.outputs import replace_if_changed

if TYPE_CHECKING:
    from twinscope_client.engine.protocol import Engine
    from twinscope_client.labelling.journal import Journal

__all__ = ["summarise", "write_report"]


def write_report(journal: Journal, engine: Engine | None) -> None:
    """Write ``summary.json``, ``report.html`` and ``plots/*.png`` into the folder of a run.

    These files depend only on the journal and the images. If nothing has changed, they are not written again. If
    Matplotlib is not installed, there are no plots, and the page says how to install it.

    Parameters
    ----------
    journal : Journal
        The journal of the run.
    engine : Engine or None
        The engine from which the thumbnails of the references are read. If it is None, the page says that the store was
        not available.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    # The import of Matplotlib and Jinja takes half a second. A command that only prints help must not wait for it.
    from twinscope_client.labelling.report.gallery import curate
    from twinscope_client.labelling.report.page import render

    run = survey(journal)
    plots = _plots(run)
    folder = journal.folder
    replace_if_changed(folder / "summary.json", (json.dumps(run.summary, indent=2) + "\n").encode())
    for name, png in plots.items():
        replace_if_changed(folder / "plots" / f"{name}.png", png)
    replace_if_changed(folder / "report.html", render(journal, run.summary, plots, curate(journal, engine)).encode())


def _plots(run: Survey) -> dict[str, bytes]:
    """Draw the plots of a run; the result is empty if Matplotlib is not installed."""
    with suppress(MissingExtraError), extra_needed("a report with plots", "plots"):
        from twinscope_client.labelling.report.plots import draw

        return draw(run)
    return {}

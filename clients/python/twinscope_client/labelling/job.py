"""A complete labelling run: open the journal, record the settings, label the images, and write the results."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from twinscope_client.connect import connect
from twinscope_client.errors import OutputError
from twinscope_client.labelling import run
from twinscope_client.labelling.journal import Journal, is_journal
from twinscope_client.labelling.report import write_report
from twinscope_client.labelling.tables import write_tables
from twinscope_client.outputs import JOURNAL_NAME, RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twinscope_client.engine.protocol import Engine


def label(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    at: str | os.PathLike[str] | Engine,
    out: str | os.PathLike[str],
    settings: run.LabelSettings | None = None,
    progress: run.Progress = lambda _: None,
) -> run.LabelReport:
    """Label images as ``twinscope label`` does: write labelled copies, tables and a report.

    The label of an image is the category of its twin. For each category, there is a folder for the copies. Sources are
    never changed. The tables, reports and sidecars of earlier runs are replaced. No other file is overwritten. To
    continue a run that was stopped, repeat the same call.

    Parameters
    ----------
    sources : path, or sequence of path
        Images or folders. The images in all subfolders are also labelled.
    at : path, str or Engine
        The folder of a store, the address of a server, or an open engine.
    out : path
        The output folder.
    settings : LabelSettings, optional
        Policy, names of the copies, and other options.
    progress : callable, optional
        Function that is called with the decision about each image.

    Returns
    -------
    LabelReport

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If the output folder contains other results, is inside the store, or contains a source.
    StoreError, SettingsError, ServerError
        If the store or the server cannot be opened; see `connect`.
    """
    folder, settings = Path(out), settings or run.LabelSettings()
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    run.scopes_apart(paths, folder)  # this check must come before the first write to the output folder
    with connect(at) if isinstance(at, (str, os.PathLike)) else nullcontext(at) as engine:
        require_outside_store(folder, engine)
        with open_journal(folder, dry_run=settings.dry_run) as journal:
            if settings.dry_run:
                return run.label(paths, engine, journal, folder, settings, progress)
            journal.set_settings(described(paths, engine, settings))
            report = run.label(paths, engine, journal, folder, settings, progress)
            write_results(journal, engine)
            return report


def require_outside_store(out: Path, engine: Engine) -> None:
    """Raise an error if the output folder lies within the store.

    Raises
    ------
    OutputError
        If the output folder lies within the store.
    """
    if "://" not in engine.target and out.resolve().is_relative_to(Path(engine.target).resolve()):
        msg = f"the output folder {out} lies within the store {engine.target}; choose a folder outside the store"
        raise OutputError(msg)


@contextmanager
def open_journal(out: Path, *, dry_run: bool) -> Iterator[Journal]:
    """Open the journal of a run in the output folder. For a dry run, open a journal in a temporary folder.

    Raises
    ------
    OutputError
        If the folder contains tables or a report but no journal. A run would overwrite these tables or this report.
    """
    foreign = [name for name in RESULTS if os.path.lexists(out / name)]
    if not dry_run and foreign and not is_journal(out / JOURNAL_NAME):
        msg = f"{out} holds {', '.join(foreign)}, but no labelling run; choose a new or an empty output folder"
        raise OutputError(msg)
    with TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch) if dry_run else out)
        try:
            yield journal
        finally:
            journal.close()


def described(
    sources: Sequence[str | os.PathLike[str]], engine: Engine, settings: run.LabelSettings
) -> dict[str, object]:
    """Return the settings that a run records in its journal."""
    store_id, _, generation = engine.identity.rpartition("/")
    return {
        "version": version("twinscope"),
        "target": engine.target,
        "store_id": store_id,
        "generation": int(generation),
        "sources": [os.path.abspath(path) for path in sources],  # noqa: PTH100
        "policy": asdict(settings.policy),
        "min_grade": settings.min_grade,
        "template": settings.template,
        "jpeg": settings.jpeg,
        "sidecar": settings.sidecar,
        "link": settings.link,
        "pages": settings.pages,
    }


def write_results(journal: Journal, engine: Engine) -> None:
    """Write the tables and the report of a run.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_tables(journal)
    write_report(journal, engine)

"""The JSON output of ``twinscope index``: one object for each image of the sources, read from the catalog."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twinscope_client.cli.inputs import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twinscope_indexer.indexing.report import IndexReport

    from twinscope_client.cli.inputs import Inputs
    from twinscope_client.cli.outcome import JsonLines


def print_images(lines: JsonLines, store: Path, inputs: Inputs, report: IndexReport) -> None:
    """Write one JSON object for each image of the sources, and for each folder that could not be opened.

    Parameters
    ----------
    lines : JsonLines
    store : Path
        Folder of the store after the run.
    inputs : Inputs
        The sources of the run.
    report : IndexReport
    """
    from twinscope_indexer.store.reader import Store

    opened = Store(store)
    try:
        wanted = _below(inputs.paths)
        closed = {path for path, _ in report.unreadable}
        for record in opened.catalog.all_records():
            if not wanted(record.uri) or not os.path.lexists(record.root / record.path):
                continue
            lines.image(
                record.uri, image_id=record.image_id, category=record.category, code=record.code,
                searchable=record.hash is not None, unhashable=record.unhashable,
                new=record.generation == report.generation, sha256=record.sha256.hex(),
            )  # fmt: skip
        for failure in opened.catalog.failures():
            if wanted(failure.uri) and failure.uri not in closed:
                lines.unreadable(failure.uri, failure.fault, failure.message)
    finally:
        opened.close()
    for path, reason in report.unreadable:
        if reason == MISSING:
            lines.unreadable(path, "missing", reason)
        else:
            lines.folder(path, reason)


def _below(paths: list[str]) -> Callable[[str], bool]:
    """Return a function that checks whether a location is one of the paths or below one of the paths."""
    from twinscope_indexer.sources.location import split_page

    roots = {os.path.abspath(path).rstrip(os.sep) for path in paths}  # noqa: PTH100  resolve() would replace links

    def below(uri: str) -> bool:
        if uri in roots or uri.split("!")[0] in roots or split_page(uri)[0] in roots:
            return True
        parent = os.path.dirname(uri)  # noqa: PTH120
        while parent not in {"", os.sep}:
            if parent in roots or parent.split("!")[0] in roots:
                return True
            parent = os.path.dirname(parent)  # noqa: PTH120
        return "" in roots  # the source is the root of the file system

    return below

"""Table and messages about double labels: references of different categories that show the same field."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import counted, say_some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinscope_service.matching.double_labels import DoubleLabel

COLUMNS = ("image", "category", "other_image", "other_category", "distance", "scene_score")


def add_table_option(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--contradictions``."""
    parser.add_argument(
        "--contradictions", type=Path, metavar="F.csv",
        help="write a table of all pairs of images that show the same field but have different categories. An existing "
        "file is not overwritten",
    )  # fmt: skip


def require_new(path: Path | None) -> None:
    """Check that the table does not exist yet, before the work begins.

    Raises
    ------
    OutputError
        If there is a file at the path, or if its folder does not exist.
    """
    from twinscope_client.errors import OutputError

    if path is None:
        return
    if path.exists():
        msg = f"{path} already exists; name a new file with --contradictions"
        raise OutputError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"{path} cannot be written: there is no folder {path.absolute().parent}"
        raise OutputError(msg)


def report_double_labels(pairs: Sequence[DoubleLabel], path: Path | None) -> None:
    """Write the table, if there is a path, and print the first ten pairs.

    Raises
    ------
    OutputError
        If the table cannot be written.
    """
    if path is not None:
        _write(pairs, path)
    say_some(
        f"{counted(len(pairs), 'pair of images shows', 'pairs of images show')} the same field but the two images have "
        "different categories. Check their labels:",
        [f"{pair.one} ({pair.category})  and  {pair.other} ({pair.other_category})" for pair in pairs],
        len(pairs),
        f"all of them are in {path}" if path is not None else "--contradictions F.csv writes all of them",
    )


def as_dicts(pairs: Sequence[DoubleLabel]) -> list[dict[str, object]]:
    """Return the rows of the table as dictionaries, for JSON."""
    return [dict(zip(COLUMNS, _row(pair), strict=True)) for pair in pairs]


def _row(pair: DoubleLabel) -> tuple[object, ...]:
    return (
        pair.one, pair.category, pair.other, pair.other_category, pair.distance, round(pair.scene_score, 4),
    )  # fmt: skip


def _write(pairs: Sequence[DoubleLabel], path: Path) -> None:
    from twinscope_client.errors import OutputError
    from twinscope_client.labelling.tables import Table

    try:
        with path.open("x", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = Table(stream)
            rows.writerow(COLUMNS)
            rows.writerows(map(_row, pairs))
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise OutputError(msg) from error

"""The truth about the images of a labelling run: a CSV file with the right category of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.sources.tables import CATEGORY, IMAGE, image_path, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from twinscope_indexer.sources.tables import Row
    from twinscope_indexer.taxonomy import Taxonomy

_OPTIONAL = ("transform", "twin")


@dataclass(frozen=True, slots=True)
class TruthRow:
    """The truth about one image."""

    line: int
    """Line number in the file; the first line is 1."""
    image: str
    """Path or name of the image, as written in the file."""
    category: str
    """Name of the right category; empty if the image has no twin in the collection and must not be labelled."""
    transform: str = ""
    """Change that was made to the image; empty if the table names no change."""
    twin: str = ""
    """Path of the right reference, or the last part of the path; empty if the table names no reference."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The content of a truth table."""

    rows: list[TruthRow]
    """One row for each image that the file names, in the order of the file."""
    unused: list[str]
    """Names of the columns that the evaluation does not use."""


def read_truth(path: Path, resolve: Callable[[str], str]) -> Truth:
    """Read a truth table.

    Parameters
    ----------
    path : Path
        A CSV file; see `tables.read_table`. The header must contain a column for the images and the column
        ``category``, in one of the spellings that `tables.IMAGE` and `tables.CATEGORY` list. The columns ``transform``
        and ``twin`` are optional.
    resolve : callable
        Function that returns the name of a category. The argument is the name, code or alias of the category. The
        function raises TaxonomyError for an unknown category.

    Returns
    -------
    Truth

    Raises
    ------
    TaxonomyError
        If the file cannot be read, is not a truth table, names an unknown category, or has contradictory rows.
    """
    rows: dict[str, TruthRow] = {}
    table = read_table(path, {"image": IMAGE, "category": CATEGORY}, _OPTIONAL)
    for found in table.rows:
        # A row with too few cells is an error. Otherwise, the image would count as an image without a twin.
        missing = [name for name in table.columns if name not in found.cells]
        if missing:
            msg = (
                f"{path}, line {found.line}: the row ends before the column {missing[0]}; write all columns, even if "
                "they are empty"
            )
            raise TaxonomyError(msg)
        row = _row(f"{path}, line {found.line}", found, resolve)
        _require_agreement(path, rows.setdefault(image_path(row.image), row), row)
    if not rows:
        msg = f"{path} has a header, but no rows: write one row for each image"
        raise TaxonomyError(msg)
    return Truth(list(rows.values()), table.unused)


def category_name(label: str, met: Mapping[str, str], taxonomy: Taxonomy) -> str:
    """Return the name of a category. The truth table can contain the name, the code or an alias.

    Parameters
    ----------
    label : str
        Name, code or alias of the category.
    met : mapping of str
        Names of the categories in the run. The keys are the names and the codes of these categories. The categories can
        come from another taxonomy. If `met` and `taxonomy` differ, `met` is used.
    taxonomy : Taxonomy
        The taxonomy that is used for all other categories.

    Raises
    ------
    TaxonomyError
        If the category is unknown.
    """
    return met[label] if label in met else taxonomy.resolve(label).name


def _row(place: str, found: Row, resolve: Callable[[str], str]) -> TruthRow:
    values = found.cells
    if not values["image"].strip("/\\."):
        msg = f"{place}: the row names no image; write the path or file name of the image, or remove the row"
        raise TaxonomyError(msg)
    label = values["category"]
    if values.get("twin") and not label:
        msg = f"{place}: a twin is named, but no category; an empty category means that there is no twin"
        raise TaxonomyError(msg)
    try:
        category = resolve(label) if label else ""
    except TaxonomyError as error:
        msg = f"{place}: {error} Leave the category empty for an image without a twin."
        raise TaxonomyError(msg) from error
    return TruthRow(found.line, values["image"], category, values.get("transform", ""), values.get("twin", ""))


def _require_agreement(path: Path, first: TruthRow, row: TruthRow) -> None:
    for column in ("category", "transform", "twin"):
        one, other = getattr(first, column), getattr(row, column)
        if one != other:
            msg = (
                f"{path}: lines {first.line} and {row.line} contradict each other about {row.image!r}: {column} "
                f"{one or '(empty)'} and {other or '(empty)'}; remove one of the lines"
            )
            raise TaxonomyError(msg)

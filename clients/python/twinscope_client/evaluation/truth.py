"""The truth about the images of a labelling run: a CSV file with the right category of each image."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from twinscope_indexer.errors import TaxonomyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from twinscope_indexer.taxonomy import Taxonomy

IMAGE_COLUMNS = ("path", "source", "image", "file", "query", "tiff_path")
"""Possible names of the column with the paths or names of the images. The names can be in upper or lower case."""

_NEEDED = f"a column for the images ({', '.join(IMAGE_COLUMNS)}) and the column category"
_OPTIONAL = ("transform", "twin")
_DELIMITERS = ",;\t"


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
    """Operation that was applied to the image; empty if the table names no operation."""
    twin: str = ""
    """Path of the right reference, or the last part of the path; empty if the table names no reference."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The content of a table of truth."""

    rows: list[TruthRow]
    """One row for each image that the file names, in the order of the file."""
    unused: list[str]
    """Names of the columns that the evaluation does not use."""


def read_truth(path: Path, resolve: Callable[[str], str]) -> Truth:
    """Read a table of truth.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8, with or without a byte order mark. Columns are separated by commas, semicolons or tabs. The
        header must contain a column for the images (see `IMAGE_COLUMNS`) and the column ``category``. The columns
        ``transform`` and ``twin`` are optional.
    resolve : callable
        Function that returns the name of a category. The argument is the name, code or alias of the category. The
        function raises TaxonomyError for an unknown category.

    Returns
    -------
    Truth

    Raises
    ------
    TaxonomyError
        If the file cannot be read, is not a table of truth, names an unknown category, or has contradictory rows.
    """
    rows: dict[str, TruthRow] = {}
    text = _text(path)
    lines = _lines(text)
    try:
        first = next(lines, None)
        if first is None:
            msg = f"{path} is empty: it must contain a header with {_NEEDED}, and one row for each image"
            raise TaxonomyError(msg)
        columns, unused = _columns(path, first[1])
        for line, cells in lines:
            row = _row(f"{path}, line {line}", line, cells, columns, len(first[1]), resolve)
            key = str(PurePosixPath(row.image.replace("\\", "/")))
            _require_agreement(path, rows.setdefault(key, row), row)
    except csv.Error as error:
        msg = f"{path} is not a well-formed CSV file: {error}. Is a closing quotation mark missing?"
        raise TaxonomyError(msg) from error
    if not rows:
        msg = f"{path} has a header, but no rows: write one row for each image"
        raise TaxonomyError(msg)
    return Truth(list(rows.values()), unused)


def category_name(label: str, met: Mapping[str, str], taxonomy: Taxonomy) -> str:
    """Return the name of a category. The table of truth can contain the name, the code or an alias.

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


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every line that is not blank."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda char: (_known_columns(header.split(char)), header.count(char)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"the table of truth {path} cannot be read: {error.strerror or error}"
        raise TaxonomyError(msg) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"{path}, line {line}: this is not UTF-8 (byte 0x{data[error.start]:02x}); save it as 'CSV UTF-8'"
        raise TaxonomyError(msg) from error


def _known_columns(cells: Iterable[str]) -> int:
    """Count the known columns of a header."""
    return sum(_folded(cell) in {*IMAGE_COLUMNS, "category", *_OPTIONAL} for cell in cells)


def _columns(path: Path, header: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Return the positions of the columns that are used, and the names of the other columns.

    The column for the images has the key ``image``.
    """
    names = [_folded(cell) for cell in header]
    shown = ", ".join(map(repr, header))
    if not _known_columns(header):
        msg = f"{path} has no header: the first line must contain {_NEEDED}; found {shown}"
        raise TaxonomyError(msg)
    named = [name for name in names if name in IMAGE_COLUMNS]
    if not named or "category" not in names:
        msg = f"{path}: the header must contain {_NEEDED}; found {shown}"
        raise TaxonomyError(msg)
    repeated = sorted({name for name in names if name in {"category", *_OPTIONAL} and names.count(name) > 1})
    if len(named) > 1 or repeated:
        columns = " and ".join(named) if len(named) > 1 else ", ".join(repeated)
        msg = f"{path}: more than one column matches ({columns}); keep one column, and rename the others"
        raise TaxonomyError(msg)
    positions = {name: names.index(name) for name in ("category", *_OPTIONAL) if name in names}
    unused = [
        cell.strip() for cell, name in zip(header, names, strict=True) if name and name not in {*positions, *named}
    ]
    return {"image": names.index(named[0])} | positions, unused


def _row(
    place: str,
    line: int,
    cells: Sequence[str],
    columns: Mapping[str, int],
    width: int,
    resolve: Callable[[str], str],
) -> TruthRow:
    # A row with too few cells is an error. Otherwise, the image would count as an image without a twin.
    missing = [name for name, position in columns.items() if position >= len(cells)]
    if missing:
        msg = f"{place}: the row ends before the column {missing[0]}; write all columns, even if they are empty"
        raise TaxonomyError(msg)
    if any(cell.strip() for cell in cells[width:]):
        msg = f"{place}: the row has more columns than the header; put a name that contains a separator in quotes"
        raise TaxonomyError(msg)
    values = {name: cells[position].strip() for name, position in columns.items()}
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
    return TruthRow(line, values["image"], category, values.get("transform", ""), values.get("twin", ""))


def _require_agreement(path: Path, first: TruthRow, row: TruthRow) -> None:
    for column in ("category", "transform", "twin"):
        one, other = getattr(first, column), getattr(row, column)
        if one != other:
            msg = (
                f"{path}: lines {first.line} and {row.line} contradict each other about {row.image!r}: {column} "
                f"{one or '(empty)'} and {other or '(empty)'}; remove one of the lines"
            )
            raise TaxonomyError(msg)


def _folded(name: str) -> str:
    return name.strip().strip('"').casefold()

"""Tables as an Excel workbook: numbers stay numbers in each language of Excel, and no text becomes a formula.

A CSV file that Excel opens by a double click depends on the language of the system: the separator, the decimal mark and
the encoding differ. A workbook does not depend on the language.
"""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twinscope_client.errors import MissingExtraError
from twinscope_client.labelling.tables import sheets
from twinscope_client.outputs import WORKBOOK_NAME, replace_if_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from twinscope_client.labelling.journal import Journal

_MOST_ROWS: Final = 1_048_576 - 1
"""Maximum number of rows of a sheet below the heading."""
_MOST_CHARACTERS: Final = 32_767
"""Maximum number of characters in a cell."""
_CREATED: Final = datetime(2000, 1, 1)
"""Time of creation in each workbook; with the present time, equal tables would give different files."""


def require_workbooks() -> None:
    """Check that the component that writes workbooks is installed.

    Raises
    ------
    MissingExtraError
        If XlsxWriter is not installed.
    """
    try:
        import xlsxwriter  # noqa: F401
    except ImportError as error:
        what = "an Excel workbook"
        raise MissingExtraError(what, "excel") from error


def wants_workbook(folder: Path, *, asked: bool) -> bool:
    """Return whether a run writes a workbook: if the user asks for it, or if the folder has one from an earlier run.

    An earlier workbook would otherwise no longer agree with the other tables.

    Raises
    ------
    MissingExtraError
        If the run writes a workbook, and XlsxWriter is not installed.
    """
    wanted = asked or (folder / WORKBOOK_NAME).exists()
    if wanted:
        require_workbooks()
    return wanted


def write_workbook(journal: Journal) -> None:
    """Write the tables of a run into ``tables.xlsx``: one sheet for each table.

    Raises
    ------
    MissingExtraError
        If XlsxWriter is not installed.
    OutputError
        If the file cannot be written.
    """
    replace_if_changed(journal.folder / WORKBOOK_NAME, workbook(sheets(journal)))


def workbook(tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[object]]]]) -> bytes:
    """Return an Excel workbook.

    Parameters
    ----------
    tables : iterable of (str, sequence of str, iterable of sequence)
        Name, columns and rows of each table. If a table has more rows than a sheet can have, it gets several sheets.

    Raises
    ------
    MissingExtraError
        If XlsxWriter is not installed.
    """
    require_workbooks()
    from xlsxwriter import Workbook

    data = BytesIO()
    with Workbook(data, {"constant_memory": True}) as book:
        book.set_properties({"created": _CREATED})
        bold = book.add_format({"bold": True})
        for name, columns, rows in tables:
            _add(book, name, columns, rows, bold)
    return data.getvalue()


def _add(book: Any, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]], bold: Any) -> None:
    sheet, count, part = None, 0, 1
    for row in rows:
        if sheet is None or count == _MOST_ROWS:
            sheet = _sheet(book, name if part == 1 else f"{name} {part}", columns, bold)
            count, part = 0, part + 1
        count += 1
        for column, value in enumerate(row):
            _put(sheet, count, column, value)
    if sheet is None:
        _sheet(book, name, columns, bold)


def _sheet(book: Any, name: str, columns: Sequence[str], bold: Any) -> Any:
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    for column, title in enumerate(columns):
        sheet.write_string(0, column, title, bold)
    return sheet


def _put(sheet: Any, row: int, column: int, value: object) -> None:
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, (int, float)) and abs(value) <= 2**53:  # larger whole numbers would be rounded
        sheet.write_number(row, column, value)
    elif value is not None and value != "":
        sheet.write_string(row, column, _text(value))


def _text(value: object) -> str:
    """Return a value as text that a cell can hold; write_string never makes it a formula or a link."""
    readable = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    readable = readable.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")  # XML does not allow them
    if len(readable) > _MOST_CHARACTERS:
        return f"{readable[: _MOST_CHARACTERS - 4]} ..."
    return readable

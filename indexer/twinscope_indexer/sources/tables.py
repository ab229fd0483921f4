"""Tables that people write: CSV files from spreadsheet programs and scripts, in the forms that are common in practice.

A table may use commas, semicolons or tabs, and UTF-8 or UTF-16. Its headings may be in upper or lower case, and in any
of several languages. A form that could be misread is refused, with a message that says how to save the table.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import TaxonomyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_DELIMITERS: Final = ",;\t"
_TITLE_LINES: Final = 20
"""Number of lines in which a header is looked for, if the first line is not a header."""
_SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)
"""First line that some versions of Excel write and read: it names the separator."""
_BINARY: Final = ((b"PK\x03\x04", "a spreadsheet or a zip archive"), (b"\xd0\xcf\x11\xe0", "an Excel workbook"))

IMAGE: Final = (
    ("path", "source", "image", "file", "query", "tiff_path"),
    (
        *("filename", "filepath", "file name", "file path", "image file", "image name", "image path"),
        *("Datei", "Dateiname", "Dateipfad", "Pfad", "Bild", "Bilddatei", "Bildname"),
        *("fichier", "nom de fichier", "nom du fichier", "chemin", "chemin du fichier"),
        *("archivo", "nombre de archivo", "nombre del archivo", "fichero", "ruta", "imagen"),
        *("nome file", "nome del file", "percorso", "immagine", "arquivo", "ficheiro", "caminho", "imagem"),
        *("bestand", "bestandsnaam", "pad", "afbeelding", "fil", "filnamn", "filnavn", "sökväg", "sti", "bilde"),
        *("billede", "tiedosto", "polku", "kuva", "plik", "nazwa pliku", "ścieżka", "obraz", "soubor", "cesta"),
        *("obrázek", "fájl", "fájlnév", "kép", "dosya", "dosya adı", "yol", "görüntü"),
        *("файл", "имя файла", "путь", "изображение", "文件", "文件名", "路径", "图像", "图片", "檔案"),
        *("ファイル", "ファイル名", "パス", "画像", "파일", "파일명", "파일 이름", "경로", "이미지"),
    ),
    ("name", "nom", "nombre", "nome", "naam", "navn", "namn", "nimi", "nazwa", "имя", "名称", "名前", "이름"),
)
"""Headings of the column with the images. A group is used only if the table has no heading of an earlier group."""

CATEGORY: Final = (
    ("category",),
    (
        *("categories", "label", "labels", "class", "classes", "Kategorie", "Klasse"),
        *("catégorie", "classe", "étiquette", "categoría", "clase", "etiqueta", "categoria", "etichetta", "rótulo"),
        *("categorie", "klasse", "kategori", "klass", "luokka", "kategoria", "klasa", "etykieta"),
        *("třída", "kategória", "osztály", "sınıf", "etiket", "категория", "класс", "метка"),
        *(
            "类别",
            "分类",
            "标签",
            "類別",
            "カテゴリ",
            "カテゴリー",
            "分類",
            "ラベル",
            "범주",
            "카테고리",
            "분류",
            "라벨",
        ),
    ),
)
"""Headings of the column with the categories, in groups like `IMAGE`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    line: int
    """Line number in the file; the first line is 1."""
    cells: dict[str, str]
    """Text of each known column, without blanks at its ends. If the row ends before a column, the column is missing."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """The content of a table."""

    columns: list[str]
    """Names of the known columns that the header contains."""
    rows: list[Row]
    """The rows that are not blank, in the order of the file."""
    unused: list[str]
    """Headings of the columns that are not known."""


def read_table(path: Path, columns: Mapping[str, Sequence[Sequence[str]]], optional: Sequence[str] = ()) -> TableFile:
    """Read a table that a person wrote.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8 or UTF-16. Its columns are separated by commas, semicolons or tabs.
    columns : mapping of str
        Names of the columns that must be there, each with the groups of headings that are accepted for it. A group is
        used only if the table has no heading of an earlier group. Case, blanks and accents do not matter.
    optional : sequence of str
        Names of the columns that may be there. Each column has its name as its heading.

    Returns
    -------
    TableFile

    Raises
    ------
    TaxonomyError
        If the file cannot be read, has no header, lacks a column, or has a row that is longer than the header.
    """
    groups = dict(columns) | {name: ((name,),) for name in optional}
    lines = _lines(path, _text(path), groups)
    try:
        first = next(lines, None)
        if first is None:
            msg = f"{path} is empty: it must contain a header with {_needed(columns)}, and one row for each image"
            raise TaxonomyError(msg)
        line, header = first
        positions = _positions(path, line, header, groups, columns, lines)
        rows = [_row(path, number, cells, positions, len(header)) for number, cells in lines]
    except csv.Error as error:
        msg = f"{path} is not a well-formed CSV file: {error}. Is a closing quotation mark missing?"
        raise TaxonomyError(msg) from error
    unused = [
        cell.strip() for at, cell in enumerate(header) if cell.strip() and at not in positions.values()
    ]  # fmt: skip
    return TableFile(list(positions), rows, unused)


def image_path(text: str) -> str:
    """Return the path of an image in the form in which paths are compared.

    Backslashes become forward slashes, ``./`` is left out, and accented letters are composed (NFC): file systems and
    spreadsheet programs write them in different ways.
    """
    return str(PurePosixPath(unicodedata.normalize("NFC", text.strip().replace("\\", "/"))))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"the table {path} cannot be read: {error.strerror or error}"
        raise TaxonomyError(msg) from error
    for start, kind in _BINARY:
        if data.startswith(start):
            msg = f"{path} is {kind}, not a CSV file; open it in its program and save it as 'CSV UTF-8'"
            raise TaxonomyError(msg)
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            msg = f"{path} is damaged: it begins like UTF-16, but is not; save it as 'CSV UTF-8'"
            raise TaxonomyError(msg) from error
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"{path}, line {line}: this is not UTF-8 (byte 0x{data[error.start]:02x}); save it as 'CSV UTF-8'"
        raise TaxonomyError(msg) from error
    if "\0" in text:
        msg = f"{path} is not a text file; save the table as 'CSV UTF-8'"
        raise TaxonomyError(msg)
    return text.removeprefix("\ufeff")


def _encoding(data: bytes) -> str:
    """Return the encoding of a text file. UTF-16 is also recognised without a byte order mark, by its zero bytes."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = data[:200]
    zeros = start[0::2].count(0), start[1::2].count(0)
    if len(data) % 2 == 0 and max(zeros) > len(start) // 5 and min(zeros) == 0:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    return "utf-8-sig"


def _lines(path: Path, text: str, groups: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every line that is not blank."""
    written = text.splitlines(keepends=True)
    header = next((number for number, line in enumerate(written) if line.strip(",;\t \r\n")), 0)
    named = _SEPARATOR_LINE.fullmatch(written[header].strip()) if written else None
    if named and named[1] in _DELIMITERS:
        delimiter, skipped = named[1], header + 1
    elif named:
        msg = f"{path}: the separator {named[1]!r} is not supported; save the table with commas, semicolons or tabs"
        raise TaxonomyError(msg)
    else:
        line, skipped = "".join(written[header : header + 1]), 0
        delimiter = max(_DELIMITERS, key=lambda char: (_known(_cells(line, char), groups), line.count(char)))
    rest = io.StringIO("".join(written[skipped:]), newline="")
    reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
    return ((reader.line_num + skipped, cells) for cells in reader if any(cell.strip() for cell in cells))


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _known(header: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]]) -> int:
    """Count the cells of a header that are known headings."""
    known = {_folded(heading) for of_column in groups.values() for group in of_column for heading in group}
    return sum(_folded(cell) in known for cell in header)


def _positions(
    path: Path,
    line: int,
    header: Sequence[str],
    groups: Mapping[str, Sequence[Sequence[str]]],
    needed: Mapping[str, Sequence[Sequence[str]]],
    below: Iterator[tuple[int, list[str]]],
) -> dict[str, int]:
    """Return the positions of the known columns in a header."""
    found = {name: _matching(header, of_column) for name, of_column in groups.items()}
    missing = [name for name in needed if not found[name]]
    if missing:
        raise _bad_header(path, line, header, groups, needed, below)
    for name, positions in found.items():
        if len(positions) > 1:
            matching = " and ".join(repr(header[at].strip()) for at in positions)
            msg = f"{path}: several headings mean the column {name} ({matching}); keep one, and rename the others"
            raise TaxonomyError(msg)
    return {name: positions[0] for name, positions in found.items() if positions}


def _matching(header: Sequence[str], of_column: Sequence[Sequence[str]]) -> list[int]:
    """Return the positions of the headings of the first group that is in the header."""
    for group in of_column:
        accepted = {_folded(heading) for heading in group}
        found = [at for at, cell in enumerate(header) if _folded(cell) in accepted]
        if found:
            return found
    return []


def _bad_header(
    path: Path,
    line: int,
    header: Sequence[str],
    groups: Mapping[str, Sequence[Sequence[str]]],
    needed: Mapping[str, Sequence[Sequence[str]]],
    below: Iterator[tuple[int, list[str]]],
) -> TaxonomyError:
    shown = ", ".join(repr(cell) for cell in header)
    for _, (number, cells) in zip(range(_TITLE_LINES), below, strict=False):
        if all(_matching(cells, groups[name]) for name in needed):
            return TaxonomyError(
                f"{path}: the header is in line {number}, below a title ({shown}); delete the lines above the header"
            )
    if not _known(header, groups):
        return TaxonomyError(
            f"{path} has no header: the first line must contain the columns {_needed(needed)}; found {shown}"
        )
    return TaxonomyError(f"{path}, line {line}: the header must contain the columns {_needed(needed)}; found {shown}")


def _row(path: Path, line: int, cells: Sequence[str], positions: Mapping[str, int], width: int) -> Row:
    if any(cell.strip() for cell in cells[width:]):
        msg = (
            f"{path}, line {line}: the row has more columns than the header; put a name that contains a separator in "
            "quotes"
        )
        raise TaxonomyError(msg)
    return Row(line, {name: cells[at].strip() for name, at in positions.items() if at < len(cells)})


def _needed(columns: Mapping[str, Sequence[Sequence[str]]]) -> str:
    return " and ".join(
        f"{name} ({', '.join(groups[0])}, or the word of another language)" if len(groups[0]) > 1 else f"{name!r}"
        for name, groups in columns.items()
    )


def _folded(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading.strip().strip('"').casefold())
    return "".join(char for char in plain if char.isalnum() and not unicodedata.combining(char))

"""Tables that people write: every common form is read with the same content, and other forms give a message."""

from __future__ import annotations

from pathlib import Path

import pytest
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.sources.tables import CATEGORY, IMAGE, image_path, read_table

COLUMNS = {"image": IMAGE, "category": CATEGORY}


def read(folder: Path, data: str | bytes) -> list[tuple[int, str, str]]:
    path = folder / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return [(row.line, row.cells["image"], row.cells["category"]) for row in read_table(path, COLUMNS).rows]


@pytest.mark.parametrize(
    "header",
    [
        "file,category", "File Name,Label", "FILE_NAME,class", "Datei,Kategorie", "Dateiname,KLASSE",
        "fichier,catégorie",
        "Nom du fichier,CATEGORIE", "archivo,categoría", "ruta,clase", "percorso,etichetta", "ficheiro,rótulo",
        "bestand,categorie", "filnamn,kategori", "ścieżka,kategoria", "soubor,třída", "файл,категория", "文件名,类别",
        "ファイル名,カテゴリ", "파일,분류", "path,filename,category", "name,label,filename",
    ],
)  # fmt: skip
def test_headings_of_many_languages(tmp_path, header):
    cells = {"category": "Tips", "label": "Tips", "path": "a.jpg", "filename": "a.jpg", "name": "other"}
    names = header.split(",")
    row = ",".join(cells.get(name, "") for name in names) if len(names) > 2 else "a.jpg,Tips"
    assert read(tmp_path, f"{header}\n{row}\n") == [(2, "a.jpg", "Tips")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('file;category\n"a;b.jpg"; "Tips"\n', [(2, "a;b.jpg", "Tips")]),
        ("sep=;\r\nfile;category\r\n\r\na.jpg;Tips\r\n", [(4, "a.jpg", "Tips")]),
        ("\n;;\nfile;category;\na.jpg;Tips;\n;;\n", [(4, "a.jpg", "Tips")]),
        ("file\tcategory\ra.jpg\tTips\r", [(2, "a.jpg", "Tips")]),
        ('file,category\n"two\nlines.jpg",Tips\nb,Fibres\n', [(3, "two\nlines.jpg", "Tips"), (4, "b", "Fibres")]),
        ('"a, title",file,category\nx,a.jpg,Tips\n', [(2, "a.jpg", "Tips")]),
    ],
)
def test_separators_quotes_and_blank_lines(tmp_path, text, rows):
    assert read(tmp_path, text) == rows
    for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        assert read(tmp_path, text.encode(coding)) == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfef\x00i\x00", "has no header"),
        (b"\xff\xfef\x00i\x00l", "begins like UTF-16, but is not"),
        (b"file,category\n\x00\x01\x00,Tips\n", "is not a text file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel workbook"),
        (b"sep=|\nfile|category\n", r"the separator '\|' is not supported"),
        (b"file,category\nK\xf6rner.jpg,Tips\n", "line 2: this is not UTF-8 .byte 0xf6.; save it as 'CSV UTF-8'"),
        (b"Labels\nfile,category\na,Tips\n", r"the header is in line 2, below a title \('Labels'\)"),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path, data, message):
    with pytest.raises(TaxonomyError, match=message):
        read(tmp_path, data)


def test_paths_are_compared_in_one_form():
    assert image_path(" .\\Dra\u0308hte\\a.jpg ") == "Dr\u00e4hte/a.jpg"

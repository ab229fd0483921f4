"""Tables as an Excel workbook. The tests read the workbook with openpyxl, a package that Twinscope does not use."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.utils.escape import unescape
from shelf import Shelf
from twinscope_client.cli.main import main
from twinscope_client.errors import MissingExtraError
from twinscope_client.labelling import workbook as module
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.tables import write_tables
from twinscope_client.labelling.workbook import workbook, write_workbook


def read(source: Path | bytes) -> dict[str, list[tuple[Any, ...]]]:
    book = load_workbook(io.BytesIO(source) if isinstance(source, bytes) else source)
    cells = {sheet.title: [list(row) for row in sheet.iter_rows()] for sheet in book}
    assert not [cell for rows in cells.values() for row in rows for cell in row if cell.data_type == "f"]
    assert not [cell for rows in cells.values() for row in rows for cell in row if cell.hyperlink]
    return {title: [tuple(value(cell) for cell in row) for row in rows] for title, rows in cells.items()}


def value(cell: Any) -> Any:
    return unescape(cell.value) if isinstance(cell.value, str) else cell.value  # as Excel does


HOSTILE = [
    "=1+1", "+1", "-1", "@x", '=HYPERLINK("http://x")', "{=1+1}", "http://x.org/a", "mailto:a@b.c", "file:///etc/passwd",
    "\t=1", "'=1", "1.5", "2024-03-12", "TRUE", "#N/A", "Übersicht – größe", "a\nb", "_x0041_", "\U0001f52c",
]  # fmt: skip


def test_no_text_becomes_a_formula_a_link_a_number_or_a_date() -> None:
    [(_, rows)] = read(workbook([("t", ["text"], [(text,) for text in HOSTILE])])).items()
    assert [row[0] for row in rows] == ["text", *HOSTILE]


def test_numbers_stay_numbers_and_nothing_stays_empty() -> None:
    values = (1, -0.25, 1e-300, True, False, None, "", 2**53, 2**53 + 1, float("nan"), float("inf"))
    [(_, rows)] = read(workbook([("t", list("abcdefghijk"), [values])])).items()
    assert rows[1] == (1, -0.25, 1e-300, True, False, None, None, 2**53, str(2**53 + 1), "nan", "inf")


def test_texts_that_a_cell_cannot_hold_are_written_readably() -> None:
    long, broken, odd = "x" * 40_000, "a\udcff.tif", "a\uffff\x00b"
    [(_, rows)] = read(workbook([("t", ["text"], [(long,), (broken,), (odd,)])])).items()
    texts = [row[0] for row in rows[1:]]
    assert (len(texts[0]), texts[0][-4:]) == (32_767, " ...")
    assert texts[1:] == ["a\\xff.tif", "a\\uffff\x00b"]


def test_long_tables_get_several_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ROWS", 2)
    found = read(workbook([("t", ["n"], [(number,) for number in range(5)]), ("empty", ["n"], [])]))
    assert found == {"t": [("n",), (0,), (1,)], "t 2": [("n",), (2,), (3,)], "t 3": [("n",), (4,)], "empty": [("n",)]}


def test_the_workbook_of_a_run_has_the_rows_of_its_tables(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for grade, output in (("good", "Tips/x.tif"), ("doubtful", ""), ("failed", "")):
        journal.put(Decision(f"/lab/{grade}.tif", 1, 1, "ab" * 32, "s", "t", grade, "reason", category="Tips", ssim=0.5,
                             output=output, written=bool(output), code="L9",
                             instrument=json.dumps({"stage": {"x_mm": -3.5}})))  # fmt: skip
    write_tables(journal)
    write_workbook(journal)
    first = (tmp_path / "tables.xlsx").read_bytes(), (tmp_path / "tables.xlsx").stat().st_mtime_ns
    write_workbook(journal)
    assert ((tmp_path / "tables.xlsx").read_bytes(), (tmp_path / "tables.xlsx").stat().st_mtime_ns) == first
    journal.close()
    found = read(tmp_path / "tables.xlsx")
    assert list(found) == ["matches", "review", "failures"]
    for name, rows in found.items():
        with (tmp_path / f"{name}.csv").open(newline="") as stream:
            expected = list(csv.reader(stream))
        shown = [["" if value is None else str(value) for value in row] for row in rows]
        assert shown == expected
    [row] = [dict(zip(*found["matches"], strict=True))]
    assert (row["ssim_score"], row["stage_x_mm"]) == (0.5, -3.5)


def test_label_and_report_keep_the_workbook_up_to_date(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = shelf.reference("Tips", 0), tmp_path / "out"
    command = ["label", str(image), "--at", str(shelf.store), "--out", str(out)]
    monkeypatch.setattr("twinscope_client.labelling.job.write_report", lambda *_: None)
    monkeypatch.setattr("twinscope_client.labelling.report.write_report", lambda *_: None)
    assert main([*command, "--excel"]) == 0
    assert len(read(out / "tables.xlsx")["matches"]) == 2
    assert main([*command[:1], str(shelf.reference("Fibres", 0)), *command[2:]]) == 0  # without --excel
    assert len(read(out / "tables.xlsx")["matches"]) == 3
    (out / "tables.xlsx").unlink()
    assert main(["report", str(out)]) == 0
    assert not (out / "tables.xlsx").exists()
    assert main(["report", str(out), "--excel"]) == 0
    assert len(read(out / "tables.xlsx")["matches"]) == 3


def test_a_store_is_exported_into_a_new_workbook_only(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["store", "export", str(shelf.store), "--excel", str(tmp_path / "catalog.xlsx")]
    assert main(command) == 0
    header, *rows = read(tmp_path / "catalog.xlsx")["catalog"]
    assert len(rows) == 6
    assert main(["store", "export", str(shelf.store)]) == 0
    assert list(header) == next(csv.reader(io.StringIO(capsys.readouterr().out)))
    (tmp_path / "catalog.xlsx").write_text("precious")
    assert main(command) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "catalog.xlsx").read_text() == "precious"


def test_without_the_extra_nothing_is_written(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(MissingExtraError):
        workbook([])
    command = ["label", str(shelf.reference("Tips", 0)), "--at", str(shelf.store), "--out", str(tmp_path / "out")]
    assert main([*command, "--excel"]) == 1
    assert "twinscope[excel]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

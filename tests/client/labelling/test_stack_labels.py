"""Labelling of stacks: each page is a query. A stack gets one copy if the labels of its pages agree."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from serving import serving
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.errors import OutputError
from twinscope_client.labelling import copies as writing
from twinscope_client.labelling import run as labelling
from twinscope_client.labelling.journal import JOURNAL_NAME, Decision, Journal
from twinscope_client.labelling.report.summary import summarise
from twinscope_client.labelling.run import LabelReport, LabelSettings, count_queries, label
from twinscope_client.labelling.tables import write_tables
from twinscope_indexer.errors import SourceError
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.indexing.run import index
from twinscope_indexer.sources import location

BLANK = np.full((240, 320), 9, np.uint8)


def strange() -> np.ndarray:
    return np.asarray(synthesise("Patterned_surface", 77, width=320, height=240), np.uint8)


def write_stack(path: Path, *pages: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None)
    return path


def run(
    lab: Path,
    store: Path | str,
    out: Path,
    progress: Callable[[Decision], None] = lambda _: None,
    step: Callable[[], None] = lambda: None,
    **settings: Any,
) -> LabelReport:
    with connect(store) as engine, closing(Journal(out)) as journal:
        chosen = LabelSettings(**{"workers": 2} | settings)
        report = label([lab], engine, journal, out, chosen, progress, step)
        write_tables(journal)
    return report


def rows(out: Path, table: str) -> list[dict[str, str]]:
    with (out / table).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def decisions(out: Path) -> dict[str, Decision]:
    journal = Journal(out, create=False)
    try:
        return {Path(one.query).name: one for one in journal.decisions()}
    finally:
        journal.close()


def copies(out: Path) -> list[str]:
    skipped = {"plots"}
    return sorted(
        str(path.relative_to(out))
        for folder in out.iterdir()
        if folder.is_dir() and folder.name not in skipped
        for path in folder.iterdir()
    )


def test_pages_that_agree_get_one_copy(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    seen: list[Decision] = []
    report = run(stack, shelf.store, tmp_path / "out", seen.append)
    assert (report.counts["excellent"], report.counts["written"], report.counts["kept"]) == (2, 1, 0)
    assert count_queries([stack], tmp_path / "out") == len(seen) == 2
    [copy] = copies(tmp_path / "out")
    assert [(one.page, one.output, one.written) for one in seen] == [(1, copy, True), (2, copy, True)]
    assert copy.startswith("Tips/")
    assert (tmp_path / "out" / copy).read_bytes() == stack.read_bytes()
    found = rows(tmp_path / "out", "matches.csv")
    assert [(row["TIFF_path"], row["page"], row["output_path"]) for row in found] == [
        (str(stack), "1", copy),
        (str(stack), "2", copy),
    ]
    lines = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert [(line["page"], line["output"]) for line in lines] == [(1, copy), (2, copy)]
    assert rows(tmp_path / "out", "review.csv") == []
    again = run(stack, shelf.store, tmp_path / "out")
    assert (again.counts["reused"], again.counts["kept"], again.counts["written"]) == (2, 1, 0)
    assert copies(tmp_path / "out") == [copy]


@pytest.mark.parametrize("other", ["Particles", "no twin", "damaged", "cut"])
def test_pages_that_differ_get_no_copy(shelf: Shelf, tmp_path: Path, other: str) -> None:
    second = shelf.pixels["Particles", 0] if other == "Particles" else strange()
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], second, shelf.pixels["Tips", 1])
    if other == "damaged":
        with tifffile.TiffFile(stack, mode="r+b") as tiff:
            tiff.pages[1].tags["StripOffsets"].overwrite(1 << 30)
    if other == "cut":
        stack.write_bytes(stack.read_bytes()[:-2000])
    report = run(stack, shelf.store, tmp_path / "out")
    assert report.counts["written"] == 0
    assert copies(tmp_path / "out") == []
    assert rows(tmp_path / "out", "matches.csv") == []
    review = {row["page"]: row for row in rows(tmp_path / "out", "review.csv")}
    assert "stack_pages_differ" in review["1"]["reason_codes"].split()
    assert "the stack got no copy, because its pages differ: page" in review["1"]["reason"]
    assert ("page 2: Particles" in review["1"]["reason"]) == (other == "Particles")
    failures = {row["page"] for row in rows(tmp_path / "out", "failures.csv")}
    assert failures == {"damaged": {"2"}, "cut": {"3"}}.get(other, set())
    with closing(Journal(tmp_path / "out", create=False)) as journal:
        outcomes = summarise(journal)["outcomes"]
    assert (outcomes["labelled"], outcomes["unwritten"], outcomes["withheld"]) == (0, 0, 0)
    assert run(stack, shelf.store, tmp_path / "out").counts["reused"] == 3 - len(failures)


def test_the_command_names_pages_and_conflicts(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Particles", 0])
    arguments = ["label", str(stack.parent), "--at", str(shelf.store), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0
    planned = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["TIFF_path"] for row in planned] == [f"{stack}#page=1", f"{stack}#page=2"]
    assert main(arguments) == 0
    assert "1 stacks got no copy, because their pages have different labels" in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{stack}#page=1" in page
    assert "page 1: Tips; page 2: Particles" in page
    assert main([*arguments[:-1], str(tmp_path / "first"), "--pages", "first"]) == 0
    assert copies(tmp_path / "first") == ["Tips/L9_s.tif"]
    assert "page=" not in (tmp_path / "first" / "matches.csv").read_text()


def test_a_blank_first_page_is_passed_over(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", BLANK, shelf.pixels["Tips", 0])
    report = run(stack, shelf.store, tmp_path / "out")
    assert (report.counts["unhashable"], report.counts["excellent"], report.counts["written"]) == (1, 1, 1)
    assert copies(tmp_path / "out") == ["Tips/L9_s.tif"]
    [row] = rows(tmp_path / "out", "review.csv")
    assert (row["grade"], row["page"]) == ("unhashable", "1")
    [row] = rows(tmp_path / "out", "matches.csv")
    assert row["page"] == "2"


def test_a_stack_of_blank_pages_gets_no_copy(shelf: Shelf, tmp_path: Path) -> None:
    report = run(write_stack(tmp_path / "lab" / "s.tif", BLANK, BLANK), shelf.store, tmp_path / "out")
    assert report.counts["unhashable"] == 2
    assert copies(tmp_path / "out") == []
    assert all(row["reason_codes"] == "unhashable" for row in rows(tmp_path / "out", "review.csv"))


def test_every_page_has_its_jpeg_and_one_sidecar(shelf: Shelf, tmp_path: Path) -> None:
    pages = shelf.pixels["Tips", 0], shelf.pixels["Tips", 1]
    stack = write_stack(tmp_path / "lab" / "s.tif", *pages)
    for _ in range(2):
        run(stack, shelf.store, tmp_path / "out", jpeg=True, sidecar=True)
        found = copies(tmp_path / "out")
        assert len(found) == 4
        hashes = {(tmp_path / "out" / name).read_bytes() for name in found if name.endswith(".jpg")}
        assert len(hashes) == 2
        sidecar = json.loads((tmp_path / "out" / "Tips" / "L9_s.tif.json").read_text())
        assert [page["page"] for page in sidecar["label"]["pages"]] == [1, 2]
        assert len({row["jpeg_output_path"] for row in rows(tmp_path / "out", "matches.csv")}) == 2


def test_a_run_that_is_stopped_in_a_stack_goes_on(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [shelf.pixels["Tips", n % 2] for n in range(12)]
    stack = write_stack(tmp_path / "lab" / "s.tif", *pages)
    seen: list[int] = []

    def stop() -> None:
        seen.append(len(seen))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stack, shelf.store, tmp_path / "out", step=stop, workers=1)
    assert copies(tmp_path / "out") == []
    report = run(stack, shelf.store, tmp_path / "out", workers=1)
    assert (report.counts["reused"], report.counts["written"]) == (4, 1)
    assert copies(tmp_path / "out") == ["Tips/L9_s.tif"]


def test_outdated_copies_are_kept_and_named(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    run(stack, shelf.store, tmp_path / "out")
    before = (tmp_path / "out" / "Tips" / "L9_s.tif").read_bytes()
    write_stack(stack, shelf.pixels["Particles", 0])
    run(stack, shelf.store, tmp_path / "out")
    assert copies(tmp_path / "out") == ["Particles/L5_s.tif", "Tips/L9_s.tif"]
    assert (tmp_path / "out" / "Tips" / "L9_s.tif").read_bytes() == before
    assert {name: one.earlier_output for name, one in decisions(tmp_path / "out").items()} == {"s.tif": "Tips/L9_s.tif"}
    write_stack(stack, shelf.pixels["Tips", 0], shelf.pixels["Particles", 0])
    run(stack, shelf.store, tmp_path / "out")
    assert copies(tmp_path / "out") == ["Particles/L5_s.tif", "Tips/L9_s.tif"]
    now = decisions(tmp_path / "out")
    assert sorted(now) == ["s.tif#page=1", "s.tif#page=2"]
    assert now["s.tif#page=1"].earlier_output.split("\n") == ["Tips/L9_s.tif", "Particles/L5_s.tif"]
    assert now["s.tif#page=2"].earlier_output == ""


def test_a_foreign_file_is_never_overwritten(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    (tmp_path / "out" / "Tips").mkdir(parents=True)
    (tmp_path / "out" / "Tips" / "L9_s.tif").write_bytes(b"something else")
    run(stack, shelf.store, tmp_path / "out")
    assert copies(tmp_path / "out") == ["Tips/L9_s.tif", "Tips/L9_s_2.tif"]
    assert (tmp_path / "out" / "Tips" / "L9_s.tif").read_bytes() == b"something else"


def test_a_copy_that_cannot_be_written_is_counted_once(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])

    def refuse(*_: object) -> bool:
        msg = "the disk is full"
        raise OutputError(msg)

    monkeypatch.setattr(writing, "put_source", refuse)
    report = run(stack, shelf.store, tmp_path / "out")
    assert (report.counts["unwritten"], report.problems) == (1, [f"{stack}#page=1: the disk is full"])
    assert [row["reason"] for row in rows(tmp_path / "out", "review.csv")] == ["the disk is full"] * 2
    monkeypatch.undo()
    assert run(stack, shelf.store, tmp_path / "out").counts["written"] == 1
    assert len(rows(tmp_path / "out", "matches.csv")) == 2


def test_one_page_is_not_labelled_alone(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    with pytest.raises(SourceError, match="page 2 cannot be labelled alone"):
        run(Path(f"{stack}#page=2"), shelf.store, tmp_path / "out")
    assert copies(tmp_path / "out") == []


def test_a_journal_from_before_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    run(stack, shelf.store, tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / JOURNAL_NAME)) as db, db:
        db.execute("UPDATE meta SET value = '1' WHERE key = 'version'")
    with pytest.raises(OutputError, match="has version 1, but this Twinscope reads version 3"):
        run(stack, shelf.store, tmp_path / "out")


def test_pages_of_references_are_named(shelf: Shelf, tmp_path: Path) -> None:
    reference = write_stack(tmp_path / "collection" / "Tips" / "r.tif", *(shelf.pixels["Tips", n] for n in range(2)))
    index(tmp_path / "collection", tmp_path / "store", workers=0)
    query = tmp_path / "lab" / "q.tif"
    query.parent.mkdir()
    tifffile.imwrite(query, shelf.pixels["Tips", 1])
    run(query, tmp_path / "store", tmp_path / "out")
    [row] = rows(tmp_path / "out", "matches.csv")
    assert (row["JPEG_path"], row["JPEG_file"], row["page"]) == (f"{reference}#page=2", "r.tif#page=2", "")


@pytest.mark.parametrize("open_at", [lambda store: connect(store), None], ids=["embedded", "remote"])
def test_both_engines_answer_for_the_page(shelf: Shelf, tmp_path: Path, open_at: Callable[[Path], Any] | None) -> None:
    stack = write_stack(tmp_path / "s.tif", BLANK, shelf.pixels["Tips", 0], shelf.pixels["Particles", 1])
    if open_at is None:
        with serving(shelf.store) as target:
            _check_pages(connect(target), stack)
            run(stack, target, tmp_path / "remote")
            run(stack, shelf.store, tmp_path / "embedded")
        tables = [(tmp_path / out / "review.csv").read_bytes() for out in ("remote", "embedded")]
        assert tables[0] == tables[1]
    else:
        _check_pages(open_at(shelf.store), stack)


def _check_pages(engine: Any, stack: Path) -> None:
    with engine:
        found = dict(engine.search_many([f"{stack}#page={n}" for n in (1, 2, 3, 4)]))
        assert found[f"{stack}#page=1"].grade == "unhashable"
        assert (found[f"{stack}#page=2"].grade, found[f"{stack}#page=2"].category) == ("excellent", "Tips")
        assert (found[f"{stack}#page=3"].grade, found[f"{stack}#page=3"].category) == ("excellent", "Particles")
        assert found[f"{stack}#page=4"].fault == "missing"
        assert engine.search(stack).category == "Tips"  # the first page that can be hashed
        assert engine.search(stack.read_bytes()).category == "Tips"


def test_evaluation_of_stacks(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stack(tmp_path / "lab" / "a.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    write_stack(tmp_path / "lab" / "b.tif", shelf.pixels["Tips", 0], shelf.pixels["Particles", 1])
    run(tmp_path / "lab", shelf.store, tmp_path / "out")
    truth = tmp_path / "truth.csv"
    truth.write_text("image,category\na.tif,Tips\nb.tif#page=1,Tips\nb.tif#page=2,Particles\n")
    assert main(["evaluate", str(tmp_path / "out"), "--truth", str(truth), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images_without_row"], found["rows_without_image"]) == ([], [])


def test_the_file_of_a_large_stack_is_read_at_its_offsets(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = write_stack(tmp_path / "lab" / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    shutil.copy(stack, tmp_path / "lab" / "t.tif")
    tifffile.imwrite(tmp_path / "lab" / "one.tif", shelf.pixels["Particles", 0])
    run(tmp_path / "lab", shelf.store, tmp_path / "out")
    monkeypatch.setattr(location, "_READ_WHOLE", 0)
    run(tmp_path / "lab", shelf.store, tmp_path / "parts", link="sym")
    assert copies(tmp_path / "parts") == copies(tmp_path / "out")
    assert all(path.is_symlink() for path in (tmp_path / "parts" / "Tips").iterdir())


def test_unchanged_files_are_not_opened_again_to_find_their_pages(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = tmp_path / "lab"
    stack = write_stack(lab / "s.tif", shelf.pixels["Tips", 0], shelf.pixels["Tips", 1])
    single = write_stack(lab / "t.tif", shelf.pixels["Tips", 0])
    damaged = lab / "u.tif"
    damaged.write_bytes(b"II*\0 no directory")
    opened: list[str] = []

    def noting(path: Path) -> tuple[int, ...]:
        opened.append(path.name)
        return stack_pages(path)

    monkeypatch.setattr(labelling, "stack_pages", noting)
    pages: list[tuple[str, int]] = []

    def note(one: Decision) -> None:
        pages.append((Path(one.path).name, one.page))

    run(lab, shelf.store, tmp_path / "out", note)
    assert pages == [("s.tif", 1), ("s.tif", 2), ("t.tif", 0), ("u.tif", 0)]
    assert opened == ["s.tif", "t.tif", "u.tif"]
    first = pages.copy()
    opened.clear(), pages.clear()
    run(lab, shelf.store, tmp_path / "out", note)
    assert opened == ["u.tif"]  # it may have been repaired
    assert pages == first

    write_stack(single, shelf.pixels["Tips", 0], shelf.pixels["Tips", 1], strange())
    write_stack(stack, shelf.pixels["Tips", 0])
    opened.clear(), pages.clear()
    run(lab, shelf.store, tmp_path / "out", note)
    assert opened == ["s.tif", "t.tif", "u.tif"]
    assert pages == [("s.tif", 0), ("t.tif", 1), ("t.tif", 2), ("t.tif", 3), ("u.tif", 0)]

"""The ``twinscope`` command: exit codes, stdout and stderr, and every subcommand."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import imagehash
import pytest
from PIL import Image, ImageOps
from serving import serving
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.cli import demo_walkthrough
from twinscope_client.cli import main as command
from twinscope_client.cli.main import main
from twinscope_client.cli.policy_options import warn_of_reach
from twinscope_client.demo.collection import write_collection
from twinscope_client.labelling.journal import Journal
from twinscope_indexer.indexing.run import index
from twinscope_service.matching.policy import Policy

_COMMAND = Path(sys.executable).with_name("twinscope")
_SUBCOMMANDS = command._COMMANDS


# -- the command itself ---------------------------------------------------------------------------------------------


def test_help_and_version_import_nothing_heavy() -> None:
    script = (
        "import sys; from twinscope_client.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print('LOADED', sorted({'numpy', 'faiss', 'numba', 'scipy', 'PIL', 'grpc', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "LOADED []"
    for name in _SUBCOMMANDS:
        assert f"\n    {name} " in done.stdout
    done = subprocess.run([_COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split(".")[0].isdigit()


@pytest.mark.parametrize("words", [*((name,) for name in _SUBCOMMANDS), ("store", "export"), ("store", "relocate")])
def test_every_subcommand_has_help(twinscope: Any, words: tuple[str, ...]) -> None:
    ran = twinscope(*words, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: twinscope {' '.join(words)}")
    assert "==SUPPRESS==" not in ran.out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["search", "x.tif"],
        ["label", "x.tif", "--at", "s"],
        ["label", "x.tif", "--at", "s", "--out", "o", "--min-grade", "fair"],
        ["label", "x.tif", "--at", "s", "--out", "o", "--name", "{nothing}"],
        ["label", "x.tif", "--at", "s", "--out", "o", "--workers", "0"],
        ["label", "x.tif", "--at", "s", "--out", "o", "--link", "move"],
        ["search", "x.tif", "--at", "s", "-k", "0"],
        ["search", "x.tif", "--at", "s", "--max-distance", "1025"],
        ["search", "x.tif", "--at", "s", "--excellent-ssim", "nan"],
        ["search", "x.tif", "--at", "s", "--policy", "lax"],
        ["convert", "x.tif", "--out", "o", "--quality", "101"],
        ["hash", "x.tif", "--workers", "-1"],
        ["index", "x", "--store", "s", "--workers", "0"],
        ["store"],
        ["store", "stats"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_line_on_stderr(
    twinscope: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = twinscope(*words)
    assert (ran.code, ran.out) == (2, "")
    [line] = ran.err.splitlines()
    assert line.startswith("twinscope")
    assert line.endswith("--help)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["search", "x.tif", "--at", "nowhere"],
        ["label", ".", "--at", "nowhere", "--out", "o"],
        ["store", "stats", "nowhere"],
        ["store", "export", "nowhere"],
        ["store", "relocate", "nowhere", "a", "b"],
        ["report", "nowhere"],
        ["index", "missing", "--store", "s"],
        ["index", ".", "--store", "s", "--labels", "missing.csv"],
        ["index", ".", "--store", "s", "--taxonomy", "missing.toml"],
        ["hash", "missing", "--csv", "o.csv"],
        ["convert", "missing", "--out", "o"],
    ],
)
def test_missing_input_ends_with_1_and_one_line_on_stderr(
    twinscope: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = twinscope(*words)
    assert (ran.code, ran.out) == (1, "")
    [line] = ran.err.splitlines()
    assert line.startswith(f"twinscope {words[0]}: ")
    assert any(word in line for word in ("nowhere", "missing"))
    assert list(tmp_path.iterdir()) == []


def test_a_closed_stdout_prints_no_error(lab: Path) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [_COMMAND, "hash", str(lab / "twin.tif")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def on_a_terminal(words: list[str]) -> tuple[int, str]:
    """Run the command with a terminal as stderr; return its exit code and the output."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    process = subprocess.Popen([_COMMAND, *words], stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown = b""
    with open(leader, "rb", buffering=0) as stream:  # noqa: PTH123
        try:
            while data := stream.read(4096):
                shown += data
        except OSError:  # raised when all other ends of the terminal are closed
            pass
    return process.wait(timeout=240), shown.decode()


def test_a_progress_bar_is_shown_on_terminals_only(lab: Path, twinscope: Any) -> None:
    code, shown = on_a_terminal(["hash", str(lab)])
    assert code == 3
    assert "hashing" in shown
    assert "images" in shown
    [line] = [line for line in shown.split("\n") if "blank.tif: unhashable" in line]
    assert line.strip("\r").rpartition("\r")[2].startswith(str(lab))  # not in the line of the progress bar
    assert "hashing" not in twinscope("hash", lab).err


def test_an_error_on_a_terminal_is_one_line(tmp_path: Path) -> None:
    code, shown = on_a_terminal(["convert", str(tmp_path / "missing"), "--out", str(tmp_path / "out")])
    assert code == 1
    assert "Traceback" not in shown
    assert shown.count("no such file or folder") == 1


# -- index -----------------------------------------------------------------------------------------------------------


def test_index_reports_what_it_did(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    shutil.copytree(shelf.references, tmp_path / "refs")
    (tmp_path / "refs" / "Tips" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    (tmp_path / "refs" / "Unheard of").mkdir()
    shutil.copy(shelf.reference("Tips", 0), tmp_path / "refs" / "Unheard of" / "x.jpg")
    (tmp_path / "refs" / "readme.txt").write_text("no image")
    words = ("index", tmp_path / "refs", "--store", tmp_path / "store")
    ran = twinscope(*words)
    assert (ran.code, ran.out) == (3, "")
    assert "6 added; 6 images searchable (generation 1)" in ran.err
    assert "4 of 6 published file-name prefixes contradict the category" in ran.err
    assert "1 file is not an image (1 .txt)" in ran.err
    assert "1 image could not be read:" in ran.err
    assert "broken.jpg" in ran.err
    assert "Categories: Fibres 2, Particles 2, Tips 2." in ran.err
    assert "1 image was left out, because the category is not known:\n  1 image: 'Unheard of' is not" in ran.err
    assert ran.err.count("Known categories: Biological (L0), ") == 1
    assert "--unknown-category keep" in ran.err
    (tmp_path / "refs" / "Tips" / "broken.jpg").unlink()
    ran = twinscope(*words, "--unknown-category", "keep")
    assert ran.code == 0
    assert "1 added, 6 unchanged; 7 images searchable (generation 2)" in ran.err
    shelf_file = tmp_path / "refs" / "Tips" / "L9_0.jpg"
    shelf_file.unlink()
    assert "1 file no longer exists; --prune removes" in twinscope(*words, "--unknown-category", "keep").err
    assert "1 image was removed" in twinscope(*words, "--unknown-category", "keep", "--prune").err


def test_index_reports_skipped_outputs_of_runs(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    refs = tmp_path / "refs"
    shutil.copytree(shelf.references, refs)
    Journal(refs / "out").close()
    Journal(refs / "Tips").close()
    ran = twinscope("index", refs, "--store", tmp_path / "store")
    assert ran.code == 0
    assert "4 added; 4 images searchable" in ran.err
    [line] = [line for line in ran.err.splitlines() if "were skipped" in line]
    assert line.startswith("2 folders were skipped as outputs of labelling runs (each holds a file .twinscope-run")
    assert line.endswith(f": {refs / 'Tips'}, and 1 more")


def test_index_of_an_output_of_a_run_fails(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    refs = tmp_path / "refs"
    shutil.copytree(shelf.references, refs)
    Journal(refs).close()
    ran = twinscope("index", refs, "--store", tmp_path / "store")
    assert ran.code == 1
    assert "nothing to do" not in ran.err
    assert "the only images found are in skipped folders; 0 images searchable" in ran.err
    assert "1 folder was skipped as outputs of labelling runs" in ran.err
    assert str(refs) in ran.err
    (refs / ".twinscope-run").unlink()
    ran = twinscope("index", refs, "--store", tmp_path / "store")
    assert (ran.code, "6 added" in ran.err, "were skipped" in ran.err) == (0, True, False)


# -- search ------------------------------------------------------------------------------------------------------------


def test_search_prints_a_line_per_image_and_per_candidate(shelf: Shelf, lab: Path, twinscope: Any) -> None:
    ran = twinscope("search", lab / "twin.tif", lab / "blank.tif", "--at", shelf.store)
    assert (ran.code, ran.err) == (0, "")
    twin, candidate, blank = ran.out.splitlines()
    assert twin.startswith(f"{lab / 'twin.tif'}: excellent -> Tips (L9): same acquisition: SSIM 0.")
    assert candidate.endswith(str(shelf.reference("Tips", 0)))
    assert candidate.startswith("  ")
    assert " bits  SSIM  0." in candidate
    assert blank == f"{lab / 'blank.tif'}: unhashable: featureless: every pixel has the grey value 7"


def test_search_json_holds_every_threshold(shelf: Shelf, lab: Path, twinscope: Any) -> None:
    images = [lab / "twin.tif", lab / "broken.tif", lab / "missing.tif", lab / "blank.tif"]
    ran = twinscope("search", *images, "--at", shelf.store, "--json", "-k", 2, "--good-scene", 0.7)
    assert ran.code == 3
    assert len(ran.err.splitlines()) == 2
    *answers, _summary = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer["query"] for answer in answers] == [str(image) for image in images]
    assert [answer["grade"] for answer in answers] == ["excellent", "failed", "failed", "unhashable"]
    assert [answer["fault"] for answer in answers[1:3]] == ["truncated", "missing"]
    thresholds = answers[0]["policy"]
    assert set(thresholds) == {field.name for field in fields(Policy)}
    assert (thresholds["k"], thresholds["good_scene"], thresholds["name"]) == (2, 0.7, "default+changes")
    assert answers[0]["category"] == answers[0]["matches"][0]["category"] == "Tips"
    assert answers[3]["policy"] == thresholds


def test_search_without_a_readable_image_fails(shelf: Shelf, lab: Path, twinscope: Any) -> None:
    ran = twinscope("search", lab / "missing.tif", "--at", shelf.store)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{lab / 'missing.tif'}: there is no such file\n"


def test_search_of_an_ambiguous_pair_and_the_legacy_rule(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    for category in ("Tips", "Powder"):
        (tmp_path / "refs" / category).mkdir(parents=True)
        shutil.copy(shelf.reference("Tips", 0), tmp_path / "refs" / category)
    index([tmp_path / "refs"], tmp_path / "store", workers=1)
    ran = twinscope("search", shelf.reference("Tips", 0), "--at", tmp_path / "store")
    assert ": ambiguous: two categories fit equally well" in ran.out
    assert len(ran.out.splitlines()) == 3
    legacy = twinscope("search", shelf.reference("Tips", 0), "--at", tmp_path / "store", "--policy", "legacy", "--json")
    assert json.loads(legacy.out.splitlines()[0])["grade"] == "excellent"


class CountingEngine:
    """An engine that counts the calls of `stats`."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.calls = engine, 0

    def stats(self) -> Any:
        self.calls += 1
        return self._engine.stats()


@pytest.mark.parametrize("command", ["search", "label"])
@pytest.mark.parametrize(
    ("reach", "warned"), [("windows", True), ("views", False), ("frame", False), (None, False)]
)  # fmt: skip
def test_a_reach_beyond_the_store_is_warned_of_once(
    shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any, command: str, reach: str | None, warned: bool
) -> None:
    option = [] if reach is None else ["--reach", reach]
    output = [] if command == "search" else ["--out", tmp_path / "out"]
    ran = twinscope(command, lab / "twin.tif", lab / "blank.tif", "--at", shelf.store, *option, *output)
    assert ran.code == 0
    warnings = [line for line in ran.err.splitlines() if "--reach" in line]
    expected = (
        "warning: --reach windows has the same effect as --reach views, because the store was indexed with --reach "
        f"views. To change the store: twinscope index --reach windows SOURCE... --store {shelf.store}"
    )
    assert warnings == ([expected] if warned else [])


def test_the_reach_is_checked_only_with_the_option(shelf: Shelf, lab: Path, twinscope: Any) -> None:
    with serving(shelf.store) as target:
        ran = twinscope("search", lab / "twin.tif", "--at", target, "--reach", "windows")
        assert ran.code == 0
        assert "has the same effect as --reach views" in ran.err
        assert "--store DIR, on the machine of the server" in ran.err
        assert twinscope("search", lab / "twin.tif", "--at", target, "--reach", "views").err == ""
    for reach, times in ((None, 0), ("frame", 1)):
        with connect(shelf.store) as engine:
            counting = CountingEngine(engine)
            warn_of_reach(argparse.Namespace(reach=reach, at=str(shelf.store)), counting)  # type: ignore[arg-type]
        assert counting.calls == times


@pytest.mark.parametrize("command", ["search", "label"])
def test_help_explains_what_reach_frame_turns_off(twinscope: Any, command: str) -> None:
    text = " ".join(twinscope(command, "--help").out.split())
    assert "The value 'frame' uses no other frames. The value 'views' also finds twins that are rotated, " in text
    assert "mirrored or inverted, or whose info bar was cut or added." in text


# -- label (its output files are tested in labelling/) -----------------------------------------------------------------


def test_label_reports_and_ends_with_3_if_some_failed(shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any) -> None:
    (lab / "notes.txt").write_text("no image")
    (lab / "dangling.tif").symlink_to("nowhere")
    ran = twinscope("label", lab, "--at", shelf.store, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.splitlines()[:3] == [
        "3 images: 1 excellent, 1 unhashable, 1 failed",
        "1 files are not images (1 .txt).",
        "1 labelled copy written, 0 already there.",
    ]
    assert f"1 image could not be read: {tmp_path / 'out' / 'failures.csv'}" in ran.err
    assert "dangling.tif" in ran.err
    assert f"Results: open {tmp_path / 'out' / 'report.html'}" in ran.err
    assert (tmp_path / "out" / "Tips" / "L9_twin.tif").is_file()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"] == 3
    assert summary["settings"]["policy"]["good_scene"] == Policy().good_scene


def test_label_ends_with_0_if_all_and_1_if_none_could_be_read(
    shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any
) -> None:
    words = ("--at", shelf.store, "--dry-run", "--out", tmp_path / "out")
    assert twinscope("label", lab / "twin.tif", lab / "blank.tif", *words).code == 0
    assert twinscope("label", lab / "broken.tif", *words).code == 1
    (tmp_path / "empty").mkdir()
    ran = twinscope("label", tmp_path / "empty", *words)
    assert ran.code == 0
    assert "0 images: none found" in ran.err


def test_label_reports_skipped_outputs_of_runs(shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any) -> None:
    words = ("--at", shelf.store, "--dry-run", "--out", tmp_path / "out")
    Journal(lab / "earlier").close()
    shutil.copy(lab / "twin.tif", lab / "earlier" / "L9_twin.tif")
    ran = twinscope("label", lab, *words)
    assert "3 images: " in ran.err
    assert "1 folder was skipped as outputs of labelling runs (each holds a file .twinscope-run" in ran.err
    assert str(lab / "earlier") in ran.err
    ran = twinscope("label", lab / "earlier", *words)
    assert "0 images: none found" in ran.err
    assert str(lab / "earlier") in ran.err
    (lab / "earlier" / ".twinscope-run").unlink()
    assert "4 images: " in twinscope("label", lab, *words).err


# -- hash ------------------------------------------------------------------------------------------------------------


def legacy_hash(path: Path) -> str:
    with Image.open(path) as image:
        return str(imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32))


def test_hash_of_a_folder_equals_imagehash(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    paths = sorted(shelf.references.rglob("*.jpg"))
    ran = twinscope("hash", shelf.references)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "".join(f"{legacy_hash(path)}  {path}\n" for path in paths)
    ran = twinscope("hash", shelf.references, "--csv", tmp_path / "hashes.csv")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    with (tmp_path / "hashes.csv").open(newline="") as stream:
        table = list(csv.reader(stream))
    assert table == [["file", "path", "phash"], *([path.name, str(path), legacy_hash(path)] for path in paths)]


def test_hash_never_overwrites_a_table(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    (tmp_path / "hashes.csv").write_text("precious")
    ran = twinscope("hash", shelf.references, "--csv", tmp_path / "hashes.csv")
    assert ran.code == 1
    assert "Choose a file that does not exist yet" in ran.err
    assert (tmp_path / "hashes.csv").read_text() == "precious"


def test_hash_lists_images_that_cannot_be_hashed(lab: Path, twinscope: Any) -> None:
    ran = twinscope("hash", lab)
    assert ran.code == 3
    assert ran.out == f"{legacy_hash(lab / 'twin.tif')}  {lab / 'twin.tif'}\n"
    assert "blank.tif: unhashable (featureless)" in ran.err
    assert "broken.tif: " in ran.err
    assert twinscope("hash", lab / "broken.tif").code == 1


def test_hash_of_an_archive(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    archive = shutil.make_archive(str(tmp_path / "refs"), "gztar", shelf.references)
    ran = twinscope("hash", archive)
    assert ran.code == 0
    assert sorted(line.split()[0] for line in ran.out.splitlines()) == sorted(
        legacy_hash(path) for path in shelf.references.rglob("*.jpg")
    )


# -- convert (pixels and names are tested in test_convert) ----------------------------------------------------------


def test_convert_reports_what_it_did(lab: Path, tmp_path: Path, twinscope: Any) -> None:
    ran = twinscope("convert", lab, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (3, "")
    assert f"2 JPEGs written to {tmp_path / 'out'}, 0 already there." in ran.err
    assert "1 image could not be converted:" in ran.err
    assert "broken.tif: " in ran.err
    assert "0 JPEGs written to" in twinscope("convert", lab, "--out", tmp_path / "out").err
    assert twinscope("convert", lab / "broken.tif", "--out", tmp_path / "out").code == 1
    assert twinscope("convert", lab / "twin.tif", "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize("out", ["Tips", "."])
def test_convert_into_the_source_folder_is_refused(lab: Path, tmp_path: Path, twinscope: Any, out: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    ran = twinscope("convert", lab, "--out", tmp_path / out)
    assert (ran.code, ran.out) == (1, "")
    assert f"{lab} lies within the output folder {tmp_path / out}" in ran.err
    assert "JPEGs written" not in ran.err
    assert sorted(tmp_path.rglob("*")) == before
    assert twinscope("convert", lab / "twin.tif", "--out", lab).code == 0  # fine for a single file
    assert (lab / "twin.jpg").is_file()


# -- store -----------------------------------------------------------------------------------------------------------


def test_store_stats(shelf: Shelf, twinscope: Any) -> None:
    ran = twinscope("store", "stats", shelf.store)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{shelf.store}: 6 images, 6 searchable, 0 unhashable, 0 failures\n")
    for line in ("        2  Tips", f"collection: {shelf.references}", "contradict the category: 4 of 6"):
        assert line in ran.out
    stats = json.loads(twinscope("store", "stats", shelf.store, "--json").out)
    assert stats["category"] == {"Fibres": 2, "Particles": 2, "Tips": 2}


def test_store_export(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    ran = twinscope("store", "export", shelf.store)
    assert (ran.code, ran.err) == (0, "")
    table = {row["uri"]: row for row in csv.DictReader(io.StringIO(ran.out))}
    assert set(table) == {str(path) for path in shelf.references.rglob("*.jpg")}
    row = table[str(shelf.reference("Tips", 1))]
    assert (row["category"], row["code"], row["published_prefix"]) == ("Tips", "L9", "L9")
    assert row["hash"] == legacy_hash(shelf.reference("Tips", 1))
    assert (row["width"], row["height"], row["bits"]) == ("320", "240", "8")


def test_store_export_holds_no_formulas(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    (tmp_path / "refs" / "=1+1").mkdir(parents=True)
    shutil.copy(shelf.reference("Tips", 0), tmp_path / "refs" / "=1+1" / "x.jpg")
    index([tmp_path / "refs"], tmp_path / "store", keep_unknown=True, workers=1)
    [row] = csv.DictReader(io.StringIO(twinscope("store", "export", tmp_path / "store").out))
    assert row["category"] == "'=1+1"
    assert row["uri"] == str(tmp_path / "refs" / "=1+1" / "x.jpg")


def test_store_export_of_failures(tmp_path: Path, twinscope: Any) -> None:
    folder = tmp_path / "Tips"
    folder.mkdir()
    name = os.fsdecode(b"\xffbroken.jpg")
    (folder / name).write_bytes(b"\xff\xd8\xff no more")
    assert twinscope("index", folder, "--store", tmp_path / "store").code == 1
    ran = twinscope("store", "export", tmp_path / "store", "--failures")
    assert (ran.code, ran.err) == (0, "")
    [row] = csv.DictReader(io.StringIO(ran.out))
    assert row["uri"].endswith("broken.jpg")
    assert row["fault"] in {"truncated", "damaged"}


def test_relocate_finds_a_moved_collection(shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any) -> None:
    shutil.copytree(shelf.references, tmp_path / "refs")
    store = tmp_path / "store"
    index([tmp_path / "refs"], store, workers=1)
    (tmp_path / "refs").rename(tmp_path / "moved")
    search = ("search", lab / "twin.tif", "--at", store, "--json")
    answer = json.loads(twinscope(*search).out.splitlines()[0])
    assert answer["grade"] == "good"
    assert "no such file" in answer["matches"][0]["note"]
    ran = twinscope("store", "relocate", store, tmp_path / "refs", tmp_path / "elsewhere")
    assert ran.code == 1
    assert "None of the 6 images checked was found" in ran.err
    ran = twinscope("store", "relocate", store, tmp_path / "refs", tmp_path / "moved")
    assert ran.code == 0
    assert "6 of the 6 images checked are there" in ran.err
    answer = json.loads(twinscope(*search).out.splitlines()[0])
    assert answer["grade"] == "excellent"
    assert answer["matches"][0]["source"] == str(tmp_path / "moved" / "Tips" / "L9_0.jpg")


# -- report ----------------------------------------------------------------------------------------------------------


def test_report_is_rebuilt_without_the_store(shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any) -> None:
    shutil.copytree(shelf.store, tmp_path / "store")
    assert twinscope("label", lab, "--at", tmp_path / "store", "--out", tmp_path / "out").code == 3
    for name in ("matches.csv", "report.html"):
        (tmp_path / "out" / name).unlink()
    shutil.rmtree(tmp_path / "store")
    ran = twinscope("report", tmp_path / "out")
    assert (ran.code, ran.out) == (0, "")
    assert "The report has no thumbnails of references" in ran.err
    assert (tmp_path / "out" / "matches.csv").is_file()
    assert (tmp_path / "out" / "report.html").is_file()


# -- demo ------------------------------------------------------------------------------------------------------------


def test_the_demo_labels_every_twin_correctly(tmp_path: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(write_collection, per_category=1, queries_per_category=2, size=(160, 120))
    monkeypatch.setattr(demo_walkthrough, "write_collection", small)
    ran = twinscope("demo", "--out", tmp_path / "demo")
    assert (ran.code, ran.out) == (0, "")
    assert "$ twinscope label" in ran.err
    [exact] = [line for line in ran.err.splitlines() if line.startswith("same scan, 8 bit")]
    assert exact.split()[-4:] == ["10", "10", "0", "0"]
    assert (tmp_path / "demo" / "labelled" / "report.html").is_file()
    again = twinscope("demo", "--out", tmp_path / "demo")
    assert again.code == 1
    assert "not empty" in again.err


def test_the_demo_fails_if_a_label_is_wrong(tmp_path: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_wrong_truth(root: Path, **arguments: Any) -> Any:
        made = write_collection(root, per_category=1, queries_per_category=1, size=(160, 120), **arguments)
        text = made.truth.read_text(encoding="utf-8")
        made.truth.write_text(text.replace(",Fibres,", ",Powder,", 1), encoding="utf-8")
        return made

    monkeypatch.setattr(demo_walkthrough, "write_collection", with_a_wrong_truth)
    ran = twinscope("demo", "--out", tmp_path / "demo")
    assert ran.code == 1


def test_ctrl_c_stops_the_demo(tmp_path: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_walkthrough, "write_collection", partial(write_collection, per_category=1, size=(80, 64)))
    monkeypatch.setattr("twinscope_indexer.indexing.run.index", interrupt)
    ran = twinscope("demo", "--out", tmp_path / "demo")
    assert ran.code == 130
    assert "$ twinscope label" not in ran.err


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    done = subprocess.run([_COMMAND, "demo", "--out", tmp_path / "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_store_without_a_searchable_image_is_warned_of(
    tmp_path: Path, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "Tips").mkdir(parents=True)
    Image.new("L", (64, 64)).save(tmp_path / "data" / "Tips" / "blank.png")
    assert main(["index", str(tmp_path / "data"), "--store", str(tmp_path / "store")]) == 0
    query = str(shelf.reference(*next(iter(shelf.pixels))))
    capsys.readouterr()
    for arguments in (["search", query], ["label", query, "--out", str(tmp_path / "out")]):
        main([*arguments, "--at", str(tmp_path / "store")])
        assert "no searchable image" in capsys.readouterr().err
    main(["search", query, "--at", str(shelf.store)])
    assert "no searchable image" not in capsys.readouterr().err

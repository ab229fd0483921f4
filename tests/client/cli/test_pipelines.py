"""The parts of the command that other programs use: JSON lines, quiet output, lists of paths, stdin, and exit codes."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tifffile
from shelf import Shelf

COMMANDS = ("label", "index", "hash", "convert", "search")


def lines(ran: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def words(shelf: Shelf, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """The options that each command needs besides its inputs."""
    return {
        "label": ("--at", shelf.store, "--out", tmp_path / "out", "--dry-run"),
        "search": ("--at", shelf.store),
        "index": ("--store", tmp_path / "own.store", "--unknown-category", "keep"),
        "hash": (),
        "convert": ("--out", tmp_path / "jpegs"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_json_has_one_object_for_each_input_and_a_summary(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str
) -> None:
    ran = twinscope(command, lab, *words[command], "--json")
    *images, summary = lines(ran)
    assert {one["type"] for one in images} == {"image"}
    assert sorted(Path(one["path"]).name for one in images) == ["blank.tif", "broken.tif", "twin.tif"]
    [broken] = [one for one in images if one["path"].endswith("broken.tif")]
    assert "bytes" in broken["reason"]
    assert (summary["type"], summary["command"], summary["exit_code"], ran.code) == ("summary", command, 3, 3)
    assert "broken.tif" in ran.err or "failures.csv" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_list_of_paths_replaces_arguments_and_names_what_is_missing(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, f"{lab / 'twin.tif'}\r\n\n{lab / 'gone.tif'}\n{lab / 'twin.tif'}\n".encode())
    ran = twinscope(command, "--from-file", "-", *words[command], "--json")
    *images, summary = lines(ran)
    found = {Path(one["path"]).name: one for one in images}
    assert sorted(Path(one["path"]).name for one in images) == ["gone.tif", "twin.tif"]
    assert found["gone.tif"]["fault"] == "missing"
    assert "gone.tif" in ran.err
    assert (ran.code, summary["exit_code"]) == (3, 3)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("fail_on", "code"), [("unreadable", 3), ("review", 3), ("never", 0)])
def test_fail_on_chooses_whether_one_unreadable_image_is_a_failure(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str, fail_on: str, code: int
) -> None:
    if command == "hash":  # a blank image has no hash
        (lab / "blank.tif").unlink()
    ran = twinscope(command, lab, *words[command], "--fail-on", fail_on)
    assert ran.code == code
    assert "could not be" in ran.err or "broken.tif" in ran.err  # never dropped silently


@pytest.mark.parametrize("command", ["label", "search"])
def test_fail_on_review_is_an_exit_code_of_its_own(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str
) -> None:
    (lab / "broken.tif").unlink()
    strict = (*words[command], "--max-p-wrong", 0)  # the twin is then doubtful
    assert twinscope(command, lab, *words[command], "--fail-on", "review").code == 0
    assert twinscope(command, lab, *strict, "--fail-on", "review").code == 4
    assert twinscope(command, lab, *strict).code == 0


@pytest.mark.parametrize("command", ["label", "search"])
def test_a_limit_that_no_image_can_meet_is_said_with_one_that_can_be_met(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str
) -> None:
    call = (command, lab / "twin.tif", *words[command], "--json", "--max-p-wrong")
    refused = twinscope(*call, 0.001)
    assert "nothing will be labelled" in refused.err
    assert (lines(refused)[0]["grade"], lines(refused)[0]["category"]) == ("doubtful", None)
    least = refused.err.split("use --max-p-wrong ")[1].split()[0]
    accepted = twinscope(*call, least)
    assert "nothing will be labelled" not in accepted.err
    assert lines(accepted)[0]["category"] == "Tips"


def test_label_fails_on_review_if_the_minimum_grade_withholds_a_label(
    shelf: Shelf, tmp_path: Path, twinscope: Any
) -> None:
    pixels = shelf.pixels["Tips", 0]
    tifffile.imwrite(tmp_path / "half.tif", pixels[::2, ::2])
    common = ("label", tmp_path / "half.tif", "--at", shelf.store, "--dry-run", "--out", tmp_path / "out", "--json")
    [image, _] = lines(twinscope(*common))
    assert (image["grade"], image["category"]) == ("good", "Tips")
    withheld = twinscope(*common, "--min-grade", "excellent", "--fail-on", "review")
    [image, summary] = lines(withheld)
    assert (image["grade"], image["category"], image["match_category"]) == ("good", None, "Tips")
    assert (withheld.code, summary["exit_code"]) == (4, 4)


def test_never_hides_no_failure_to_write(lab: Path, tmp_path: Path, twinscope: Any) -> None:
    (tmp_path / "jpegs").write_text("a file")
    assert twinscope("convert", lab / "twin.tif", "--out", tmp_path / "jpegs", "--fail-on", "never").code == 1
    assert twinscope("search", lab / "twin.tif", "--at", tmp_path / "no.store", "--fail-on", "never").code == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_says_only_what_went_wrong(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str
) -> None:
    shutil.move(lab / "broken.tif", lab.parent / "broken.tif")
    (lab / "blank.tif").unlink()
    assert twinscope(command, lab, *words[command], "--quiet").err == ""
    shutil.move(lab.parent / "broken.tif", lab / "broken.tif")
    assert "could not be" in twinscope(command, lab, *words[command], "--quiet").err or command in {"hash", "search"}
    assert "written" not in twinscope("convert", lab, *words["convert"], "--quiet").err


def test_quiet_lasts_for_one_call(lab: Path, tmp_path: Path, twinscope: Any) -> None:
    twinscope("convert", lab, "--out", tmp_path / "jpegs", "--quiet")
    assert "JPEGs written" in twinscope("convert", lab, "--out", tmp_path / "jpegs").err


@pytest.mark.usefixtures("no_report")
def test_label_json_names_the_copy_and_gives_no_category_without_a_label(
    shelf: Shelf, lab: Path, tmp_path: Path, twinscope: Any
) -> None:
    shutil.copy(lab / "twin.tif", lab / "other.tif")
    *images, summary = lines(twinscope("label", lab, "--at", shelf.store, "--out", tmp_path / "out", "--json"))
    by_name = {Path(one["path"]).name: one for one in images}
    twin = by_name["twin.tif"]
    assert (twin["grade"], twin["category"], twin["code"]) == ("excellent", "Tips", "L9")
    assert (tmp_path / "out" / twin["output"]).read_bytes() == (lab / "twin.tif").read_bytes()
    assert twin["written"] is True
    assert by_name["blank.tif"]["category"] is None
    assert by_name["broken.tif"]["grade"] == "failed"
    assert {name: number for name, number in summary["counts"].items() if number} == {
        "excellent": 2, "unhashable": 1, "failed": 1, "written": 2,
    }  # fmt: skip
    again = lines(twinscope("label", lab, "--at", shelf.store, "--out", tmp_path / "out", "--json"))
    assert [one["path"] for one in again[:-1]] == [one["path"] for one in images]


def test_index_json_tells_the_category_and_what_is_new(shelf: Shelf, tmp_path: Path, twinscope: Any) -> None:
    refs = tmp_path / "refs"
    shutil.copytree(shelf.references, refs)
    archive = shutil.make_archive(str(tmp_path / "more" / "Powder"), "zip", shelf.references / "Tips")
    (refs / "Tips" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    call = ("index", refs, archive, "--store", tmp_path / "store", "--json")
    *images, summary = lines(twinscope(*call))
    assert len(images) == 6 + 2 + 1
    assert {one["category"] for one in images if "category" in one} == {"Fibres", "Particles", "Tips", "Powder"}
    assert all(one["new"] for one in images if "new" in one)
    assert (summary["searchable"], summary["counts"]["added"], summary["counts"]["failed"]) == (8, 8, 1)
    (refs / "Tips" / "L9_0.jpg").unlink()
    shutil.copy(shelf.reference("Fibres", 0), refs / "Tips" / "new.jpg")
    *images, summary = lines(twinscope(*call))
    assert [Path(one["path"]).name for one in images if one.get("new")] == ["new.jpg"]
    assert "L9_0.jpg" not in {Path(one["path"]).name for one in images if "Tips" in one["path"]}
    outside = lines(twinscope("index", refs / "Fibres", "--store", tmp_path / "store", "--json"))
    assert {one["category"] for one in outside[:-1]} == {"Fibres"}


def test_hash_and_convert_json(lab: Path, tmp_path: Path, twinscope: Any) -> None:
    plain = twinscope("hash", lab / "twin.tif").out.split()[0]
    images = {Path(one["path"]).name: one for one in lines(twinscope("hash", lab, "--json"))[:-1]}
    assert images["twin.tif"]["phash"] == plain
    assert images["blank.tif"]["fault"] == "unhashable"
    assert twinscope("hash", lab, "--json", "--csv", tmp_path / "x.csv").code == 2
    for result in ("written", "kept"):
        images = {
            Path(one["path"]).name: one
            for one in lines(twinscope("convert", lab, "--out", tmp_path / "jpegs", "--json"))[:-1]
        }
        assert (images["twin.tif"]["result"], images["twin.tif"]["output"]) == (
            result,
            str(tmp_path / "jpegs/twin.jpg"),
        )


def test_search_takes_folders_and_reports_folders_that_cannot_be_opened(
    shelf: Shelf, lab: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "deep").mkdir()
    shutil.move(lab / "twin.tif", lab / "deep" / "twin.tif")
    (lab / "deep" / "dangling.tif").symlink_to("nowhere")
    monkeypatch.chdir(lab.parent)
    ran = twinscope("search", "Tips", "--at", shelf.store, "--json")
    *found, summary = lines(ran)
    assert [one["path"] for one in found if one["type"] == "image"] == [
        "Tips/blank.tif", "Tips/broken.tif", "Tips/deep/twin.tif",
    ]  # fmt: skip
    assert [Path(one["path"]).name for one in found if one["type"] == "folder"] == ["dangling.tif"]
    assert summary["counts"] == {"unhashable": 1, "failed": 1, "excellent": 1}
    assert ran.code == 3


@pytest.mark.parametrize("command", ["search", "hash"])
def test_a_dash_is_an_image_on_stdin(
    lab: Path, twinscope: Any, words: dict[str, tuple[object, ...]], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lines(twinscope(command, lab / "twin.tif", *words[command], "--json"))
    feed(monkeypatch, (lab / "twin.tif").read_bytes())
    found = lines(twinscope(command, "-", *words[command], "--json"))
    assert found[0]["path"] == "-"
    for key in ("phash", "grade", "category", "matches"):
        assert found[0].get(key) == expected[0].get(key)
    feed(monkeypatch, b"no image")
    assert twinscope(command, "-", *words[command]).code == 1
    assert twinscope(command, "-", "-", *words[command]).code == 2
    assert twinscope(command, "-", "--from-file", "-", *words[command]).code == 2
    assert twinscope("convert", "-", "--out", "x").code == 2


@pytest.mark.parametrize("form", ["{0}\n{1}\n", "\ufeff{0}\r\n{1}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_of_paths_have_many_forms(lab: Path, tmp_path: Path, twinscope: Any, form: str, encoding: str) -> None:
    odd = lab / "a b\u00fc\x85.tif"
    shutil.copy(lab / "twin.tif", odd)
    paths = str(odd), str(lab / "twin.tif")
    listed = tmp_path / "list.txt"
    listed.write_bytes(form.removeprefix("\ufeff" if encoding == "utf-16" else "").format(*paths).encode(encoding))
    found = lines(twinscope("hash", "--from-file", listed, "--json"))
    assert [one["path"] for one in found[:-1]] == list(paths)


def test_lists_with_nul_characters_hold_any_name(lab: Path, tmp_path: Path, twinscope: Any) -> None:
    odd = os.fsdecode(os.fsencode(lab) + b"/a\nb\xff.tif")
    shutil.copy(lab / "twin.tif", odd)
    (tmp_path / "list").write_bytes(os.fsencode(odd) + b"\0" + os.fsencode(lab / "twin.tif") + b"\0")
    found = lines(twinscope("hash", "--from-file", tmp_path / "list", "-0", "--json"))
    assert [one["path"] for one in found[:-1]] == [odd, str(lab / "twin.tif")]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"a\0b", b"\xff\xfea"])
def test_a_list_without_a_usable_path_is_refused(tmp_path: Path, twinscope: Any, data: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    ran = twinscope("hash", "--from-file", tmp_path / "list.txt")
    assert (ran.code, ran.out) == (1, "")
    [line] = ran.err.splitlines()
    assert "list.txt" in line
    assert twinscope("hash", "--from-file", tmp_path / "none.txt").code == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_no_input_at_all_is_wrong_usage(
    twinscope: Any, tmp_path: Path, words: dict[str, tuple[object, ...]], command: str
) -> None:
    before = sorted(tmp_path.iterdir())
    ran = twinscope(command, *words[command])
    assert ran.code == 2
    assert "--from-file" in ran.err
    assert twinscope(command, "x.tif", "-0", *words[command]).code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_of_hashes_that_was_interrupted_is_removed(
    lab: Path, tmp_path: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twinscope_client.cli.hash_command._hash_one", interrupt)
    ran = twinscope("hash", lab, "--csv", tmp_path / "hashes.csv")
    assert ran.code == 130
    assert "Nothing was saved" in ran.err
    assert not (tmp_path / "hashes.csv").exists()

"""File names cannot control a terminal, and the message for a malformed target says how to write the target."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from shelf import Shelf
from twinscope_client.cli.console import checksum_line, one_line
from twinscope_client.cli.main import main

NAMES = (
    "line\nbreak",
    "\x1b[31mred\x1b[0m",
    "back\\slash",
    "carriage\rreturn",
    "turn\u202eround",
    "c1\x9b2J",
    "plain é",
)


def test_control_characters_are_escaped() -> None:
    assert [one_line(name) for name in NAMES] == [
        "line\\nbreak", "\\x1b[31mred\\x1b[0m", "back\\slash", "carriage\\rreturn", "turn\\u202eround", "c1\\x9b2J",
        "plain é",
    ]  # fmt: skip
    assert one_line("a\u2028b\u2066c\x7fd\te\x00") == "a\\u2028b\\u2066c\\x7fd\\te\\x00"


def test_a_line_is_that_of_sha256sum() -> None:
    assert checksum_line("ab", "plain é") == "ab  plain é"
    assert checksum_line("ab", "line\nbreak") == "\\ab  line\\nbreak"
    assert checksum_line("ab", "back\\slash") == "\\ab  back\\\\slash"
    assert checksum_line("ab", "carriage\rreturn") == "\\ab  carriage\\rreturn"
    assert checksum_line("ab", "\x1b[31m") == "\\ab  \\x1b[31m"


@pytest.fixture
def lab(shelf: Shelf, tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    for name in NAMES:
        shutil.copyfile(shelf.reference("Tips", 0), tmp_path / "lab" / f"{name}.jpg")
        (tmp_path / "lab" / f"bad {name}.jpg").write_bytes(b"no image")
    return tmp_path / "lab"


def test_no_command_writes_control_characters(
    shelf: Shelf, lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(path) for path in lab.iterdir()]
    commands = [
        ["hash", str(lab)],
        ["search", *images, "--at", str(shelf.store)],
        ["search", *images, "--at", str(shelf.store), "--json"],
        ["index", str(lab), "--store", str(tmp_path / "new.store"), "--unknown-category", "keep"],
        ["convert", str(lab), "--out", str(tmp_path / "jpegs")],
        ["label", str(lab), "--at", str(shelf.store), "--out", str(tmp_path / "labelled")],
        ["search", "--at", "\x1b[2J\n", "x"],
    ]
    for command in commands:
        main(command)
        printed = capsys.readouterr()
        for text in (printed.out, printed.err):
            assert not set(text) & {"\x1b", "\r", "\u202e", "\x9b"}, command
        if command[0] == "hash":
            lines = printed.out.splitlines()
            assert len(lines) == len(NAMES)
            assert sum(line.startswith("\\") for line in lines) == len(NAMES) - 1
    assert main(["hash", str(lab), "--csv", str(tmp_path / "hashes.csv")]) == 3
    with (tmp_path / "hashes.csv").open(newline="") as stream:
        assert {row["file"] for row in csv.DictReader(stream)} == {f"{name}.jpg" for name in NAMES}


def test_wrong_usage_is_told_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["hash", "--no\x1b[31m\n", "x"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("localhost:50051", "localhost:50051 is no folder; for a server write grpc://localhost:50051"),
        ("[::1]:50051", "for a server write grpc://[::1]:50051"),
        ("grpc:localhost:50051", "for a server write grpc://localhost:50051"),
        ("lab.store", "for a server write grpc://host:port"),
        ("http://localhost:50051/", "write grpc://localhost:50051, or grpcs://localhost:50051 with TLS"),
        ("https://match.lab:50051", "write grpcs://match.lab:50051"),
    ],
)
def test_a_target_without_a_scheme_gets_a_hint(
    target: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "image.tif", "--at", target]) == 1
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("command", [["index", "x", "--store"], ["serve"], ["store", "export"], ["calibrate"]])
def test_a_command_that_needs_a_folder_refuses_a_server(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for target in ("grpc://localhost:50051", "localhost:50051"):
        with pytest.raises(SystemExit) as caught:
            main([*command, target])
        assert caught.value.code == 2
        assert f"{target} is a server, but this command needs the folder of a store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_the_name_of_an_address_is_a_folder(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shelf.store, "localhost:50051")
    assert main(["store", "stats", "localhost:50051"]) == 0
    assert "6 images" in capsys.readouterr().out

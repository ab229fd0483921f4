"""Wrong usage, help and the completion of options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shelf import Shelf
from twinscope_client.cli import main as command
from twinscope_client.labelling.journal import Journal

_COMMAND = Path(sys.executable).with_name("twinscope")
_ALL = [*((name,) for name in command._COMMANDS), *(("store", name) for name in ("stats", "export", "relocate"))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["labe"], "there is no command 'labe'; did you mean label?"),
        (["xyz"], "there is no command 'xyz'; known: index, serve,"),
        (["store", "stat"], "did you mean stats?"),
        (["label", "x", "--at", "s", "--out", "o", "--dryrun"], "no option --dryrun; did you mean --dry-run?"),
        (["search", "x", "--at", "s", "--max-distanze=3"], "no option --max-distanze; did you mean --max-distance?"),
        (["search", "x", "--at", "s", "--qqq"], "there is no option --qqq (help"),
        (["--quiet", "search", "x", "--at", "s"], "write --quiet after the command"),
        (["label", "x", "--at", "s"], "--out DIR is missing: output folder"),
        (["evaluate"], "--truth CSV is missing"),
        (["evaluate", "--truth", "t.csv"], "RUN is missing"),
        (["report"], "RUN is missing"),
        (["report", "a", "b"], "unexpected argument 'b'"),
        (["search", "x"], "TWINSCOPE_STORE"),
        ([], "name what to do: index"),
        (["store"], "name what to do: stats, export, relocate"),
        (["label", "x", "--link", "move"], "--link: invalid choice: 'move'"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(
    twinscope: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWINSCOPE_STORE", raising=False)
    ran = twinscope(*words)
    assert (ran.code, ran.out) == (2, "")
    [line] = ran.err.splitlines()
    assert expected in line


@pytest.mark.parametrize("words", _ALL)
def test_help_has_an_example_and_names_what_each_value_is(twinscope: Any, words: tuple[str, ...]) -> None:
    text = twinscope(*words, "--help").out
    assert f"Example: twinscope {' '.join(words)}" in text or words == ("store",)
    assert " X" not in text.split("Example:")[0].replace(" XML", "")
    assert not [line for line in text.splitlines() if line.strip().startswith("--") and line.rstrip().endswith(" X")]
    assert "(default: None)" not in text


def test_options_stand_in_groups(twinscope: Any) -> None:
    for name, groups in {
        "label": ("lists of paths:", "output:", "servers:", "policy:", "pipelines:"),
        "search": ("lists of paths:", "servers:", "policy:", "pipelines:"),
        "index": ("lists of paths:", "pipelines:"),
    }.items():
        text = twinscope(name, "--help").out
        assert [group for group in groups if f"\n{group}" not in text] == []


@pytest.mark.parametrize(
    ("words", "patched", "expected"),
    [
        ("search {image} --at {store}", "cli.search_command._show", "nothing was saved"),
        ("hash {image}", "cli.hash_command._hash_one", "nothing was saved"),
        ("convert {image} --out {out}", "conversion._convert_one", "Finished JPEGs are kept"),
        ("label {image} --at {store} --out {out}", "labelling.run.decide", "Finished work is kept"),
        ("label {image} --at {store} --out {out} --dry-run", "labelling.run.decide", "Nothing was written"),
        ("index {image} --store {out}", "cli.index_command.progress", "Finished work is kept"),
        ("report {run}", "labelling.tables.write_tables", "Each file is complete, old or new"),
        ("evaluate {run} --truth x.csv", "cli.evaluate_command._evaluated", "The evaluation is not complete"),
        ("store stats {store}", "cli.store_command.open_target", "Nothing was changed"),
        ("demo --out {out}", "demo.collection.write_collection", "not complete; remove this folder"),
    ],
)
def test_ctrl_c_tells_what_is_kept(
    twinscope: Any,
    shelf: Shelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    patched: str,
    expected: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Journal(tmp_path / "run").close()
    module, _, name = f"twinscope_client.{patched}".rpartition(".")
    monkeypatch.setattr(f"{module}.{name}", interrupt)
    if name == "write_collection":
        monkeypatch.setattr(f"twinscope_client.cli.demo_walkthrough.{name}", interrupt)
    values = {
        "image": shelf.reference("Tips", 0),
        "store": shelf.store,
        "out": tmp_path / "out",
        "run": tmp_path / "run",
    }
    ran = twinscope(*(word.format(**values) for word in words.split()))
    assert ran.code == 130
    [line] = [line for line in ran.err.splitlines() if line.startswith("Stopped.")]
    assert expected in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_accepted_by_the_shell(twinscope: Any, shell: str) -> None:
    ran = twinscope("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert "twinscope" in ran.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=ran.out, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def completed(line: str, folder: Path) -> list[str]:
    """Return the completions of a command line. The package argcomplete reads the line from the environment."""
    script = (
        "import sys; from unittest.mock import patch\n"
        "import argcomplete; from twinscope_client.cli import main\n"
        "leave = lambda code=0: (sys.stdout.flush(), sys.exit(code))\n"
        "finish = lambda parser: argcomplete.CompletionFinder()(parser, exit_method=leave, output_stream=sys.stdout)\n"
        "with patch('argcomplete.autocomplete', finish): main.main([])"
    )
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return [word.strip() for word in done.stdout.splitlines()]


def test_subcommands_options_and_choices_are_completed(tmp_path: Path) -> None:
    assert completed("twinscope la", tmp_path) == ["label"]
    assert completed("twinscope label --dry", tmp_path) == ["--dry-run"]
    assert set(completed("twinscope label --link ", tmp_path)) == {"copy", "hard", "sym"}
    (tmp_path / "twinscope.toml").write_text("broken = ")
    assert completed("twinscope store st", tmp_path) == ["stats"]

"""The script in the folder of ``make wheelhouse`` installs from this folder alone, and the files in it agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_SCRIPTS = _ROOT / "deploy" / "offline"
_STAND_IN = """#!/bin/sh
echo "$0 $*" >> "$LOG"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/twinscope"; fi
"""
"""A program that replaces Python, pip and twinscope, and records its arguments."""

pytestmark = pytest.mark.skipif(not (_ROOT / "Makefile").exists(), reason="a source distribution has no Makefile")


def test_the_script_installs_without_an_index(tmp_path: Path) -> None:
    """The names of the folders contain blanks, as often on Windows."""
    house, python, log = tmp_path / "wheel house", tmp_path / "python", tmp_path / "log"
    house.mkdir()
    (house / "install.sh").write_text((_SCRIPTS / "install.sh").read_text().replace("@EXTRAS@", "plots"))
    python.write_text(_STAND_IN)
    python.chmod(0o755)
    run = subprocess.run(
        ["/bin/sh", house / "install.sh", tmp_path / "new venv", python],
        env={"LOG": str(log), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    venv = tmp_path / "new venv"
    assert log.read_text().splitlines() == [
        f"{python} -m venv {venv}",
        f"{venv}/bin/python -m pip install --no-index --find-links {house} twinscope[plots]",
        f"{venv}/bin/twinscope doctor",
    ]
    assert run.stdout == f"Installed. Run: {venv}/bin/twinscope --help\n"


def test_both_scripts_do_the_same() -> None:
    """The script for Windows cannot be run here."""
    for name in ("install.sh", "install.bat"):
        text = (_SCRIPTS / name).read_text()
        steps = [text.index(step) for step in ("-m venv", "-m pip install --no-index --find-links", "doctor", "--help")]
        assert steps == sorted(steps), name
        assert '"twinscope[@EXTRAS@]"' in text


def test_extras_of_documents_and_of_make_are_there() -> None:
    extras = set(tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    [named] = re.findall(r"^EXTRAS := (\S+)$", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|", (_ROOT / "docs" / "start.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = set(rows) - {"labels", "summary", "run"}
    assert {*named.split(",")} <= documented
    assert documented == extras - {"bench", "dev", "docs", "test"}

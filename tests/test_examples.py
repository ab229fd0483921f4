"""The examples for workflow programs and notebooks do what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twinscope_client.demo.collection import write_collection

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(not _EXAMPLES.exists(), reason="the examples are not part of this distribution")


def run(command: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that finds ``twinscope`` in its PATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PATH"] = f"{_BIN}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snakemake in a separate environment, because it installs many packages."""
    environment = tmp_path_factory.mktemp("snakemake") / "venv"
    for words in (["venv", environment], ["pip", "install", "--python", environment / "bin" / "python", "snakemake"]):
        done = run([shutil.which("uv", path=str(_BIN)) or "uv", *words], environment.parent)
        if done.returncode:
            pytest.skip(f"Snakemake cannot be installed: {done.stderr[-300:]}")
    return environment / "bin" / "snakemake"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A collection, and two sessions of TIFFs; one TIFF is broken."""
    made = write_collection(tmp_path / "made", per_category=1, queries_per_category=1, size=(160, 120))
    shutil.move(made.references, tmp_path / "collection")
    shutil.move(made.queries, tmp_path / "tiffs" / "monday")
    (tmp_path / "tiffs" / "it's tuesday").mkdir()
    (tmp_path / "tiffs" / "it's tuesday" / "broken.tif").write_bytes(b"II*\0")
    return tmp_path


@pytest.mark.slow
def test_the_workflow_for_snakemake(snakemake: Path, work: Path) -> None:
    command = [snakemake, "--snakefile", _EXAMPLES / "snakemake" / "Snakefile", "--cores", "1"]
    done = run(command, work)
    assert done.returncode == 0, done.stderr
    monday, tuesday = (lines(work / "decisions" / f"{name}.jsonl") for name in ("monday", "it's tuesday"))
    labelled = [one for one in monday if one.get("category")]
    assert labelled
    for one in labelled:
        assert (work / "labelled" / "monday" / one["output"]).is_file()
    assert [one.get("grade") for one in tuesday] == ["failed", None]
    review = (work / "review.tsv").read_text()
    assert "broken.tif\tfailed\t" in review
    assert not [one for one in labelled if one["path"] in review]
    store = (work / "lab.store" / "catalog.sqlite").stat().st_ino
    (work / "tiffs" / "it's tuesday" / "broken.tif").unlink()
    shutil.copy(labelled[0]["path"], work / "tiffs" / "it's tuesday" / "again.tif")
    done = run(command, work)
    assert done.returncode == 0, done.stderr
    assert [one.get("category") for one in lines(work / "decisions" / "it's tuesday.jsonl")] == [
        labelled[0]["category"], None,
    ]  # fmt: skip
    assert (work / "lab.store" / "catalog.sqlite").stat().st_ino == store
    assert "Nothing to be done" in run(command, work).stderr


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs: pip install -e '.[notebook]'")
    nbformat = pytest.importorskip("nbformat")
    write_collection(tmp_path / "demo-out", per_category=1, queries_per_category=1, size=(160, 120))
    notebook = nbformat.read(_EXAMPLES / "notebook" / "label.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [str(cell.get("outputs")) for cell in notebook.cells]
    assert any("images can be found" in text for text in texts)
    assert any("excellent" in text for text in texts)
    assert (tmp_path / "demo-out" / "notebook-labelled" / "report.html").is_file()


def test_the_notebook_is_kept_without_results() -> None:
    cells = json.loads((_EXAMPLES / "notebook" / "label.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize("path", ["snakemake/Snakefile", "nextflow/main.nf"])
def test_workflows_use_options_that_there_are(path: str) -> None:
    from twinscope_client.cli.main import _parser

    text = (_EXAMPLES / path).read_text()
    words = {word for line in text.splitlines() if not line.strip().startswith(("#", "//")) for word in line.split()}
    used = {word.strip("\"'") for word in words if word.strip("\"'").startswith("--")}
    commands = next(action.choices for action in _parser()._actions if action.dest == "command")
    known = {option for name in ("index", "label") for option in commands[name]._option_string_actions}
    assert used
    assert used <= known

"""The command ``twinscope doctor`` passes on this machine, and fails if a part of Twinscope is broken."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from twinscope_client import doctor
from twinscope_client.cli.main import main
from twinscope_indexer.compute.machine_code import WORK

_CHECKS = ["machine code", "reading TIFFs", "hash", "SSIM", "scene score", "index", "index engine", "index file"]


def test_this_installation_passes() -> None:
    found = list(doctor.checks())
    assert [check.name for check in found] == _CHECKS
    assert [check.detail for check in found if not check.fine] == []


@pytest.mark.parametrize(
    ("name", "module", "broken"),
    [
        ("hash", "twinscope_indexer.hashing.perceptual.phash", lambda _: np.zeros(128, np.uint8)),
        ("SSIM", "twinscope_service.similarity.ssim.ssim", lambda *_: 0.5),
        ("scene score", "twinscope_service.similarity.scene_score.scene_scores", lambda *_: []),
        ("index", "twinscope_indexer.index.blocks.BlockSegment.search", lambda *_: 1 / 0),
        ("index file", "twinscope_indexer.index.faiss_file.write_index", lambda *_: None),
        ("reading TIFFs", "twinscope_indexer.imaging.reader.read_image", lambda _: 1 / 0),
    ],
)
def test_a_broken_part_fails_its_check_only(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, broken: Any
) -> None:
    monkeypatch.setattr(module, broken)
    found = {check.name: check for check in doctor.checks()}
    assert list(found) == _CHECKS
    assert {check.name for check in found.values() if not check.fine} - {"machine code"} == {
        name
    }  # all these functions run as machine code
    assert found[name].detail


def test_versions_are_the_installed_ones() -> None:
    found = doctor.versions()
    for package in ("twinscope", "numpy", "faiss-cpu", "numba", "grpcio"):
        assert found[package] == version(package)
    assert "missing" not in found.values()


def test_an_absent_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package-anywhere",))
    assert doctor.versions()["no-such-package-anywhere"] == "missing"


def test_the_command_fails_if_a_check_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"numpy          {version('numpy')}" in printed.out
    assert [line.split(":")[0] for line in printed.out.splitlines() if line.startswith("ok")] == [
        f"ok     {name}" for name in _CHECKS
    ]
    monkeypatch.setattr("twinscope_service.similarity.ssim.ssim", lambda *_: 0.5)
    assert main(["doctor", "--json"]) == 1
    diagnosis = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in diagnosis["checks"] if not check["fine"]] == ["SSIM"]
    assert diagnosis["versions"]["numpy"] == version("numpy")
    assert set(diagnosis["machine"]) == {"system", "processor", "cores", "features"}


def test_machine_code_is_kept_beforehand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--warm"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("machine code: loaded in ") or ", and kept in " in printed.out
    assert len(printed.out.splitlines()) == 1

    def compile_for_nothing() -> None:
        WORK.begin(kept=False)
        WORK.end(kept=False)

    monkeypatch.setattr("twinscope_service.server.warmup.warm", compile_for_nothing)
    monkeypatch.setattr(WORK, "_announced", False)
    assert main(["doctor", "--warm"]) == 1
    printed = capsys.readouterr()
    assert "but not kept: no folder for machine code can be written" in printed.out
    assert printed.err.count("no folder for machine code can be written") == 1

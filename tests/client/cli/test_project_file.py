"""The settings of a project: ``twinscope.toml``, ``TWINSCOPE_STORE``, and the names of the store in each command."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from shelf import Shelf
from twinscope_client.labelling.journal import Journal


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TWINSCOPE_STORE", raising=False)
    return folder


@pytest.mark.usefixtures("no_report")
def test_a_project_file_replaces_all_arguments(
    shelf: Shelf, lab: Path, project: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "twinscope.toml").write_text(
        'store = "lab.store"\ncollection = ["refs"]\nimages = "../Tips"\nout = "results/run"\nfail_on = "never"\n'
        "jpeg = true\nworkers = 1\n[thresholds]\nk = 2\ngood_scene = 0.7\n"
    )
    (project / "refs").symlink_to(shelf.references)
    (project / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep" / "er")  # the file is found in a folder above
    assert twinscope("index").code == 0
    assert (project / "lab.store" / "catalog.sqlite").is_file()
    ran = twinscope("label")
    assert ran.code == 0
    [told] = [line for line in ran.err.splitlines() if line.startswith("Settings of the file ")]
    assert told.endswith("twinscope.toml: store, images, out, fail_on, jpeg, workers, thresholds")
    run = project / "results" / "run"
    assert (run / "Tips" / "L9_twin.tif").is_file()
    assert len(list((run / "Tips").glob("*.jpg"))) == 1
    with closing(Journal(run, create=False)) as journal:
        policy = journal.settings()["policy"]
    assert (policy["k"], policy["good_scene"]) == (2, 0.7)
    assert twinscope("report").code == 0
    truth = project / "truth.csv"
    truth.write_text(f"path,category\n{lab / 'twin.tif'},Tips\n")
    assert twinscope("evaluate", "--truth", truth, "--json").code == 0
    stats = json.loads(twinscope("store", "stats", "--json").out)
    assert stats["store"] == str(project / "lab.store")
    answer = json.loads(twinscope("search", lab / "twin.tif", "--json").out.splitlines()[0])
    assert answer["policy"]["k"] == 2
    assert list((project / "deep" / "er").iterdir()) == []  # relative paths start at the folder of the file


def test_an_option_overrides_the_environment_and_that_the_file(
    shelf: Shelf, lab: Path, project: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "twinscope.toml").write_text('store = "of the file"\n')
    search = ("search", lab / "twin.tif")
    assert str(project / "of the file") in twinscope(*search).err
    monkeypatch.setenv("TWINSCOPE_STORE", "of the environment")
    assert "of the environment is no folder" in twinscope(*search).err
    assert "of the option is no folder" in twinscope(*search, "--at", "of the option").err
    monkeypatch.setenv("TWINSCOPE_STORE", "")  # an empty variable has no effect
    assert str(project / "of the file") in twinscope(*search).err
    monkeypatch.setenv("TWINSCOPE_STORE", str(shelf.store))
    assert twinscope(*search).code == 0


def test_config_tells_what_applies_and_from_where(
    project: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = twinscope("config")
    assert (ran.code, ran.out) == (0, "")
    assert "There is no twinscope.toml" in ran.err
    (project / "twinscope.toml").write_text('store = "grpc://host:1"\nout = "run"\n')
    found = json.loads(twinscope("config", "--json").out)
    file = f"file {project / 'twinscope.toml'}"
    assert found == {
        "store": {"value": "grpc://host:1", "origin": file},
        "out": {"value": str(project / "run"), "origin": file},
    }
    monkeypatch.setenv("TWINSCOPE_STORE", "other")
    assert twinscope("config").out.splitlines() == [
        'store = "other"    (environment variable TWINSCOPE_STORE)',
        f'out = "{project / "run"}"    ({file})',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stroe = "x"', "Did you mean 'store'?"),
        ("[thresholds]\ngood_scen = 0.5", "Did you mean 'good_scene'?"),
        ("store = 3", "store must be a path"),
        ('store = ""', "store must be a path"),
        ("images = [1]", "images must be a path or a list of paths"),
        ("thresholds = 1", "must be a table"),
        ("[thresholds]\nk = 1.5", "k must be a whole number"),
        ("[thresholds]\ngood_scene = '1'", "good_scene must be a number"),
        ("link = 'move'", "link must be one of copy, hard, sym"),
        ("jpeg = 1", "jpeg must be true or false"),
        ("workers = true", "workers must be a whole number"),
        ("store = ", "cannot be read"),
    ],
)
def test_a_faulty_project_file_is_refused(project: Path, twinscope: Any, text: str, message: str) -> None:
    (project / "twinscope.toml").write_text(f"{text}\n")
    ran = twinscope("label", "x.tif", "--at", "s", "--out", "o")
    assert (ran.code, ran.out) == (1, "")
    [line] = ran.err.splitlines()
    assert message in line
    assert str(project / "twinscope.toml") in line
    assert twinscope("label", "--help").code == 0
    assert sorted(project.iterdir()) == [project / "twinscope.toml"]


def test_arguments_replace_the_inputs_of_the_project(shelf: Shelf, lab: Path, project: Path, twinscope: Any) -> None:
    (project / "twinscope.toml").write_text(f'store = "{shelf.store}"\nimages = "missing"\nout = "run"\n')
    assert twinscope("label", lab / "twin.tif", "--dry-run").code == 0
    (project / "list.txt").write_text(str(lab / "twin.tif"))
    assert twinscope("label", "--from-file", "list.txt", "--dry-run").code == 0
    assert twinscope("label", "--dry-run").code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("store", "stats", "{}"),
        ("store", "stats", "--at", "{}"),
        ("store", "stats", "--store", "{}"),
        ("store", "export", "{}"),
        ("store", "export", "--at", "{}"),
        ("calibrate", "{}", "--sample", "1", "--dry-run"),
        ("calibrate", "--at", "{}", "--sample", "1", "--dry-run"),
        ("search", "{image}", "--at", "{}"),
        ("search", "{image}", "--store", "{}"),
        ("store", "relocate", "{}", "/a", "/b"),
        ("store", "relocate", "--at", "{}", "/a", "/b"),
    ],
)
def test_a_store_has_one_spelling_and_keeps_the_old_ones(
    shelf: Shelf, lab: Path, project: Path, twinscope: Any, words: tuple[str, ...]
) -> None:
    def call(store: object) -> Any:
        return twinscope(*(word.format(store, image=lab / "twin.tif") for word in words))

    assert re.search("holds no Twinscope store|is no folder; make a store", call("nowhere").err)
    if words[0] == "calibrate":  # takes minutes
        return
    ran = call(shelf.store)
    assert ran.code != 2
    assert not re.search("holds no Twinscope store|is no folder; make a store", ran.err)


def test_two_names_of_a_store_are_refused(shelf: Shelf, project: Path, twinscope: Any) -> None:
    assert twinscope("store", "stats", shelf.store, "--at", shelf.store).code == 0
    for words in (("store", "stats"), ("calibrate",), ("store", "export")):
        ran = twinscope(*words, shelf.store, "--at", "other")
        assert ran.code == 2
        assert "two stores are named" in ran.err
    assert twinscope("store", "relocate", shelf.store, "a", "b", "--at", "other").code == 2


def test_a_server_is_no_folder(shelf: Shelf, project: Path, twinscope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSCOPE_STORE", "grpc://127.0.0.1:1")
    for words in (("calibrate",), ("store", "export"), ("index", shelf.references)):
        ran = twinscope(*words)
        assert ran.code == 2
        assert "needs the folder of a store" in ran.err
    assert twinscope("store", "export", shelf.store).code == 0

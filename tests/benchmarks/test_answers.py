"""Differences between two records of the benchmark `answers`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "differences.py"
if not _FILE.is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
_SPEC = importlib.util.spec_from_file_location("benchmark_differences", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
differences = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(differences)

ANSWER = {
    "grade": "good",
    "distance": 12,
    "scene_score": 0.75,
    "ssim": None,
    "p_wrong": [0.006, 0.0001, 0.02, "shipped"],
    "others": [["Tips/b.tif.jpg", 40, 0.5, [0.0, 0.01]]],
    "reason": "same field",
}


@pytest.mark.parametrize(
    ("field", "value", "differs"),
    [
        ("grade", "none", True),
        ("distance", 13, True),
        ("distance", None, True),
        ("scene_score", 0.75 + 1e-12, False),
        ("scene_score", 0.75 + 1e-6, True),
        ("ssim", 0.0, True),
        ("p_wrong", [0.006 + 1e-12, 0.0001, 0.02, "shipped"], False),
        ("p_wrong", [0.006, 0.0001, 0.02, "own"], True),
        ("others", [], True),
        ("others", [["Tips/b.tif.jpg", 40, 0.5, [0.0, 0.02]]], True),
        ("reason", "the same field", True),
    ],
)
def test_field_differs_only_beyond_the_tolerance(field, value, differs) -> None:
    found = differences.compare({"a": ANSWER}, {"a": ANSWER | {field: value}}, 1e-9)
    assert found == ([("a", field, ANSWER[field], value)] if differs else [])


def test_answers_and_fields_of_only_one_record_are_listed() -> None:
    fewer = {name: value for name, value in ANSWER.items() if name != "ssim"}
    found = differences.compare({"a": ANSWER, "b": ANSWER}, {"b": fewer | {"new": 1}, "c": ANSWER}, 1e-9)
    assert found == [("a", "missing", "good", None), ("b", "new", None, 1), ("c", "new", None, "good")]


def test_different_sentences_alone_are_not_a_failure(capsys) -> None:
    before = {"a": ANSWER, "b": ANSWER}
    assert differences.print_differences(before, before, 1e-9, 5) == 0
    assert differences.print_differences(before, before | {"a": ANSWER | {"reason": "alike"}}, 1e-9, 5) == 0
    assert "1 of them with different wording" in capsys.readouterr().out
    after = before | {"a": ANSWER | {"reason": "alike", "grade": "none"}}
    assert differences.print_differences(before, after, 1e-9, 1) == 1
    assert "a: grade: 'good' -> 'none'" in capsys.readouterr().out


def test_record_is_read_as_it_was_written(tmp_path) -> None:
    differences.write(tmp_path / "record.jsonl", {"a": ANSWER | {"distance": 0.1 + 0.2}})
    assert differences.read(tmp_path / "record.jsonl") == {"a": ANSWER | {"distance": 0.1 + 0.2}}

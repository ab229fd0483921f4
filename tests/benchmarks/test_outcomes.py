"""Counts of the recall benchmark: queries found, queries held by the limit on p_wrong, and false labels."""

from __future__ import annotations

import pytest
from twinscope_service.matching.answer import ChanceOfError, Match
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.policy import Policy
from twinscope_service.matching.verdict import decide


@pytest.fixture
def outcomes(benchmark):
    return benchmark("outcomes")


@pytest.fixture
def outcome(outcomes):
    def make(verdict="right", *, held=False, p_wrong=0.01, score=0.9, group="A", transform="noise 5"):
        candidate = {"right": "own", "wrong": "other", "overlap": "overlap", "refused": ""}[verdict]
        return outcomes.Outcome(
            transform=transform, group=group, name="a", category="Tips", verdict=verdict, held=held,
            grade="doubtful" if held else "good", reason="", candidate=candidate, candidate_name="b", distance=9,
            score=score, ssim=None, p_wrong=p_wrong, milliseconds=1.0,
        )  # fmt: skip

    return make


TWIN = Match("0" * 16, "a.jpg", "Tips", "T", 9, scene_score=0.9)


@pytest.mark.parametrize(
    ("evidence", "held"),
    [
        (Evidence((TWIN,), p_wrong=ChanceOfError(0.2, 0.1, 0.3, "shipped")), True),
        (Evidence((TWIN,), p_wrong=ChanceOfError(0.01, 0.0, 0.02, "shipped")), False),
        (Evidence((TWIN,)), True),
        (Evidence((TWIN,), lookalike=0.5, p_wrong=ChanceOfError(0.2, 0.1, 0.3, "shipped")), False),
        (Evidence(()), False),
    ],
    ids=["above the limit", "below it", "not known", "doubtful for another reason", "nothing found"],
)
def test_only_matches_stopped_by_the_limit_alone_are_held(outcomes, evidence, held):
    verdict = decide(evidence, Policy(max_p_wrong=0.05))
    assert outcomes.is_held(reason.code for reason in verdict.reasons) is held
    without = decide(evidence, Policy(max_p_wrong=1.0))
    assert held is (without.grade in {"good", "excellent"} and verdict.grade == "doubtful")


def test_recall_counts_found_and_precision_labelled(outcomes, outcome):
    some = [outcome()] * 5 + [outcome(held=True)] * 2 + [outcome("wrong")] + [outcome("wrong", held=True)]
    row = outcomes.count([*some, outcome("overlap"), outcome("refused")], [])
    assert row["queries"] == 11
    assert (row["right"], row["labelled"], row["to review"]) == (7, 5, 2)
    assert (row["wrong"], row["wrong to review"], row["overlap"], row["refused"]) == (1, 1, 1, 1)
    assert row["recall"] == pytest.approx(7 / 11)
    assert row["precision"] == pytest.approx(5 / 6)


def test_no_labels_have_no_precision(outcomes, outcome):
    assert outcomes.count([outcome(held=True)], [])["precision"] is None


def test_held_false_label_of_an_unrelated_image_is_no_failure(outcomes, outcome):
    assert not outcomes.failed(outcome("wrong", held=True, group="R"))
    assert outcomes.failed(outcome("wrong", group="R"))
    assert outcomes.failed(outcome("wrong", held=True))  # its twin was not found
    assert not outcomes.failed(outcome(held=True))


def test_every_limit_is_counted_by_group(outcomes, outcome):
    some = [outcome(p_wrong=0.03), outcome(p_wrong=0.3, held=True), outcome(p_wrong=None, held=True)]
    rows = outcomes.held_at([*some, outcome("wrong", p_wrong=0.3, held=True), outcome("overlap", p_wrong=0.3)])
    by_limit = {row["limit"]: row for row in rows}
    assert by_limit[0.05]["right labelled"] == 1
    assert by_limit[0.05]["right to review"] == 2
    assert by_limit[0.05]["wrong to review"] == 1
    assert by_limit[0.5]["right labelled"] == 2
    assert by_limit[0.5]["wrong labelled"] == 1
    assert by_limit[1]["right labelled"] == 3


def test_table_shows_found_labelled_and_held(outcomes, outcome):
    some = [outcome()] * 3 + [outcome(held=True, p_wrong=0.3), outcome("refused", p_wrong=None)]
    text = outcomes.table(outcomes.summarise(some, None), 5)
    [row] = [line.split() for line in text.splitlines() if "noise 5  " in line]
    assert row[3:10] == ["5", "4", "3", "1", "0", "0", "0"]
    assert "MISSED" in row  # 4 of 5 is below the minimum recall of the group

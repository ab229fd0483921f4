"""Every reason code has a clause and can be sent over the network, and every grade has the expected reasons."""

from __future__ import annotations

import json
import string

import pytest
from twinscope.v1 import types_pb2
from twinscope_service.matching.answer import Answer, ChanceOfError, Match, Transform
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.grades import GRADE_NAMES, GRADES, LABELLED
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.reasons import _CLAUSES, Reason, ReasonCode, sentence
from twinscope_service.matching.verdict import decide
from twinscope_service.wire.answers import answer_message, answer_of

_POLICY = POLICIES["default"]


def match(scene: float | None = 0.9, ssim: float | None = None, category: str = "Tips", **others: object) -> Match:
    return Match("0" * 16, "/refs/a.jpg", category, "L1", 210, scene_score=scene, ssim=ssim, **others)  # type: ignore[arg-type]


def codes(evidence: Evidence) -> list[str]:
    return [reason.code.value for reason in decide(evidence, _POLICY).reasons]


_INVERTED = Transform("inverted", "whole", "whole")
_SURE = ChanceOfError(0.01, 0.0, 0.02, "test")


@pytest.mark.parametrize(
    ("evidence", "grade", "expected"),
    [
        (Evidence(), "none", ["no_reference_near"]),
        (Evidence(compared_to=430), "none", ["no_reference_near", "nothing_farther"]),
        (Evidence((match(0.2),)), "none", ["other_field"]),
        (Evidence((match(None),)), "unverified", ["not_verified"]),
        (Evidence((match(0.9, 0.99),), p_wrong=_SURE), "excellent", ["same_acquisition"]),
        (Evidence((match(),), p_wrong=_SURE), "good", ["same_field"]),
        (
            Evidence((match(note="no full-size SSIM: gone", transform=_INVERTED),), p_wrong=_SURE),
            "good",
            ["same_field", "transformed", "full_size_missing"],
        ),
        (Evidence((match(0.4),), lone=True, p_wrong=_SURE), "good", ["lone_field"]),
        (Evidence((match(), match(0.89, category="Wires"))), "ambiguous", ["two_categories"]),
        (Evidence((match(contradictions=("other energy",)),)), "doubtful", ["same_field", "instruments_contradict"]),
        (Evidence((match(),), regions_agree=False), "doubtful", ["same_field", "some_regions_only"]),
        (Evidence((match(),), lookalike=0.5), "doubtful", ["same_field", "lookalike"]),
        (Evidence((match(),), texture_agrees=False), "doubtful", ["same_field", "outlines_only"]),
        (
            Evidence((match(),), texture_agrees=False, noise_residual=40.0, p_wrong=_SURE),
            "good",
            ["same_field", "noise_agrees"],
        ),
        (Evidence((match(),)), "doubtful", ["same_field", "p_wrong_unknown"]),
        (
            Evidence((match(),), p_wrong=ChanceOfError(0.06, 0.0, 1.0, "test")),
            "doubtful",
            ["same_field", "p_wrong_above_limit"],
        ),
    ],
)  # fmt: skip
def test_grade_and_reasons_of_evidence(evidence: Evidence, grade: str, expected: list[str]) -> None:
    assert decide(evidence, _POLICY).grade == grade
    assert codes(evidence) == expected


def test_match_at_the_limit_is_labelled() -> None:
    limit = _POLICY.max_p_wrong
    assert decide(Evidence((match(),), p_wrong=ChanceOfError(limit, 0.0, 1.0, "test")), _POLICY).grade == "good"


def _any_reason(code: ReasonCode) -> Reason:
    names = {name: spec for _, name, spec, _ in string.Formatter().parse(_CLAUSES[code]) if name}
    texts = {"lack", "detail", "transform", "category", "measured", "contradictions"}
    return Reason(code, {n: "text \\ \udcff" if n in texts or n.startswith("other_") else 0.125 for n in names})


@pytest.mark.parametrize("code", [code for code in ReasonCode if code is not ReasonCode.UNKNOWN])
def test_every_code_has_a_clause_and_survives_the_wire(code: ReasonCode) -> None:
    reason = _any_reason(code)
    assert sentence([reason])
    answer = Answer("none", (), sentence([reason]), "00", _POLICY, 1, "r", reasons=(reason,))
    received = answer_of(types_pb2.Answer.FromString(answer_message(answer).SerializeToString()))
    assert received == answer
    assert hash(received) == hash(answer)
    json.dumps(answer.to_dict()["reasons"])


def test_code_of_a_newer_server_is_kept_as_unknown() -> None:
    message = answer_message(Answer("none", (), "why", "00", _POLICY, 1, "r"))
    message.reasons.add(code=999, numbers={"x": 1.0})  # type: ignore[arg-type]
    received = answer_of(types_pb2.Answer.FromString(message.SerializeToString()))
    assert received.reason == "why"
    assert received.reasons == (Reason(ReasonCode.UNKNOWN, {"x": 1.0}),)


def test_codes_and_grades_match_the_wire() -> None:
    assert {f"REASON_CODE_{code.name}" for code in ReasonCode if code is not ReasonCode.UNKNOWN} == set(
        types_pb2.ReasonCode.DESCRIPTOR.values_by_name
    ) - {"REASON_CODE_UNSPECIFIED"}
    assert {f"GRADE_{name.upper()}" for name in GRADE_NAMES} == set(types_pb2.Grade.keys()) - {"GRADE_UNSPECIFIED"}
    assert tuple(grade.name for grade in GRADES) == GRADE_NAMES
    assert {"excellent", "good"} == LABELLED

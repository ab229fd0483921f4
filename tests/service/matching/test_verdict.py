"""The verdict: every grade, rivals of another category, thresholds at equality, policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_service.matching.answer import Answer, Match
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.policy import MAX_K, POLICIES, Policy, named_policy
from twinscope_service.matching.verdict import Verdict, decide, ssim_wanted

# Independent of the defaults, so that these tests stay valid if the defaults change.
_DEFAULT = Policy(
    excellent_ssim=0.95, good_scene=0.6, ssim_margin=0.02, scene_margin=0.1, max_distance=300, max_p_wrong=1.0
)
_LEGACY = POLICIES["legacy"]


def match(
    category: str = "Tips",
    distance: int = 6,
    scene: float | None = None,
    ssim: float | None = None,
    **others: Any,
) -> Match:
    found = {"image_id": f"{category}-{distance}", "source": f"/refs/{category}/{distance}.jpg", "code": "L9"} | others
    return Match(category=category, distance=distance, scene_score=scene, ssim=ssim, **found)


def grade(*matches: Match, policy: Policy = _DEFAULT) -> str:
    return judged(sorted(matches, key=lambda each: each.order), policy).grade


def judged(matches: Sequence[Match], policy: Policy = _DEFAULT) -> Verdict:
    return decide(Evidence(tuple(matches)), policy)


# -- grades ------------------------------------------------------------------------------------------------------


def test_every_grade_has_its_reason() -> None:
    cases = {
        "excellent": ([match(scene=0.99, ssim=0.98)], "SSIM 0.980 > 0.95"),
        "good": ([match(scene=0.81, ssim=0.5)], "scene score 0.810 >= 0.6"),
        "ambiguous": ([match("Tips", scene=0.9), match("Fibres", scene=0.9)], "Tips (scene score 0.900) and Fibres"),
        "unverified": (
            [match(distance=12, note="the file is missing")],
            "the nearest reference (12 bits away) was not verified: the file is missing",
        ),
    }
    for expected, (matches, why) in cases.items():
        found = judged(matches)
        assert found.grade == expected
        assert why in found.sentence
    assert (judged([]).grade, judged([]).sentence) == ("none", "no reference within 300 bits of the query")
    found = judged([match(distance=211, scene=0.2)])
    assert found.grade == "none"
    assert "211 bits" in found.sentence
    assert "0.200 < 0.6" in found.sentence


@pytest.mark.parametrize(
    ("best", "rival", "expected"),
    [
        # The rival is of the same acquisition.
        (match(scene=1, ssim=0.99), match("Fibres", 9, 0.99, 0.985), ("SSIM 0.990", "SSIM 0.985")),
        # The SSIMs differ, but no candidate shows the same acquisition, so only the scene scores are compared.
        (match(scene=1, ssim=0.923), match("Fibres", 9, 0.993, 0.103), ("scene score 1.000", "scene score 0.993")),
        # One SSIM is missing.
        (match(scene=0.99, ssim=0.993), match("Fibres", 9, 0.983), ("scene score 0.990", "scene score 0.983")),
        # The rival has no pixels.
        (match(scene=0.99, ssim=0.993), match("Fibres", 6), ("6 bits", "6 bits")),
        (match(ssim=0.993), match("Fibres", 9, 0.983), ("SSIM 0.993", "scene score 0.983")),
    ],
)
def test_an_ambiguity_shows_the_scores_that_were_compared(best: Match, rival: Match, expected: tuple[str, str]) -> None:
    found = judged([best, rival])
    assert found.grade == "ambiguous"
    [reason] = found.reasons
    assert (reason.values["measured"], reason.values["other_measured"]) == expected
    assert f"Tips ({expected[0]}) and Fibres ({expected[1]}, /refs/Fibres/" in found.sentence


def test_reason_of_an_ambiguity_names_the_rivals_file() -> None:
    found = judged([match("Tips", scene=0.9), match("Fibres", 9, scene=0.88)])
    assert "/refs/Fibres/9.jpg" in found.sentence


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (match(scene=0.99, ssim=0.95), "good"),  # not above the SSIM threshold
        (match(scene=0.99, ssim=0.9501), "excellent"),
        (match(scene=0.6), "good"),  # at the scene threshold
        (match(scene=0.5999), "none"),
        (match(scene=-1.0), "none"),
        (match(), "unverified"),
        (match(scene=0.99, ssim=-1.0), "good"),  # the same field with other noise
    ],
)
def test_thresholds_at_equality(found: Match, expected: str) -> None:
    assert grade(found) == expected


def test_good_needs_no_pixels_but_excellent_does() -> None:
    assert grade(match(distance=0, scene=1.0)) == "good"


# -- rivals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "rival", "expected"),
    [
        (0.99, 0.985, "ambiguous"),
        (0.9921875, 0.9921875 - 0.015625, "ambiguous"),  # exactly at the margin set below
        (0.99, 0.96, "excellent"),
        (0.951, 0.949, "ambiguous"),  # on both sides of the threshold, but not significantly different
        (0.96, 0.5, "excellent"),
    ],
)
def test_rival_within_the_ssim_margin(best: float, rival: float, expected: str) -> None:
    policy = _DEFAULT.adjusted({"ssim_margin": 0.015625})  # a multiple of a power of two, so that equality is exact
    found = [match("Tips", scene=0.99, ssim=best), match("Fibres", 40, scene=0.99, ssim=rival)]
    assert grade(*found, policy=policy) == expected


@pytest.mark.parametrize(
    ("best", "rival", "expected"),
    [
        (0.9, 0.85, "ambiguous"),
        (0.875, 0.75, "ambiguous"),  # exactly at the margin set below
        (0.9, 0.7, "good"),
        (0.61, 0.59, "ambiguous"),  # on both sides of the threshold
        (0.65, 0.1, "good"),
    ],
)
def test_rival_within_the_scene_margin(best: float, rival: float, expected: str) -> None:
    policy = _DEFAULT.adjusted({"scene_margin": 0.125})
    assert grade(match("Tips", scene=best), match("Fibres", 2, scene=rival), policy=policy) == expected


def test_candidates_of_one_category_are_no_rivals() -> None:
    assert grade(match("Tips", 6, scene=0.99, ssim=0.99), match("Tips", 7, scene=0.99, ssim=0.99)) == "excellent"
    assert grade(match("Tips", 6, scene=0.8), match("Tips", 7, scene=0.8), match("Tips", 3)) == "good"


def test_rival_is_found_after_candidates_of_the_same_category() -> None:
    same = [match("Tips", n, scene=0.99, ssim=0.99) for n in range(4)]
    assert grade(*same, match("Fibres", 9, scene=0.99, ssim=0.985)) == "ambiguous"


def test_rival_without_pixels_is_judged_by_its_thumbnail() -> None:
    twin = match("Tips", scene=0.99, ssim=0.99)
    assert grade(twin, match("Fibres", 8, scene=0.95)) == "ambiguous"
    assert grade(twin, match("Fibres", 8, scene=0.7)) == "excellent"


def test_rival_without_a_thumbnail_is_judged_by_its_hash() -> None:
    twin = match("Tips", 6, scene=0.99, ssim=0.99)
    assert grade(twin, match("Fibres", 6)) == "ambiguous"
    assert grade(twin, match("Fibres", 8)) == "excellent"


def test_ssim_of_a_weaker_candidate_gives_no_label() -> None:
    compared = match("Fibres", 60, scene=0.92, ssim=0.4)
    pixels_gone = match("Tips", 2, scene=0.99)
    assert grade(compared, pixels_gone) == "ambiguous"


_SCORE = st.none() | st.floats(-1, 1)
_MATCHES = st.lists(
    st.builds(
        match,
        category=st.sampled_from(["Tips", "Fibres", "Powder"]),
        distance=st.integers(0, 300),
        scene=_SCORE,
        ssim=_SCORE,
        image_id=st.uuids().map(str),
    ),
    min_size=1,
    max_size=6,
)


@given(_MATCHES)
def test_only_a_best_match_without_an_equal_gets_a_label(matches: list[Match]) -> None:
    ordered = sorted(matches, key=lambda each: each.order)
    found = judged(ordered).grade
    best = ordered[0]
    if found == "excellent":
        assert best.ssim is not None
        assert best.ssim > 0.95
        assert best.ssim == max(m.ssim for m in matches if m.ssim is not None)
        assert not any(
            m.category != best.category and m.ssim is not None and best.ssim - m.ssim <= 0.02 for m in matches
        )
    elif found == "good":
        assert best.scene_score is not None
        assert best.scene_score >= 0.6
        others = [m.scene_score for m in matches if m.category != best.category and m.scene_score is not None]
        assert all(best.scene_score - score > 0.1 for score in others)


# -- the legacy rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ssim", "expected"),
    [
        (None, "unverified"),
        (0.08, "unverified"),
        (0.95, "unverified"),
        (0.951, "excellent"),
        (float("nan"), "unverified"),
    ],
)
def test_legacy_rule_labels_only_a_high_ssim(ssim: float | None, expected: str) -> None:
    assert judged([match(distance=88, ssim=ssim)], _LEGACY).grade == expected


def test_legacy_rule_has_no_rivals() -> None:
    found = [match("Tips", 6, ssim=0.98), match("Fibres", 6, ssim=0.98)]
    assert judged(found, _LEGACY).grade == "excellent"
    nothing = judged([], _LEGACY)
    assert (nothing.grade, nothing.sentence) == ("none", "no reference within 149 bits of the query")


# -- order ---------------------------------------------------------------------------------------------------------


def test_order_is_ssim_then_scene_score_then_distance_then_id() -> None:
    ordered = [
        match("a", 200, scene=0.61, ssim=0.99),
        match("b", 3, scene=0.99, ssim=0.5),
        match("c", 150, scene=0.9),
        match("d", 1, scene=-0.5, image_id="0001"),
        match("e", 2, scene=-0.5, image_id="0000"),
        match("f", 0, image_id="0002"),
        match("g", 0, image_id="0003"),
    ]
    for shuffled in list(permutations(ordered))[::97]:
        assert sorted(shuffled, key=lambda each: each.order) == ordered


# -- answers -------------------------------------------------------------------------------------------------------


def test_only_labelled_grades_carry_a_category() -> None:
    for name in ("excellent", "good", "ambiguous", "unverified", "none"):
        answer = Answer(name, (match("Tips"),), "", "00", _DEFAULT, 1, "r")  # type: ignore[arg-type]
        labelled = name in {"excellent", "good"}
        assert answer.category == ("Tips" if labelled else None)
        assert answer.code == ("L9" if labelled else None)
        assert answer.to_dict()["category"] == answer.category
        assert answer.best == match("Tips")
    assert Answer("none", (), "", "00", _DEFAULT, 1, "r").best is None


def test_answer_as_plain_values_has_every_threshold() -> None:
    answer = Answer("good", (match(scene=0.9, shift=(0.1, 0.0)),), "why", "00ff", _DEFAULT, 3, "recipe", "v1")
    plain = answer.to_dict()
    assert set(plain["policy"]) == {field.name for field in fields(Policy)}
    assert plain["matches"][0]["scene_score"] == 0.9
    assert plain["generation"] == 3


# -- policies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 0}, {"k": MAX_K + 1}, {"k": 2.5}, {"max_distance": -1}, {"max_distance": 1025}, {"max_distance": 10.0},
        {"ssim_distance": 1025}, {"excellent_ssim": 1.01}, {"excellent_ssim": float("nan")}, {"good_scene": -1.5},
        {"ssim_margin": -0.1}, {"scene_margin": 2.1}, {"scene_margin": float("inf")},
    ],
)  # fmt: skip
def test_thresholds_out_of_range_are_refused_by_name(changes: dict[str, float]) -> None:
    [name] = changes
    with pytest.raises(ValueError, match=name):
        _DEFAULT.adjusted(changes)


@pytest.mark.parametrize(
    "changes", [{"k": 1}, {"k": MAX_K}, {"max_distance": 0}, {"max_distance": 1024}, {"excellent_ssim": -1}]
)
def test_thresholds_can_be_at_their_limits(changes: dict[str, float]) -> None:
    [(name, value)] = changes.items()
    assert getattr(_DEFAULT.adjusted(changes), name) == value


def test_adjusted_policy_has_one_suffix() -> None:
    once = _DEFAULT.adjusted({"k": 9})
    assert once.name == "default+changes"
    assert once.adjusted({"max_distance": 7}).name == "default+changes"
    assert replace(once, name="default", k=5) == _DEFAULT
    assert _LEGACY.adjusted({"k": 3}).name == "legacy+changes"
    assert _LEGACY.adjusted({"k": 3}).rule == "legacy"


def test_changes_without_effect_keep_the_policy() -> None:
    assert _DEFAULT.adjusted({}) is _DEFAULT
    assert _DEFAULT.adjusted({"k": None, "good_scene": 0.6}) is _DEFAULT


@pytest.mark.parametrize("name", ["name", "rule", "pixels", "K"])
def test_only_thresholds_can_be_adjusted(name: str) -> None:
    with pytest.raises(ValueError, match=f"there is no threshold '{name}'"):
        _DEFAULT.adjusted({name: 1})


def test_the_named_policies() -> None:
    assert named_policy("default") == Policy()
    legacy = named_policy("legacy")
    # The two nearest references: a preliminary match below 150 bits, verified below 120 bits, excellent above SSIM
    # 0.95.
    assert (legacy.k, legacy.max_distance, legacy.ssim_distance, legacy.excellent_ssim) == (2, 149, 119, 0.95)
    with pytest.raises(ValueError, match="Known: default, legacy"):
        named_policy("Default")


# -- full size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "wanted"),
    [("never", [False] * 4), ("best", [True, True, False, False]), ("all", [True, True, True, False])],
)
def test_candidates_compared_at_full_size(use: Any, wanted: list[bool]) -> None:
    """Candidates that the scene score refuses are never compared. By default, only candidates that can change the
    answer are compared."""
    matches = [match(distance=i, scene=scene) for i, scene in enumerate((0.95, 0.9, 0.7, 0.4))]
    policy = replace(_DEFAULT, ssim=use)
    assert ssim_wanted(matches, policy) == wanted


def test_unknown_value_of_ssim_is_refused() -> None:
    with pytest.raises(ValueError, match="ssim must be one of never, best, all"):
        POLICIES["default"].adjusted({"ssim": "sometimes"})

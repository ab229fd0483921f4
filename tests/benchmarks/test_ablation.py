"""Rules that are switched off one by one: what that replaces, and how its effect is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from twinscope_client.connect import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.indexing.run import index
from twinscope_service.matching.answer import Match
from twinscope_service.matching.reasons import ReasonCode


@pytest.fixture
def rules(benchmark):
    return benchmark("rules")


@pytest.fixture
def ablation(benchmark):
    return benchmark("ablation")


@pytest.fixture
def cases(benchmark):
    return benchmark("cases")


def place_values(rule):
    return [vars(place.owner)[place.name] for place in rule.without]


def test_every_rule_replaces_what_is_there_and_puts_it_back(rules):
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    for rule in rules.RULES:
        before = place_values(rule)
        with rule.off():
            assert all(now is not then for now, then in zip(place_values(rule), before, strict=True)), rule.name
        assert all(now is then for now, then in zip(place_values(rule), before, strict=True)), rule.name


def test_every_rule_that_is_noted_can_be_asked(rules):
    before = [vars(place.owner)[place.name] for rule in rules.RULES for place in rule.asked_by or rule.without]
    with rules.asked(rules.RULES) as names:
        assert names == set()
    after = [vars(place.owner)[place.name] for rule in rules.RULES for place in rule.asked_by or rule.without]
    assert all(now is then for now, then in zip(after, before, strict=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A field under two categories, and others."""
    folder = tmp_path_factory.mktemp("two")
    for category, seeds in (("First", (1, 2, 3)), ("Second", (1, 4))):
        (folder / "images" / category).mkdir(parents=True)
        for seed in seeds:
            pixels = synthesise("Particles", seed, width=320, height=240).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / category / f"{seed}.jpg", quality=95)
    index([folder / "images"], folder / "store", keep_unknown=True)
    return folder / "store"


def test_a_rule_that_is_off_changes_the_answer_and_one_that_was_not_asked_is_not_tried(rules, ablation, cases, store):
    picture = synthesise("Particles", 1, width=320, height=240).astype(np.uint8)
    case = cases.Case("two labels", "1", picture, store)
    with connect(store) as engine:
        found = ablation.effect(case, engine, rules.RULES)
    assert (found.label, found.grade) == ("none", "ambiguous")
    assert found.without["two categories, scene score"][0] == "wrong"
    assert "hashability" not in found.without
    assert "lone field" not in found.without


def test_a_blank_picture_asks_whether_it_can_be_hashed(rules, ablation, cases, store):
    picture = np.tile(np.arange(320, dtype=np.uint8) // 160, (240, 1)) + np.uint8(100)
    with connect(store) as engine:
        found = ablation.effect(cases.Case("blank", "1", picture, store), engine, rules.RULES)
    assert found.grade == "unhashable"
    assert set(found.without) == {"hashability"}
    assert found.without["hashability"][1] != "unhashable"


def test_a_label_is_judged_by_the_file_that_it_comes_from(cases, store):
    with connect(store) as engine:
        answer = engine.search(synthesise("Particles", 2, width=320, height=240).astype(np.uint8))
    assert answer.category == "First"
    case = cases.Case("a", "2", b"", store, own=frozenset({"First/2.jpg"}))
    assert case.label(answer) == "right"
    assert replace(case, own=frozenset()).label(answer) == "wrong"
    assert replace(case, own=frozenset(), kin=frozenset({"First/2.jpg"})).label(answer) == "kin"
    assert case.label(replace(answer, grade="doubtful")) == "none"
    limit = answer.reasons[0].__class__(ReasonCode.P_WRONG_ABOVE_LIMIT, {"p_wrong": 0.2, "max_p_wrong": 0.05})
    assert case.label(replace(answer, grade="doubtful", reasons=(*answer.reasons, limit))) == "held"
    assert case.label(replace(answer, grade="none", matches=())) == "none"
    assert isinstance(answer.matches[0], Match)


def test_what_a_rule_wins_and_costs_is_counted_by_set(rules, ablation):
    rule = rules.RULES[0]

    def effect(of, label, without):
        return ablation.Effect(of, "", label, "", {rule.name: (without, "")})

    found = [
        effect("strangers", "none", "wrong"),
        effect("strangers", "held", "wrong"),
        effect("real", "none", "right"),
        effect("real", "right", "none"),
        effect("real", "right", "wrong"),
        effect("real", "wrong", "none"),
        effect("real", "right", "right"),
        ablation.Effect("real", "", "right", "", {}),
    ]
    [row] = ablation.summarise(found, [rule])
    assert row.asked == 7
    assert row.prevented == {"strangers": 2, "real": 1}
    assert row.lost == {"real": 1}
    assert row.won == {"real": 2}
    assert row.caused == {"real": 1}
    text = ablation.tables(found, [row])
    assert "| real | 6 | 4 | 1 | 0 |" in text
    assert f"| {rule.name} | 7 | 3: 2 strangers, 1 real | 1 real | 2 real | 1 real |" in text

"""Rules that are switched off one by one: the replacements, and how the effect is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from twinscope_client.connect import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.indexing.run import index
from twinscope_service.matching.reasons import Reason, ReasonCode


@pytest.fixture
def rules(benchmark):
    return benchmark("rules")


@pytest.fixture
def ablation(benchmark):
    return benchmark("ablation")


@pytest.fixture
def cases(benchmark):
    return benchmark("cases")


def current_values(rule):
    return [vars(attribute.owner)[attribute.name] for attribute in rule.without]


def test_every_rule_replaces_attributes_and_restores_them(rules):
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    for rule in rules.RULES:
        before = current_values(rule)
        with rule.off():
            assert all(now is not then for now, then in zip(current_values(rule), before, strict=True)), rule.name
        assert all(now is then for now, then in zip(current_values(rule), before, strict=True)), rule.name


def test_recording_rules_restores_the_attributes(rules):
    before = [
        vars(attribute.owner)[attribute.name] for rule in rules.RULES for attribute in rule.asked_by or rule.without
    ]
    with rules.asked(rules.RULES) as names:
        assert names == set()
    after = [
        vars(attribute.owner)[attribute.name] for rule in rules.RULES for attribute in rule.asked_by or rule.without
    ]
    assert all(now is then for now, then in zip(after, before, strict=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one field under two categories, and with other fields."""
    folder = tmp_path_factory.mktemp("two")
    for category, seeds in (("First", (1, 2, 3)), ("Second", (1, 4))):
        (folder / "images" / category).mkdir(parents=True)
        for seed in seeds:
            pixels = synthesise("Particles", seed, width=320, height=240).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / category / f"{seed}.jpg", quality=95)
    index([folder / "images"], folder / "store", keep_unknown=True)
    return folder / "store"


def test_only_rules_that_were_asked_are_switched_off(rules, ablation, cases, store):
    query_image = synthesise("Particles", 1, width=320, height=240).astype(np.uint8)
    case = cases.Case("two labels", "1", query_image, store)
    with connect(store) as engine:
        found = ablation.effect(case, engine, rules.RULES)
    assert (found.answered.label, found.answered.grade) == ("none", "ambiguous")
    assert found.without["two categories, scene score"].found == "wrong"
    assert "hashability" not in found.without
    assert "lone field" not in found.without


def test_blank_image_asks_the_hashability_rule(rules, ablation, cases, store):
    query_image = np.tile(np.arange(320, dtype=np.uint8) // 160, (240, 1)) + np.uint8(100)
    with connect(store) as engine:
        found = ablation.effect(cases.Case("blank", "1", query_image, store), engine, rules.RULES)
    assert found.answered.grade == "unhashable"
    assert set(found.without) == {"hashability"}
    assert found.without["hashability"].grade != "unhashable"


def test_label_is_judged_by_the_file_of_its_match(cases, store):
    with connect(store) as engine:
        answer = engine.search(synthesise("Particles", 2, width=320, height=240).astype(np.uint8))
    assert answer.category == "First"
    case = cases.Case("a", "2", b"", store, own=frozenset({"First/2.jpg"}))
    assert case.judged(answer).label == "right"
    assert replace(case, own=frozenset()).judged(answer).label == "wrong"
    assert replace(case, own=frozenset(), overlap=frozenset({"First/2.jpg"})).judged(answer).label == "overlap"
    assert case.judged(replace(answer, grade="doubtful")).label == "none"
    limit = Reason(ReasonCode.P_WRONG_ABOVE_LIMIT, {"p_wrong": 0.2, "max_p_wrong": 0.05})
    held = case.judged(replace(answer, grade="doubtful", reasons=(*answer.reasons, limit)))
    assert (held.label, held.found) == ("held", "right")
    assert case.judged(replace(answer, grade="none", matches=())).label == "none"


def test_effects_of_a_rule_are_counted_by_set(rules, ablation, cases):
    rule = rules.RULES[0]

    def answered(label):
        return cases.Answered("wrong" if label == "held" else label, label, label == "held", 0.06)

    def effect(of, label, without):
        return ablation.Effect(of, "", answered(label), {rule.name: answered(without)})

    found = [
        effect("unrelated", "none", "wrong"),
        effect("unrelated", "held", "wrong"),
        effect("unrelated", "none", "held"),
        effect("real", "none", "right"),
        effect("real", "right", "none"),
        effect("real", "right", "wrong"),
        effect("real", "wrong", "none"),
        effect("real", "right", "right"),
        ablation.Effect("real", "", answered("right"), {}),
    ]
    [row] = ablation.summarise(found, [rule])
    assert (row.asked, row.changed) == (8, 7)
    assert row.prevented == {"unrelated": 2, "real": 1}
    assert row.lost == {"real": 1}
    assert row.won == {"real": 2}
    assert row.caused == {"real": 1}
    text = ablation.tables(found, [row])
    assert "| real | 6 | 4 | 1 | 0 |" in text
    assert f"| {rule.name} | 8 | 7 | 3: 2 unrelated, 1 real | 1 real | 2 real | 1 real |" in text
    assert f"| {rule.name} | 4 | 0 | 0 | 0 | 0 | 4 | 4 | 4 |" in text

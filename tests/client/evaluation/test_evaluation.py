"""Evaluation of runs: the counts of right and wrong labels equal those of a simple slow program; bad tables are
refused."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import re
import unicodedata
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from shelf import Shelf
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.errors import OutputError
from twinscope_client.evaluation.assignment import assign, is_twin
from twinscope_client.evaluation.legacy_rule import LegacyAnswer, legacy_answer
from twinscope_client.evaluation.metrics import NO_TWIN, Case, Share, evaluate, separate
from twinscope_client.evaluation.plots import draw
from twinscope_client.evaluation.tables import legacy_cells, shown_threshold, to_csv, to_dict, to_text
from twinscope_client.evaluation.truth import TruthRow, category_name, read_truth
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.indexing.run import index
from twinscope_indexer.taxonomy import builtin_taxonomy, load_taxonomy
from twinscope_service.matching.policy import POLICIES, Policy

_FILES = [
    "evaluation.csv", "evaluation.html", "evaluation.json",
    "evaluation_distance.png", "evaluation_scene_score.png", "evaluation_ssim.png",
]  # fmt: skip


# -- shares and thresholds -------------------------------------------------------------------------------------------


@given(st.integers(1, 400).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_interval_equals_the_wilson_interval(counts: tuple[int, int]) -> None:
    interval = Share(*counts).interval
    assert interval is not None
    wilson = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert interval == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert 0 <= interval[0] <= counts[0] / counts[1] <= interval[1] <= 1


def test_share_of_zero_has_no_value() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)


_FEW = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]) | st.floats(-1, 1), max_size=12)


@given(_FEW, _FEW, st.sampled_from([1, -1]))
def test_the_threshold_is_the_best_of_all_thresholds(genuine: list[float], false: list[float], sense: int) -> None:
    def accepted(scores: list[float], threshold: float) -> int:
        return sum(score >= threshold if sense > 0 else score <= threshold for score in scores)

    clean = [t for t in [*genuine, *false] if not accepted(false, t)]
    most = max((accepted(genuine, t) for t in clean), default=0)
    found = separate(genuine, false, len(genuine) + 3, sense)
    assert found.found == Share(most, len(genuine) + 3)
    if most == 0:
        assert found.threshold is None
    else:
        assert found.threshold in genuine
        assert accepted(false, found.threshold) == 0
        assert accepted(genuine, found.threshold) == most
        shown = float(shown_threshold(found, sense))
        assert accepted(false, shown) == 0
        assert accepted(genuine, shown) >= most  # a rounded threshold is less strict


def test_thresholds_are_shown_with_few_decimals() -> None:
    assert shown_threshold(separate([0.61239], [0.3], 1), 1) == "0.612"
    assert shown_threshold(separate([0.6129], [0.3], 1), 1) == "0.612"
    assert shown_threshold(separate([0.61239], [0.6123], 1), 1) == "0.61239"
    assert shown_threshold(separate([148], [149], 1, -1), -1) == "148"
    assert shown_threshold(separate([0.3], [0.4], 1), 1) == "-"


# -- counting --------------------------------------------------------------------------------------------------------


def _random_cases(seed: int, count: int = 200) -> list[Case]:
    chance = random.Random(seed)
    categories = ["Tips", "Powder", "Fibres", ""]
    cases = []
    for number in range(count):
        truth, nearest = chance.choice(categories), chance.choice(categories)
        label = chance.choice([nearest, ""])
        computed = nearest and chance.random() < 0.8
        cases.append(
            Case(
                f"/lab/{chance.random()}-{number}.tif", truth, label, nearest,
                scene_score=round(chance.random(), 2) if computed else None,
                ssim=round(chance.random(), 1) if computed and chance.random() < 0.5 else None,
                distance=chance.randrange(300) if nearest else None,
                transform=chance.choice(["", "half", "blur"]), twin=chance.choice(["", "refs/1.jpg"]),
                reference=chance.choice(["/x/refs/1.jpg", "/x/refs/2.jpg"]),
                legacy=chance.choice([LegacyAnswer(), LegacyAnswer("Tips"), LegacyAnswer(unknown="why not")]),
            )
        )  # fmt: skip
    return cases


@pytest.mark.parametrize("seed", range(5))
def test_groups_equal_simple_counts(seed: int) -> None:
    cases = _random_cases(seed)
    found = {(group.kind, group.name): group for group in evaluate(cases).groups}
    members: dict[Any, list[Case]] = {("all", "all"): cases}
    for name in ("half", "blur", ""):
        members["transform", name or "(none named)"] = [case for case in cases if case.transform == name]
    for name in ("Tips", "Powder", "Fibres", ""):
        members["category", name or NO_TWIN] = [case for case in cases if case.truth == name]
    assert set(found) == set(members)
    for key, group in found.items():
        right = wrong = refused = missed = twins = another = 0
        legacy = {"right": 0, "wrong": 0, "refused": 0, "unknown": 0, "unknown_twins": 0}
        for case in members[key]:
            twins += case.truth != ""
            if case.label == "":
                refused += 1
                missed += case.truth != ""
            elif case.label == case.truth:
                right += 1
                another += case.twin != "" and case.reference == "/x/refs/2.jpg"
            else:
                wrong += 1
            if case.legacy.unknown:
                legacy["unknown"] += 1
                legacy["unknown_twins"] += case.truth != ""
            elif not case.legacy.category:
                legacy["refused"] += 1
            else:
                legacy["right" if case.legacy.category == case.truth else "wrong"] += 1
        assert (group.images, group.twins, group.labelled) == (len(members[key]), twins, right + wrong)
        assert (group.right, group.wrong, group.refused, group.by_another) == (right, wrong, refused, another)
        assert (group.missed, group.rightly_refused) == (missed, refused - missed)
        assert group.recall.value == (right / twins if twins else None)
        assert group.precision.value == (right / (right + wrong) if right + wrong else None)
        assert {name: getattr(group.legacy, name) for name in legacy} == legacy
        least = -math.inf
        for case in members[key]:
            if case.ssim is not None and (case.truth != case.nearest or case.truth == ""):
                least = max(least, case.ssim)
        above = [c for c in members[key] if c.truth and c.truth == c.nearest and c.ssim is not None and c.ssim > least]
        assert group.separations["ssim"].found == Share(len(above), twins)


def test_exactly_the_false_labels_are_listed() -> None:
    cases = _random_cases(7)
    named = {case["image"] for case in to_dict(evaluate(cases))["false_labels"]}
    assert named == {case.image for case in cases if case.label and case.label != case.truth}
    text = "\n".join(to_text(evaluate(cases)))
    assert all(f"\n  {image}" in text for image in named)


def test_exactly_the_missed_images_are_listed() -> None:
    cases = _random_cases(8)
    found = to_dict(evaluate(cases))
    missed = {case.image for case in cases if case.truth and not case.label}
    assert {case["image"] for case in found["missed"]} == missed
    assert {case["image"] for case in found["rightly_refused"]} == {
        case.image for case in cases if not case.truth and not case.label
    }
    text = "\n".join(to_text(evaluate(cases)))
    assert f"no label: {len(missed)}\n" in text
    assert all(f"\n  {image}" in text for image in missed)


def test_precision_has_an_interval() -> None:
    """If all 144 labels are right, the lower end of the interval of the precision is 97.4 %."""
    evaluation = evaluate([Case(str(number), "Tips", "Tips") for number in range(144)])
    assert "100.0 % (97.4 to 100.0)  100.0 % (97.4 to 100.0)" in to_text(evaluation)[3]
    group = to_dict(evaluation)["groups"][0]
    assert (group["precision_low"], group["precision_high"]) == (group["recall_low"], group["recall_high"])


def test_no_twin_and_no_candidate_is_not_genuine() -> None:
    assert not Case("/a", truth="", label="", nearest="").genuine


def test_transforms_are_shown_only_if_some_are_named() -> None:
    cases = [replace(case, transform="") for case in _random_cases(1)]
    assert {group.kind for group in evaluate(cases).groups} == {"all", "category"}


def test_unknown_legacy_answers_give_a_dash_or_a_bound() -> None:
    unknown, known = LegacyAnswer(unknown="why not"), LegacyAnswer("Tips")
    cells = [
        legacy_cells(evaluate([Case(str(n), "Tips", "Tips", legacy=a) for n, a in enumerate(answers)]).groups[0].legacy)
        for answers in ([unknown], [unknown, known], [known, known])
    ]
    assert [cell[-2:] for cell in cells] == [("-", "-"), (">= 50.0 %", "-"), ("100.0 %", "100.0 %")]


def test_csv_holds_the_numbers_of_the_json() -> None:
    evaluation = evaluate(_random_cases(3))
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    for row, group in zip(rows, to_dict(evaluation)["groups"], strict=True):
        assert (row["kind"], row["name"], int(row["wrong"])) == (group["kind"], group["name"], group["wrong"])
        threshold = group["at_zero_false"]["scene_score"]["threshold"]
        assert row["at_zero_false.scene_score.threshold"] == ("" if threshold is None else str(threshold))


def test_plots_depend_on_the_data_and_exist_without_data() -> None:
    one = Case("/a", "Tips", "Tips", "Tips", 0.9, 0.9, 20)
    plots = [draw(evaluate(cases)) for cases in ([one], [replace(one, truth="Powder")], [Case("/a", "", "")])]
    for name in plots[0]:
        assert len({drawn[name] for drawn in plots}) == 3
        for drawn in plots:
            with Image.open(io.BytesIO(drawn[name])) as image:
                assert min(image.size) > 300
    assert draw(evaluate([one])) == plots[0]


def test_threshold_is_drawn() -> None:
    """Both scores are in one bin, so that the two plots can differ only in the line."""
    plots = [draw(evaluate([Case("/a", "Tips", "Tips", "Tips", scene_score=score)])) for score in (0.903, 0.915)]
    assert plots[0]["scene_score"] != plots[1]["scene_score"]
    assert plots[0]["distance"] == plots[1]["distance"]


# -- the legacy rule -------------------------------------------------------------------------------------------------


def _decision(grade: str = "good", **changes: Any) -> Decision:
    policy = changes.pop("policy", Policy())
    decided_by = changes.pop("decided_by", json.dumps(["store/1", asdict(policy)], sort_keys=True))
    common = Decision("/lab/a.tif", 1, 1, "00", decided_by, "2026-01-01T00:00:00Z", grade, "")
    best = {"category": "Tips", "match_id": "01", "distance": 100, "ssim": 0.96, "scene_score": 0.9}
    best |= {"query_frame": "whole", "reference_frame": "whole"}
    return replace(common, **(best | changes))


_NOTHING_NEAR: dict[str, Any] = {"category": "", "match_id": "", "distance": None, "ssim": None, "scene_score": None}


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (_decision(), "Tips"),
        (_decision(distance=119), "Tips"),
        (_decision(distance=120), ""),
        (_decision(distance=150), ""),
        (_decision(ssim=0.95), ""),
        (_decision(ssim=None), None),
        (_decision(ssim=None, distance=120), ""),
        (_decision("none", ssim=None, scene_score=0.1, distance=200), ""),
        (_decision(rival_id="02", rival_category="Powder", rival_distance=90, rival_ssim=0.97), "Powder"),
        (_decision(rival_id="02", rival_category="Powder", rival_distance=125, rival_ssim=0.97), "Tips"),
        (_decision(rival_id="02", rival_category="Powder", rival_distance=90, rival_ssim=None), None),
        (_decision(symmetry="rotated by 90"), None),
        (_decision(query_frame="bottom 7 % cut"), None),
        (_decision(reference_frame="bottom 7 % cut"), None),
        (_decision(reason="same field: scene score 0.9 >= 0.5 (no full-size SSIM: gone)"), "Tips"),
        (_decision("ambiguous"), "Tips"),
        (_decision("ambiguous", rival_transform="query inverted"), None),
        (_decision("ambiguous", policy=Policy(reach="frame")), "Tips"),
        (_decision("none", **_NOTHING_NEAR), ""),
        (_decision("none", **_NOTHING_NEAR, policy=Policy(max_distance=149)), ""),
        (_decision("none", **_NOTHING_NEAR, policy=Policy(max_distance=148)), None),
        (_decision("none", **_NOTHING_NEAR, decided_by="something else"), None),
        (_decision("unhashable", **_NOTHING_NEAR), ""),
        (_decision("unhashable", **_NOTHING_NEAR, policy=Policy(max_distance=100)), ""),
        (_decision("failed", **_NOTHING_NEAR), ""),
        (_decision("excellent", distance=10, policy=POLICIES["legacy"]), "Tips"),
        (_decision("unverified", distance=10, ssim=0.96, policy=POLICIES["legacy"]), ""),
    ],
)
def test_legacy_rule_on_recorded_candidates(decision: Decision, expected: str | None) -> None:
    answer = legacy_answer(decision)
    assert (None if answer.unknown else answer.category) == expected
    assert not (answer.unknown and answer.category)


# -- reading the truth -----------------------------------------------------------------------------------------------


def _read(path: Path, data: str | bytes) -> Any:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_truth(path, partial(category_name, met={"Wires": "Wires", "W": "Wires"}, taxonomy=builtin_taxonomy()))


@pytest.mark.parametrize(
    "data",
    [
        "path,category\na/b.tif,Tips\nc.tif,\n",
        "path,category\r\na/b.tif,Tips\r\n\r\nc.tif,\r\n",
        "\ufeffpath,category\na/b.tif,Tips\nc.tif,",
        "path;category\na/b.tif;Tips\nc.tif;\n",
        "path\tcategory\na/b.tif\tTips\nc.tif\t\n",
        '\n"Path" , "CATEGORY"\n" a/b.tif ",tips\nc.tif, \n'.replace(" , ", ","),
        "category,n,source\nL9,5,a/b.tif\n,,c.tif\n",
        "image,category,transform,twin\na/b.tif,Tip,,\nc.tif,,,\n",
        "file,category,\na/b.tif,Tips,\nc.tif,,\n",
        "TIFF_path,TIFF_file,category\na/b.tif,b.tif,Tips\nc.tif,c.tif,\n",
        "query,category\na/b.tif,Tips\nc.tif,\na/b.tif,L9\n./c.tif,\n",
        "path,category\na/b.tif,Tips\nc.tif,\n".encode("utf-16"),
        "Datei;Kategorie\na\\b.tif;Tips\nc.tif;\n",
        "sep=;\nFICHIER;Catégorie\na/b.tif;Tips\nc.tif;\n",
        "filename\tlabel\na/b.tif\tTips\nc.tif\t\n".encode("utf-16-be"),
    ],
)
def test_equivalent_forms_of_a_table(tmp_path: Path, data: str) -> None:
    truth = _read(tmp_path / "t.csv", data)
    found = [(row.image.replace("\\", "/"), row.category) for row in truth.rows]
    assert found == [("a/b.tif", "Tips"), ("c.tif", "")]


def test_optional_columns_unused_columns_and_run_categories(tmp_path: Path) -> None:
    truth = _read(tmp_path / "t.csv", 'path;category;Transform;twin;size\n"a;b.tif";W;half;r/1.jpg;7\n')
    assert truth.rows == [TruthRow(2, "a;b.tif", "Wires", "half", "r/1.jpg")]
    assert truth.unused == ["size"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: it must contain a header with image .path, source"),
        (b"\xef\xbb\xbf \n\n", "is empty"),
        (b",,\n,,\n", "is empty"),
        (b"path,category\n", "has a header, but no rows"),
        (b"a.tif,Tips\nb.tif,Tips\n", "has no header: the first line must contain .*'a.tif', 'Tips'"),
        (b"path,color\na,b\n", "the header must contain .* and 'category'; found 'path', 'color'"),
        (b"category,transform\na,b\n", "the header must contain the columns image .path, "),
        (b"path,source,category\na,b,Tips\n", r"several headings mean the column image \('path' and 'source'\)"),
        (b"path,category,Category\na,Tips,Tips\n", r"several headings mean the column category \("),
        (b"path,category\na.tif,Tipps\n", "line 2: 'Tipps' is not a category .*Leave the category empty"),
        (b"path,category\na.tif,Tips\nb.tif\n", "line 3: the row ends before the column category"),
        (b"path,category\na,b.tif,Tips\n", "line 2: the row has more columns than the header"),
        (b"path,category\n,Tips\n", "line 2: the row names no image"),
        (b"path,category\n./,Tips\n", "line 2: the row names no image"),
        (b"path,category\na.tif,Tips\nb.tif,\na.tif,Powder\n", "lines 2 and 4 contradict .*category Tips and Powder"),
        (b"path,category\na.tif,Tips\n./a.tif,\n", r"lines 2 and 3 contradict .*category Tips and \(empty\)"),
        (b"path,category\na/b.tif,Tips\na\\b.tif,\n", "lines 2 and 3 contradict"),
        (b"path,category,transform\na,Tips,x\na,Tips,y\n", "contradict each other about 'a': transform x and y"),
        (b"path,category,twin\na.tif,,1.jpg\n", "line 2: a twin is named, but no category"),
        (b"path,category\na.tif,Tips\ncaf\xe9.tif,Tips\n", "line 3: this is not UTF-8 .byte 0xe9.; save it as"),
        (b"Truth of May\n\npath,category\na.tif,Tips\n", "the header is in line 3, below a title"),
        (b'path,category\n"a.tif,Tips\n', "is not a well-formed CSV file: .*closing quotation mark missing"),
        (b'"path,category\na.tif,Tips\n', "is not a well-formed CSV"),
        (b"path,category\n" + b"x" * 200_000 + b",Tips\n", "is not a well-formed CSV"),
    ],
)
def test_errors_about_bad_tables(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(TaxonomyError, match=re.escape(str(tmp_path / "t.csv")) + ".*" + message):
        _read(tmp_path / "t.csv", data)


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_missing_table_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaxonomyError, match="cannot be read"):
        read_truth(tmp_path / name, str)


# -- rows and images -------------------------------------------------------------------------------------------------


def _rows(*images: str) -> list[TruthRow]:
    return [TruthRow(line, image, "Tips") for line, image in enumerate(images, 2)]


@pytest.mark.parametrize(
    ("image", "matched"),
    [
        ("/lab/a/1.tif", "/lab/a/1.tif"),
        ("a/1.tif", "/lab/a/1.tif"),
        ("./b//1.tif", "/lab/b/1.tif"),
        ("2.tif", "/lab/b/2.tif"),
        ("/elsewhere/b/1.tif", "/lab/b/1.tif"),
        ("C:\\data\\b\\1.tif", "/lab/b/1.tif"),
        ("/moved/2.tif", "/lab/b/2.tif"),
        ("1.tif", None),
        ("c/1.tif", None),
        ("3.tif", None),
        ("1.TIF", None),
        ("tif", None),
        ("..", None),
        (unicodedata.normalize("NFD", "é.tif"), "/lab/é.tif"),
        ("x\\y.tif", "/lab/x\\y.tif"),
        ("caf\\xe9.tif", os.fsdecode(b"/lab/caf\xe9.tif")),
    ],
)
def test_rows_match_images_by_the_end_of_their_paths(image: str, matched: str | None) -> None:
    images = ["/lab/a/1.tif", "/lab/b/1.tif", "/lab/b/2.tif", "/lab/é.tif", "/lab/x\\y.tif"]
    found = assign(_rows(image), [*images, os.fsdecode(b"/lab/caf\xe9.tif")])
    assert list(found.rows) == ([] if matched is None else [matched])
    assert len(found.unmatched) == (matched is None)


def test_image_belongs_to_the_best_matching_row() -> None:
    found = assign(_rows("y/1.tif", "x/1.tif", "/old/x/1.tif"), ["/lab/x/1.tif"])
    assert {image: row.line for image, row in found.rows.items()} == {"/lab/x/1.tif": 3}
    assert [(row.line, "matches this image better" in why) for row, why in found.unmatched] == [(2, True), (4, True)]
    assert found.by_name == 0


def test_image_that_two_rows_match_equally_belongs_to_neither() -> None:
    found = assign(_rows("y/1.tif", "z/1.tif"), ["/lab/x/1.tif"])
    assert found.rows == {}
    assert [row.line for row, _ in found.unmatched] == [2, 3]


_TREES = st.lists(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True
)


@given(_TREES, _TREES)
def test_every_row_is_assigned_or_listed(images: list[str], named: list[str]) -> None:
    paths = [f"/lab/{image}" for image in images]
    found = assign(_rows(*named), paths)
    rows = [*found.rows.values(), *(row for row, _ in found.unmatched)]
    assert sorted(row.line for row in rows) == list(range(2, 2 + len(named)))
    for path, row in found.rows.items():
        assert path.endswith("/" + row.image[-1])
    # If a name is the end of only one path, its row gets this image, except if another row names a longer end.
    for name in named:
        ends = [path for path in paths if path.endswith("/" + name)]
        longer = [other for other in named if other != name and f"/{other}".endswith("/" + name)]
        if len(ends) == 1 and not longer:
            assert found.rows[ends[0]].image == name


def test_twin_is_named_by_the_end_of_its_path() -> None:
    assert is_twin("/refs/Tips/1.jpg", "1.jpg")
    assert is_twin("/refs/Tips.tar!Tips/1.jpg", "Tips.tar/Tips/1.jpg")
    assert not is_twin("/refs/Tips/11.jpg", "1.jpg")
    assert not is_twin("", "1.jpg")


# -- complete runs ---------------------------------------------------------------------------------------------------


class Ran:
    """The result of one call of the command."""

    def __init__(self, code: int, captured: Any) -> None:
        self.code, self.out, self.err = code, captured.out, captured.err


@pytest.fixture
def twinscope(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        return Ran(code, capsys.readouterr())

    return call


def _noisy(pixels: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, strength, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


_TRUTH = """path,category,transform,twin
a/tip.tif,Tips,none,Tips/L9_0.jpg
b/tip.tif,L9,none,Tips/L9_0.jpg
noisy.tif,Particles,noise,
turned.tif,Fibres,turned,
filed.tif,Tips,none,
foreign.tif,,none,
unrelated.tif,,none,
blank.tif,,,
broken.tif,Tips,,
"""


@pytest.fixture(scope="module")
def lab(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five twins, one of them under a wrong category; two images to be refused, of which one has a twin; a broken
    image."""
    folder = tmp_path_factory.mktemp("evaluated") / "lab"
    for session in ("a", "b"):
        (folder / session).mkdir(parents=True)
    tifffile.imwrite(folder / "a" / "tip.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(folder / "b" / "tip.tif", shelf.pixels["Tips", 1])
    tifffile.imwrite(folder / "noisy.tif", _noisy(shelf.pixels["Particles", 1], 14))
    tifffile.imwrite(folder / "turned.tif", np.ascontiguousarray(np.rot90(shelf.pixels["Fibres", 0])))
    tifffile.imwrite(folder / "filed.tif", shelf.pixels["Fibres", 1])
    tifffile.imwrite(folder / "foreign.tif", synthesise("Powder", 50, width=320, height=240).astype(np.uint8))
    tifffile.imwrite(folder / "unrelated.tif", shelf.pixels["Particles", 0])
    tifffile.imwrite(folder / "blank.tif", np.full((240, 320), 9, np.uint8))
    (folder / "broken.tif").write_bytes((folder / "a" / "tip.tif").read_bytes()[:20_000])
    return folder


@pytest.fixture(scope="module")
def run(shelf: Shelf, lab: Path) -> Path:
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(lab.parent / "run")]) == 3
    return lab.parent / "run"


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text(_TRUTH)
    return path


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_is_evaluated(twinscope: Any, run: Path, truth: Path) -> None:
    before = _snapshot(run)
    ran = twinscope("evaluate", run, "--truth", truth, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    groups = {(group["kind"], group["name"]): group for group in found["groups"]}
    counted = ("images", "twins", "labelled", "right", "wrong", "missed", "rightly_refused")
    assert {key: tuple(group[name] for name in counted) for key, group in groups.items()} == {
        ("all", "all"): (9, 6, 6, 4, 2, 1, 2),
        ("transform", "noise"): (1, 1, 1, 1, 0, 0, 0),
        ("transform", "none"): (5, 3, 4, 2, 2, 0, 1),
        ("transform", "turned"): (1, 1, 1, 1, 0, 0, 0),
        ("transform", "(none named)"): (2, 1, 0, 0, 0, 1, 1),
        ("category", "Fibres"): (1, 1, 1, 1, 0, 0, 0),
        ("category", "Particles"): (1, 1, 1, 1, 0, 0, 0),
        ("category", "Tips"): (4, 4, 3, 2, 1, 1, 0),
        ("category", "(no twin)"): (3, 0, 1, 0, 1, 0, 2),
    }
    false = {Path(case["image"]).name: (case["said"], case["truth"]) for case in found["false_labels"]}
    assert false == {"filed.tif": ("Fibres", "Tips"), "unrelated.tif": ("Particles", None)}
    assert [Path(case["image"]).name for case in found["missed"]] == ["broken.tif"]
    assert "the file ends after 20000 bytes" in found["missed"][0]["reason"]
    assert [Path(case["image"]).name for case in found["rightly_refused"]] == ["blank.tif", "foreign.tif"]
    assert [case["image"] for case in found["right_by_another_reference"]] == [str(run.parent / "lab/b/tip.tif")]
    assert groups["all", "all"]["recall"] == pytest.approx(4 / 6)
    assert groups["all", "all"]["precision"] == pytest.approx(4 / 6)
    assert groups["category", "(no twin)"]["recall"] is None
    assert groups["transform", "turned"]["legacy_rule"]["unknown"] == 1
    assert list(found["legacy_rule_unknown"].values()) == [1]
    assert _snapshot(run) == before


def test_thresholds_come_from_the_scores_of_the_run(twinscope: Any, run: Path, truth: Path) -> None:
    journal = Journal(run, create=False)
    scored = {Path(d.path).relative_to(run.parent / "lab").as_posix(): d.scene_score for d in journal.decisions()}
    journal.close()
    nearest = max(scored["filed.tif"], scored["unrelated.tif"])
    right = [scored[name] for name in ("a/tip.tif", "b/tip.tif", "noisy.tif", "turned.tif")]
    found = json.loads(twinscope("evaluate", run, "--truth", truth, "--json").out)["groups"][0]
    at_zero = found["at_zero_false"]["scene_score"]
    assert at_zero["nearest_false"] == nearest
    assert at_zero["recall"] == sum(score > nearest for score in right) / 6
    assert at_zero["threshold"] == min((score for score in right if score > nearest), default=None)


def test_text_tables(twinscope: Any, run: Path, truth: Path) -> None:
    ran = twinscope("evaluate", run, "--truth", truth)
    lines = ran.out.splitlines()
    assert lines[0] == (
        "9 images, 6 with a twin: 4 labelled correctly (1 by a reference other than the named twin), "
        "2 labelled wrongly, 1 missed, 2 rightly refused."
    )
    first = next(line for line in lines if line.startswith("all"))
    two_thirds = ["66.7", "%", "(30.0", "to", "90.3)"]
    assert first.split() == ["all", "9", "6", "6", "4", "2", "1", "2", *two_thirds, *two_thirds]
    missed = lines.index("Missed images, which have a twin but no label: 1")
    broken = f"  {run.parent}/lab/broken.tif: no label, but the right category is Tips (failed: the file ends"
    assert lines[missed + 1].startswith(broken)
    assert "False labels: 2" in lines
    assert any(line.startswith(f"  {run.parent}/lab/filed.tif, none: labelled Fibres") for line in lines)
    assert any(line.startswith(f"  {run.parent}/lab/unrelated.tif") and "has no twin" in line for line in lines)
    assert "legacy" not in ran.out
    with_rule = twinscope("evaluate", run, "--truth", truth, "--legacy-rule").out
    assert with_rule.startswith(ran.out)
    assert "unknown answer: 1 (the match is in another frame" in with_rule


def test_known_legacy_answers_agree_with_a_legacy_run(
    twinscope: Any, run: Path, lab: Path, shelf: Shelf, tmp_path: Path
) -> None:
    twinscope("label", lab, "--at", shelf.store, "--out", tmp_path / "legacy", "--policy", "legacy")
    answers: list[dict[str, LegacyAnswer]] = []
    labels: dict[str, str] = {}
    for folder in (run, tmp_path / "legacy"):
        journal = Journal(folder, create=False)
        answers.append({d.path: legacy_answer(d) for d in journal.decisions()})
        labels = {d.path: d.category if d.labelled else "" for d in journal.decisions()}
        journal.close()
    recomputed, direct = answers
    assert {path: answer.category for path, answer in direct.items()} == labels
    assert not any(answer.unknown for answer in direct.values())
    known = {path for path, answer in recomputed.items() if not answer.unknown}
    assert {Path(path).name for path in set(recomputed) - known} == {"turned.tif"}
    assert {path: recomputed[path].category for path in known} == {path: labels[path] for path in known}
    assert len(set(labels.values())) > 2


def test_results_are_written_and_replaced(twinscope: Any, run: Path, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = twinscope("evaluate", run, "--truth", truth, "--out", out)
    assert ran.code == 0
    before = _snapshot(out)
    assert sorted(before) == _FILES
    found = json.loads(before["evaluation.json"])
    assert found == json.loads(twinscope("evaluate", run, "--truth", truth, "--json", "--out", out).out)
    assert _snapshot(out) == before
    page = before["evaluation.html"].decode()
    assert "9 images, 6 with a twin" in page
    assert page.count("data:image/png;base64,") == 3
    assert f"{run.parent}/lab/filed.tif" in page
    for heading, image in (("Missed images", "broken.tif"), ("rightly got no label", "blank.tif")):
        assert image in page.split(heading)[1].split("<h2>")[0]
    assert "legacy" not in page
    assert next(csv.DictReader(io.StringIO(before["evaluation.csv"].decode())))["images"] == "9"
    truth.write_text(_TRUTH.replace("filed.tif,Tips", "filed.tif,Fibres"))
    twinscope("evaluate", run, "--truth", truth, "--out", out)
    assert json.loads((out / "evaluation.json").read_text())["groups"][0]["right"] == 5
    twinscope("evaluate", run, "--truth", truth, "--out", out, "--legacy-rule")
    assert "legacy" in (out / "evaluation.html").read_text()


def test_all_text_in_the_page_is_escaped(twinscope: Any, run: Path, tmp_path: Path) -> None:
    (tmp_path / "<b>.csv").write_text("path,category,transform\nfiled.tif,Tips,<script>alert(1)</script>\n<i>.tif,,\n")
    assert twinscope("evaluate", run, "--truth", tmp_path / "<b>.csv", "--out", tmp_path / "out").code == 3
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert not {"<b>", "<script>", "<i>"} & set(re.findall(r"<\w+>", page))
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", _FILES)
def test_foreign_files_are_never_overwritten(twinscope: Any, run: Path, truth: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"of": "someone else"}')
    ran = twinscope("evaluate", run, "--truth", truth, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert f"holds {name}, which 'twinscope evaluate' has not written; choose another folder" in ran.err
    assert _snapshot(tmp_path / "out") == {name: b'{"of": "someone else"}'}


def test_unmatched_rows_and_images_are_listed(twinscope: Any, run: Path, truth: Path, tmp_path: Path) -> None:
    truth.write_text("path,category,note\ntip.tif,Tips,x\nblank.tif,,x\nnowhere.tif,Tips,x\n/old/noisy.tif,L5,x\n")
    ran = twinscope("evaluate", run, "--truth", truth, "--json", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "that are not used: note" in ran.err
    assert "1 rows were matched by file name although their folders differ" in ran.err
    assert "line 2, tip.tif: 2 images match this path: add more folders to the path" in ran.err
    assert "line 4, nowhere.tif: the run contains no image with this file name" in ran.err
    assert "7 images of the run have no row and are not evaluated:" in ran.err
    found = json.loads(ran.out)
    assert found["groups"][0]["images"] == 2
    assert [row["line"] for row in found["rows_without_image"]] == [2, 4]
    assert len(found["images_without_row"]) == 7
    assert "the run contains no image with this file name" in (tmp_path / "out" / "evaluation.html").read_text()


def test_images_without_a_row_are_not_an_error(twinscope: Any, run: Path, truth: Path) -> None:
    truth.write_text("path,category\nnoisy.tif,Particles\n")
    ran = twinscope("evaluate", run, "--truth", truth)
    assert ran.code == 0
    assert "8 images of the run have no row and are not evaluated:" in ran.err


def test_a_table_about_other_images_is_refused(twinscope: Any, run: Path, truth: Path) -> None:
    truth.write_text("path,category\nx/other.tif,Tips\n")
    ran = twinscope("evaluate", run, "--truth", truth)
    assert (ran.code, ran.out) == (1, "")
    assert "none of the 1 rows" in ran.err
    assert "'x/other.tif'" in ran.err
    assert str(run.parent / "lab") in ran.err


def test_matches_csv_as_truth_gives_only_right_labels(twinscope: Any, run: Path) -> None:
    found = json.loads(twinscope("evaluate", run, "--truth", run / "matches.csv", "--json").out)["groups"][0]
    assert (found["images"], found["right"], found["recall"]) == (6, 6, 1.0)


def test_withheld_labels_are_refusals(twinscope: Any, lab: Path, shelf: Shelf, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "strict"
    twinscope("label", lab / "noisy.tif", "--at", shelf.store, "--out", out, "--min-grade", "excellent")
    truth.write_text("path,category\nnoisy.tif,Particles\n")
    found = json.loads(twinscope("evaluate", out, "--truth", truth, "--json").out)["groups"][0]
    assert (found["labelled"], found["refused"], found["missed"]) == (0, 1, 1)
    [missed] = json.loads(twinscope("evaluate", out, "--truth", truth, "--json").out)["missed"]
    assert missed["reason"].startswith("the grade is lower than requested; same ")
    assert found["at_zero_false"]["scene_score"]["recall"] == 1.0


def test_categories_of_a_custom_taxonomy(twinscope: Any, shelf: Shelf, truth: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    tables = (f'[[category]]\ncode = "{name[0]}"\nname = "{name}"\n' for name in ("Wires", "Rods"))
    mine.write_text('version = "mine/1"\n' + "".join(tables))
    (tmp_path / "refs" / "Wires").mkdir(parents=True)
    Image.fromarray(shelf.pixels["Tips", 0]).save(tmp_path / "refs" / "Wires" / "1.png")
    index([tmp_path / "refs"], tmp_path / "store", workers=1, taxonomy=load_taxonomy(mine))
    tifffile.imwrite(tmp_path / "q.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(tmp_path / "r.tif", shelf.pixels["Tips", 1])
    out = tmp_path / "run"
    twinscope("label", tmp_path / "q.tif", tmp_path / "r.tif", "--at", tmp_path / "store", "--out", out)
    for spelling in ("Wires", "W"):
        truth.write_text(f"path,category\nq.tif,{spelling}\nr.tif,\n")
        found = json.loads(twinscope("evaluate", out, "--truth", truth, "--json").out)["groups"][0]
        assert (found["twins"], found["right"], found["wrong"]) == (1, 1, 0)
    truth.write_text("path,category\nq.tif,Wires\nr.tif,Rods\n")  # a category that is not in the run
    refused = twinscope("evaluate", out, "--truth", truth)
    assert refused.code == 1
    assert "line 3: 'Rods' is not a category" in refused.err
    assert twinscope("evaluate", out, "--truth", truth, "--unknown-category", "keep").code == 0
    assert twinscope("evaluate", out, "--truth", truth, "--taxonomy", mine).code == 0


def test_folder_without_a_run_is_unchanged(twinscope: Any, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        ran = twinscope("evaluate", tmp_path / name, "--truth", truth)
        assert ran.code == 1
        assert "holds no labelling run" in ran.err
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(OutputError):
        Journal(tmp_path / "empty", create=False)

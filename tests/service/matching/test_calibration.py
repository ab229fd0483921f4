"""Calibration: the model on synthetic evidence, and the command on a collection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.testing import serving
from twinscope_indexer.indexing.run import index
from twinscope_service.errors import CalibrationError
from twinscope_service.matching.answer import ChanceOfError, Match
from twinscope_service.matching.calibration import Calibration, calibration_of, features, fit
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.verdict import decide

Rows = list[list[NDArray[np.float64]]]


def match(scene: float | None, distance: int = 20, ssim: float | None = None, category: str = "Tips") -> Match:
    return Match("0" * 16, "a.jpg", category, "L9", distance, scene_score=scene, ssim=ssim)


def drawn(seed: int, count: int, centre: float) -> Rows:
    """Return features of matches with scene scores around a centre, one match for each image."""
    rng = np.random.default_rng(seed)
    scenes = np.clip(rng.normal(centre, 0.15, count), -1, 1)
    return [[found] for scene in scenes if (found := features([match(float(scene), 300)])) is not None]


# -- the model ---------------------------------------------------------------------------------------------------------


def test_estimates_match_the_share_of_wrong_matches() -> None:
    """If the scores of wrong and correct matches overlap, the share p of all matches with the estimate p is wrong."""
    impostors, genuine = drawn(0, 4000, 0.4), drawn(1, 4000, 0.7)
    model = fit("test", impostors, genuine, resamples=0)
    fresh = [(row, wrong) for rows, wrong in ((drawn(2, 20000, 0.4), True), (drawn(3, 20000, 0.7), False))
             for [row] in rows]  # fmt: skip
    estimates = np.array([model.judged(row).estimate for row, _ in fresh])
    wrong = np.array([one for _, one in fresh])
    for low in np.arange(0.05, 0.95, 0.1):
        among = (estimates >= low) & (estimates < low + 0.1)
        assert among.sum() > 300
        assert abs(wrong[among].mean() - estimates[among].mean()) < 0.06


def test_interval_contains_the_true_probability() -> None:
    models = [fit("test", drawn(2 * seed, 80, 0.4), drawn(2 * seed + 1, 80, 0.7), 60, seed) for seed in range(25)]
    truth = fit("test", drawn(1000, 20000, 0.4), drawn(1001, 20000, 0.7), 0)
    found = features([match(0.58, 300)])
    assert found is not None
    inside = [one.low <= truth.judged(found).estimate <= one.high for one in (model.judged(found) for model in models)]
    assert sum(inside) >= 20


@given(
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 512), st.integers(0, 512), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_better_evidence_never_raises_p_wrong(a: float, b: float, near: int, far: int, c: float, d: float) -> None:
    model = calibration_of(None)
    worse, better = match(min(a, b), max(near, far), min(c, d)), match(max(a, b), min(near, far), max(c, d))
    one, other = model.chance([worse]), model.chance([better])
    assert one is not None
    assert other is not None
    assert 0 <= other.low <= other.estimate <= other.high <= 1
    assert other.estimate <= one.estimate + 1e-12


def test_rival_raises_p_wrong() -> None:
    model = calibration_of(None)
    alone, rivalled = [match(0.7)], [match(0.7), match(0.65, category="Fibres")]
    assert model.chance(rivalled).estimate > model.chance(alone).estimate  # type: ignore[union-attr]
    assert model.chance([match(0.7), match(0.65)]) == model.chance(alone)  # same category: no rival


def test_few_images_cannot_support_a_small_p_wrong() -> None:
    few, many = (fit("test", drawn(0, n, 0.0), drawn(1, n, 0.95), 20) for n in (10, 1000))
    best = [match(1.0, 0, 1.0)]
    assert few.chance(best).estimate >= 1 / 12  # type: ignore[union-attr]
    assert few.chance(best).high >= 0.25  # type: ignore[union-attr]
    assert many.chance(best).estimate < 0.003  # type: ignore[union-attr]


def test_without_a_scene_score_there_is_no_p_wrong() -> None:
    assert calibration_of(None).chance([]) is None
    assert calibration_of(None).chance([match(None)]) is None


def test_calibration_survives_serialisation() -> None:
    model = fit("of ten images", drawn(0, 20, 0.2), drawn(1, 20, 0.9), 10)
    assert Calibration.from_json(model.to_json()) == model
    shipped = calibration_of(None)
    assert (shipped.name, shipped.impostors >= 150) == ("shipped", True)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"weights": []}, {"weights": [[1, 2]]}, {"weights": [[float("nan")] * 5]}, {"weights": None},
     {"features": ["one"]}, {"impostors": "many"}],
)  # fmt: skip
def test_damaged_calibration_is_refused(change: dict[str, object]) -> None:
    text = json.dumps(json.loads(calibration_of(None).to_json()) | change)
    with pytest.raises(CalibrationError):
        Calibration.from_json(text)
    with pytest.raises(CalibrationError):
        Calibration.from_json("{")


@pytest.mark.parametrize("empty", [([], []), ([[]], [[]]), ([[]], drawn(1, 5, 0.9)), (drawn(1, 5, 0.2), [[]])])
def test_fit_needs_both_kinds_of_evidence(empty: tuple[Rows, Rows]) -> None:
    with pytest.raises(CalibrationError, match="too few"):
        fit("test", *empty)


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "grade"), [(1.0, "good"), (0.02, "good"), (0.01, "doubtful"), (0.0, "doubtful")])
def test_match_above_max_p_wrong_gets_no_label(limit: float, grade: str) -> None:
    policy = replace(POLICIES["default"], max_p_wrong=limit)
    chance = ChanceOfError(0.015, 0.01, 0.03, "test")
    assert decide(Evidence((match(0.8),), p_wrong=chance), policy).grade == grade
    assert decide(Evidence((match(0.1),), p_wrong=chance), policy).grade == "none"
    unknown = decide(Evidence((match(0.8),)), policy).grade
    assert unknown == ("good" if limit == 1 else "doubtful")


# -- a collection ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index four micrographs of each of three categories. One micrograph is also stored under another category."""
    root = tmp_path_factory.mktemp("calibrated")
    for category in ("Particles", "Tips", "Fibres"):
        (root / "labelled" / category).mkdir(parents=True)
        for number in range(4):
            pixels = synthesise(category, 10 + number, width=320, height=240).astype(np.uint8)
            Image.fromarray(pixels).save(root / "labelled" / category / f"{number}.png")
    twice = synthesise("Tips", 10, width=320, height=240).astype(np.uint8)
    Image.fromarray(twice).save(root / "labelled" / "Fibres" / "mislabelled.png")
    index([root / "labelled"], root / "store", workers=1)
    return root


def test_calibrate_command(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, image = collection / "store", collection / "labelled" / "Particles" / "1.png"
    with connect(store) as engine, serving(store, refresh_seconds=0.1) as target, connect(target) as remote:
        before = engine.search(image)
        assert before.p_wrong.calibration == "shipped"
        words = ["calibrate", str(store), "--dry-run", "--json", "--contradictions", str(tmp_path / "pairs.csv")]
        assert main(words) == 0
        pairs = json.loads(capsys.readouterr().out)["contradictions"]
        assert [(Path(pair["image"]).name, pair["other_category"]) for pair in pairs] == [("mislabelled.png", "Tips")]
        assert len((tmp_path / "pairs.csv").read_text().splitlines()) == 1 + len(pairs)
        assert main(words) == 1  # the table is not overwritten
        engine.refresh()
        assert engine.search(image) == before
        assert main(["calibrate", str(store), "--workers", "2"]) == 0
        output = capsys.readouterr()
        assert "13 images of this collection" in output.out
        assert "Check their labels" in output.err
        assert "mislabelled.png" in output.err
        engine.refresh()
        assert "no image is labelled by default" in output.err
        assert engine.search(image).grade == "doubtful"
        after = engine.search(image, max_p_wrong=1)
        assert (after.grade, after.generation) == ("excellent", before.generation + 1)
        assert after.p_wrong.calibration.startswith("13 images of this collection")
        assert after.p_wrong.estimate >= 1 / 15  # a lower estimate needs more images
        assert remote.search(image, max_p_wrong=1, min_generation=after.generation) == after
        held = engine.search(image, max_p_wrong=0.01)
        assert (held.grade, held.category) == ("doubtful", None)
        assert "too likely to be wrong" in held.reason
        assert remote.search(image, max_p_wrong=0.01) == held
        assert main(["calibrate", str(store), "--forget"]) == 0
        engine.refresh()
        assert replace(engine.search(image), generation=0) == replace(before, generation=0)


def test_forget_refuses_options_that_it_would_ignore(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", str(collection / "store"), "--forget", "--contradictions", str(tmp_path / "table.csv")])
    assert caught.value.code == 2
    assert "--contradictions cannot be used with --forget" in capsys.readouterr().err


def test_same_images_give_the_same_calibration(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", str(collection / "store"), "--dry-run", "--json", "--sample", "5"]
    weights = []
    for seed, workers in ((0, 1), (0, 2), (1, 2)):
        assert main([*command, "--seed", str(seed), "--workers", str(workers)]) == 0
        weights.append(json.loads(capsys.readouterr().out)["weights"])
    assert weights[0] == weights[1] != weights[2]


def test_missing_files_are_reported(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = tmp_path / "labelled"
    (collection / "labelled").rename(labelled)
    try:
        assert main(["calibrate", str(collection / "store"), "--dry-run", "--sample", "6"]) == 0
        assert "6 of these images could not be read" in capsys.readouterr().out
    finally:
        labelled.rename(collection / "labelled")


def test_one_category_is_enough_but_one_image_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, count in (("some", 4), ("one", 1)):
        (tmp_path / folder / "Tips").mkdir(parents=True)
        for number in range(count):
            field = synthesise("Tips", number, width=320, height=240, info_bar=False).astype(np.uint8)
            Image.fromarray(field).save(tmp_path / folder / "Tips" / f"{number}.png")
    index([tmp_path / "some"], tmp_path / "tips", workers=1)
    assert main(["calibrate", str(tmp_path / "tips")]) == 0, capsys.readouterr().err
    index([tmp_path / "one"], tmp_path / "store", workers=1)
    assert main(["calibrate", str(tmp_path / "store")]) == 1
    assert "too few images" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path / "no store")]) == 1
    with pytest.raises(SystemExit):
        main(["calibrate", str(tmp_path / "store"), "--sample", "0"])

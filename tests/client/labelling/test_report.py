"""The report of a labelling run: numbers, plots and page."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import statistics
from collections import Counter
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from twinscope_client.labelling.grades import DECISION_GRADES
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.report import summarise, write_report
from twinscope_client.labelling.report.gallery import EXHIBITS, curate
from twinscope_client.labelling.report.page import LISTED, limits, printable, render, risk, sentence
from twinscope_client.labelling.report.summary import MOST_POINTS, survey
from twinscope_indexer.errors import StoreError
from twinscope_service.matching.policy import Policy

_GRADES = tuple(DECISION_GRADES)
_FILES = ("summary.json", "report.html", "plots/distance.png", "plots/ssim.png", "plots/ssim_by_row.png")
_VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Thumbnails:
    """An engine with only the methods that a report needs."""

    def __init__(self, missing: bool = False, error: Exception | None = None) -> None:
        self.missing = missing
        self.error = error
        self.requested: list[str] = []

    def thumbnail(self, image_id: str) -> np.ndarray | None:
        self.requested.append(image_id)
        if self.error is not None:
            raise self.error
        return None if self.missing else np.full((48, 64), 90, np.uint8)


class _Page(HTMLParser):
    """A parser that fails on unbalanced tags, and collects text, attributes and tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def _decision(path: Path | str, grade: str, **changes: Any) -> Decision:
    common = Decision(str(path), 1, 1, "ab" * 32, "store/1", "2025-03-01T10:00:00Z", grade, f"reason of {grade}")
    if grade in {"none", "unhashable", "failed"} and "distance" not in changes:
        return replace(common, **changes)
    found = {
        "category": "Tips", "code": "L6", "distance": 12, "match_id": "00000000000000aa",
        "match_source": "/refs/Tips.tar.gz!Tips/a.jpg",
    }  # fmt: skip
    if grade in {"excellent", "good"}:
        found |= {"output": f"Tips/L6_{Path(path).name}", "written": True, "scene_score": 0.9}
    return replace(common, **(found | changes))


def _journal(folder: Path, decisions: list[Decision], settings: dict[str, Any] | None = None) -> Journal:
    journal = Journal(folder)
    with journal.batch():
        for decision in decisions:
            journal.put(decision)
    if settings is not None:
        journal.set_settings(settings)
    return journal


@pytest.fixture
def make(tmp_path, request):
    """Create journals that are closed at the end."""

    def create(decisions: list[Decision], settings: dict[str, Any] | None = None, name: str = "out") -> Journal:
        journal = _journal(tmp_path / name, decisions, settings)
        request.addfinalizer(journal.close)
        return journal

    return create


def _image_file(path: Path, seed: int = 0) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80), np.uint8)).save(path)
    return path


def _rendered(journal: Journal, engine: Any = None) -> str:
    """Return the page with empty plots, because drawing takes time."""
    plots = dict.fromkeys(("distance", "ssim", "ssim_by_row"), b"")
    return render(journal, summarise(journal), plots, curate(journal, engine))


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "target": "/data/refs.store", "store_id": "5f2a", "generation": 3, "policy": asdict(Policy()),
        "min_grade": "good", "template": "{code}_{stem}{suffix}", "jpeg": False, "link": "copy",
        "sources": ["/data/lab"], "version": "0.1.0",
    } | changes  # fmt: skip


def _mixed(chance: random.Random, count: int) -> list[Decision]:
    decisions = []
    for number in range(count):
        grade = chance.choice(_GRADES)
        changes: dict[str, Any] = {"decided_at": f"2025-03-01T10:{chance.randrange(60):02d}:00Z"}
        if grade not in {"failed", "unhashable"} and (grade != "none" or chance.random() < 0.5):
            code = chance.randrange(12)
            changes |= {
                "distance": chance.choice([0, 10, 11, 300, chance.randrange(0, 301)]),
                "category": f"Category {code}", "code": f"L{code}",
                "ssim": chance.choice([None, chance.uniform(-0.2, 1), 1.0, 0.29, -1.0]),
                "scene_score": chance.choice([None, chance.uniform(-1, 1)]),
                "p_wrong": chance.choice([None, 0.01, chance.uniform(0, 0.02)]),
            }  # fmt: skip
        if grade == "good":
            changes |= chance.choice(
                [{}, {"output": "", "written": False}, {"written": False}, {"output": "", "problem": "disk full"}]
            )
        if chance.random() < 0.1:
            changes["earlier_output"] = "Tips/old.tif"
        decisions.append(_decision(f"/lab/{number:04d}.tif", grade, **changes))
    return decisions


def _mean(values: list[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return pytest.approx(statistics.fmean(known), abs=1e-9) if known else None


def _ratio(count: int, total: int) -> Any:
    return pytest.approx(count / total, abs=1e-9) if total else None


@pytest.mark.parametrize("seed", range(3))
def test_numbers_equal_simple_counts(make, seed):
    decisions = _mixed(random.Random(seed), 200)
    summary = summarise(make(decisions, _settings()))
    labelled = [d for d in decisions if d.output and d.written]
    readable = [d for d in decisions if d.grade != "failed"]
    excellent = [d for d in decisions if d.grade == "excellent"]
    assert (summary["images"], summary["readable"]) == (200, len(readable))
    assert summary["shares"] == {
        "labelled_of_readable": _ratio(len(labelled), len(readable)),
        "excellent_of_readable": _ratio(len(excellent), len(readable)),
        "excellent_of_labelled": _ratio(len([d for d in labelled if d.grade == "excellent"]), len(labelled)),
    }
    assert summary["labelled"] == {
        "images": len(labelled),
        "mean_ssim": _mean([d.ssim for d in labelled]),
        "with_ssim": len([d for d in labelled if d.ssim is not None]),
        "mean_scene_score": _mean([d.scene_score for d in labelled]),
        "mean_distance": _mean([d.distance for d in labelled]),
    }
    known = [d.p_wrong for d in labelled if d.p_wrong is not None]
    assert summary["p_wrong"] == {
        "likely_wrong_from": 0.01, "known": len(known), "likely_wrong": len([p for p in known if p > 0.01]),
        "largest": max(known),
    }  # fmt: skip
    assert list(summary["by_grade"]) == list(_GRADES)
    for grade in _GRADES:
        group = [d for d in decisions if d.grade == grade]
        assert summary["by_grade"][grade] == {
            "images": len(group),
            "labelled": len([d for d in group if d in labelled]),
            "mean_ssim": _mean([d.ssim for d in group]),
            "with_ssim": len([d for d in group if d.ssim is not None]),
            "mean_scene_score": _mean([d.scene_score for d in group]),
            "mean_distance": _mean([d.distance for d in group]),
        }
    for category in {d.category for d in decisions} - {""}:
        group = [d for d in labelled if d.category == category]
        assert summary["by_category"][category] == {
            "code": category.replace("Category ", "L"),
            "labelled": len(group),
            "excellent": len([d for d in group if d.grade == "excellent"]),
            "good": len([d for d in group if d.grade == "good"]),
            "not_labelled": len([d for d in decisions if d.category == category and d not in labelled]),
            "mean_ssim": _mean([d.ssim for d in group]),
            "with_ssim": len([d for d in group if d.ssim is not None]),
            "mean_scene_score": _mean([d.scene_score for d in group]),
            "mean_distance": _mean([d.distance for d in group]),
        }
    assert list(summary["by_category"]) == [f"Category {code}" for code in range(12)]
    assert summary["outdated_copies"] == len([d for d in decisions if d.earlier_output])
    times = [d.decided_at for d in readable]
    assert summary["decided"] == {"first": min(times), "last": max(times), "by": 1}
    assert summary["settings"] == _settings()


@pytest.mark.parametrize("seed", range(3))
def test_histograms_hold_every_candidate_once(make, seed):
    decisions = _mixed(random.Random(seed), 300)
    histograms = summarise(make(decisions))["histograms"]
    bins = {
        # Return the bin of a value, by a comparison with all bins.
        "distance": lambda v: next(n for n in range(103) if v <= 10 * (n + 1)),
        "ssim": lambda v: max(n for n in range(-100, 100) if n <= round(v * 100, 6)),
    }
    for name, width in (("distance", 10), ("ssim", 0.01)):
        values = [(d.grade, getattr(d, name)) for d in decisions if getattr(d, name) is not None]
        expected = Counter((grade, bins[name](value)) for grade, value in values)
        got = {
            (grade, round(float(edge) / width)): count
            for grade, counts in histograms[name]["images"].items()
            for edge, count in counts.items()
        }
        assert got == expected


def test_outcomes_add_up_and_are_stated_in_one_sentence(make):
    decisions = [
        *(_decision(f"/lab/a{n}.tif", "excellent") for n in range(41)),
        *(_decision(f"/lab/b{n}.tif", "none") for n in range(6)),
        _decision("/lab/c.tif", "ambiguous"),
        _decision("/lab/d.tif", "doubtful"),
        _decision("/lab/e.tif", "unverified"),
        _decision("/lab/f.tif", "failed"),
    ]
    summary = summarise(make(decisions))
    assert sum(summary["outcomes"].values()) == summary["images"] == 51
    assert sentence(summary) == ("41 of 51 images were labelled; 6 had no twin; 3 need review; 1 could not be read.")


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ([], "No images were processed."),
        ([_decision("/a", "good")], "The one image was labelled."),
        ([_decision("/a", "good"), _decision("/b", "good")], "All 2 images were labelled."),
        ([_decision("/a", "ambiguous")], "No image was labelled; 1 needs review."),
        (
            [_decision("/a", "good"), _decision("/b", "good", output="", written=False)],
            "1 of 2 images was labelled; 1 got a lower grade than requested.",
        ),
        (
            [_decision("/a", "good", written=False), _decision("/b", "good", output="", written=False, problem="full")],
            "No image was labelled; 2 have a label, but no copy yet.",
        ),
        ([_decision("/a", "unhashable")], "No image was labelled; 1 has too little structure to be recognised."),
    ],
)
def test_sentence(make, decisions, expected):
    assert sentence(summarise(make(decisions))) == expected


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([], ""),
        ([None], "The probability that a label is wrong is not known."),
        ([0.0001, 0.01], "more than 1 %: 0 of 2. The largest probability is 1 %."),
        ([0.0234567, 0.5, None], ": 2 of 2. The largest probability is 50 %. Labels with an unknown probability: 1."),
        ([0.00000001], ": 0 of 1. The largest probability is less than 0.01 %."),
        ([0.0], ": 0 of 1. The largest probability is less than 0.01 %."),
        ([1.0], ": 1 of 1. The largest probability is 100 %."),
    ],
)
def test_risk_of_wrong_labels_is_stated(make, chances, expected):
    decisions = [_decision(f"/lab/{n}.tif", "good", p_wrong=chance) for n, chance in enumerate(chances)]
    decisions.append(_decision("/lab/refused.tif", "doubtful", p_wrong=0.9))  # no label, so it cannot be wrong
    journal = make(decisions)
    text = risk(summarise(journal))
    assert text.endswith(expected)
    assert bool(text) == bool(chances)
    assert text in _Page(_rendered(journal)).text


def test_stopped_run_is_reported_until_it_is_finished(make):
    journal = make([_decision("/lab/a.tif", "excellent", ssim=0.97)], _settings())
    warning = "The run was stopped before all images were processed."
    assert not summarise(journal)["finished"]
    assert warning in _Page(_rendered(journal)).text
    journal.finish()
    journal.put(_decision("/lab/a.tif", "excellent", ssim=0.97))  # nothing new
    assert summarise(journal)["finished"]
    assert warning not in _Page(_rendered(journal)).text
    journal.put(_decision("/lab/b.tif", "excellent", ssim=0.97))
    assert warning in _Page(_rendered(journal)).text
    journal.finish()
    journal.set_settings(_settings())
    assert warning not in _Page(_rendered(journal)).text
    journal.set_settings(_settings(sources=["/data/other"]))
    assert warning in _Page(_rendered(journal)).text


def test_run_that_is_killed_before_its_first_save_is_unfinished(make, tmp_path):
    journal = make([_decision("/lab/a.tif", "excellent", ssim=0.97)], _settings())
    journal.finish()
    with journal.batch():
        journal.put(_decision("/lab/b.tif", "excellent", ssim=0.97))
        (tmp_path / "killed").mkdir()
        shutil.copy(journal.folder / "run.sqlite", tmp_path / "killed")
    killed = Journal(tmp_path / "killed", create=False)
    assert (killed.scalar("count(*)"), killed.finished) == (1, False)
    killed.close()


def test_unchanged_report_is_not_written_again(make, tmp_path):
    query = _image_file(tmp_path / "q.tif")
    decisions = [*_mixed(random.Random(5), 60), _decision(query, "excellent", ssim=0.96)]
    journal = make(decisions, _settings())
    write_report(journal, _Thumbnails())
    before = {
        name: ((journal.folder / name).stat().st_mtime_ns, (journal.folder / name).stat().st_ino) for name in _FILES
    }
    # Every run tries a failed image again, and records a later time.
    failed = next(d for d in decisions if d.failed)
    journal.put(replace(failed, decided_at="2026-01-01T00:00:00Z"))
    write_report(journal, _Thumbnails())
    after = {
        name: ((journal.folder / name).stat().st_mtime_ns, (journal.folder / name).stat().st_ino) for name in _FILES
    }
    assert after == before
    files = {str(path.relative_to(journal.folder)) for path in journal.folder.rglob("*") if path.is_file()}
    assert files - {".twinscope-run", "run.sqlite", "run.sqlite-journal"} == set(_FILES)
    assert json.loads((journal.folder / "summary.json").read_text()) == summarise(journal)


def test_equal_journals_give_equal_bytes(make):
    decisions = _mixed(random.Random(6), 50)
    one, other = make(decisions, _settings(), "one"), make(decisions[::-1], _settings(), "other")
    for journal in (one, other):
        write_report(journal, _Thumbnails())
    for name in _FILES:
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name


def test_only_changed_files_are_written_again(make):
    journal = make([_decision("/lab/a.tif", "excellent", ssim=0.97)], _settings())
    write_report(journal, None)
    plot = (journal.folder / "plots" / "ssim.png").stat().st_mtime_ns
    journal.set_settings(_settings(version="0.2.0"))
    write_report(journal, None)
    assert "0.2.0" in (journal.folder / "report.html").read_text()
    assert (journal.folder / "plots" / "ssim.png").stat().st_mtime_ns == plot


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (0, None),
        (0, _settings()),
        (1, {}),
        (3, {"policy": {"name": "odd"}}),
        (3, {"policy": None, "future": [1, {"a": 2}]}),
    ],
)
def test_short_runs_and_missing_settings(make, count, settings):
    decisions = [_decision(f"/lab/{n}.tif", "excellent", ssim=1.0, distance=0) for n in range(count)]
    journal = make(decisions, settings)
    write_report(journal, None)
    page = _Page((journal.folder / "report.html").read_text("utf-8"))
    assert "Labelling report" in page.text
    if count == 0:
        assert "No images were processed." in page.text
        assert "No image was labelled." in page.text
        assert summarise(journal)["shares"]["excellent_of_readable"] is None
    for name in _FILES[2:]:
        _valid_png(journal.folder / name)


def _valid_png(path: Path) -> None:
    with Image.open(path) as image:
        image.verify()
        assert image.format == "PNG"
    with Image.open(BytesIO(path.read_bytes())) as image:
        assert min(image.size) > 300
        assert not {"Software", "Creation Time"} & set(image.info)
        assert image.convert("L").getextrema() != (255, 255)


def test_plots_differ_with_the_data(make):
    """The test needs a plot with data, because an empty plot would be the same for every run."""
    few = make([_decision("/lab/a.tif", "excellent", ssim=0.97)], _settings(), "few")
    other = make([_decision("/lab/a.tif", "excellent", ssim=0.99, distance=80)], _settings(), "other")
    for journal in (few, other):
        write_report(journal, None)
    for name in _FILES[2:]:
        assert (few.folder / name).read_bytes() != (other.folder / name).read_bytes(), name


def test_thresholds_are_drawn(make):
    decisions = [
        _decision("/lab/a.tif", "excellent", ssim=0.97, distance=500)
    ]  # so that the axis does not end at a threshold
    changed = {
        "max_distance": ({"plots/distance.png"}, 200),
        "far_distance": ({"plots/distance.png"}, 400),
        "excellent_ssim": ({"plots/ssim.png", "plots/ssim_by_row.png"}, 0.9),
    }
    plain = make(decisions, _settings(), "plain")
    write_report(plain, None)
    for threshold, (drawn, value) in changed.items():
        journal = make(decisions, _settings(policy=asdict(Policy()) | {threshold: value}), threshold)
        write_report(journal, None)
        differing = {n for n in _FILES[2:] if (plain.folder / n).read_bytes() != (journal.folder / n).read_bytes()}
        assert differing == drawn


def test_a_far_distance_that_has_no_effect_is_not_drawn(make):
    decisions, drawn = [_decision("/lab/a.tif", "excellent", ssim=0.97, distance=500)], []
    for far in (200, 300, 310):
        journal = make(decisions, _settings(policy=asdict(Policy()) | {"far_distance": far}), str(far))
        write_report(journal, None)
        drawn.append((journal.folder / "plots/distance.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "300 bits. If none of these candidates was a twin, the few nearest references up to a distance of 430 bits",
        ),
        ({"far_distance": 300}, "searched for candidates up to a distance of 300 bits. The plots"),
        ({"max_distance": 149, "far_distance": 149}, "searched for candidates up to a distance of 149 bits. The plots"),
    ],
)
def test_page_states_how_far_candidates_were_searched(make, changes, expected):
    settings = _settings(policy=asdict(Policy()) | changes)
    far = _decision("/lab/a.tif", "good", scene_score=0.8, distance=490)  # by its brightest regions
    text = " ".join(_Page(_rendered(make([far], settings))).text.split())
    assert expected in text
    assert ("can agree at any distance between the whole images" in text) == (not changes)
    assert "farthest candidate" not in text
    if not changes:
        assert "maximum distance of the references that are compared if no candidate is a twin (bits)430" in text


def test_page_of_a_run_without_a_policy_states_no_limits():
    assert limits({"settings": {}}) == limits({"settings": {"policy": {"name": "odd"}}}) == ""


def test_doubtful_is_explained_by_all_its_reasons():
    meaning = DECISION_GRADES["doubtful"].meaning
    for reason in ("instrument metadata", "some regions only", "another reference", "outlines only", "wrong"):
        assert reason in meaning


def test_points_of_a_long_run_are_thinned_evenly(make):
    total = MOST_POINTS * 2 + 3
    decisions = [_decision(f"/lab/{n:06d}.tif", "excellent", ssim=n / total) for n in range(total)]
    run = survey(make(decisions))
    assert run.stride == 3
    assert [point.row for point in run.points] == list(range(1, total + 1, 3))
    assert all(point.ssim == (point.row - 1) / total for point in run.points)


def test_all_text_is_escaped(make, tmp_path):
    lab = tmp_path / 'lab & "quotes"'
    lab.mkdir()
    nasty = "<script>alert(1)<img src=x onerror=alert(2)>.tif"
    query = _image_file(lab / nasty)
    hostile = "<u>'\"&{{ 7*7 }}"
    decisions = [
        _decision(query, "excellent", ssim=0.96, category=hostile, code="<i>", output=f"{hostile}/{nasty}",
                  match_source=f"/refs/{nasty}", reason=hostile),
        _decision(lab / f"2{nasty}", "failed", reason=hostile),
        _decision(lab / f"3{nasty}", "ambiguous", rival_id="1", rival_source=nasty, rival_category=hostile),
        _decision(lab / f"4{nasty}", "good", written=False, problem=hostile, earlier_output=nasty),
    ]  # fmt: skip
    journal = make(decisions, _settings(target=hostile, sources=[nasty], template=hostile, **{hostile: hostile}))
    source = _rendered(journal, _Thumbnails())
    page = _Page(source)
    assert not {"script", "i", "u"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(hostile) >= 9
    assert "49" not in re.findall(r"<code>(\d+)</code>", source)
    assert f"{query}" in page.text


def test_page_is_self_contained(make, tmp_path):
    decisions = [_decision(_image_file(tmp_path / f"{n}.tif", n), "good", ssim=0.5) for n in range(3)]
    journal = make(decisions, _settings())
    write_report(journal, _Thumbnails())
    source = (journal.folder / "report.html").read_text("utf-8")
    page = _Page(source)
    assert all(value.startswith("data:image/") for value in page.values("src"))
    assert len(page.values("src")) == 3 + 2 * 3
    assert not {"link", "script", "iframe", "object"} & set(page.tags)
    assert "url(" not in source
    assert "@import" not in source
    assert not [link for link in page.values("href") if "://" in link or link.startswith("/")]


def test_links_lead_to_the_labelled_copies(make, tmp_path):
    name = os.fsdecode(b"caf\xe9 #1 100%?.tif")
    decision = _decision(_image_file(tmp_path / "q.tif"), "excellent", ssim=0.99, output=f"Tips/{name}")
    journal = make([decision], _settings())
    copy = journal.folder / "Tips" / name
    copy.parent.mkdir()
    copy.write_bytes(b"")
    links = _Page(_rendered(journal)).values("href")
    targets = {journal.folder / unquote(link, errors="surrogateescape") for link in links}
    assert copy in targets
    assert copy.parent in targets


def test_unprintable_names_are_shown_as_escapes(make):
    path = os.fsdecode(b"/lab/\xff\xfe.tif")
    turned = "/lab/gpj\u202egnp.tif"
    decisions = [_decision(path, "excellent", ssim=0.99), _decision(turned, "failed"), _decision("/lab/a\nb", "failed")]
    journal = make(decisions, _settings(sources=[path]))
    write_report(journal, None)
    page = _Page((journal.folder / "report.html").read_bytes().decode("utf-8"))
    assert page.text.count("/lab/\\xff\\xfe.tif") >= 2
    assert "/lab/gpj\\u202egnp.tif" in page.text
    assert "/lab/a\\nb" in page.text
    assert "\u202e" not in page.text
    assert json.loads((journal.folder / "summary.json").read_bytes())["settings"]["sources"] == [path]


def test_printable_keeps_names_of_any_language():
    for name in ("Kohlenstoff-Röhrchen µm.tif", "走査型\u3000電子顕微鏡.tif", "электрон.tif", "a b\u00a0c"):
        assert printable(name) == name


def test_very_long_names_are_not_cut(make):
    path = "/lab/" + "/".join(["n" * 255] * 15) + "/image.tif"
    journal = make([_decision(path, "failed", reason="r" * 5000)])
    source = _rendered(journal)
    assert path in _Page(source).text
    assert "overflow-wrap: anywhere" in source


def test_long_lists_end_with_a_pointer(make):
    decisions = [_decision(f"/lab/{n:05d}.tif", "failed") for n in range(LISTED + 1)]
    journal = make(decisions)
    text = _Page(_rendered(journal)).text
    assert f"/lab/{LISTED - 1:05d}.tif" in text
    assert f"/lab/{LISTED:05d}.tif" not in text
    assert f"first {LISTED} of {LISTED + 1} rows; the full list is in failures.csv." in " ".join(text.split())


def test_long_list_of_sources_is_cut(make):
    journal = make([], _settings(sources=[f"/lab/{n}" for n in range(10_000)]))
    text = _Page(_rendered(journal)).text
    assert "and 9,980 more" in text
    assert "/lab/21" not in text


def test_decisions_of_several_states_are_reported(make):
    one, other = _decision("/a", "good"), _decision("/b", "good", decided_by="store/2")
    for name, decisions, reported in (("one", [one], False), ("two", [one, other], True)):
        journal = make(decisions, _settings(), name)
        assert ("2 different combinations" in _rendered(journal)) is reported


def test_gallery_shows_the_weakest_labels_first(make):
    chance = random.Random(1)
    decisions = [
        _decision(f"/lab/{n}.tif", "good", ssim=chance.choice([None, chance.random()]), scene_score=chance.random())
        for n in range(50)
    ]
    decisions += [_decision("/lab/held.tif", "good", ssim=0.0, output="", written=False)]
    expected = sorted(
        (d for d in decisions if d.labelled), key=lambda d: d.scene_score if d.ssim is None else d.ssim
    )  # fmt: skip
    shown = [exhibit.decision for exhibit in curate(make(decisions), None).accepted]
    assert shown == expected[:EXHIBITS]


def test_gallery_shows_the_nearest_refusals_of_every_grade(make):
    decisions = [
        *(_decision(f"/lab/a{n:02d}", "ambiguous", ssim=0.5 + n / 100, scene_score=0.5) for n in range(30)),
        *(_decision(f"/lab/n{n:02d}", "none", scene_score=0.1 + n / 100, distance=200) for n in range(30)),
        *(_decision(f"/lab/u{n:02d}", "unverified", distance=100 + n) for n in range(3)),
        *(_decision(f"/lab/d{n:02d}", "doubtful", ssim=0.9 + n / 100, scene_score=0.9) for n in range(2)),
        _decision("/lab/lonely", "none"),
        _decision("/lab/blank", "unhashable"),
    ]
    shown = [Path(exhibit.decision.path).name for exhibit in curate(make(decisions), None).refused]
    assert shown == ["d01", "d00", "a29", "a28", "a27", "a26", "u00", "u01", "u02", "n29", "n28", "n27"]


def test_doubtful_image_is_shown_with_its_contradictions(make, tmp_path):
    energy, place = "another beam energy: 5 keV and 15 keV", "another place: the stage stood 9 µm apart"
    shared = {"contradictions": f"{energy}; {place}", "p_wrong": 0.0042}
    decisions = [
        _decision(
            _image_file(tmp_path / "d.tif"), "doubtful", ssim=0.97, scene_score=0.99,
            reason=f"SSIM 0.970 > 0.95; but the instrument metadata disagree: {energy}; {place}",
            reasons='[{"code": "same_acquisition"}, {"code": "instruments_contradict"}]', **shared,
        ),
        _decision(_image_file(tmp_path / "a.tif"), "ambiguous", **shared),
        _decision(_image_file(tmp_path / "g.tif"), "good"),
    ]  # fmt: skip
    journal = make(decisions, _settings())
    gallery = curate(journal, _Thumbnails())
    assert [(item.decision.grade, item.contradictions) for item in gallery.refused] == [
        ("doubtful", ""),  # its reason contains it
        ("ambiguous", f"{energy}; {place}"),
    ]
    text = " ".join(_Page(_rendered(journal, _Thumbnails())).text.split())
    for exhibit in text.partition("Refused images with the best candidates")[2].split(" match is wrong: ")[1:]:
        assert exhibit.startswith("0.42 % ")
        assert exhibit.count(energy) == exhibit.count(place) == 1
    assert text.count("probability that the match is wrong: 0.42 %") == 2
    assert DECISION_GRADES["doubtful"].meaning in text
    assert "doubtful if the probability of a wrong match is above this value" in text


def test_every_grade_has_its_colour_in_every_palette(make):
    source = _rendered(make([]))
    palettes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", source, re.DOTALL)
    ]
    assert len(palettes) == 3  # light, dark, print
    for palette in palettes:
        assert set(_GRADES) <= set(palette)
        colours = [palette[grade] for grade in _GRADES if grade != "unhashable"]  # grey, as "none"
        assert len(set(colours)) == len(colours)


def test_gallery_shows_query_reference_and_rival(make, tmp_path):
    query = _image_file(tmp_path / "q.tif")
    now = query.stat()
    decision = _decision(
        query, "ambiguous", match_id="aa", rival_id="bb", rival_source="/refs/r.jpg", rival_category="Fibres",
        size=now.st_size, mtime_ns=now.st_mtime_ns,
    )  # fmt: skip
    engine = _Thumbnails()
    [exhibit] = curate(make([decision]), engine).refused
    assert [figure.role for figure in exhibit.figures] == ["query", "reference", "rival"]
    assert engine.requested == ["aa", "bb"]
    assert all(figure.uri.startswith("data:image/jpeg;base64,") and not figure.note for figure in exhibit.figures)


def test_large_images_are_reduced(make, tmp_path):
    import base64

    wide = tmp_path / "wide.tif"
    Image.fromarray(np.zeros((500, 2000), np.uint8)).save(wide)
    [exhibit] = curate(make([_decision(wide, "excellent", ssim=0.99)]), None).accepted
    data = base64.b64decode(exhibit.figures[0].uri.partition(",")[2])
    with Image.open(BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (240, 60))


def test_modified_query_is_reported(make, tmp_path):
    query = _image_file(tmp_path / "q.tif")
    [exhibit] = curate(make([_decision(query, "excellent", ssim=0.99)]), None).accepted
    assert exhibit.figures[0].uri
    assert "modified" in exhibit.figures[0].note


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (None, "the store was not available"),
        (_Thumbnails(missing=True), "the store holds no thumbnail of this reference"),
        (_Thumbnails(error=StoreError("the catalogue is damaged")), "the catalogue is damaged"),
    ],
)
def test_missing_images_state_why(make, tmp_path, engine, why):
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(b"no image at all")
    decisions = [_decision(tmp_path / "gone.tif", "excellent", ssim=0.99), _decision(damaged, "good", ssim=0.7)]
    journal = make(decisions, _settings())
    page = _Page(_rendered(journal, engine))
    assert page.text.count("No image: ") == 4
    assert page.text.count(why) == 2
    assert re.search(r"No image: .*no such file", page.text)


def test_importing_the_report_is_cheap():
    """The command must start fast: neither Matplotlib nor Jinja is imported before a report is written."""
    import subprocess
    import sys

    code = "import sys, twinscope_client.labelling.report; print(*sorted({'matplotlib', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

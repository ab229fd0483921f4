"""The table of the benchmarks: targets, ratios and spread."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "harness.py"
if not _FILE.is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
_SPEC = importlib.util.spec_from_file_location("benchmark_comparison", _FILE)
comparison = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = comparison
_SPEC.loader.exec_module(comparison)


@pytest.mark.parametrize(
    ("kind", "limit", "theirs", "ours", "ratio", "met"),
    [
        ("faster", 3, 12, 4, 3, True),
        ("faster", 3, 12, 4.1, 12 / 4.1, False),
        ("share", 0.5, 10, 5, 0.5, True),
        ("share", 0.5, 10, 5.1, 0.51, False),
        ("rate", 0.8, 100, 80, 0.8, True),
        ("rate", 0.8, 100, 79, 0.79, False),
        ("value", 1, 100, 1, 1, True),
        ("value", 1, 100, 1.1, 1.1, False),
        ("share", None, 10, 99, 9.9, None),
    ],
)
def test_target_is_met_or_missed(
    kind: str, limit: float | None, theirs: float, ours: float, ratio: float, met: bool | None
) -> None:
    one = comparison.row("stage", "peer", [(theirs, ours)], comparison.Target(kind, limit))
    assert one.ratio == pytest.approx(ratio)
    assert one.met is met


def test_ratio_is_of_medians_and_spread_of_rounds() -> None:
    pairs = [(10.0, 5.0), (12.0, 3.0), (90.0, 4.0)]
    one = comparison.row("stage", "peer", pairs, comparison.Target("faster", 2))
    assert (one.theirs, one.ours, one.ratio) == (12, 4, 3)
    assert (one.least, one.most) == (2, 22.5)


def test_callables_alternate_after_one_uncounted_call() -> None:
    calls: list[str] = []
    pairs = comparison.alternating(lambda: calls.append("theirs"), lambda: calls.append("ours"), 2)
    assert calls == ["theirs", "ours"] * 3
    assert len(pairs) == 2


def test_missed_target_is_shown_in_both_tables() -> None:
    rows = [
        comparison.row("slow", "peer", [(10, 5)], comparison.Target("faster", 3)),
        comparison.row("fast", "peer", [(10, 1)], comparison.Target("faster", 3)),
    ]
    for table in (comparison.text_table(rows), comparison.markdown_table(rows)):
        slow, fast = (next(line for line in table.splitlines() if name in line) for name in ("slow", "fast"))
        assert "MISSED" in slow
        assert "2.0x" in slow
        assert "MISSED" not in fast
        assert "met" in fast

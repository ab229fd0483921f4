"""Switch off one decision rule at a time, and count the false labels that it prevents and the right labels it costs.

    python benchmarks/ablation.py [--micrographs DIR] [--overlaps FILE] [--full] [--scenes N] [--share S]
                               [--of-strangers S] [--seed N] [--sets NAME ...] [--rules NAME ...] [--out FILE.json]

Every query is answered with all rules. If Twinscope called a rule for the query (see `rules`), the query is answered
again without this rule. The sets of queries are:

real, synthetic    the queries of `accuracy` with reach windows, for the micrographs of DIR and for the micrographs of
                   `synthetic`: twins after all transforms, and unrelated images
look-alikes        unrelated fields and twins of `lookalikes`
two labels         real micrographs that are stored under two categories. Half of these micrographs have many copies in
                   the first category. Only a person can decide which category is right, so any label counts as false.

By default, the queries are a random sample, which depends on the seed. ``--full`` runs all queries, which takes hours.
Only written labels count: a match that the limit on ``p_wrong`` sends to review is neither a false nor a right label.
The last table counts the false matches that appear when a rule is switched off, and how many of these matches each
limit would label.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import synthetic
from accuracy import sources_of, workers
from cases import TWO_LABELS, Answered, Case, Cases, Extent, Label, of_folder, of_lookalikes, of_two_labels
from outcomes import LIMITS
from real_twins import DEFAULT, OVERLAPS
from rules import RULES, Rule, asked
from tqdm import tqdm
from twinscope_client.connect import connect
from twinscope_client.doctor import machine, versions
from twinscope_client.engine.protocol import Engine
from twinscope_indexer.errors import ImageError

SETS: Final = ("real", "synthetic", "look-alikes", TWO_LABELS)


@dataclass(frozen=True)
class Effect:
    """The answers to one query: with all rules, and without each rule that Twinscope called for the query."""

    of: str
    name: str
    answered: Answered
    without: dict[str, Answered]
    """Answer without a rule. The key is the name of the rule."""


@cache
def opened(store: Path) -> Engine:
    """Return the open store. A worker process opens each store only once."""
    return connect(store)


def effects(cases: Cases, names: frozenset[str]) -> list[Effect]:
    """Run queries with all rules and without each of the named rules. This function runs in a worker process."""
    rules = [rule for rule in RULES if rule.name in names]
    return [effect(case, opened(case.store), rules) for case in cases]


def effect(case: Case, engine: Engine, rules: Sequence[Rule]) -> Effect:
    """Run one query with all rules, and again without each rule that Twinscope called for the query."""
    with asked(rules) as names:
        answered = _answered(case, engine)
    without = {}
    for rule in rules:
        if rule.name in names:
            with rule.off():
                without[rule.name] = _answered(case, engine)
    return Effect(case.of, case.name, answered, without)


def _answered(case: Case, engine: Engine) -> Answered:
    try:
        return case.judged(engine.search(case.query_image))
    except ImageError:
        return Answered("none", "unreadable")


# ---- the result ----


@dataclass(frozen=True)
class Row:
    """The effect of one rule."""

    rule: str
    asked: int
    """Number of queries for which Twinscope called the rule."""
    changed: int
    """Number of queries whose answer without the rule has another grade or another best candidate."""
    prevented: dict[str, int]
    """Number of false labels that are written only without the rule. The key is the set of queries."""
    caused: dict[str, int]
    """Number of false labels that are written only with the rule. The key is the set of queries."""
    won: dict[str, int]
    """Number of right labels that are written only with the rule. The key is the set of queries."""
    lost: dict[str, int]
    """Number of right labels that are written only without the rule. The key is the set of queries."""


def summarise(found: Sequence[Effect], rules: Sequence[Rule]) -> list[Row]:
    """Count the effect of each rule."""
    return [_row(rule.name, [one for one in found if rule.name in one.without]) for rule in rules]


def _row(name: str, some: Sequence[Effect]) -> Row:
    changes = [(one.of, one.answered.label, one.without[name].label) for one in some]

    def counted(before: bool, label: Label) -> dict[str, int]:
        """Count the labels of one kind that are written only with the rule (`before`), or only without the rule."""
        return dict(Counter(
            of for of, with_rule, without in changes
            if with_rule != without and label == (with_rule if before else without)
        ))  # fmt: skip

    changed = sum(one.answered.outcome != one.without[name].outcome for one in some)
    return Row(
        name,
        len(some),
        changed,
        prevented=counted(False, "wrong"),
        caused=counted(True, "wrong"),
        won=counted(True, "right"),
        lost=counted(False, "right"),
    )


def tables(found: Sequence[Effect], rows: Iterable[Row]) -> str:
    """Format the result as Markdown tables for a document."""
    lines = ["| set | queries | right labels | false labels | held by the limit |", "|---|---:|---:|---:|---:|"]
    for of in dict.fromkeys(one.of for one in found):
        labels = Counter(one.answered.label for one in found if one.of == of)
        lines.append(f"| {of} | {labels.total():,} | {labels['right']:,} | {labels['wrong']} | {labels['held']} |")
    lines += [
        "",
        (
            "| rule | called | changed | false labels prevented | right labels lost | right labels won "
            "| false labels caused |"
        ),
        "|---|---:|---:|---|---|---|---|",
    ]
    for row in rows:
        cells = (_by_set(one) for one in (row.prevented, row.lost, row.won, row.caused))
        lines.append(f"| {row.rule} | {row.asked:,} | {row.changed} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_limit_lines(found)])


def let_through(found: Iterable[Effect], rule: str, limit: float) -> int:
    """Count the false matches that appear without a rule and have a ``p_wrong`` of at most the limit."""
    chances = (one.without[rule].p_wrong for one in found if is_false(one, rule))
    return sum(limit == 1 or (chance is not None and chance <= limit) for chance in chances)


def is_false(one: Effect, rule: str) -> bool:
    """Check whether a query has a false match if a rule is switched off.

    A false match is labelled unless its ``p_wrong`` is above the limit. Images with two labels do not count, because no
    limit can decide which label is right.
    """
    return one.of != TWO_LABELS and rule in one.without and one.without[rule].found == "wrong"


def _limit_lines(found: Sequence[Effect]) -> list[str]:
    lines = [
        f"| without | false matches | {' | '.join(f'at most {limit:g}' for limit in LIMITS[:-1])} |",
        f"|---|{'---:|' * len(LIMITS)}",
    ]
    for rule in (rule.name for rule in RULES):
        counts = [let_through(found, rule, limit) for limit in (1.0, *LIMITS[:-1])]
        if counts[0]:
            lines.append(f"| {rule} | {' | '.join(map(str, counts))} |")
    return lines


def _by_set(counts: dict[str, int]) -> str:
    if len(counts) < 2:
        return "".join(f"{number} {of}" for of, number in counts.items()) or "0"
    return f"{sum(counts.values())}: " + ", ".join(f"{number} {of}" for of, number in counts.items())


def built(parsed: argparse.Namespace, work: Path, mapped: Callable[..., Iterable[Any]]) -> list[Cases]:
    """Build the stores of the selected sets, and return the queries of these sets."""
    overlaps = Path(parsed.overlaps) if parsed.overlaps else None
    extent = (
        Extent(5, 5, None, 1.0, 1.0, 40, 25, 60, parsed.seed)
        if parsed.full
        else Extent(2, 1, parsed.scenes, parsed.share, parsed.of_strangers, 24, 6, 12, parsed.seed)
    )
    cases: list[Cases] = []
    if "real" in parsed.sets:
        cases += of_folder("real", parsed.micrographs, overlaps, work / "real", extent, mapped)
    if "synthetic" in parsed.sets:
        synthetic.write(work / "micrographs", 12, 1000)
        cases += of_folder("synthetic", work / "micrographs", None, work / "synthetic", extent, mapped)
    if "look-alikes" in parsed.sets:
        cases += of_lookalikes(work / "lookalikes", extent.references, extent.strangers)
    if TWO_LABELS in parsed.sets:
        drawn = random.Random(parsed.seed).sample(sources_of(parsed.micrographs, overlaps), extent.two_labels)
        cases += of_two_labels(drawn, work / TWO_LABELS)
    return cases


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=Path, default=DEFAULT)
    parser.add_argument("--overlaps", default=str(OVERLAPS))
    parser.add_argument("--full", action="store_true", help="run all queries, which takes hours")
    parser.add_argument("--scenes", type=int, default=30, help="number of real scenes, and of synthetic scenes")
    parser.add_argument("--share", type=float, default=0.25, help="share of the queries with a twin that are run")
    parser.add_argument("--of-strangers", type=float, default=0.5, help="share of the queries without a twin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--rules", nargs="+", choices=[rule.name for rule in RULES], metavar="NAME")
    parser.add_argument("--out", type=Path, help="write the answers to every query as JSON")
    parsed = parser.parse_args()
    rules = tuple(rule for rule in RULES if not parsed.rules or rule.name in parsed.rules)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, workers() as pool:
        cases = built(parsed, Path(scratch), pool.map)
        answers = pool.map(partial(effects, names=frozenset(rule.name for rule in rules)), cases)
        found = [one for some in tqdm(answers, "images", len(cases), disable=None) for one in some]
    rows = summarise(found, rules)
    print(f"{len(found)} queries, seed {parsed.seed}, {time.perf_counter() - start:.0f} s; {machine()}; {versions()}\n")
    print(tables(found, rows))
    if parsed.out:
        result = {"effects": [asdict(one) for one in found], "rows": [asdict(row) for row in rows]}
        parsed.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Differences between two records of `answers`. Does not import Twinscope."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TEXTS: Final = ("reason", "note", "contradictions")
"""Sentences for people; if only these differ, an answer counts as the same."""

Rows = Mapping[str, Mapping[str, Any]]


def compare(before: Rows, after: Rows, tolerance: float) -> list[tuple[str, str, Any, Any]]:
    """List the differences between two records.

    Parameters
    ----------
    before, after : mapping of str to mapping
        Fields of the answers by key.
    tolerance : float
        Largest difference of two numbers that count as equal.

    Returns
    -------
    list of (str, str, object, object)
        Key, field, and its values before and after; the field is ``missing`` or ``new`` if one record has no answer.
    """
    found: list[tuple[str, str, Any, Any]] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            found.append((key, "new" if old is None else "missing", old and old["grade"], new and new["grade"]))
            continue
        changed = [name for name in {**old, **new} if not alike(old.get(name), new.get(name), tolerance)]
        found += [(key, name, old.get(name), new.get(name)) for name in changed]
    return found


def alike(one: Any, other: Any, tolerance: float) -> bool:
    """Check whether two values are the same, except for the last digits of their numbers."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, tolerance) for a, b in zip(one, other, strict=True))
    numbers = all(isinstance(value, (int, float)) for value in (one, other))
    return bool(one == other or (numbers and abs(one - other) <= tolerance) or (one != one and other != other))


def print_differences(before: Rows, after: Rows, tolerance: float, limit: int) -> int:
    """Print the differences and return the exit code."""
    found = sorted(compare(before, after, tolerance), key=lambda one: one[1] in TEXTS)
    serious = {key for key, field, *_ in found if field not in TEXTS}
    worded = {key for key, *_ in found} - serious
    print(f"{len(before)} answers before, {len(after)} after; {len({*before} & {*after} - serious)} are the same "
          f"({len(worded)} of them in other words), {len(serious)} are not")  # fmt: skip
    for field, number in Counter(field for _, field, *_ in found).most_common():
        print(f"  {field:16}{number:6}{'  (sentences for people)' if field in TEXTS else ''}")
    for key, field, old, new in found[:limit]:
        print(f"{key}: {field}: {old!r} -> {new!r}")
    if len(found) > limit:
        print(f"({len(found) - limit} more differences; --limit N shows more)")
    return 1 if serious else 0


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read a record."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.pop("key"): row for row in rows}


def write(path: Path, rows: Rows) -> None:
    """Write a record: a line of JSON for each answer."""
    lines = [json.dumps({"key": key} | dict(row), ensure_ascii=False) + "\n" for key, row in rows.items()]
    path.write_text("".join(lines), encoding="utf-8")

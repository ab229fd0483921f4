"""Differences between two records of answers that `answers` wrote. This module does not import Twinscope."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TEXTS: Final = ("reason", "note", "contradictions")
"""Fields that contain sentences for people. If only these fields differ, two answers count as the same."""

Rows = Mapping[str, Mapping[str, Any]]


def compare(before: Rows, after: Rows, tolerance: float) -> list[tuple[str, str, Any, Any]]:
    """List the differences between two records.

    Parameters
    ----------
    before, after : mapping of str to mapping
        The answers of each record. The key identifies the query; the value is a dictionary of the answer's fields.
    tolerance : float
        Largest difference between two numbers that count as equal.

    Returns
    -------
    list of (str, str, object, object)
        Key of the query, name of the field, and the values of the field before and after. If only one record has an
        answer for the key, the name of the field is ``missing`` or ``new``.
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
    """Check whether two values are the same. Numbers may differ by the tolerance."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, tolerance) for a, b in zip(one, other, strict=True))
    numbers = all(isinstance(value, (int, float)) for value in (one, other))
    return bool(one == other or (numbers and abs(one - other) <= tolerance) or (one != one and other != other))


def print_differences(before: Rows, after: Rows, tolerance: float, limit: int) -> int:
    """Print the differences, and return the exit code: 1 if any field except sentences for people differs."""
    found = sorted(compare(before, after, tolerance), key=lambda one: one[1] in TEXTS)
    serious = {key for key, field, *_ in found if field not in TEXTS}
    worded = {key for key, *_ in found} - serious
    print(f"{len(before)} answers before, {len(after)} after; {len({*before} & {*after} - serious)} are the same "
          f"({len(worded)} of them with different wording), {len(serious)} are different")  # fmt: skip
    for field, number in Counter(field for _, field, *_ in found).most_common():
        print(f"  {field:16}{number:6}{'  (sentences for people)' if field in TEXTS else ''}")
    for key, field, old, new in found[:limit]:
        print(f"{key}: {field}: {old!r} -> {new!r}")
    if len(found) > limit:
        print(f"({len(found) - limit} more differences; --limit N shows more)")
    return 1 if serious else 0


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read a record of answers from a file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.pop("key"): row for row in rows}


def write(path: Path, rows: Rows) -> None:
    """Write a record of answers into a file, with one line of JSON for each answer."""
    lines = [json.dumps({"key": key} | dict(row), ensure_ascii=False) + "\n" for key, row in rows.items()]
    path.write_text("".join(lines), encoding="utf-8")

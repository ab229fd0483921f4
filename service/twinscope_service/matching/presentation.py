"""Conversion of answers to values for JSON, to a row of a table, and to one line of text."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

Scalar = str | int | float | None
"""Type of a value in a table."""
_OF_MATCH: Final = {
    "distance": "distance",
    "scene_score": "scene_score",
    "ssim": "ssim",
    "match_category": "category",
    "match_code": "code",
    "match_id": "image_id",
    "match_source": "source",
    "published_prefix": "published_prefix",
    "note": "note",
}
"""Maps the name of each column of the table to the attribute of a candidate."""


def plain(value: object) -> Any:
    """Convert a value to a value that `json.dumps` accepts.

    Infinite numbers and NaN become None, because JSON cannot represent them.
    """
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, Enum)):
        return value
    match value:
        case Enum():
            return value.value if isinstance(value.value, str) else value.name.lower()
        case bytes():
            return value.hex()
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    return plain_fields(value) if is_dataclass(value) else str(value)


def plain_fields(value: Any) -> dict[str, Any]:
    """Return the attributes of a dataclass as values for JSON, without attributes that are ignored in comparisons."""
    return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.compare}


def row_of(answer: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return an answer, its best candidate and the transform of this candidate as one row of strings and numbers.

    Parameters
    ----------
    answer : mapping
        The dictionary that `Answer.to_dict` returns.
    """
    best = answer["matches"][0] if answer["matches"] else {}
    chance, transform = answer["p_wrong"] or {}, best.get("transform") or {}
    shift_x, shift_y = best.get("shift") or (None, None)
    row = {name: answer[name] for name in ("grade", "category", "code", "reason")}
    row |= {"reason_codes": "; ".join(reason["code"] for reason in answer["reasons"])}
    row |= {column: best.get(name) for column, name in _OF_MATCH.items()}
    row |= {"p_wrong": chance.get("estimate"), "p_wrong_low": chance.get("low"), "p_wrong_high": chance.get("high")}
    row |= {name: transform.get(name) for name in ("symmetry", "query_frame", "reference_frame")}
    row |= {"shift_x": shift_x, "shift_y": shift_y, "contradictions": "; ".join(best.get("contradictions", ()))}
    row |= {"candidates": len(answer["matches"]), "policy": answer["policy"]["name"]}
    return row | {name: answer[name] for name in ("query_hash", "generation", "recipe", "taxonomy")}


def line_of(answer: Mapping[str, Any]) -> str:
    """Return one line of printable text for an answer. `answer` is the dictionary that `Answer.to_dict` returns."""
    matches = answer["matches"]
    if not matches:
        return f"<Answer {answer['grade']}: no candidates>"
    count = f"{len(matches)} candidate{'' if len(matches) == 1 else 's'}"
    what = _label(answer) if answer["category"] else f"no label, best candidate {_label(matches[0])}"
    chance = answer["p_wrong"] if answer["category"] else None
    measures = measures_of(matches[0]) + (f", p_wrong {chance['estimate']:.2g}" if chance else "")
    return f"<Answer {answer['grade']}: {what}, {measures}; {count}>"


def match_line_of(match: Mapping[str, Any]) -> str:
    """Return one line of printable text for a candidate. `match` is the dictionary that `plain` returns."""
    return f"<Match {match['image_id']}: {_label(match)}, {measures_of(match)}; {match['source']!a}>"


def measures_of(match: Mapping[str, Any]) -> str:
    """Return the measurements of a candidate as a readable text."""
    parts = [f"{match['distance']} bits"]
    parts += [f"scene score {match['scene_score']:.3f}"] if match["scene_score"] is not None else []
    parts += [f"SSIM {match['ssim']:.3f}"] if match["ssim"] is not None else []
    return ", ".join(parts)


def _label(labelled: Mapping[str, Any]) -> str:
    return printable(f"{labelled['category']} ({labelled['code']})")


def printable(text: str) -> str:
    """Return a text that any terminal and any page can show. Bytes of file names that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()

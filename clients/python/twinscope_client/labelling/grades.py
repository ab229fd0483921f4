"""Grades of decisions: the grades of answers, and ``failed`` for an image that could not be read."""

from __future__ import annotations

from typing import Final

from twinscope_service.matching.grades import GRADES, GradeInfo

FAILED: Final = GradeInfo(
    "failed", False, "failed", "#B3362B", "#b3362b", "#f08478", ".", "The file could not be read as an image."
)  # fmt: skip
DECISION_GRADES: Final = {grade.name: grade for grade in (*GRADES, FAILED)}
"""All grades of decisions, beginning with the most certain grade; each key is the name of a grade."""

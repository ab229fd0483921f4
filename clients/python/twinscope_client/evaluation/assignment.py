"""Assignment of the rows of a table of truth to the images of a labelling run."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twinscope_client.evaluation.truth import TruthRow


@dataclass(slots=True)
class Assignment:
    """The rows of a table of truth, assigned to the images of a run."""

    rows: dict[str, TruthRow] = field(default_factory=dict)
    """Rows by the path of their image."""
    by_name: int = 0
    """Number of rows with other folders than the image: only the file name, and perhaps some folders, agree."""
    unmatched: list[tuple[TruthRow, str]] = field(default_factory=list)
    """Rows without an image, and why."""


def assign(rows: Iterable[TruthRow], images: Iterable[str]) -> Assignment:
    """Find the image of each row.

    A row belongs to the image with its file name. If several images have that name, it belongs to the image whose
    folders, counted from the file, agree with most folders of the row. If two images agree equally well, it belongs to
    neither. If several rows belong to one image, the row that agrees best gets it; if two agree equally well, none.

    Parameters
    ----------
    rows : iterable of TruthRow
    images : iterable of str
        Absolute paths.

    Returns
    -------
    Assignment
    """
    by_file: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for image in images:
        parts = _parts(image)
        by_file[parts[-1]].append((image, parts))
    found = Assignment()
    claims: dict[str, list[tuple[int, bool, TruthRow]]] = defaultdict(list)
    for row in rows:
        named = _named(row.image, by_file)
        candidates = [(_common_end(named, parts), image) for image, parts in by_file.get(named[-1], [])]
        most = max((length for length, _ in candidates), default=0)
        best = [image for length, image in candidates if length == most]
        if len(best) == 1:
            claims[best[0]].append((most, most == len(named), row))
        elif not best:
            found.unmatched.append((row, "no image of that name in the run"))
        else:
            found.unmatched.append((row, f"{len(best)} images match: write more of the path"))
    for image, claimed in claims.items():
        _settle(found, image, claimed)
    found.unmatched.sort(key=lambda pair: pair[0].line)
    return found


def is_twin(source: str, twin: str) -> bool:
    """Check whether a reference (a path, or ``archive!member``) is the twin that a row names by its path or its end."""
    named = _parts(twin.replace("!", "/"))
    return _common_end(named, _parts(source.replace("!", "/"))) == len(named)


def readable(path: str) -> str:
    r"""Return a path in a form that a table can hold: bytes that are not UTF-8 become escapes such as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _named(image: str, files: Mapping[str, object]) -> tuple[str, ...]:
    """Split the name of an image; backslashes separate folders unless an image has exactly that name."""
    parts = _parts(image)
    return parts if parts[-1] in files else _parts(image.replace("\\", "/"))


def _parts(path: str) -> tuple[str, ...]:
    # One form of accented letters: macOS folders return names in another form.
    normal = unicodedata.normalize("NFC", readable(path))
    parts = tuple(part for part in normal.split("/") if part not in {"", "."})
    return ("/", *parts) if normal.startswith("/") else parts


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Count the components in which two paths agree, from the file upwards."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _settle(found: Assignment, image: str, claimed: list[tuple[int, bool, TruthRow]]) -> None:
    """Assign an image to the row that agrees best with its path."""
    closest = max((length, whole) for length, whole, _ in claimed)
    nearest = [row for length, whole, row in claimed if (length, whole) == closest]
    if len(nearest) == 1:
        found.rows[image] = nearest[0]
        found.by_name += not closest[1]
    for _, _, row in claimed:
        if row is not found.rows.get(image):
            why = "another row matches it better" if len(nearest) == 1 else "several rows match it equally well"
            found.unmatched.append((row, f"the only image of that name is {readable(image)}, and {why}"))

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
    """Rows that have an image; the keys are the paths of the images."""
    by_name: int = 0
    """Number of rows whose folders differ from the folders of the image; the file name agrees, and perhaps some of the
    last folders."""
    unmatched: list[tuple[TruthRow, str]] = field(default_factory=list)
    """Rows without an image, each with the reason."""


def assign(rows: Iterable[TruthRow], images: Iterable[str]) -> Assignment:
    """Find the image of each row.

    A row is assigned to the image that has the file name of the row. If several images have this name, their folders
    are compared with the folders of the row, beginning with the last folder. The image with the largest number of equal
    folders is chosen. If several images have the largest number, the row gets no image. If several rows want one image,
    the row with the largest number of equal folders gets the image. If several rows have the largest number, no row
    gets the image.

    Parameters
    ----------
    rows : iterable of TruthRow
    images : iterable of str
        Absolute paths of the images of the run.

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
            found.unmatched.append((row, "the run contains no image with this file name"))
        else:
            found.unmatched.append((row, f"{len(best)} images match this path: add more folders to the path"))
    for image, claimed in claims.items():
        _settle(found, image, claimed)
    found.unmatched.sort(key=lambda pair: pair[0].line)
    return found


def is_twin(source: str, twin: str) -> bool:
    """Check whether a reference is the twin that a row of the truth names.

    `source` is the path of the reference, or ``archive!member``. `twin` is the same path, or the last part of it.
    """
    named = _parts(twin.replace("!", "/"))
    return _common_end(named, _parts(source.replace("!", "/"))) == len(named)


def readable(path: str) -> str:
    r"""Return a path in a form that a table can hold: bytes that are not UTF-8 become escapes such as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _named(image: str, files: Mapping[str, object]) -> tuple[str, ...]:
    """Split a path of the truth into folders and file name.

    A backslash separates folders, unless an image has a file name with this backslash.
    """
    parts = _parts(image)
    return parts if parts[-1] in files else _parts(image.replace("\\", "/"))


def _parts(path: str) -> tuple[str, ...]:
    # Accented letters are converted to one Unicode form, because macOS returns file names in another form.
    normal = unicodedata.normalize("NFC", readable(path))
    parts = tuple(part for part in normal.split("/") if part not in {"", "."})
    return ("/", *parts) if normal.startswith("/") else parts


def _common_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Count the equal components at the ends of two paths, beginning with the file name."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _settle(found: Assignment, image: str, claimed: list[tuple[int, bool, TruthRow]]) -> None:
    """Assign an image to the row whose path agrees best with the path of the image."""
    closest = max((length, whole) for length, whole, _ in claimed)
    nearest = [row for length, whole, row in claimed if (length, whole) == closest]
    if len(nearest) == 1:
        found.rows[image] = nearest[0]
        found.by_name += not closest[1]
    for _, _, row in claimed:
        if row is not found.rows.get(image):
            others = "another row matches it better" if len(nearest) == 1 else "several rows match it equally well"
            found.unmatched.append((row, f"the best image for this row is {readable(image)}, but {others}"))

"""The tables of a labelling run: matches.csv, review.csv, failures.csv, labels.jsonl.

Spreadsheet programs interpret a text as a formula if the text begins with ``=``, ``+``, ``-``, ``@``, a tab or a line
break. Names of detectors, folders and files can begin with these characters. In CSV files, Twinscope therefore writes
an apostrophe before a text that begins with one of these characters, as OWASP advises
(https://owasp.org/www-community/attacks/CSV_Injection). A text that begins with apostrophes, followed by one of these
characters, gets one more apostrophe. Numbers, including negative numbers, and all other texts are not changed. To
recover the original text, remove the first apostrophe. labels.jsonl contains the original texts.

Five columns describe how the best candidate was found. ``symmetry`` is the change of the query before the comparison,
such as ``rotated by 90, inverted``. Rotations are clockwise, in degrees. If the query was not changed, the column is
empty. ``query_frame`` and ``reference_frame`` are the frames that were compared, such as ``bottom 7 % cut``, or
``whole`` for the whole image. If there is no candidate, these two columns are empty. ``shift_x`` and ``shift_y`` are
the horizontal and the vertical shift between the query and the candidate, as fractions of the width and the height of
the query. The shift is measured after the change. In labels.jsonl and in sidecars, ``transform`` and ``shift`` contain
the values of the five columns. If the values are unknown, ``transform`` or ``shift`` is null.

``page`` is the number of the page if the query is a page of a stack, counted from 1; otherwise it is empty. The pages
of a stack share one copy, so their rows name the same copy. ``reason_codes`` are the codes of the reasons for the
grade, separated by spaces. The code ``stack_pages_differ`` means that the stack got no copy, because its pages have
different labels, or because a page has no label.

``fault`` is the kind of the fault of an image that could not be read: ``missing``, ``unreadable``, ``empty``,
``truncated``, ``damaged``, ``unsupported`` or ``too_large``.

``p_wrong`` is the estimated probability that the best candidate is wrong. ``p_wrong_low`` and ``p_wrong_high`` are the
ends of the 95 % interval of this probability.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TextIO

from twinscope_client.outputs import replace_if_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twinscope_client.labelling.journal import Decision, Journal

_HISTORICAL = ("TIFF_file", "TIFF_path", "JPEG_file", "JPEG_path", "hamming_distance", "ssim_score", "used_ssim")
INSTRUMENT_COLUMNS = (
    "vendor", "instrument", "beam_energy_kev", "working_distance_mm", "magnification", "pixel_width_nm",
    "pixel_height_nm", "field_width_um", "detector", "stage_x_mm", "stage_y_mm", "stage_z_mm", "stage_rotation_deg",
    "stage_tilt_deg", "acquired",
)  # fmt: skip
_FOUND_COLUMNS = ("symmetry", "query_frame", "reference_frame", "shift_x", "shift_y")
MATCH_COLUMNS = (
    *_HISTORICAL, "grade", "category", "code", "scene_score", "output_path", "jpeg_output_path", "match_id",
    "published_prefix", "query_sha256", "query_hash", "generation", "recipe", "taxonomy", "policy", "reason",
    "earlier_output", "p_wrong", "p_wrong_high", "p_wrong_low", *_FOUND_COLUMNS, *INSTRUMENT_COLUMNS, "page",
)  # fmt: skip
REVIEW_COLUMNS = (
    *_HISTORICAL, "grade", "reason", "category", "code", "scene_score", "rival_path", "rival_category",
    "rival_distance", "rival_ssim", "rival_scene_score", "match_id", "rival_id", "query_sha256", "generation",
    "recipe", "taxonomy", "policy", "earlier_output", "contradictions", "p_wrong", "p_wrong_high", "p_wrong_low",
    *_FOUND_COLUMNS, "page", "reason_codes",
)  # fmt: skip
FAILURE_COLUMNS = ("TIFF_file", "TIFF_path", "reason", "page", "fault")
_LABELLED = "output <> '' AND written"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""If a text begins with one of these characters, spreadsheet programs interpret the text as a formula."""


def write_tables(journal: Journal) -> None:
    """Write the tables of a run. If the content of a table is unchanged, the table is not written again.

    Raises
    ------
    OutputError
        If a table cannot be written.
    """
    folder = journal.folder
    for name, columns, rows in sheets(journal):
        _write(folder / f"{name}.csv", columns, rows)
    records = (provenance(d) | {"labelled_at": d.decided_at} for d in journal.decisions(_LABELLED))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    replace_if_changed(folder / "labels.jsonl", lines.encode())


def sheets(journal: Journal) -> Iterator[tuple[str, tuple[str, ...], Iterator[tuple[object, ...]]]]:
    """Yield the tables of a run: the name of each table, its columns and its rows. The texts are not changed."""
    review = f"grade <> 'failed' AND NOT ({_LABELLED})"
    yield "matches", MATCH_COLUMNS, map(_match_row, journal.decisions(_LABELLED))
    yield "review", REVIEW_COLUMNS, map(_review_row, journal.decisions(review))
    yield "failures", FAILURE_COLUMNS, map(_failure_row, journal.decisions("grade = 'failed'"))


class Table:
    """A CSV table that spreadsheet programs read correctly: no text becomes a formula, and no value ends a row.

    Parameters
    ----------
    stream : TextIO
        A text stream that writes line ends unchanged.
    """

    def __init__(self, stream: TextIO) -> None:
        self._plain = csv.writer(stream, lineterminator="\n")
        self._quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, values: Iterable[object]) -> None:
        """Write one row."""
        texts = [_as_text(value) for value in values]
        # Many CSV readers end a row at a carriage return. Python's csv writer does not quote a carriage return.
        returns = any(isinstance(text, str) and "\r" in text for text in texts)
        (self._quoted if returns else self._plain).writerow(texts)

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    text = io.StringIO(newline="")
    table = Table(text)
    table.writerow(columns)
    table.writerows(rows)
    replace_if_changed(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _as_text(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(_FORMULA) else value


def _historical(d: Decision) -> tuple[object, ...]:
    return (
        PurePath(d.path).name, d.path, PurePath(d.match_source.rpartition("!")[2]).name, d.match_source,
        _number(d.distance), _number(d.ssim), d.ssim is not None,
    )  # fmt: skip


def _match_row(d: Decision) -> tuple[object, ...]:
    return (
        *_historical(d), d.grade, d.category, d.code, _number(d.scene_score), d.output, d.jpeg_output, d.match_id,
        d.published_prefix, d.sha256, d.query_hash, d.generation, d.recipe, d.taxonomy, d.policy, d.reason,
        d.earlier_output, _number(d.p_wrong), _number(d.p_wrong_high), _number(d.p_wrong_low), *_found(d),
        *_instrument(d), d.page or "",
    )  # fmt: skip


def _review_row(d: Decision) -> tuple[object, ...]:
    return (
        *_historical(d), d.grade, d.explanation, d.category, d.code, _number(d.scene_score), d.rival_source,
        d.rival_category, _number(d.rival_distance), _number(d.rival_ssim), _number(d.rival_scene_score), d.match_id,
        d.rival_id, d.sha256, d.generation, d.recipe, d.taxonomy, d.policy, d.earlier_output, d.contradictions,
        _number(d.p_wrong), _number(d.p_wrong_high), _number(d.p_wrong_low), *_found(d), d.page or "",
        " ".join(sorted(d.reason_codes)),
    )  # fmt: skip


def _found(d: Decision) -> tuple[object, ...]:
    return d.symmetry, d.query_frame, d.reference_frame, _number(d.shift_x), _number(d.shift_y)


def _instrument(d: Decision) -> tuple[object, ...]:
    """Return the instrument metadata: one value for each column in `INSTRUMENT_COLUMNS`."""
    written = json.loads(d.instrument) if d.instrument else {}
    written |= {f"stage_{axis}": value for axis, value in written.get("stage", {}).items()}
    return tuple(written.get(column, "") for column in INSTRUMENT_COLUMNS)


def _failure_row(d: Decision) -> tuple[object, ...]:
    return (PurePath(d.path).name, d.path, d.reason, d.page or "", d.fault)


def provenance(d: Decision) -> dict[str, object]:
    """Return the origin of the label of one copy, as values that can be written to JSON."""
    transform = {"symmetry": d.symmetry, "query_frame": d.query_frame, "reference_frame": d.reference_frame}
    return {
        "query": _readable(d.path), "page": d.page or None, "query_sha256": d.sha256, "output": _readable(d.output),
        "jpeg_output": _readable(d.jpeg_output), "category": d.category, "code": d.code, "grade": d.grade,
        "match_id": d.match_id, "match_source": _readable(d.match_source),
        "hamming_distance": d.distance, "ssim": d.ssim, "scene_score": d.scene_score, "recipe": d.recipe,
        "generation": d.generation, "taxonomy": d.taxonomy, "policy": d.policy, "p_wrong": d.p_wrong,
        "p_wrong_low": d.p_wrong_low, "p_wrong_high": d.p_wrong_high,
        "transform": transform if d.query_frame else None,
        "shift": None if d.shift_x is None or d.shift_y is None else [d.shift_x, d.shift_y],
        "reasons": json.loads(d.reasons or "[]"),
    }  # fmt: skip


def origin(pages: Sequence[Decision]) -> dict[str, object]:
    """Return the origin of the label of one copy; for a stack, also the origin of the label of each page."""
    first = provenance(pages[0])
    return first | {"pages": [provenance(page) for page in pages]} if pages[0].page else first


def _readable(path: str) -> str:
    r"""Return a path as valid text: bytes that are not UTF-8 are replaced by escape sequences such as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _number(value: float | None) -> object:
    return "" if value is None else value

"""The tables of a labelling run: matches.csv, review.csv, failures.csv, labels.jsonl."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from twinscope_client.placement import replace_if_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twinscope_client.journal import Decision, Journal

_HISTORICAL = ("TIFF_file", "TIFF_path", "JPEG_file", "JPEG_path", "hamming_distance", "ssim_score", "used_ssim")
INSTRUMENT_COLUMNS = (
    "vendor", "instrument", "beam_energy_kev", "working_distance_mm", "magnification", "pixel_width_nm",
    "pixel_height_nm", "field_width_um", "detector", "stage_x_mm", "stage_y_mm", "stage_z_mm", "stage_rotation_deg",
    "stage_tilt_deg", "acquired",
)  # fmt: skip
MATCH_COLUMNS = (
    *_HISTORICAL, "grade", "category", "code", "scene_score", "output_path", "jpeg_output_path", "match_id",
    "published_prefix", "query_sha256", "query_hash", "generation", "recipe", "taxonomy", "policy", "reason",
    "earlier_output", "p_wrong", "p_wrong_high", *INSTRUMENT_COLUMNS,
)  # fmt: skip
REVIEW_COLUMNS = (
    *_HISTORICAL, "grade", "reason", "category", "code", "scene_score", "rival_path", "rival_category",
    "rival_distance", "rival_ssim", "rival_scene_score", "match_id", "rival_id", "query_sha256", "generation",
    "recipe", "taxonomy", "policy", "earlier_output", "contradictions", "p_wrong", "p_wrong_high",
)  # fmt: skip
FAILURE_COLUMNS = ("TIFF_file", "TIFF_path", "reason")


def write_tables(journal: Journal) -> None:
    """Write the tables of a run; a table that would say the same is left alone.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    folder = journal.folder
    labelled = "output <> '' AND written"
    _write(folder / "matches.csv", MATCH_COLUMNS, journal.decisions(labelled), _match_row)
    review = f"grade <> 'failed' AND NOT ({labelled})"
    _write(folder / "review.csv", REVIEW_COLUMNS, journal.decisions(review), _review_row)
    _write(folder / "failures.csv", FAILURE_COLUMNS, journal.decisions("grade = 'failed'"), _failure_row)
    records = (provenance(d) | {"labelled_at": d.decided_at} for d in journal.decisions(labelled))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    replace_if_changed(folder / "labels.jsonl", lines.encode())


def _write(
    path: Path, columns: tuple[str, ...], rows: Iterable[Decision], row: Callable[[Decision], tuple[object, ...]]
) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(row(decision) for decision in rows)
    replace_if_changed(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _historical(d: Decision) -> tuple[object, ...]:
    return (
        PurePath(d.path).name, d.path, PurePath(d.match_source.rpartition("!")[2]).name, d.match_source,
        _number(d.distance), _number(d.ssim), d.ssim is not None,
    )  # fmt: skip


def _match_row(d: Decision) -> tuple[object, ...]:
    return (
        *_historical(d), d.grade, d.category, d.code, _number(d.scene_score), d.output, d.jpeg_output, d.match_id,
        d.published_prefix, d.sha256, d.query_hash, d.generation, d.recipe, d.taxonomy, d.policy, d.reason,
        d.earlier_output, _number(d.p_wrong), _number(d.p_wrong_high), *_instrument(d),
    )  # fmt: skip


def _review_row(d: Decision) -> tuple[object, ...]:
    return (
        *_historical(d), d.grade, d.problem or d.reason, d.category, d.code, _number(d.scene_score), d.rival_source,
        d.rival_category, _number(d.rival_distance), _number(d.rival_ssim), _number(d.rival_scene_score), d.match_id,
        d.rival_id, d.sha256, d.generation, d.recipe, d.taxonomy, d.policy, d.earlier_output, d.contradictions,
        _number(d.p_wrong), _number(d.p_wrong_high),
    )  # fmt: skip


def _instrument(d: Decision) -> tuple[object, ...]:
    """Give what the instrument wrote, one value for each of its columns."""
    known = json.loads(d.instrument) if d.instrument else {}
    known |= {f"stage_{axis}": value for axis, value in known.get("stage", {}).items()}
    return tuple(known.get(column, "") for column in INSTRUMENT_COLUMNS)


def _failure_row(d: Decision) -> tuple[object, ...]:
    return (PurePath(d.path).name, d.path, d.reason)


def provenance(d: Decision) -> dict[str, object]:
    """Give where one applied label comes from; plain JSON."""
    return {
        "query": _readable(d.path), "query_sha256": d.sha256, "output": _readable(d.output),
        "jpeg_output": _readable(d.jpeg_output), "category": d.category, "code": d.code, "grade": d.grade,
        "match_id": d.match_id, "match_source": _readable(d.match_source),
        "hamming_distance": d.distance, "ssim": d.ssim, "scene_score": d.scene_score, "recipe": d.recipe,
        "generation": d.generation, "taxonomy": d.taxonomy, "policy": d.policy, "p_wrong": d.p_wrong,
    }  # fmt: skip


def _readable(path: str) -> str:
    r"""Give a path as JSON can hold it: bytes that are no UTF-8 become escape sequences such as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _number(value: float | None) -> object:
    return "" if value is None else value

"""Look at a store, export its catalogue, or tell it that the collection has moved."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from twinscope_client.cli.console import DONE, FAILED, emit, say, table

HELP = "describe, export or relocate a store"

_EXPORTED = (
    "image_id", "uri", "category", "code", "published_prefix", "hash", "unhashable", "width", "height", "bits", "mode",
    "format", "size", "sha256", "recipe", "taxonomy", "indexed_at", "generation",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = actions.add_parser(
        "stats", help="count images by category, show generation, index, and which search answers"
    )
    stats.add_argument("store", type=Path)
    stats.add_argument("--json", action="store_true", help="one JSON object on stdout")
    export = actions.add_parser("export", help="write the catalogue as CSV to stdout")
    export.add_argument("store", type=Path)
    export.add_argument("--failures", action="store_true", help="the images that could not be indexed instead")
    relocate = actions.add_parser("relocate", help="the collection has moved: let OLD be NEW from now on")
    relocate.add_argument("store", type=Path)
    relocate.add_argument("old", type=Path, help="folder that the store knows")
    relocate.add_argument("new", type=Path, help="folder where it is now")
    relocate.add_argument("--force", action="store_true", help="also if the images are not found there")


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    return {"stats": _stats, "export": _export, "relocate": _relocate}[parsed.action](parsed)


def _stats(parsed: argparse.Namespace) -> int:
    from twinscope_client.connect import connect

    with connect(parsed.store) as engine:
        stats = engine.stats()
    if parsed.json:
        emit(json.dumps(stats))
        return DONE
    emit(f"{stats['store']}: {stats['images']} images, {stats['searchable']} searchable, "
         f"{stats['unhashable']} unhashable, {stats['failures']} failures")  # fmt: skip
    emit(f"generation {stats['generation']}, recipe {stats['recipe']}")
    emit(f"search: {stats['index']['kind']}")
    emit(
        f"index: {stats['index']['base']} in the file, {stats['index']['delta']} newer; "
        f"reach: {stats['index']['reach']}"
    )
    emit(f"published prefixes that contradict the category: {stats['contradicting_prefixes']} of {stats['prefixes']}")
    for root in stats["roots"]:
        emit(f"collection: {root}")
    for category, number in stats["category"].items():
        emit(f"{number:9d}  {category}")
    return DONE


def _export(parsed: argparse.Namespace) -> int:
    from twinscope_indexer.store.reader import Store

    store = Store(parsed.store)
    try:
        rows = table()
        if parsed.failures:
            rows.writerow(("uri", "fault", "message", "at"))
            rows.writerows((f.uri, f.fault, f.message, f.at) for f in store.catalog.failures())
            return DONE
        rows.writerow(_EXPORTED)
        for record in store.catalog.all_records():
            values = [getattr(record, name) for name in _EXPORTED]
            rows.writerow([value.hex() if isinstance(value, bytes) else value for value in values])
    finally:
        store.close()
    return DONE


def _relocate(parsed: argparse.Namespace) -> int:
    from twinscope_indexer.indexing.relocation import relocate

    moved = relocate(parsed.store, parsed.old, parsed.new, force=parsed.force)
    if moved.looked_at and not moved.found and not parsed.force:
        say(
            f"None of {moved.looked_at} images looked for was found below {parsed.new}; nothing was changed. "
            "Check the folder, or give --force."
        )
        return FAILED
    say(f"{parsed.old} is {parsed.new} from now on; {moved.found} of {moved.looked_at} images looked for are there.")
    return DONE

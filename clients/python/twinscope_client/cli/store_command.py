"""Describe a store, export the catalog of a store, or record that the collection of a store has moved.

Example: twinscope store stats lab.store
Example: twinscope store export lab.store > records.csv
Example: twinscope store relocate lab.store /old/collection /new/collection
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from twinscope_client.cli.console import DONE, FAILED, emit, say, table
from twinscope_client.cli.target_options import store_folder

HELP = "describe a store, export its catalog, or record that its collection has moved"

_EXPORTED = (
    "image_id", "uri", "category", "code", "published_prefix", "hash", "unhashable", "width", "height", "bits", "mode",
    "format", "size", "sha256", "recipe", "taxonomy", "indexed_at", "generation",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = actions.add_parser(
        "stats",
        help="print the number of images of each category, the generation, the size of the index and the index engine",
    )
    stats.add_argument("store", type=store_folder, help="folder of the store")
    stats.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    export = actions.add_parser("export", help="print the catalog as a CSV table")
    export.add_argument("store", type=store_folder, help="folder of the store")
    export.add_argument(
        "--failures", action="store_true", help="print the images that could not be indexed instead of the catalog"
    )
    relocate = actions.add_parser("relocate", help="record that the collection has moved from folder OLD to folder NEW")
    relocate.add_argument("store", type=store_folder, help="folder of the store")
    relocate.add_argument("old", type=Path, help="folder of the collection, as recorded in the store")
    relocate.add_argument("new", type=Path, help="folder where the collection is now")
    relocate.add_argument(
        "--force", action="store_true", help="change the recorded folder even if no image is found in NEW"
    )


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
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
            f"None of the {moved.looked_at} images checked was found below {parsed.new}; nothing was changed. "
            "Check the folder, or use --force."
        )
        return FAILED
    say(
        f"The store now records the folder {parsed.new} instead of {parsed.old}; {moved.found} of the "
        f"{moved.looked_at} images checked are there."
    )
    return DONE

"""Describe a store, export the catalog of a store, or record that the collection of a store has moved.

Example: twinscope store stats lab.store
Example: twinscope store export lab.store > records.csv
Example: twinscope store relocate lab.store /old/collection /new/collection
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, emit, say, table
from twinscope_client.cli.target_options import add_store_folder, add_target_options, open_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twinscope_indexer.store.catalog.catalog import Record

HELP = "describe a store, export its catalog, or record that its collection has moved"

_EXPORTED = (
    "image_id", "uri", "page", "category", "code", "published_prefix", "hash", "unhashable", "width", "height", "bits",
    "mode", "format", "size", "sha256", "recipe", "taxonomy", "indexed_at", "generation",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = actions.add_parser(
        "stats",
        help="print the number of images of each category, the generation, the size of the index and the index engine",
        description="Print the number of images of each category, the generation, the size of the index and the index\n"
        "engine.\n\nExample: twinscope store stats lab.store",
    )
    add_target_options(stats, positional=True)
    stats.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    export = actions.add_parser(
        "export", help="print the catalog as a CSV table",
        description="Print the catalog as a CSV table.\n\nExample: twinscope store export lab.store > records.csv",
    )  # fmt: skip
    add_store_folder(export, "folder of the store")
    export.add_argument(
        "--failures",
        action="store_true",
        help="print the images that could not be indexed, or that a search can never find, instead of the catalog",
    )
    export.add_argument(
        "--excel", type=Path, metavar="FILE",
        help="write the table into a new Excel workbook instead of printing it (needs the extra excel)",
    )  # fmt: skip
    relocate = actions.add_parser(
        "relocate", help="record that the collection has moved from folder OLD to folder NEW",
        description="Record that the collection has moved from folder OLD to folder NEW.\n\n"
        "Example: twinscope store relocate lab.store /old/collection /new/collection",
    )  # fmt: skip
    relocate.add_argument(
        "folders", nargs="+", metavar="FOLDER",
        help="OLD and NEW: the folder of the collection as recorded in the store, and the folder where the collection "
        "is now. The folder of the store can be given as the first FOLDER, or with --at",
    )  # fmt: skip
    add_store_folder(relocate, "folder of the store", positional=False, needed=False)
    relocate.add_argument(
        "--force", action="store_true", help="change the recorded folder even if no image is found in NEW"
    )


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    return {"stats": _stats, "export": _export, "relocate": _relocate}[parsed.action](parsed)


def _stats(parsed: argparse.Namespace) -> int:
    with open_target(parsed) as engine:
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
        if parsed.failures:
            unfound = chain(store.catalog.failures(), store.catalog.unhashable())
            rows = ((f.uri, f.fault, f.message, f.at) for f in unfound)
            _write_table(parsed, "failures", ("uri", "fault", "message", "at"), rows)
        else:
            _write_table(parsed, "catalog", _EXPORTED, map(_row, store.catalog.all_records()))
    finally:
        store.close()
    return DONE


def _row(record: Record) -> tuple[object, ...]:
    values = (getattr(record, name) for name in _EXPORTED)
    return tuple(value.hex() if isinstance(value, bytes) else value for value in values)


def _write_table(
    parsed: argparse.Namespace, name: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> None:
    """Print a CSV table, or write an Excel workbook to a new file."""
    if parsed.excel is None:
        printed = table()
        printed.writerow(columns)
        printed.writerows(rows)
        return
    from twinscope_client.errors import OutputError
    from twinscope_client.labelling.workbook import workbook
    from twinscope_client.outputs import put_bytes

    try:
        put_bytes(workbook([(name, columns, rows)]), parsed.excel)
    except FileExistsError as error:
        msg = f"{parsed.excel} already exists. Choose a file that does not exist yet"
        raise OutputError(msg) from error


def _relocate(parsed: argparse.Namespace) -> int:
    from twinscope_indexer.indexing.relocation import relocate

    store, old, new = _moved(parsed)
    moved = relocate(store, old, new, force=parsed.force)
    if moved.looked_at and not moved.found and not parsed.force:
        say(
            f"None of the {moved.looked_at} images checked was found below {new}; nothing was changed. "
            "Check the folder, or use --force."
        )
        return FAILED
    say(
        f"The store now records the folder {new} instead of {old}; {moved.found} of the {moved.looked_at} images "
        "checked are there."
    )
    return DONE


def _moved(parsed: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Return the store, the recorded folder of the collection and the new folder."""
    folders = [Path(folder) for folder in parsed.folders]
    if len(folders) == 3:
        named = getattr(parsed, "named_store", None)
        if named is not None and named != folders[0]:
            parsed.parser.error(f"two stores are named: {named} and {folders[0]}")
        return folders[0], folders[1], folders[2]
    if len(folders) != 2:
        parsed.parser.error(f"give OLD and NEW, or STORE, OLD and NEW; got {len(folders)} folders")
    if parsed.store is None:
        parsed.parser.error("the store is missing: name it with --at, or give STORE, OLD and NEW")
    return parsed.store, folders[0], folders[1]

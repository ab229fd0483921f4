"""Find out how likely matches in this store are to be wrong.

Asks the store for some of its own images: changed as collections change them, with their twins in it (right matches),
and with themselves and their copies left out, so that whatever is nearest is wrong, of the same category or of another.
From what is measured on both, the probability that a match is wrong is fitted, and kept in the store: answers then
carry it as p_wrong, with an interval, and --max-p-wrong of search and label sends what is too likely to be wrong to
review. Without a calibration of its own a store is judged by the one that Twinscope ships, fitted on micrographs of
many laboratories.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, emit, progress, say, say_some

if TYPE_CHECKING:
    from twinscope_indexer.store.reader import Store
    from twinscope_service.matching.calibrate import Samples
    from twinscope_service.matching.calibration import Calibration

HELP = "find out how likely matches are to be wrong"

_SHARES = (0.001, 0.01, 0.05)
_TOO_COARSE = 0.02


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of a store")
    parser.add_argument(
        "--sample", type=int, default=300, metavar="N", help="images to ask for, drawn at random (default: 300)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing (default: 0)")
    parser.add_argument("--workers", type=int, metavar="N", default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--json", action="store_true", help="print the calibration as one JSON object")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="fit and print, but leave the store as it is")
    what.add_argument("--forget", action="store_true", help="go back to the calibration that Twinscope ships")
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    if parsed.sample < 1 or parsed.workers < 1:
        parsed.parser.error("--sample and --workers must be at least 1")
    if parsed.forget and parsed.json:
        parsed.parser.error("--forget has nothing to print as JSON")
    from twinscope_indexer.store.reader import Store, open_writer

    if parsed.forget:
        with open_writer(parsed.store) as writer:
            writer.set_calibration("")
            writer.publish()
        say(f"{parsed.store} is judged by the calibration that Twinscope ships.")
        return DONE
    store = Store(parsed.store)
    try:
        found, made = _fitted(store, parsed)
    finally:
        store.close()
    if not parsed.dry_run:
        with open_writer(parsed.store) as writer:
            writer.set_calibration(made.to_json())
            writer.publish()
    if parsed.json:
        emit(made.to_json())
    else:
        _show(found, made)
    if not parsed.dry_run:
        least = made.floors[0]
        if least > _TOO_COARSE:
            say(
                f"warning: so few images cannot tell a chance of error below {least:.1%}; the calibration that "
                "Twinscope ships tells 0.6 %. Ask for more (--sample), or go back to it (--forget)."
            )
        from twinscope_service.matching.policy import POLICIES

        limit = POLICIES["default"].max_p_wrong
        if least > limit:
            say(
                f"warning: with it no image is labelled by default: the limit is {limit:.0%} (--max-p-wrong), and "
                f"{made.impostors} images support no less than {least:.1%}."
            )
        say(f"Kept in {parsed.store}: answers carry it as p_wrong from now on.")
    return DONE


def _fitted(store: Store, parsed: argparse.Namespace) -> tuple[Samples, Calibration]:
    from twinscope_indexer.files import utc_now
    from twinscope_service.matching.calibrate import calibrated, gather, sampled

    images = sampled(store, parsed.sample, parsed.seed)
    with progress("asking", lambda: len(images)) as step:
        found = gather(store, images, parsed.workers, step)
    name = f"{found.images} images of this collection, generation {store.view.generation}, {utc_now()}"
    return found, calibrated(name, found, parsed.seed)


def _show(found: Samples, made: Calibration) -> None:
    emit(f"Fitted on {made.name}.")
    if found.unreadable:
        emit(f"{found.unreadable} of them could not be read where they were indexed: no SSIM was taken of these.")
    right = [made.judged(row).estimate for rows in found.genuine for row in rows]
    wrong = [made.judged(row).estimate for rows in found.impostors for row in rows]
    emit(f"{'p_wrong at most':>16}  {'right matches kept':>20}  {'wrong ones let through':>24}")
    for share in _SHARES:
        kept, let = sum(p <= share for p in right), sum(p <= share for p in wrong)
        emit(f"{share:>16.1%}  {_of(kept, len(right)):>20}  {_of(let, len(wrong)):>24}")
    least, high = made.floors
    emit(f"Least that so many images can support: {least:.2g}, with an interval up to {high:.2g}.")
    say_some(
        f"{len(found.copies)} times an image of another category looked the same. Are they labelled rightly?",
        [f"{one}  and  {other}" for one, other in found.copies], len(found.copies), "only the first are listed",
    )  # fmt: skip


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"

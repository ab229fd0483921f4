"""Calibrate a store: estimate the probability that a match from this store is wrong.

Takes a random sample of the images of the store, and searches the store for each image in two ways:

  right matches  Each image is changed like the images of real collections: it is re-encoded, resized, cropped or
                 rotated, or noise is added. The twin of the image is in the store.
  wrong matches  The search excludes the image itself and its copies. The nearest reference is therefore a wrong match,
                 in the same category or in another category.

Then computes from the scores of both groups how the probability that a match is wrong depends on its scores. Writes
this calibration into the store. After that, every answer from this store contains the probability as p_wrong, with an
interval. If p_wrong is above --max-p-wrong, 'search' and 'label' do not label the image, and the image must be
reviewed. If a store has no calibration, Twinscope uses the calibration that is shipped with Twinscope. The shipped
calibration was fitted on micrographs of many laboratories.

If you stop the command with Ctrl-C, the results of the finished images are kept in the store. To continue, run the same
command again. If the store has changed since, the command starts again. With --dry-run, nothing is kept.

Example: twinscope calibrate lab.store --sample 1000
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import DONE, emit, progress, say
from twinscope_client.cli.double_label_table import (
    add_table_option,
    as_dicts,
    report_double_labels,
    require_new,
)
from twinscope_client.cli.target_options import add_store_folder

if TYPE_CHECKING:
    from twinscope_indexer.store.reader import Store
    from twinscope_service.matching.calibrate import Samples
    from twinscope_service.matching.calibration import Calibration
    from twinscope_service.matching.sample_journal import SampleJournal

HELP = "estimate the probability that a match is wrong"

_SHARES = (0.001, 0.01, 0.05)
_TOO_COARSE = 0.02


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_store_folder(parser, "folder of the store")
    parser.add_argument(
        "--sample", type=int, default=300, metavar="N", help="number of images in the random sample (default: 300)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random sample (default: 0)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=os.cpu_count() or 1,
        help="number of threads (default: one thread per core)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the calibration as one JSON object, with all pairs of --contradictions",
    )
    add_budget_option(parser)
    add_table_option(parser)
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--dry-run",
        action="store_true",
        help="compute and print the calibration, but do not write the calibration into the store",
    )
    change.add_argument(
        "--forget",
        action="store_true",
        help="remove the calibration from the store; then the store uses the shipped calibration again",
    )


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    if parsed.dry_run or parsed.forget:
        return "Stopped. Nothing was kept, and the calibration of the store was not changed."
    return (
        "Stopped. The calibration of the store was not changed. The results of the finished images are kept; run the "
        "same command again to continue."
    )


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if parsed.sample < 1 or parsed.workers < 1:
        parsed.parser.error("--sample and --workers must be at least 1")
    if parsed.forget and parsed.json:
        parsed.parser.error("--json cannot be used with --forget, because --forget prints no calibration")
    if parsed.forget and parsed.contradictions:
        parsed.parser.error("--contradictions cannot be used with --forget, because --forget compares no images")
    require_new(parsed.contradictions)
    from twinscope_indexer.store.reader import Store, open_writer

    if parsed.forget:
        with open_writer(parsed.store) as writer:
            writer.set_calibration("")
            writer.publish()
        say(f"{parsed.store} now uses the calibration that Twinscope ships.")
        return DONE
    store = Store(parsed.store)
    journal = None
    try:
        journal = _journal(store, parsed)
        samples, calibration = _fitted(store, journal, parsed)
    finally:
        if journal is not None:
            journal.close()
        store.close()
    if not parsed.dry_run:
        with open_writer(parsed.store) as writer:
            writer.set_calibration(calibration.to_json())
            writer.publish()
    if journal is not None:
        journal.remove()
    if parsed.json:
        emit(json.dumps(json.loads(calibration.to_json()) | {"contradictions": as_dicts(samples.copies)}))
    else:
        _show(samples, calibration)
    report_double_labels(samples.copies, parsed.contradictions)
    if not parsed.dry_run:
        least = calibration.floors[0]
        if least > _TOO_COARSE:
            say(
                f"warning: the sample has too few images. With this calibration, p_wrong is never below {least:.1%}; "
                "with the calibration that Twinscope ships, the lowest p_wrong is 0.6 %. Use a larger sample "
                "(--sample), or remove this calibration (--forget)."
            )
        from twinscope_service.matching.policy import POLICIES

        limit = POLICIES["default"].max_p_wrong
        if least > limit:
            say(
                f"warning: with this calibration no image is labelled by default. The default of --max-p-wrong is "
                f"{limit:.0%}, but with a sample of {calibration.impostors} images, p_wrong is never below {least:.1%}."
            )
        say(f"Calibration written to {parsed.store}. Answers from this store now use it for p_wrong.")
    return DONE


def _journal(store: Store, parsed: argparse.Namespace) -> SampleJournal | None:
    """Return the journal with the results of an earlier call that was stopped; None for a dry run."""
    if parsed.dry_run:
        return None
    from twinscope_service.matching.sample_journal import SampleJournal

    journal = SampleJournal(store)
    if journal.kept:
        say(f"The results of {journal.kept} images are kept from an earlier call.")
    return journal


def _fitted(store: Store, journal: SampleJournal | None, parsed: argparse.Namespace) -> tuple[Samples, Calibration]:
    from twinscope_indexer.files import utc_now
    from twinscope_service.matching.calibrate import calibrated, gather, sampled

    images = sampled(store, parsed.sample, parsed.seed)
    with progress("searching", lambda: len(images)) as step:
        samples = gather(store, images, parsed.workers, step, journal=journal)
    name = f"{samples.images} images of this collection, generation {store.view.generation}, {utc_now()}"
    return samples, calibrated(name, samples, parsed.seed)


def _show(samples: Samples, calibration: Calibration) -> None:
    emit(f"Fitted on {calibration.name}.")
    if samples.unreadable:
        emit(
            f"{samples.unreadable} of these images could not be read at the path that the store records, so their SSIM "
            "is missing."
        )
    right = [calibration.judged(row).estimate for rows in samples.genuine for row in rows]
    wrong = [calibration.judged(row).estimate for rows in samples.impostors for row in rows]
    emit(f"{'p_wrong at most':>16}  {'right matches kept':>20}  {'wrong matches kept':>20}")
    for share in _SHARES:
        kept, missed = sum(p <= share for p in right), sum(p <= share for p in wrong)
        emit(f"{share:>16.1%}  {_of(kept, len(right)):>20}  {_of(missed, len(wrong)):>20}")
    least, high = calibration.floors
    emit(f"Lowest p_wrong that is possible with this sample: {least:.2g}, with an interval up to {high:.2g}.")


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"

"""Search a store for the twin of each image.

PATH is an image file, a folder with all its subfolders, or - for an image on stdin. Prints one line for each image,
followed by one line for each candidate of this image. With --json, prints one JSON object for each image, and then one
object with the numbers of images for each grade.

Example: twinscope search sample_123.tif --at lab.store

Example: find tiffs/ -name '*.tif' -print0 | twinscope search --from-file - -0 --at lab.store --json
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import emit, say, say_runs
from twinscope_client.cli.inputs import MISSING, STDIN, Inputs, add_inputs, collected
from twinscope_client.cli.outcome import JsonLines, add_outcome_options, exit_code, needs_review
from twinscope_client.cli.pages_option import add_pages_option
from twinscope_client.cli.policy_options import (
    add_policy_options,
    chosen_policy,
    warn_of_emptiness,
    warn_of_limit,
    warn_of_reach,
)
from twinscope_client.cli.target_options import add_target_options, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.sources.corpus import Walk
    from twinscope_service.matching.answer import Answer, ChanceOfError, Match

HELP = "search a store for the twin of each image"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_inputs(
        parser, "images", "PATH", "image file, page of a stack (F.tif#page=3), folder, or - for an image on stdin"
    )
    add_target_options(parser)
    add_pages_option(parser)
    add_budget_option(parser)
    add_policy_options(parser)
    add_outcome_options(parser, "images with the grade doubtful, ambiguous or unverified")


def stopped(_: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    return "Stopped. The answers above are complete; nothing was saved."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    policy = chosen_policy(parsed)
    inputs = collected(parsed, stdin=True)
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.sources.corpus import Walk

    lines, counts, walked = JsonLines(parsed), Counter[str](), Walk()
    names: deque[str] = deque()
    with open_target(parsed) as engine:
        warn_of_emptiness(engine)
        warn_of_reach(parsed, engine)
        warn_of_limit(policy, engine)
        for _, found in engine.search_many(_images(inputs, walked, names, parsed.pages), policy=policy):
            name = names.popleft()
            if isinstance(found, ImageError):
                counts["failed"] += 1
                say(f"{name}: {found.detail}")
                lines.image(name, query=name, grade="failed", fault=found.fault, reason=found.detail)
                continue
            counts[found.grade] += 1
            if lines.wanted:
                lines.image(name, query=name, **found.to_dict())
            else:
                _show(name, found)
    for path, reason in walked.unreadable:
        say(f"{path}: {reason}")
        lines.folder(path, reason)
    say_runs(walked.runs)
    for path in inputs.missing:
        counts["failed"] += 1
        say(f"{path}: {MISSING}")
        lines.image(path, query=path, grade="failed", fault="missing", reason=MISSING)
    done = counts.total() - counts["failed"]
    code = exit_code(
        parsed,
        done=done,
        unreadable=counts["failed"] + len(walked.unreadable),
        review=sum(number for grade, number in counts.items() if needs_review(grade)),
    )
    lines.summary(code, counts)
    return code


def _images(inputs: Inputs, walked: Walk, names: deque[str], pages: Pages) -> Iterator[str | Path | bytes]:
    """Yield the images, and add the name of each image to `names`. Archives are not opened."""
    from twinscope_indexer.indexing.pages import page_items, pages_of
    from twinscope_indexer.sources.corpus import scope_of, walk
    from twinscope_indexer.sources.location import paged

    for path in inputs.paths:
        if path == STDIN:
            names.append(path)
            yield sys.stdin.buffer.read()
        elif os.path.isdir(path):  # noqa: PTH112  Path.is_dir() raises without access to a parent folder
            items = walk(scope_of(path), walked, archives=False, leave_out=walked.leave_out_run)
            for item in page_items(items, pages):
                named = os.path.join(path, item.path)  # noqa: PTH118  keeps the spelling of the argument
                names.append(paged(named, item.page))
                yield item.uri if item.page else item.file
        else:
            for page in pages_of(path) if pages == "all" else [path]:
                names.append(page)
                yield page


def _show(image: str, answer: Answer) -> None:
    label = f" -> {answer.category} ({answer.code})" if answer.category else ""
    chance = "" if answer.p_wrong is None else f"; {_chance(answer.p_wrong)}"
    emit(f"{image}: {answer.grade}{label}: {answer.reason}{chance}")
    for match in answer.matches:
        emit(f"  {_measured(match)}  {match.category:<28} {match.source}")


def _chance(chance: ChanceOfError) -> str:
    return f"p_wrong {chance.estimate:.2g}, at most {chance.high:.2g} ({chance.calibration.partition(',')[0]})"


def _measured(match: Match) -> str:
    ssim = f"{match.ssim:6.3f}" if match.ssim is not None else "     -"
    scene = f"{match.scene_score:6.3f}" if match.scene_score is not None else "     -"
    return f"{match.distance:4d} bits  SSIM {ssim}  scene {scene}"

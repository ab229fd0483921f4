"""Search a store for the twin of each image.

Prints one line for each image, followed by one line for each candidate of this image. With --json, prints one JSON
object for each image.

Example: twinscope search sample_123.tif --at lab.store
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, PARTLY, emit, say
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
    from twinscope_service.matching.answer import Answer, ChanceOfError, Match

HELP = "search a store for the twin of each image"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="path of an image file, or of a page (F.tif#page=3)")
    add_target_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each image instead of text")
    add_pages_option(parser)
    add_policy_options(parser)
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    policy = chosen_policy(parsed)
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.indexing.pages import pages_of

    images = [page for image in parsed.images for page in (pages_of(image) if parsed.pages == "all" else [image])]
    failed = 0
    with open_target(parsed) as engine:
        warn_of_emptiness(engine)
        warn_of_reach(parsed, engine)
        warn_of_limit(policy, engine)
        for image, found in engine.search_many(images, policy=policy):
            if isinstance(found, ImageError):
                failed += 1
                say(f"{image}: {found.detail}")
                if parsed.json:
                    emit(json.dumps({"query": image, "grade": "failed", "fault": found.fault, "reason": found.detail}))
            elif parsed.json:
                emit(json.dumps({"query": image} | found.to_dict()))
            else:
                _show(image, found)
    if failed:
        return PARTLY if failed < len(images) else FAILED
    return DONE


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

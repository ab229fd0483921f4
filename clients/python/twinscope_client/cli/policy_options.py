"""The options that choose a policy and adjust its thresholds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from twinscope_client.cli.console import say

if TYPE_CHECKING:
    from twinscope_service.matching.policy import Policy

    from twinscope_client.engine.protocol import Engine

_METAVARS = {"bits": "BITS", "probability": "P", "candidates": "N"}


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--policy``, ``-k`` and the thresholds."""
    group = parser.add_argument_group("what counts as the same image (echoed in every answer)")
    group.add_argument(
        "--policy", choices=("default", "legacy"), default="default",
        help="'legacy' applies the rule of the scripts that Twinscope replaces, for comparison",
    )  # fmt: skip
    from twinscope_service.matching.policy import SETTINGS

    for setting in SETTINGS:
        flag = f"-{setting.name}" if len(setting.name) == 1 else f"--{setting.name.replace('_', '-')}"
        group.add_argument(
            flag, type=int if setting.whole else float, metavar=_METAVARS.get(setting.unit, "X"),
            help=f"{setting.help} (default {setting.default:g})",
        )  # fmt: skip
    group.add_argument(
        "--ssim", choices=("never", "best", "all"),
        help="which candidates are compared at full size: none (nothing is excellent then), those that can change the "
        "answer (default), all of the same field",
    )  # fmt: skip
    group.add_argument(
        "--reach", choices=("frame", "views", "windows"),
        help="what is tried where an image as it is has no twin: 'frame' nothing more (rotations, mirroring, inversion "
        "and cut or added info bars are then not found); 'views' these; 'windows' parts of the field as well (default: "
        "all that the store was indexed for)",
    )  # fmt: skip


def chosen_policy(parsed: argparse.Namespace) -> Policy:
    """Give the policy that the options ask for; wrong usage ends the command with exit code 2."""
    from twinscope_service.matching.policy import SETTINGS, named_policy

    changes = {setting.name: getattr(parsed, setting.name) for setting in SETTINGS}
    parser: argparse.ArgumentParser = parsed.parser
    try:
        return named_policy(parsed.policy).adjusted({"reach": parsed.reach, "ssim": parsed.ssim, **changes})
    except ValueError as error:
        parser.error(str(error))


def warn_of_reach(parsed: argparse.Namespace, engine: Engine) -> None:
    """Say so where ``--reach`` asks for more than the store was indexed for; only where it was given."""
    if parsed.reach is None:
        return
    from twinscope_indexer.hashing.reach import REACHES

    held = engine.stats()["index"]["reach"]
    if REACHES.index(parsed.reach) > REACHES.index(held):
        where = f"--store {parsed.at}" if "://" not in parsed.at else "--store DIR, where the server is"
        say(
            f"warning: --reach {parsed.reach} has no more effect than --reach {held}, as the store was indexed for no "
            f"more; to change that: twinscope index --reach {parsed.reach} SOURCE... {where}"
        )


def warn_of_limit(policy: Policy, engine: Engine) -> None:
    """Warn if the limit on `p_wrong` is below what the calibration can support, so that nothing is labelled."""
    calibration = engine.stats()["calibration"]
    least = calibration["least_p_wrong"]
    if policy.rule == "scene" and policy.max_p_wrong < least:
        say(
            f"warning: nothing will be labelled: the calibration ({calibration['name']}) rests on "
            f"{calibration['images']} images and cannot support a probability of error below {least:.2g}, but "
            f"--max-p-wrong is {policy.max_p_wrong:g}. All matches go to review. Run twinscope calibrate on a larger "
            f"store, or give --max-p-wrong {min(1.0, least * 1.01):.2g} and check the labels."
        )


def warn_of_emptiness(engine: Engine) -> None:
    """Say so where there is nothing to find, which a user would take for images without twins."""
    if not engine.stats()["searchable"]:
        say("warning: the store has no searchable image, so nothing can be found: is `twinscope index` still running?")

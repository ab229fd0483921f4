"""The options that select a policy and change the thresholds of the policy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from twinscope_client.cli.console import say

if TYPE_CHECKING:
    from twinscope_service.matching.policy import Policy

    from twinscope_client.engine.protocol import Engine

_METAVARS = {"bits": "BITS", "SSIM": "SSIM", "scene score": "SCORE", "probability": "P", "candidates": "N"}


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--policy``, ``-k`` and the options for the thresholds."""
    group = parser.add_argument_group(
        "policy: the thresholds that decide whether an image has a twin (every answer contains the policy)"
    )
    group.add_argument(
        "--policy", choices=("default", "legacy"), default="default",
        help="name of the policy; the options below change single thresholds. 'legacy' applies the rule of the scripts "
        "that Twinscope replaces, for a comparison with old results (default: default)",
    )  # fmt: skip
    from twinscope_service.matching.policy import SETTINGS

    for setting in SETTINGS:
        flag = f"-{setting.name}" if len(setting.name) == 1 else f"--{setting.name.replace('_', '-')}"
        group.add_argument(
            flag, type=int if setting.whole else float, metavar=_METAVARS[setting.unit],
            help=f"{setting.help} (default {setting.default:g})",
        )  # fmt: skip
    group.add_argument(
        "--ssim", choices=("never", "best", "all"),
        help="candidates to compare with the query at full size: 'never', no candidates (no answer then has the grade "
        "excellent); 'best', only the candidates that can change the answer (default); 'all', every candidate that "
        "shows the same field",
    )  # fmt: skip
    group.add_argument(
        "--reach", choices=("frame", "views", "windows"),
        help="frames of the query to use if the whole image has no twin. The value 'frame' uses no other frames. The "
        "value 'views' also finds twins that are rotated, mirrored or inverted, or whose info bar was cut or added. "
        "The value 'windows' also finds twins that show only a part of the field (default: the reach of the store)",
    )  # fmt: skip


def chosen_policy(parsed: argparse.Namespace) -> Policy:
    """Return the policy that the options select. If an option is wrong, end the command with exit code 2."""
    from twinscope_service.matching.policy import SETTINGS, named_policy

    changes = {setting.name: getattr(parsed, setting.name) for setting in SETTINGS}
    parser: argparse.ArgumentParser = parsed.parser
    try:
        return named_policy(parsed.policy).adjusted({"reach": parsed.reach, "ssim": parsed.ssim, **changes})
    except ValueError as error:
        parser.error(str(error))


def warn_of_reach(parsed: argparse.Namespace, engine: Engine) -> None:
    """Warn if ``--reach`` is given and is larger than the reach that was used to index the store."""
    if parsed.reach is None:
        return
    from twinscope_indexer.hashing.reach import REACHES

    held = engine.stats()["index"]["reach"]
    if REACHES.index(parsed.reach) > REACHES.index(held):
        store = f"--store {parsed.at}" if "://" not in parsed.at else "--store DIR, on the machine of the server"
        say(
            f"warning: --reach {parsed.reach} has the same effect as --reach {held}, because the store was indexed "
            f"with --reach {held}. To change the store: twinscope index --reach {parsed.reach} SOURCE... {store}"
        )


def warn_of_limit(policy: Policy, engine: Engine) -> None:
    """Warn if no image can be labelled, because the limit of `p_wrong` is too low for the calibration."""
    calibration = engine.stats()["calibration"]
    least = calibration["least_p_wrong"]
    if policy.rule == "scene" and policy.max_p_wrong < least:
        say(
            f"warning: nothing will be labelled, and all matches go to review. The calibration ({calibration['name']}) "
            f"is based on {calibration['images']} images and cannot support a p_wrong below {least:.2g}, but "
            f"--max-p-wrong is {policy.max_p_wrong:g}. Run twinscope calibrate on a larger store, or use --max-p-wrong "
            f"{min(1.0, least * 1.01):.2g} and check the labels."
        )


def warn_of_emptiness(engine: Engine) -> None:
    """Warn if the store has no searchable image, because every answer will then say that the image has no twin."""
    if not engine.stats()["searchable"]:
        say("warning: the store has no searchable image, so no twin can be found. Is `twinscope index` still running?")

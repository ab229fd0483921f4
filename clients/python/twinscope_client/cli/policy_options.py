"""The options that choose a policy and adjust its thresholds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from twinscope_client.cli.console import say

if TYPE_CHECKING:
    from twinscope_service.matching.policy import Policy

    from twinscope_client.engine.protocol import Engine

_THRESHOLDS = (
    ("max_distance", int, "BITS", "look at references up to this Hamming distance (0 to 1024; default 300)"),
    ("far_distance", int, "BITS", "where none of those is a twin, at the few nearest up to here (default 430)"),
    ("excellent_ssim", float, "X", "full-size SSIM above which it is the same acquisition (default 0.95)"),
    ("good_scene", float, "X", "scene score from which it is the same field (default 0.5)"),
    ("lone_scene", float, "X", "the same where no other reference has a third of it, as under noise (default 0.35)"),
    (
        "ssim_margin",
        float,
        "X",
        "candidates of two categories with closer SSIMs are ambiguous (default 0.02)",
    ),
    ("scene_margin", float, "X", "the same for scene scores (default 0.1)"),
    (
        "max_p_wrong",
        float,
        "P",
        "matches more likely than this to be wrong go to review (default 1: no limit; see twinscope calibrate)",
    ),
)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--policy``, ``-k`` and the thresholds."""
    group = parser.add_argument_group("what counts as the same image (echoed in every answer)")
    group.add_argument(
        "--policy", choices=("default", "reference"), default="default",
        help="'reference' decides as the scripts that Twinscope replaces, for comparison",
    )  # fmt: skip
    group.add_argument("-k", type=int, metavar="N", help="candidates to look at (default 5)")
    for name, kind, metavar, text in _THRESHOLDS:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
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
    from twinscope_service.matching.policy import named_policy

    changes = {name: getattr(parsed, name) for name, *_ in _THRESHOLDS}
    parser: argparse.ArgumentParser = parsed.parser
    try:
        return named_policy(parsed.policy).adjusted(
            {"k": parsed.k, "reach": parsed.reach, "ssim": parsed.ssim, **changes}
        )
    except ValueError as error:
        parser.error(str(error))


def warn_of_reach(parsed: argparse.Namespace, engine: Engine) -> None:
    """Say so where ``--reach`` asks for more than the store was indexed for; only where it was given."""
    if parsed.reach is None:
        return
    from twinscope_indexer.hashing.frames import REACHES

    held = engine.stats()["index"]["reach"]
    if REACHES.index(parsed.reach) > REACHES.index(held):
        where = f"--store {parsed.at}" if "://" not in parsed.at else "--store DIR, where the server is"
        say(
            f"warning: --reach {parsed.reach} has no more effect than --reach {held}, as the store was indexed for no "
            f"more; to change that: twinscope index --reach {parsed.reach} SOURCE... {where}"
        )


def warn_of_emptiness(engine: Engine) -> None:
    """Say so where there is nothing to find, which a user would take for images without twins."""
    if not engine.stats()["searchable"]:
        say("warning: the store has no searchable image, so nothing can be found: is `twinscope index` still running?")

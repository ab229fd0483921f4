"""Demonstrate indexing and labelling on synthetic micrographs.

Creates a labelled collection and unlabelled TIFFs in DIR, and runs 'twinscope index' and 'twinscope label' on these
files. Then compares the labels with the true categories. Ends with exit code 1 if the label of a TIFF is wrong or
missing.

Example: twinscope demo --out demo-out
"""

from __future__ import annotations

import argparse
from pathlib import Path

from twinscope_client.cli.console import DONE, FAILED, say

HELP = "demonstrate indexing and labelling on synthetic micrographs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo-out"),
        metavar="DIR",
        help="output folder, which must be new or empty (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed of the synthetic micrographs (default: %(default)s)",
    )


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    return f"Stopped. The files in {parsed.out} are not complete; remove this folder before the next demonstration."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    from twinscope_client.cli.demo_walkthrough import perform

    right = perform(parsed.out, seed=parsed.seed, say=say)
    return DONE if right else FAILED

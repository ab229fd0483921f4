"""Show the whole job on synthetic micrographs.

Synthesises a labelled collection and a lab's unlabelled TIFFs in DIR, indexes the one, labels the other, and compares
the outcome with the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from twinscope_client.cli.console import DONE, FAILED, say

HELP = "show the whole job on synthetic micrographs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="a new folder (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed makes other micrographs")


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    from twinscope_client.cli.demo_walkthrough import perform

    right = perform(parsed.out, seed=parsed.seed, say=say)
    return DONE if right else FAILED

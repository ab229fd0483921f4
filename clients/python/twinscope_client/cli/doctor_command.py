"""Check that this installation works on this machine.

Prints the versions of all relevant packages and the features of the processor. Then compares results of Twinscope with
the results of other programs: hashes with the package imagehash, SSIM values with scikit-image, and index searches with
a NumPy scan. The first run also compiles functions to machine code. Later runs use this machine code again. Ends with
exit code 1 if a check fails.

Example: twinscope doctor
"""

from __future__ import annotations

import argparse
import json

from twinscope_client.cli.console import DONE, FAILED, emit

HELP = "check that this installation works on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument(
        "--warm",
        action="store_true",
        help="only compile all functions for this processor, so that later commands start at once; exit code 1 if the "
        "machine code cannot be kept. Use this option when you build a container or install Twinscope for others",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    from dataclasses import asdict

    from twinscope_client.doctor import checks, machine, versions, warm_up

    if parsed.warm:
        check = warm_up()
        emit(json.dumps(asdict(check)) if parsed.json else f"{check.name}: {check.detail}")
        return DONE if check.fine else FAILED
    found = list(checks())
    code = DONE if all(check.fine for check in found) else FAILED
    if parsed.json:
        emit(json.dumps({"versions": versions(), "machine": machine(), "checks": [asdict(check) for check in found]}))
        return code
    for name, value in (versions() | machine()).items():
        emit(f"{name:<14} {value}")
    for check in found:
        emit(f"{'ok    ' if check.fine else 'FAILED'} {check.name}: {check.detail}")
    return code

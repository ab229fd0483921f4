"""The outcome of a command for other programs: JSON lines, quiet output, and the exit code."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from twinscope_client.cli.console import DONE, FAILED, PARTLY, REVIEW, emit


def add_outcome_options(parser: argparse.ArgumentParser, reviewed: str = "") -> None:
    """Add ``--json``, ``--quiet`` and ``--fail-on``.

    Parameters
    ----------
    parser : ArgumentParser
    reviewed : str
        Description of the images that a person must review. If it is empty, the command has no such images.
    """
    group = parser.add_argument_group("pipelines")
    group.add_argument(
        "--json",
        action="store_true",
        help="print JSON Lines to stdout: one object for each input, also for inputs that could not be read, and then "
        "one object of the type summary",
    )
    group.add_argument(
        "--quiet",
        action="store_true",
        help="show no progress bar, and write only errors, warnings and files that could not be read to stderr",
    )
    meant = reviewed or "this command has no such images"
    group.add_argument(
        "--fail-on", choices=("unreadable", "review", "never"), default="unreadable",
        help="what leads to an exit code other than 0 if the command itself did not fail. 'unreadable' (default): exit "
        f"code 3 if some inputs could not be read, and 1 if none could be read. 'review': also exit code 4 if a person "
        f"must review some images ({meant}). 'never': exit code 0",
    )  # fmt: skip


def exit_code(parsed: argparse.Namespace, *, done: int, unreadable: int, review: int = 0) -> int:
    """Return the exit code of a command that did not fail.

    Parameters
    ----------
    parsed : Namespace
        The parsed arguments of a command that used `add_outcome_options`.
    done : int
        Number of inputs that were processed.
    unreadable : int
        Number of inputs that could not be read.
    review : int
        Number of images that a person must review.
    """
    if unreadable and parsed.fail_on != "never":
        return PARTLY if done else FAILED
    return REVIEW if review and parsed.fail_on == "review" else DONE


def needs_review(grade: str) -> bool:
    """Return whether a person must review an image, because its answer has this grade."""
    from twinscope_service.matching.grades import GRADES

    return any(info.name == grade and info.outcome == "for_review" for info in GRADES)


class JsonLines:
    """The JSON output of a command. Without ``--json``, nothing is written.

    Parameters
    ----------
    parsed : Namespace
        The parsed arguments of a command that used `add_outcome_options`.
    """

    def __init__(self, parsed: argparse.Namespace) -> None:
        self.wanted: bool = parsed.json
        self._command: str = parsed.command

    def image(self, path: str, **values: Any) -> None:
        """Write the object of one image."""
        self._write({"type": "image", "path": path, **values})

    def unreadable(self, path: str, fault: str, reason: str) -> None:
        """Write the object of an image that could not be read.

        Parameters
        ----------
        path : str
        fault : str
            Kind of the problem; see `twinscope_indexer.errors.ImageFault`.
        reason : str
            Description of the problem for people.
        """
        self.image(path, fault=fault, reason=reason)

    def folder(self, path: str, reason: str) -> None:
        """Write the object of a folder, an archive or a link that could not be opened."""
        self._write({"type": "folder", "path": path, "fault": "unreadable", "reason": reason})

    def summary(self, code: int, counts: Counter[str] | dict[str, int], **values: Any) -> None:
        """Write the last object: the exit code and the number of inputs for each result."""
        self._write({"type": "summary", "command": self._command, "exit_code": code, "counts": dict(counts), **values})

    def _write(self, values: dict[str, Any]) -> None:
        if self.wanted:
            emit(json.dumps(values))

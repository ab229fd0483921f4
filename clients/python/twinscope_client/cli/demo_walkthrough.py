"""The demonstration: run the real commands on synthetic micrographs, and compare the labels with the truth."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import INTERRUPTED, PARTLY
from twinscope_client.cli.main import main
from twinscope_client.demo.collection import DemoCollection, Truth, write_collection
from twinscope_client.labelling.journal import Decision, Journal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision about one TIFF of the demonstration, and the true category of this TIFF."""

    truth: Truth
    decision: Decision

    @property
    def right(self) -> bool:
        """Whether the decision is right: the label of the twin, or no label if the TIFF has no twin."""
        if not self.truth.category:
            return not self.decision.labelled
        twin = self.decision.match_source.endswith(self.truth.reference)
        return self.decision.labelled and self.decision.category == self.truth.category and twin


def perform(root: Path, *, seed: int = 0, say: Callable[[str], None]) -> bool:
    """Run the demonstration: create micrographs, index the collection, label the TIFFs, and check the labels.

    Parameters
    ----------
    root : Path
        Output folder, which must be new or empty.
    seed : int
        Random seed of the micrographs.
    say : callable
        Function that prints a line for the user.

    Returns
    -------
    bool
        True if every TIFF with a twin got the right label, and no TIFF without a twin got a label.

    Raises
    ------
    OutputError
        If the folder `root` cannot be used.
    """
    say(f"Creating a labelled collection and unlabelled TIFFs in {root} ...")
    made = write_collection(root, seed=seed)
    store, out = root / "lab.store", root / "labelled"
    indexed = _command("index", made.references, "--store", store, say=say)
    labelled = _command("label", made.queries, "--at", store, "--out", out, say=say)
    outcomes = _outcomes(made, out)
    _report(outcomes, out, say)
    # One TIFF of the demonstration is truncated on purpose, so the expected exit code of `label` is PARTLY.
    return indexed == 0 and labelled == PARTLY and all(outcome.right for outcome in outcomes)


def _command(*words: str | Path, say: Callable[[str], None]) -> int:
    arguments = [str(word) for word in words]
    say("")
    say(f"$ twinscope {shlex.join(arguments)}")
    code = main(arguments)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _outcomes(made: DemoCollection, out: Path) -> list[Outcome]:
    with made.truth.open(encoding="utf-8", newline="") as file:
        truths = [Truth(**row) for row in csv.DictReader(file)]
    root = made.truth.parent.absolute()
    journal = Journal(out, create=False)
    try:
        decisions = {decision.path: decision for decision in journal.decisions()}
    finally:
        journal.close()
    return [Outcome(truth, decisions[str(root / truth.query)]) for truth in truths]


def _report(outcomes: list[Outcome], out: Path, say: Callable[[str], None]) -> None:
    say("")
    say("Change of the TIFF             TIFFs  labelled  refused  wrong")
    for change in dict.fromkeys(outcome.truth.change for outcome in outcomes):
        of_kind = [outcome for outcome in outcomes if outcome.truth.change == change]
        count = Counter(outcome.decision.labelled for outcome in of_kind)
        wrong = sum(not outcome.right for outcome in of_kind)
        say(f"{change:<30} {len(of_kind):5d} {count[True]:9d} {count[False]:8d} {wrong:6d}")
    say("")
    say("Refused, with the reason:")
    for outcome in outcomes:
        if not outcome.decision.labelled:
            say(f"  {Path(outcome.truth.query).name} ({outcome.truth.change}): {outcome.decision.reason}")
    say("")
    say(f"Open {out / 'report.html'} for the results. The labelled copies are in {out}, one folder for each category.")

"""Copies: write the labelled copies of a run, with their JPEGs and sidecars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from twinscope_indexer.errors import ImageError
from twinscope_indexer.metadata.reader import read_metadata

from twinscope_client.conversion import encode_jpeg
from twinscope_client.errors import OutputError
from twinscope_client.labelling.decision import Decision
from twinscope_client.labelling.sidecar import write_sidecar
from twinscope_client.labelling.tables import origin
from twinscope_client.outputs import put_bytes, put_source

if TYPE_CHECKING:
    from twinscope_client.labelling.settings import LabelSettings


class Put(NamedTuple):
    """A decision, and the result of writing its output files.

    The result is empty if there are no files to write. The result is ``shared`` if the copy belongs to another page of
    the same stack, so that each copy is counted only once.
    """

    decision: Decision
    outcome: Literal["", "written", "kept", "failed", "shared"]


class Copies:
    """Writer of the output files of decisions. Several threads can use one writer.

    Parameters
    ----------
    out : Path
        The output folder.
    settings : LabelSettings
    """

    def __init__(self, out: Path, settings: LabelSettings) -> None:
        self._out = out
        self._settings = settings

    def put(self, pages: list[Decision]) -> list[Put]:
        """Write the output files of one file. The pages of a stack share one copy, which the first of them writes."""
        outcomes: list[Put] = []
        lead: Put | None = None
        for decision in pages:
            if self._settings.dry_run or not decision.output:
                outcomes.append(Put(decision, ""))
            elif lead is None:
                lead = self._put_copy(decision, [page for page in pages if page.output])
                outcomes.append(lead)
            else:
                outcomes.append(self._put_page(decision, lead))
        return outcomes

    def _put_copy(self, decision: Decision, labelled: list[Decision]) -> Put:
        """Write the copy of a file. `labelled` are the decisions about the pages that share the copy."""
        if decision.written:
            return Put(decision, "kept")
        source = Path(decision.path)
        try:
            written = put_source(source, decision.sha256, self._out / decision.output, self._settings.link)
            written |= self._put_jpeg(decision)
            if decision.sidecar:
                written |= write_sidecar(self._out / decision.output, origin(labelled), read_metadata(source))
        except FileExistsError:
            return _taken(decision)
        except (OutputError, ImageError) as error:
            return Put(replace(decision, problem=str(error)), "failed")
        return Put(replace(decision, written=True), "written" if written else "kept")

    def _put_page(self, decision: Decision, lead: Put) -> Put:
        """Write the JPEG of a page whose copy was written for another page of the same stack."""
        if lead.outcome == "failed":
            shared = replace(decision, output=lead.decision.output, problem=lead.decision.problem, written=False)
            return Put(shared, "shared")
        try:
            if not decision.written:
                self._put_jpeg(decision)
        except FileExistsError:
            return _taken(decision)
        except (OutputError, ImageError) as error:
            return Put(replace(decision, problem=str(error)), "failed")
        return Put(replace(decision, written=True), "shared")

    def _put_jpeg(self, decision: Decision) -> bool:
        if not decision.jpeg_output:
            return False
        return put_bytes(encode_jpeg(decision.path, page=decision.page), self._out / decision.jpeg_output)


def _taken(decision: Decision) -> Put:
    """Return the result for a decision whose output file has the name of another file."""
    names = " or ".join(filter(None, (decision.output, decision.jpeg_output)))
    problem = (
        f"another file has the name {names}; nothing was overwritten. Run the same command again: the copy then gets a "
        "numbered name"
    )
    return Put(replace(decision, output="", jpeg_output="", problem=problem), "failed")

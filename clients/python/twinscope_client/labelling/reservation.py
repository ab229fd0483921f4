"""Reservation of names: each output file gets a name that is not used by another image or another file."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from twinscope_indexer.errors import ImageError
from twinscope_service.matching.grades import GRADE_NAMES, LABELLED

from twinscope_client.conversion import encode_jpeg
from twinscope_client.labelling.folders import CategoryFolders
from twinscope_client.labelling.journal import Decision
from twinscope_client.labelling.naming import copy_name, jpeg_name
from twinscope_client.labelling.sidecar import sidecar_path
from twinscope_client.outputs import is_free, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twinscope_client.labelling.journal import Journal
    from twinscope_client.labelling.settings import LabelSettings


_PAGES_LISTED: Final = 5
"""Maximum number of pages that the description of a conflict names for each label."""


class Decided(NamedTuple):
    """A decision, and the decision of an earlier run about the same image, if there is one."""

    decision: Decision
    known: Decision | None


class Reservations:
    """The names of all output files. A name from an earlier run is kept if the name still fits the decision.

    Parameters
    ----------
    journal : Journal
        The journal, which contains the reserved names.
    out : Path
        The output folder.
    settings : LabelSettings
    """

    def __init__(self, journal: Journal, out: Path, settings: LabelSettings) -> None:
        self._journal = journal
        self._out = out
        self._settings = settings
        self._folders = CategoryFolders(journal)

    def reserved(self, pages: Sequence[Decided], gone: Sequence[Decision] = ()) -> list[Decision]:
        """Return the decisions about one file with the names of the output files.

        If these files exist already, `written` is True. If nothing has changed, the decision of the earlier run is
        returned. The pages of a stack share one copy. If their labels differ, the stack gets no copy.

        Parameters
        ----------
        pages : sequence of Decided
            The decisions about all pages of a stack. If the file is one image, there is one decision.
        gone : sequence of Decision
            Decisions of an earlier run about pages that the file no longer has.
        """
        decisions = [one.decision for one in pages]
        wanted = [self._wanted(decision) for decision in decisions]
        conflict = stack_conflict(decisions, [path is not None for path in wanted])
        output = "" if conflict else self._shared_name(wanted, pages, gone)
        settled = [
            self._settled(one, path, output if path is not None else "", conflict if path is not None else "")
            for one, path in zip(pages, wanted, strict=True)
        ]
        earlier = [*(one.known for one in pages if one.known is not None), *gone]
        outdated = self._outdated(earlier, output, {decision.jpeg_output for decision in settled})
        settled[0] = replace(settled[0], earlier_output="\n".join(outdated))
        return [self._compared(decision, one.known) for decision, one in zip(settled, pages, strict=True)]

    def _settled(self, decided: Decided, wanted: Path | None, output: str, conflict: str) -> Decision:
        """Return a decision with the names of its output files, as if no output file existed."""
        decision, known = decided
        jpeg = self._jpeg_named(wanted, decision, known) if wanted and output and self._settings.jpeg else ""
        return replace(
            decision,
            output=output,
            jpeg_output=jpeg,
            sidecar=bool(output) and self._settings.sidecar,
            earlier_output="",
            written=False,
            problem="",
            stack_conflict=conflict,
        )

    def _compared(self, settled: Decision, known: Decision | None) -> Decision:
        """Return the decision of the earlier run if nothing has changed, otherwise the new decision."""
        if known is None:
            return settled
        if known.written and settled.output and self._outputs_exist(known, settled):
            settled = replace(settled, written=True)
        return known if replace(settled, decided_at=known.decided_at) == known else settled

    def _outputs_exist(self, known: Decision, settled: Decision) -> bool:
        """Check whether the output files of an earlier run still exist. Their content is not checked again."""
        if (known.sha256, known.output, known.jpeg_output) != (settled.sha256, settled.output, settled.jpeg_output):
            return False
        same_sidecar = known.sidecar and known.decided_by == settled.decided_by
        if settled.sidecar and not (same_sidecar and sidecar_path(self._out / settled.output).is_file()):
            return False
        try:
            size = (self._out / settled.output).stat().st_size
            return size == settled.size and (not settled.jpeg_output or (self._out / settled.jpeg_output).is_file())
        except OSError:
            return False

    def _outdated(self, earlier: Sequence[Decision], output: str, jpegs: set[str]) -> list[str]:
        """Return existing copies of a file, written by earlier runs, whose label or content is outdated."""
        paths: dict[str, None] = {}
        for known in earlier:
            paths |= dict.fromkeys(known.earlier_output.split("\n"))
            if output != known.output or any(jpegs):
                paths |= dict.fromkeys((known.output, known.jpeg_output))
        current = {"", output, *jpegs}
        return [path for path in paths if path not in current and os.path.lexists(self._out / path)]

    def _wanted(self, decision: Decision) -> Path | None:
        """Return the preferred path of the labelled copy in the output folder; None if the image gets no label."""
        if decision.grade not in LABELLED:
            return None
        if GRADE_NAMES.index(decision.grade) > GRADE_NAMES.index(self._settings.min_grade):
            return None
        return Path(self._folders.of(decision.category)) / copy_name(self._settings.template, decision)

    def _shared_name(self, wanted: Sequence[Path | None], pages: Sequence[Decided], gone: Sequence[Decision]) -> str:
        """Return the name of the copy that all pages share: the name for the first page that has a label."""
        for path, one in zip(wanted, pages, strict=True):
            if path is not None:
                earlier = (known for known in (one.known, *(page.known for page in pages), *gone) if known is not None)
                return self._named(path, one.decision, next((known for known in earlier if known.output), None))
        return ""

    def _named(self, wanted: Path, decision: Decision, known: Decision | None) -> str:
        """Return the name of the copy from an earlier run if this name still fits, otherwise the first free name."""
        if known is not None and known.output and _is_numbered(Path(known.output), wanted):
            same_content = known.sha256 == decision.sha256
            if same_content or is_free(self._out / known.output, decision.sha256):
                return known.output
        return self._free_name(wanted, decision, lambda: decision.sha256)

    def _jpeg_named(self, wanted: Path, decision: Decision, known: Decision | None) -> str:
        name = wanted.with_name(jpeg_name(decision))
        earlier = known.jpeg_output if known is not None and known.sha256 == decision.sha256 else ""
        if earlier and _is_numbered(Path(earlier), name):
            return earlier
        return self._free_name(name, decision, lambda: _jpeg_digest(decision))

    def _free_name(self, wanted: Path, decision: Decision, digest: Callable[[], str]) -> str:
        """Return the first name that is not reserved for another image and not used by a file with other content."""
        for candidate in numbered(wanted):
            if self._journal.owner(candidate.as_posix()) not in {None, decision.path}:
                continue
            target = self._out / candidate
            if not os.path.lexists(target) or is_free(target, digest()):
                return candidate.as_posix()
        raise RuntimeError(wanted)  # numbered() never ends


def stack_conflict(decisions: Sequence[Decision], labelled: Sequence[bool]) -> str:
    """Return the labels of the pages of a stack, if they differ or if a page has no label; otherwise an empty text.

    A page with too little structure cannot be recognised, and does not count. If no page has a label, there is no
    conflict.

    Parameters
    ----------
    decisions : sequence of Decision
        The decisions about all pages, in ascending order.
    labelled : sequence of bool
        Whether the grade of each page is high enough for a label.
    """
    found: dict[str, list[int]] = {}
    for decision, has_label in zip(decisions, labelled, strict=True):
        if decision.grade != "unhashable":
            found.setdefault(decision.category if has_label else "", []).append(decision.page)
    if len(found) < 2:
        return ""
    named = sorted((numbers, label) for label, numbers in found.items())
    return "; ".join(f"{_listed(numbers)}: {label or 'no label'}" for numbers, label in named)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_PAGES_LISTED]))
    more = f" and {len(numbers) - _PAGES_LISTED} more" if len(numbers) > _PAGES_LISTED else ""
    return f"page{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _jpeg_digest(decision: Decision) -> str:
    """Return the SHA-256 of the JPEG that would be written for an image, for comparison with an existing file."""
    try:
        return sha256(encode_jpeg(decision.path, page=decision.page)).hexdigest()
    except ImageError:
        return ""  # no file has an empty digest; the error is reported when the JPEG is written


def _is_numbered(path: Path, wanted: Path) -> bool:
    """Check whether a path is equal to `wanted`, or differs only by a number before the suffix."""
    if path.parent != wanted.parent or path.suffix != wanted.suffix:
        return False
    rest = path.stem.removeprefix(wanted.stem)
    return path.stem.startswith(wanted.stem) and (not rest or (rest[0] == "_" and rest[1:].isdecimal()))

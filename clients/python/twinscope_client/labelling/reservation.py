"""Reservation of names: each output file gets a name that is not used by another image or another file."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.errors import ImageError
from twinscope_service.matching.grades import GRADE_NAMES, LABELLED

from twinscope_client.conversion import encode_jpeg
from twinscope_client.labelling.folders import CategoryFolders
from twinscope_client.labelling.naming import copy_name, jpeg_name
from twinscope_client.labelling.sidecar import sidecar_path
from twinscope_client.outputs import is_free, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from twinscope_client.labelling.journal import Decision, Journal
    from twinscope_client.labelling.settings import LabelSettings


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

    def reserved(self, decision: Decision, known: Decision | None) -> Decision:
        """Return a decision with the names of its output files. If these files exist already, `written` is True.

        Parameters
        ----------
        decision : Decision
        known : Decision or None
            The decision of an earlier run about the same image. If nothing has changed, this decision is returned.
        """
        wanted = self._wanted(decision)
        output = self._named(wanted, decision, known) if wanted else ""
        jpeg = self._jpeg_named(wanted, decision, known) if wanted and self._settings.jpeg else ""
        outdated = "\n".join(self._outdated(known, output, jpeg)) if known is not None else ""
        sidecar = bool(output) and self._settings.sidecar
        settled = replace(
            decision,
            output=output,
            jpeg_output=jpeg,
            sidecar=sidecar,
            earlier_output=outdated,
            written=False,
            problem="",
        )
        if known is None:
            return settled
        if known.written and output and self._outputs_exist(known, settled):
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

    def _outdated(self, known: Decision, output: str, jpeg: str) -> list[str]:
        """Return existing copies of an image, written by earlier runs, whose label or content is outdated."""
        earlier = known.earlier_output.split("\n")
        if output != known.output or jpeg:
            earlier += [known.output, known.jpeg_output]
        return [path for path in earlier if path not in {"", output, jpeg} and os.path.lexists(self._out / path)]

    def _wanted(self, decision: Decision) -> Path | None:
        """Return the preferred path of the labelled copy in the output folder; None if the image gets no label."""
        if decision.grade not in LABELLED:
            return None
        if GRADE_NAMES.index(decision.grade) > GRADE_NAMES.index(self._settings.min_grade):
            return None
        return Path(self._folders.of(decision.category)) / copy_name(self._settings.template, decision)

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


def _jpeg_digest(decision: Decision) -> str:
    """Return the SHA-256 of the JPEG that would be written for an image, for comparison with an existing file."""
    try:
        return sha256(encode_jpeg(decision.path)).hexdigest()
    except ImageError:
        return ""  # no file has an empty digest; the error is reported when the JPEG is written


def _is_numbered(path: Path, wanted: Path) -> bool:
    """Check whether a path is equal to `wanted`, or differs only by a number before the suffix."""
    if path.parent != wanted.parent or path.suffix != wanted.suffix:
        return False
    rest = path.stem.removeprefix(wanted.stem)
    return path.stem.startswith(wanted.stem) and (not rest or (rest[0] == "_" and rest[1:].isdecimal()))

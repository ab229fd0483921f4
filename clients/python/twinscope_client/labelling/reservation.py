"""Reservations: names for the outputs of each decision that no other image and no other file has."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.errors import ImageError
from twinscope_service.matching.grades import GRADE_NAMES, LABELLED

from twinscope_client.conversion import encode_jpeg
from twinscope_client.labelling.sidecar import sidecar_path
from twinscope_client.outputs import category_folder, fitting_name, is_free, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from twinscope_client.labelling.journal import Decision, Journal
    from twinscope_client.labelling.settings import LabelSettings


class Reservations:
    """Names for outputs; a name from an earlier run is kept as long as it fits.

    Parameters
    ----------
    journal : Journal
        The journal, which holds the reserved names.
    out : Path
        The output folder.
    settings : LabelSettings
    """

    def __init__(self, journal: Journal, out: Path, settings: LabelSettings) -> None:
        self._journal = journal
        self._out = out
        self._settings = settings

    def reserved(self, decision: Decision, known: Decision | None) -> Decision:
        """Return a decision with the names of its outputs, and whether they already exist.

        Parameters
        ----------
        decision : Decision
        known : Decision or None
            The decision of an earlier run about the same image; returned if nothing is new.
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
        """Check whether the outputs of an earlier run still exist; that run has checked their content."""
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
        """Return the copies of an image from earlier runs that still exist but no longer hold."""
        earlier = known.earlier_output.split("\n")
        if output != known.output or jpeg:
            earlier += [known.output, known.jpeg_output]
        return [path for path in earlier if path not in {"", output, jpeg} and os.path.lexists(self._out / path)]

    def _wanted(self, decision: Decision) -> Path | None:
        """Return the labelled name of an image, relative to the output folder; None if it gets no label."""
        if decision.grade not in LABELLED:
            return None
        if GRADE_NAMES.index(decision.grade) > GRADE_NAMES.index(self._settings.min_grade):
            return None
        source = Path(decision.path)
        name = self._settings.template.format(
            code=decision.code,
            category=decision.category,
            stem=source.stem,
            suffix=source.suffix,
            hash=_short_hash(decision),
            grade=decision.grade,
        )
        return Path(category_folder(decision.category)) / fitting_name(name)

    def _named(self, wanted: Path, decision: Decision, known: Decision | None) -> str:
        """Return the name of the copy: the name from an earlier run if it still fits, else the first free one."""
        if known is not None and known.output and _is_numbered(Path(known.output), wanted):
            same_content = known.sha256 == decision.sha256
            if same_content or is_free(self._out / known.output, decision.sha256):
                return known.output
        return self._free_name(wanted, decision, lambda: decision.sha256)

    def _jpeg_named(self, wanted: Path, decision: Decision, known: Decision | None) -> str:
        name = wanted.with_name(fitting_name(f"{decision.code}_{_short_hash(decision)}.jpg"))
        earlier = known.jpeg_output if known is not None and known.sha256 == decision.sha256 else ""
        if earlier and _is_numbered(Path(earlier), name):
            return earlier
        return self._free_name(name, decision, lambda: _jpeg_digest(decision))

    def _free_name(self, wanted: Path, decision: Decision, digest: Callable[[], str]) -> str:
        """Return the first name that is reserved for no other image and used by no file with other content."""
        for candidate in numbered(wanted):
            if self._journal.owner(str(candidate)) not in {None, decision.path}:
                continue
            target = self._out / candidate
            if not os.path.lexists(target) or is_free(target, digest()):
                return str(candidate)
        raise RuntimeError(wanted)  # numbered() never ends


def _short_hash(decision: Decision) -> str:
    """Return 32 digits: a 1024-bit hash in hexadecimal does not fit in a file name."""
    return blake2b(bytes.fromhex(decision.query_hash), digest_size=16).hexdigest()


def _jpeg_digest(decision: Decision) -> str:
    """Return the SHA-256 of the JPEG of an image, to compare it with an existing file."""
    try:
        return sha256(encode_jpeg(decision.path)).hexdigest()
    except ImageError:
        return ""  # equal to no digest; writing the JPEG reports the error


def _is_numbered(path: Path, wanted: Path) -> bool:
    """Check whether a path is `wanted`, or `wanted` with a number before its suffix."""
    if path.parent != wanted.parent or path.suffix != wanted.suffix:
        return False
    rest = path.stem.removeprefix(wanted.stem)
    return path.stem.startswith(wanted.stem) and (not rest or (rest[0] == "_" and rest[1:].isdecimal()))

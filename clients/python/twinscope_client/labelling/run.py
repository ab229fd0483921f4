"""Labelling: decide about every query image, then put labelled copies in place; resumable at any moment."""

from __future__ import annotations

import json
import os
import string
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError
from twinscope_indexer.files import remove_parts
from twinscope_indexer.metadata.reader import read_metadata
from twinscope_indexer.sources.corpus import Item, Scope, Walk, scope_of, walk
from twinscope_service.errors import OptionError
from twinscope_service.matching.policy import Policy, named_policy

from twinscope_client.conversion import encode_jpeg
from twinscope_client.errors import OutputError
from twinscope_client.labelling.decide import Case, Decider
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.sidecar import sidecar_path, write_sidecar
from twinscope_client.labelling.tables import provenance
from twinscope_client.outputs import (
    LinkMode,
    category_folder,
    fitting_name,
    is_free,
    numbered,
    place_bytes,
    place_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twinscope_client.engine.protocol import Engine

Placed = Literal["", "written", "kept", "failed"]
MinGrade = Literal["excellent", "good"]
DEFAULT_TEMPLATE = "{code}_{stem}{suffix}"
_FIELDS = frozenset({"code", "category", "stem", "suffix", "hash", "grade"})
_ROWS_PER_SAVE = 100


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """What a labelling run is asked to do.

    Raises
    ------
    OptionError
        If the template is not well formed, or names an unknown field.
    """

    min_grade: MinGrade = "good"
    """``excellent`` writes labels only where the acquisition itself was found."""
    template: str = DEFAULT_TEMPLATE
    """File name of a labelled copy; fields: code, category, stem, suffix, hash, grade."""
    jpeg: bool = False
    """Also write a quality-100 JPEG named ``{code}_{hash}.jpg``."""
    sidecar: bool = False
    """Also write a JSON file beside each labelled copy: where the label came from, and what the instrument wrote."""
    link: LinkMode = "copy"
    """Copy the TIFF, or link to it."""
    dry_run: bool = False
    """Decide and reserve names, but put nothing in place."""
    policy: Policy = field(default_factory=lambda: named_policy("default"))
    workers: int = os.cpu_count() or 1
    """Threads. After a few seconds up to 16 of them get a process each, as far as memory allows; see `deciding`."""

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
            self.template.format(**dict.fromkeys(_FIELDS | fields, "x"))
        except (ValueError, LookupError, AttributeError) as error:
            msg = f"the name template {self.template!r} is not well formed: {error}"
            raise OptionError(msg) from error
        if not fields <= _FIELDS or not fields & {"stem", "hash"}:
            msg = (
                f"the name template {self.template!r} may use {', '.join(sorted(_FIELDS))} in braces, "
                "and must use {stem} or {hash}"
            )
            raise OptionError(msg)


@dataclass(slots=True)
class LabelReport:
    """What a labelling run did."""

    counts: Counter[str] = field(default_factory=Counter)
    """Images by grade (``failed`` included), and ``written``, ``kept`` (in place already), ``unwritten``, ``reused``
    (the decision of an earlier run stood)."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were left out as outputs of other labelling runs (`corpus.is_run`)."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    problems: list[str] = field(default_factory=list)
    """Copies that could not be written."""


class Progress(Protocol):
    """Is told about every image that is done."""

    def __call__(self, decision: Decision, /) -> None:
        """Take the decision about one image."""


def label(
    sources: Sequence[str | os.PathLike[str]],
    engine: Engine,
    journal: Journal,
    out: Path,
    settings: LabelSettings,
    progress: Progress = lambda _: None,
) -> LabelReport:
    """Label images: find the twin of each, and put a copy under the twin's category (`placement.category_folder`).

    Sources are only read. A decision that the journal holds for the same file, store and policy stands; an output
    that is in place stays as it is: run twice, nothing changes. A file is the same if its path, size and time of last
    change are; one that was changed with both kept is looked at again once its time is new (``touch``).

    Parameters
    ----------
    sources : sequence of path
        Images, or folders of them (walked recursively; the output folder itself and the outputs of other runs are left
        out).
    engine : Engine
        Where the labels come from.
    journal : Journal
        Of the run.
    out : Path
        The output folder.
    settings : LabelSettings
    progress : Progress, optional

    Returns
    -------
    LabelReport

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If a source lies within the output folder.
    """
    scopes = scopes_apart(sources, out)
    if not settings.dry_run and out.is_dir():
        for folder in (out, *(path for path in out.iterdir() if path.is_dir())):
            remove_parts(folder)
    met = Walk()
    with Decider(engine, settings.workers) as decider, journal.batch():
        run = _Run(engine, decider, journal, out, settings)
        decided = in_order(run.decide, run.with_known(_queries(scopes, out, met)), settings.workers)
        settled = (run.settle(known, decision) for known, decision in decided)
        for decision, outcome in in_order(run.place, settled, settings.workers):
            run.note(decision, outcome)
            progress(decision)
        journal.finish()
    run.report.unreadable = met.unreadable
    run.report.ignored = met.ignored
    run.report.runs = met.runs
    return run.report


def count_queries(sources: Sequence[str | os.PathLike[str]], out: Path) -> int:
    """Count the images that `label` would look at.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    return sum(1 for _ in _queries([scope_of(source) for source in sources], out, Walk()))


def scopes_apart(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Scope]:
    """Find the sources, and see that none lies within the output folder; nothing is made or written.

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If a source lies within the output folder.
    """
    output = out.resolve()
    scopes = [scope_of(source) for source in sources]
    for scope in scopes:
        place = (scope.root / scope.prefix).resolve()
        if place == output or output in place.parents:
            msg = f"{place} lies within the output folder {out}; give an output folder apart from the images"
            raise OutputError(msg)
    return scopes


def _queries(scopes: list[Scope], out: Path, met: Walk) -> Iterator[Item]:
    output = out.resolve()
    given: set[Path] = set()
    for scope in scopes:
        for item in walk(
            scope,
            met,
            archives=False,
            leave_out=lambda folder: folder.resolve().is_relative_to(output) or met.leave_out_run(folder),
        ):
            if item.file not in given:
                yield item
            if len(scopes) > 1:
                given.add(item.file)


class _Run:
    """One run: decisions are made in threads, and settled in the order of the sources, so that names are too."""

    def __init__(self, engine: Engine, decider: Decider, journal: Journal, out: Path, settings: LabelSettings) -> None:
        self.report = LabelReport()
        self._decider = decider
        self._journal = journal
        self._out = out
        self._settings = settings
        self._decided_by = json.dumps([engine.identity, asdict(settings.policy)], sort_keys=True)
        self._unsaved = 0

    def with_known(self, items: Iterable[Item]) -> Iterator[tuple[Item, Decision | None]]:
        """Give every item with what the journal knows of it."""
        return ((item, self._journal.find(str(item.file))) for item in items)

    def decide(self, piece: tuple[Item, Decision | None]) -> tuple[Decision | None, Decision]:
        """Give the earlier decision and the one that holds now; runs in threads."""
        item, known = piece
        if known is not None and self._stands(known, item):
            return known, known
        return known, self._decider(Case(item, self._settings.policy, self._decided_by))

    def _stands(self, known: Decision, item: Item) -> bool:
        """Tell whether an earlier decision still holds; what could not be read or compared is tried again.

        A file that was changed with its size and time kept is taken for the same: to tell, all would have to be read.
        """
        same_file = (known.size, known.mtime_ns) == (item.size, item.mtime_ns)
        compared = known.ssim is not None or known.grade in {"none", "unhashable"}
        return same_file and known.decided_by == self._decided_by and compared

    def settle(self, known: Decision | None, decision: Decision) -> Decision:
        """Reserve the names of the outputs of one decision, in the order of the sources."""
        settled = self._reserved(decision, known)
        if known is not None and known.written and settled.output and self._in_place(known, settled):
            settled = replace(settled, written=True)
        if known is not None and replace(settled, decided_at=known.decided_at) == known:
            settled = known  # decided anew, but nothing is new
        self._put(settled)
        self.report.counts["reused"] += decision is known
        return settled

    def _in_place(self, known: Decision, settled: Decision) -> bool:
        """Tell whether the outputs of an earlier run are there still; their content was checked when it made them."""
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

    def _reserved(self, decision: Decision, known: Decision | None) -> Decision:
        wanted = self._wanted(decision)
        output = self._named(wanted, decision, known) if wanted else ""
        jpeg = self._jpeg_named(wanted, decision, known) if wanted and self._settings.jpeg else ""
        left = "\n".join(self._left(known, output, jpeg)) if known is not None else ""
        sidecar = bool(output) and self._settings.sidecar
        settled = replace(decision, output=output, jpeg_output=jpeg, sidecar=sidecar, earlier_output=left)
        return replace(settled, written=False, problem="")

    def _left(self, known: Decision, output: str, jpeg: str) -> list[str]:
        """Give the copies that earlier runs made of an image, and that are still there but no longer hold."""
        before = known.earlier_output.split("\n")
        if output != known.output or jpeg:
            before += [known.output, known.jpeg_output]
        return [path for path in before if path not in {"", output, jpeg} and os.path.lexists(self._out / path)]

    def _wanted(self, decision: Decision) -> Path | None:
        """Give the labelled name of an image below the output folder; None if it gets no label."""
        if decision.grade not in {"excellent", "good"}:
            return None
        if self._settings.min_grade == "excellent" and decision.grade != "excellent":
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
        """Give the name of the copy: that of an earlier run if it still fits, else the first that is free."""
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
        """Give the first name that is reserved for no other image, and that no file of other content has."""
        for candidate in numbered(wanted):
            if self._journal.owner(str(candidate)) not in {None, decision.path}:
                continue
            target = self._out / candidate
            if not os.path.lexists(target) or is_free(target, digest()):
                return str(candidate)
        raise RuntimeError(wanted)  # numbered() never ends

    def place(self, decision: Decision) -> tuple[Decision, Placed]:
        """Put the outputs of one decision in place, and tell what had to be done; runs in threads."""
        if self._settings.dry_run or not decision.output:
            return decision, ""
        if decision.written:
            return decision, "kept"
        source = Path(decision.path)
        try:
            made = place_source(source, decision.sha256, self._out / decision.output, self._settings.link)
            if decision.jpeg_output:
                made |= place_bytes(encode_jpeg(source), self._out / decision.jpeg_output)
            if decision.sidecar:
                made |= write_sidecar(self._out / decision.output, provenance(decision), read_metadata(source))
        except FileExistsError:
            names = " or ".join(filter(None, (decision.output, decision.jpeg_output)))
            problem = f"{names} is another file; nothing was overwritten, run again for a numbered name"
            return replace(decision, output="", jpeg_output="", problem=problem), "failed"
        except (OutputError, ImageError) as error:
            return replace(decision, problem=str(error)), "failed"
        return replace(decision, written=True), "written" if made else "kept"

    def note(self, decision: Decision, placed: Placed) -> None:
        """Remember what became of the outputs of one decision."""
        self.report.counts[decision.grade] += 1
        if placed:
            self.report.counts["unwritten" if placed == "failed" else placed] += 1
            self._put(decision)
        if placed == "failed":
            self.report.problems.append(f"{decision.path}: {decision.problem}")

    def _put(self, decision: Decision) -> None:
        self._journal.put(decision)
        self._unsaved += 1
        if self._unsaved >= _ROWS_PER_SAVE:
            self._journal.save()
            self._unsaved = 0


def _short_hash(decision: Decision) -> str:
    """Give 32 digits: a 1024-bit hash in hexadecimal does not fit in a file name."""
    return blake2b(bytes.fromhex(decision.query_hash), digest_size=16).hexdigest()


def _jpeg_digest(decision: Decision) -> str:
    """Give the SHA-256 of the JPEG of an image, to tell whether a file that is there already is this one."""
    try:
        return sha256(encode_jpeg(decision.path)).hexdigest()
    except ImageError:
        return ""  # equal to no file's; writing the JPEG will say what is wrong


def _is_numbered(path: Path, wanted: Path) -> bool:
    """Tell whether a path is `wanted`, or `wanted` with a number before its suffix."""
    if path.parent != wanted.parent or path.suffix != wanted.suffix:
        return False
    rest = path.stem.removeprefix(wanted.stem)
    return path.stem.startswith(wanted.stem) and (not rest or (rest[0] == "_" and rest[1:].isdecimal()))

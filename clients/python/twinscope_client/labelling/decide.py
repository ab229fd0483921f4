"""Deciding: from one image file to what is decided about it, by the engine of a run or by one in another process.

Much of what a decision takes is Python's own, for which threads wait for each other. An embedded store can be opened
once more by each of some processes (`workerprocess`), as far as memory allows.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from twinscope_indexer.compute.processes import ProcessLostError, WorkerProcesses
from twinscope_indexer.errors import ImageError, TwinscopeError
from twinscope_indexer.files import utc_now
from twinscope_indexer.metadata.reader import read_metadata, read_sidecar
from twinscope_indexer.sources.corpus import Item
from twinscope_service.matching.answer import Transform
from twinscope_service.matching.policy import Policy

from twinscope_client.engine.embedded import EmbeddedEngine
from twinscope_client.labelling.journal import Decision

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from twinscope_service.matching.answer import Answer

    from twinscope_client.engine.protocol import Engine

_AS_IT_IS: Final = Transform("", "whole", "whole")
_MEMORY: Final = 2 << 30
"""Bytes of codes that all processes together may hold."""
_PIXELS: Final = 64 << 20
"""Bytes of full-size pixels of references that each of them keeps."""


@dataclass(frozen=True, slots=True)
class Case:
    """An image, and what it is decided by.

    Attributes
    ----------
    item : Item
    policy : Policy
    decided_by : str
        See `Decision`.
    """

    item: Item
    policy: Policy
    decided_by: str

    def decision(self, digest: str, grade: str, reason: str) -> Decision:
        """Give a decision without a candidate."""
        item = self.item
        return Decision(
            str(item.file), item.size, item.mtime_ns, digest, self.decided_by, utc_now(), grade, reason,
            policy=self.policy.name,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Errand:
    """A case for another process, with the store, and the state of it, that is asked."""

    store: Path
    identity: str
    case: Case


class Decider:
    """Decides by an engine; safe to use from several threads.

    Parameters
    ----------
    engine : Engine
    workers : int
        Threads that will ask.
    """

    def __init__(self, engine: Engine, workers: int) -> None:
        self._engine = engine
        self._store = engine.folder.absolute() if isinstance(engine, EmbeddedEngine) else None
        self._identity = engine.identity
        self._processes = WorkerProcesses(min(workers, _affordable(engine)))

    def __call__(self, case: Case) -> Decision:
        """Decide about one image.

        Raises
        ------
        TwinscopeError
            For what is wrong with the store or the server; never for what is wrong with the image.
        """
        if self._store is None:
            return decide(self._engine, case)
        errand = _Errand(self._store, self._identity, case)
        try:
            found = self._processes.apply(_decide_apart, errand, self._decide_here)
        except ProcessLostError as error:
            return case.decision("", "failed", f"the process that read it was lost: {error}")
        return decide(self._engine, case) if found is None else found

    def _decide_here(self, errand: _Errand) -> Decision | None:
        return decide(self._engine, errand.case)

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._processes.close()


def decide(engine: Engine, case: Case) -> Decision:
    """Read and search one image.

    Parameters
    ----------
    engine : Engine
    case : Case

    Returns
    -------
    Decision
        ``failed`` where something is wrong with the image.

    Raises
    ------
    TwinscopeError
        For what is wrong with the store or the server.
    """
    digest, item = "", case.item
    try:
        data = item.read()
        digest = sha256(data).hexdigest()
        wrote = read_metadata(data, name=item.uri, sidecar=read_sidecar(item.file))
        answer = engine.search(data, policy=case.policy, instrument=wrote)
    except ImageError as error:
        return case.decision(digest, "failed", error.detail)
    except MemoryError:
        return case.decision(digest, "failed", "not enough memory to decode it")
    except TwinscopeError:  # the store or the server, not the image
        raise
    except Exception as error:  # noqa: BLE001  whatever one file does to a decoder, the others are still labelled
        return case.decision(digest, "failed", f"unexpected {type(error).__name__}: {error}")
    return _with_answer(case.decision(digest, answer.grade, answer.reason), answer)


def _affordable(engine: Engine) -> int:
    """Tell how many processes could hold the codes of a store; of a server none, since it answers faster than they ask.

    A process of its own is worth it from two on.
    """
    return _MEMORY // max(engine.nbytes, 1) if isinstance(engine, EmbeddedEngine) else 0


def _decide_apart(errand: _Errand) -> Decision | None:
    """Decide in another process; None where this one cannot, since it sees another state of the store, or none."""
    with suppress(TwinscopeError):
        engine = _opened(errand.store)
        if engine.identity != errand.identity:
            engine.refresh()
        if engine.identity == errand.identity:
            return decide(engine, errand.case)
    return None


@lru_cache(maxsize=1)
def _opened(store: Path) -> EmbeddedEngine:
    return EmbeddedEngine(store, _PIXELS)


def _with_answer(decision: Decision, answer: Answer) -> Decision:
    best = answer.best
    common = replace(
        decision,
        instrument="" if answer.instrument is None else json.dumps(answer.instrument.to_dict()),
        p_wrong=None if answer.p_wrong is None else answer.p_wrong.estimate,
        p_wrong_low=None if answer.p_wrong is None else answer.p_wrong.low,
        p_wrong_high=None if answer.p_wrong is None else answer.p_wrong.high,
        reasons=json.dumps([reason.to_dict() for reason in answer.reasons]),
        query_hash=answer.query_hash or "",
        generation=answer.generation,
        recipe=answer.recipe,
        taxonomy=answer.taxonomy,
    )
    if best is None:
        return common
    rival = next((match for match in answer.matches if match.category != best.category), None)
    changed = best.transform or _AS_IT_IS
    found = replace(
        common,
        category=best.category,
        code=best.code,
        distance=best.distance,
        ssim=best.ssim,
        scene_score=best.scene_score,
        symmetry=changed.symmetry,
        query_frame=changed.query_frame,
        reference_frame=changed.reference_frame,
        shift_x=None if best.shift is None else best.shift[0],
        shift_y=None if best.shift is None else best.shift[1],
        match_id=best.image_id,
        match_source=best.source,
        published_prefix=best.published_prefix or "",
        contradictions="; ".join(best.contradictions),
    )
    if rival is None:
        return found
    return replace(
        found,
        rival_id=rival.image_id,
        rival_source=rival.source,
        rival_category=rival.category,
        rival_distance=rival.distance,
        rival_ssim=rival.ssim,
        rival_scene_score=rival.scene_score,
        rival_transform="" if rival.transform is None else str(rival.transform),
    )

"""The decision about one image file: read the file, search for the twin of the image, and record the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from twinscope_indexer.compute.workers import WorkerLostError, Workers
from twinscope_indexer.errors import ImageError, TwinscopeError, fault_of
from twinscope_indexer.files import utc_now
from twinscope_indexer.imaging.codecs import needs_codec
from twinscope_indexer.imaging.limits import default_pixel_budget
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.metadata.reader import NO_METADATA, InstrumentMetadata, read_metadata, read_sidecar
from twinscope_indexer.sources.corpus import Item
from twinscope_service.matching.answer import Transform
from twinscope_service.matching.policy import Policy

from twinscope_client.engine.images import DecodedFile
from twinscope_client.labelling.journal import Decision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from twinscope_service.matching.answer import Answer

    from twinscope_client.engine.protocol import Engine

_UNCHANGED: Final = Transform("", "whole", "whole")


@dataclass(frozen=True, slots=True)
class Task:
    """One image that needs a decision, and the policy for this decision.

    Attributes
    ----------
    item : Item
    policy : Policy
    decided_by : str
        Store, generation and policy that are used for the decision; see `Decision`.
    """

    item: Item
    policy: Policy
    decided_by: str

    def decision(self, digest: str, grade: str, reason: str) -> Decision:
        """Return a decision about the image without a candidate."""
        item = self.item
        return Decision(
            str(item.file), item.size, item.mtime_ns, digest, self.decided_by, utc_now(), grade, reason,
            policy=self.policy.name, page=item.page,
        )  # fmt: skip

    def failure(self, digest: str, fault: str, detail: str) -> Decision:
        """Return the decision about an image that cannot be read or compared."""
        return replace(self.decision(digest, "failed", detail), fault=fault)


@dataclass(frozen=True, slots=True)
class QueryFile:
    """The content of an image file, or the reason why the file could not be read.

    Attributes
    ----------
    sha256 : str
        SHA-256 of the file in hexadecimal; empty if the file could not be read.
    pixels : ndarray of uint8, shape (height, width), or None
        Grey levels of the image; None if the image could not be read.
    instrument : InstrumentMetadata
        Metadata that the instrument wrote.
    fault : str
        Kind of the fault, see `ImageError`; empty if the image was read.
    detail : str
        Reason why the image could not be read; empty if the image was read.
    """

    sha256: str
    pixels: NDArray[np.uint8] | None = None
    instrument: InstrumentMetadata = NO_METADATA
    fault: str = ""
    detail: str = ""


def decide(engine: Engine, task: Task, workers: Workers) -> Decision:
    """Read one image and search for its twin.

    Parameters
    ----------
    engine : Engine
    task : Task
    workers : Workers
        Processes that read image files. If a file crashes one of these processes, the run continues with the next
        image.

    Returns
    -------
    Decision
        The decision. If the image cannot be read or compared, the grade is ``failed``.

    Raises
    ------
    TwinscopeError
        If the store or the server cannot be used.
    """
    query = _read_in_worker(workers, task.item)
    if query.pixels is None:
        return task.failure(query.sha256, query.fault, query.detail)
    image = DecodedFile(task.item.file, query.pixels, task.item.page)
    try:
        answer = engine.search(image, policy=task.policy, instrument=query.instrument)
    except Exception as error:
        if isinstance(error, TwinscopeError) and not isinstance(error, ImageError):
            raise  # the cause of the error is the store or the server, not the image
        return task.failure(query.sha256, *fault_of(error))
    return _with_answer(task.decision(query.sha256, answer.grade, answer.reason), answer)


class Reading(NamedTuple):
    """An image to read, and the maximum number of its pixels.

    The process that makes the object gives the maximum, because a worker process can have the environment of an earlier
    run.
    """

    item: Item
    pixel_budget: int


def _read_in_worker(workers: Workers, item: Item) -> QueryFile:
    reading = Reading(item, default_pixel_budget())
    if item.member is None and not needs_codec(item.file):
        # A worker process would have to send the pixels back, which takes as long as reading the file.
        return read_query(reading)
    try:
        return workers.call(read_query, reading)
    except WorkerLostError as error:
        return QueryFile("", fault="damaged", detail=f"the process that read it {error}")


def read_query(reading: Reading) -> QueryFile:
    """Read an image file, or a page of a stack.

    If the file cannot be read, the result contains the reason, and no exception is raised.
    """
    digest, item = "", reading.item
    try:
        with item.open() as content:
            digest = content.sha256().hex()
            instrument = read_metadata(content.stream, name=item.uri, sidecar=read_sidecar(item.file))
            image = read_image(content.stream, name=item.uri, page=item.page, pixel_budget=reading.pixel_budget)
            return QueryFile(digest, image.pixels, instrument)
    except Exception as error:  # noqa: BLE001  a file that breaks a decoder must not stop the run
        fault, detail = fault_of(error)
        return QueryFile(digest, fault=fault, detail=detail)


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
    transform = best.transform or _UNCHANGED
    found = replace(
        common,
        category=best.category,
        code=best.code,
        distance=best.distance,
        ssim=best.ssim,
        scene_score=best.scene_score,
        symmetry=transform.symmetry,
        query_frame=transform.query_frame,
        reference_frame=transform.reference_frame,
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

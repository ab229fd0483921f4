"""Reading: read and describe the images of a collection, in worker processes if there are any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from twinscope_indexer.compute.workers import WorkerLostError, Workers
from twinscope_indexer.errors import ImageError, fault_of
from twinscope_indexer.indexing.ingest import DescribedImage, describe
from twinscope_indexer.metadata.reader import read_sidecar

if TYPE_CHECKING:
    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.sources.corpus import Item


@dataclass(frozen=True, slots=True)
class ReadTask:
    """An image to read.

    Attributes
    ----------
    item : Item
    known_sha256 : bytes
        Hash of the content that the store already describes; empty if there is none.
    reach : {"frame", "views", "windows"}
        Which frames are hashed.
    content : bytes or None
        Content of the file, if it has been read.
    """

    item: Item
    known_sha256: bytes
    reach: Reach
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """The result of reading an image: a description, a fault, or neither if the content is known.

    Attributes
    ----------
    image : DescribedImage or None
    frames : bytes
        From `DescribedImage.frames`.
    fault : str
        See `ImageError`; empty if there is none.
    message : str
    """

    image: DescribedImage | None = None
    frames: bytes = b""
    fault: str = ""
    message: str = ""


def read_by(workers: Workers, task: ReadTask) -> ReadOutcome:
    """Call `read`, in a worker process if there are any, so that a decoder crash costs one image.

    Only this process opens archives, because every other process would first have to scan the whole archive.
    """
    try:
        if task.item.member is not None:
            task = replace(task, content=task.item.read())
        return workers.call(read, task)
    except ImageError as error:
        return ReadOutcome(None, b"", *fault_of(error))
    except WorkerLostError as error:
        return ReadOutcome(fault="damaged", message=f"the process that read it {error}")


def read(task: ReadTask) -> ReadOutcome:
    """Read and describe an image; return any fault of the image instead of raising it."""
    try:
        return _described(task)
    except Exception as error:  # noqa: BLE001  one bad file must not stop the others
        return ReadOutcome(None, b"", *fault_of(error))


def _described(task: ReadTask) -> ReadOutcome:
    item = task.item
    data = item.read() if task.content is None else task.content
    if sha256(data).digest() == task.known_sha256:
        return ReadOutcome()
    sidecar = None if item.member is not None else read_sidecar(item.file)
    image = describe(data, item.uri, mtime_ns=item.mtime_ns, sidecar=sidecar)
    return ReadOutcome(image, image.frames(task.reach))

"""Reading: read and describe the images of a collection. The images are read in worker processes, if there are any."""

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
    """The task of reading one image.

    Attributes
    ----------
    item : Item
        Location of the image.
    known_sha256 : bytes
        SHA-256 of the file when the store described the image. Empty if the store does not contain the image yet.
    reach : {"frame", "views", "windows"}
        Reach of the store. The reach determines which frames are hashed.
    content : bytes or None
        Content of the image file; None if the file has not been read yet.
    """

    item: Item
    known_sha256: bytes
    reach: Reach
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """The result of reading an image: a description or a fault.

    If the store already describes this content of the file, there is neither a description nor a fault.

    Attributes
    ----------
    image : DescribedImage or None
        Description of the image.
    frames : bytes
        Codes of the frames of the image, as returned by `DescribedImage.frames`.
    fault : str
        Code of the fault (see `ImageError`). Empty if the image was read without a fault.
    message : str
        Description of the fault.
    """

    image: DescribedImage | None = None
    frames: bytes = b""
    fault: str = ""
    message: str = ""


def read_by(workers: Workers, task: ReadTask) -> ReadOutcome:
    """Call `read`. If there are worker processes, the call is made in one of them.

    If a decoder crashes in a worker process, only the image that was being read fails. Only the main process opens
    archives. A worker process would first have to scan the whole archive.
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
    """Read and describe an image. If the image has a fault, the outcome contains the fault, and no error is raised."""
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

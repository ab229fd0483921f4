"""Reading: read and describe the images of a collection. The images are read in worker processes, if there are any."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Final

from twinscope_indexer.compute.workers import WorkerLostError, Workers
from twinscope_indexer.errors import ImageError, fault_of
from twinscope_indexer.imaging.limits import default_pixel_budget
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.indexing.ingest import DescribedImage, describe
from twinscope_indexer.indexing.known_pages import counterpart
from twinscope_indexer.metadata.reader import read_sidecar
from twinscope_indexer.sources.location import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.sources.corpus import Item

_PAGES_AT_ONCE: Final = 16
"""Maximum number of pages of a stack that are read by one call, so that the memory does not grow with the stack."""


@dataclass(frozen=True, slots=True)
class ReadTask:
    """The task of reading one image file.

    Attributes
    ----------
    item : Item
        Location of the image file.
    known : mapping of int to bytes
        For each page that the store contains: SHA-256 of the file when the store described the page. For a file that is
        one image, the number of the page is 0. Empty if the store does not contain the file yet.
    reach : {"frame", "views", "windows"}
        Reach of the store. The reach determines which frames are hashed.
    pages : {"all", "first"}
        Which pages of a stack are read.
    numbers : tuple of int
        Numbers of all pages of the file; empty if the pages have not been looked for yet.
    begin : int
        Position in `numbers` of the first page to read.
    content : bytes or None
        Content of the image file; None if the file has not been read yet.
    pixel_budget : int
        Maximum number of pixels of an image. By default, this is the pixel budget of the process that makes the task,
        because a worker process can have the environment of an earlier run.
    """

    item: Item
    known: Mapping[int, bytes]
    reach: Reach
    pages: Pages = "all"
    numbers: tuple[int, ...] = ()
    begin: int = 0
    content: bytes | None = None
    pixel_budget: int = field(default_factory=default_pixel_budget)


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """The result of reading one image: a description or a fault.

    If the store already describes this content of the file, there is neither a description nor a fault.

    Attributes
    ----------
    page : int
        Number of the page if the image is a page of a stack, otherwise 0.
    image : DescribedImage or None
        Description of the image.
    frames : bytes
        Codes of the frames of the image, as returned by `DescribedImage.frames`.
    fault : str
        Code of the fault (see `ImageError`). Empty if the image was read without a fault.
    message : str
        Description of the fault.
    """

    page: int = 0
    image: DescribedImage | None = None
    frames: bytes = b""
    fault: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The result of reading an image file, or a part of the pages of a stack.

    Attributes
    ----------
    numbers : tuple of int
        Numbers of all pages of the file. ``(0,)`` if the file is one image. Empty if the file could not be read.
    images : list of ReadOutcome
        The result for each page that was read.
    """

    numbers: tuple[int, ...] = ()
    images: list[ReadOutcome] = field(default_factory=list)


def rest_of(task: ReadTask, numbers: tuple[int, ...]) -> list[ReadTask]:
    """Return the tasks that read the rest of a stack, after the task that read its first pages."""
    return [replace(task, numbers=numbers, begin=n) for n in range(_PAGES_AT_ONCE, len(numbers), _PAGES_AT_ONCE)]


def read_by(workers: Workers, task: ReadTask) -> FileOutcome:
    """Call `read`. If there are worker processes, the call is made in one of them.

    If a decoder crashes in a worker process, only the image that was being read fails. Only the main process opens
    archives. A worker process would first have to scan the whole archive.
    """
    try:
        if task.item.member is not None:
            with task.item.open() as content:
                task = replace(task, content=content.stream.read())
        return workers.call(read, task)
    except ImageError as error:
        return FileOutcome((), [ReadOutcome(0, None, b"", *fault_of(error))])
    except WorkerLostError as error:
        return _read_separately(workers, task, str(error))


def _read_separately(workers: Workers, task: ReadTask, loss: str) -> FileOutcome:
    """Read each page of a stack by a separate call, after a page of the stack crashed a worker process."""
    numbers = task.numbers or _numbers(task)
    if len(numbers) < 2:
        return FileOutcome(numbers, [ReadOutcome(0, fault="damaged", message=f"the process that read it {loss}")])
    images = []
    for page in numbers[task.begin : task.begin + _PAGES_AT_ONCE]:
        try:
            images += workers.call(read_page, replace(task, numbers=numbers, begin=numbers.index(page))).images
        except WorkerLostError as error:
            images.append(ReadOutcome(page, fault="damaged", message=f"the process that read it {error}"))
    return FileOutcome(numbers, images)


def read(task: ReadTask) -> FileOutcome:
    """Read and describe an image file, or at most 16 pages of a stack. A fault is part of the outcome, not an error."""
    return _read(task, _PAGES_AT_ONCE)


def read_page(task: ReadTask) -> FileOutcome:
    """Read and describe one page of a stack. A fault is part of the outcome, not an error."""
    return _read(task, 1)


def _read(task: ReadTask, most: int) -> FileOutcome:
    try:
        numbers = task.numbers or _numbers(task)
        if task.content is not None:
            return _described(task, Content(BytesIO(task.content), task.item.uri), numbers, most)
        with replace(task.item, page=numbers[0]).open() as content:
            return _described(task, content, numbers, most)
    except Exception as error:  # noqa: BLE001  one bad file must not stop the others
        return FileOutcome((), [ReadOutcome(0, None, b"", *fault_of(error))])


def _numbers(task: ReadTask) -> tuple[int, ...]:
    """Return the numbers of the pages of a file; ``(0,)`` if the file is one image or cannot be read."""
    if task.item.page or task.pages == "first":
        return (task.item.page,)
    try:
        source = task.item.file if task.content is None else task.content
        return stack_pages(source, name=task.item.uri, pixel_budget=task.pixel_budget) or (0,)
    except ImageError:
        return (0,)


def _described(task: ReadTask, content: Content, numbers: tuple[int, ...], most: int) -> FileOutcome:
    digest = content.sha256()
    sidecar = None if task.item.member is not None else read_sidecar(task.item.file)
    images = []
    for page in numbers[task.begin : task.begin + most]:
        known = counterpart(page, numbers, task.known)
        if known is not None and task.known[known] == digest:
            images.append(ReadOutcome(page))
            continue
        try:
            image = describe(
                content, digest, name=replace(task.item, page=page).uri, page=page,
                mtime_ns=task.item.mtime_ns, sidecar=sidecar, pixel_budget=task.pixel_budget,
            )  # fmt: skip
            images.append(ReadOutcome(page, image, image.frames(task.reach)))
        except Exception as error:  # noqa: BLE001  one bad page must not stop the others
            images.append(ReadOutcome(page, None, b"", *fault_of(error)))
    return FileOutcome(numbers, images)

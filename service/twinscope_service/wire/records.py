"""Conversion of stored images to messages and back, and reading of requests for stored images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp
from twinscope.v1 import catalog_pb2
from twinscope_indexer.image_id import image_id, image_number
from twinscope_indexer.indexing.ingest import FileFacts
from twinscope_indexer.sources.location import paged
from twinscope_indexer.store.catalog.catalog import Record

from twinscope_service.matching.answer import UPLOADS
from twinscope_service.wire.rules import (
    MessageError,
    Violation,
    below,
    check_count,
    check_digest,
    check_image_id,
    check_text,
    require,
)
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
_MAX_WORD: Final = 16
_MAX_SIDE: Final = 1_000_000
_SECOND: Final = 1_000_000_000  # nanoseconds
_EARLIEST, _LATEST = -9_214_560_000, 9_214_646_399  # seconds since 1970; 1678 to 2261 fit 64-bit nanoseconds


def image_message(record: Record) -> catalog_pb2.Image:
    """Convert a record to a message."""
    prefix = record.published_prefix
    indexed = Timestamp()
    indexed.FromJsonString(record.indexed_at)
    page = 0 if record.root == UPLOADS else record.page  # the client chose the path of an uploaded image
    inner = record.member is not None
    message = catalog_pb2.Image(
        image_id=record.image_id,
        source=catalog_pb2.Source(
            root=escaped(str(record.root)),
            path=escaped(record.path if inner else paged(record.path, page)),
            member=None if record.member is None else escaped(paged(record.member, page)),
        ),
        file=facts_message(record),
        recipe=record.recipe,
        category=escaped(record.category),
        code=escaped(record.code),
        taxonomy=escaped(record.taxonomy),
        published_prefix=None if prefix is None else escaped(prefix),
        index_time=indexed,
        generation=record.generation,
    )
    if record.hash is not None:
        message.hash = record.hash
    if record.unhashable is not None:
        message.unhashable = escaped(record.unhashable)
    return message


def record_of(message: catalog_pb2.Image) -> Record:
    """Convert a message to a record; the inverse of `image_message`."""
    source, facts = message.source, facts_of(message.file)
    return Record(
        id=image_number(message.image_id),
        root=Path(unescaped(source.root)),
        path=unescaped(source.path),
        member=unescaped(source.member) if source.HasField("member") else None,
        size=facts.size,
        mtime_ns=facts.mtime_ns,
        sha256=facts.sha256,
        format=facts.format,
        mode=facts.mode,
        bits=facts.bits,
        width=facts.width,
        height=facts.height,
        hash=message.hash if message.HasField("hash") else None,
        unhashable=unescaped(message.unhashable) if message.HasField("unhashable") else None,
        recipe=message.recipe,
        category=unescaped(message.category),
        code=unescaped(message.code),
        taxonomy=unescaped(message.taxonomy),
        published_prefix=unescaped(message.published_prefix) if message.HasField("published_prefix") else None,
        indexed_at=message.index_time.ToJsonString(),
        generation=message.generation,
    )


def facts_message(facts: FileFacts | Record) -> catalog_pb2.FileFacts:
    """Convert the facts about a file to a message."""
    return catalog_pb2.FileFacts(
        size_bytes=facts.size,
        modify_time=timestamp(facts.mtime_ns),
        sha256=facts.sha256,
        format=facts.format,
        mode=facts.mode,
        bits=facts.bits,
        width=facts.width,
        height=facts.height,
    )


def facts_of(message: catalog_pb2.FileFacts) -> FileFacts:
    """Convert a message to the facts about a file."""
    return FileFacts(
        message.size_bytes, nanoseconds(message.modify_time), message.sha256, message.format, message.mode,
        message.bits, message.width, message.height,
    )  # fmt: skip


def timestamp(mtime_ns: int) -> Timestamp:
    """Convert a time in nanoseconds since 1970 to a message."""
    seconds, rest = divmod(mtime_ns, _SECOND)
    return Timestamp(seconds=seconds, nanos=rest)


def nanoseconds(time: Timestamp) -> int:
    """Convert the message of a time to nanoseconds since 1970."""
    return time.seconds * _SECOND + time.nanos


def check_facts(message: catalog_pb2.FileFacts, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that the facts about a file break."""
    numbers = {"size_bytes": (message.size_bytes, (1 << 63) - 1), "bits": (message.bits, 64)}
    numbers |= {"width": (message.width, _MAX_SIDE), "height": (message.height, _MAX_SIDE)}
    for field, (value, most) in numbers.items():
        if not 0 <= value <= most:
            yield Violation(below(path, field), f"must be from 0 to {most}, is {value}")
    yield from check_time(message.modify_time, below(path, "modify_time"))
    yield from check_digest(message.sha256, below(path, "sha256"))
    yield from check_text(message.format, below(path, "format"), 0, _MAX_WORD, is_escaped=False)
    yield from check_text(message.mode, below(path, "mode"), 0, _MAX_WORD, is_escaped=False)


def check_time(time: Timestamp, path: str) -> Iterator[Violation]:
    """Yield a violation if a time is out of range; a time that is not set is the beginning of 1970 and is valid."""
    if not (_EARLIEST <= time.seconds <= _LATEST and 0 <= time.nanos < _SECOND):
        yield Violation(path, "must be a time in the years 1678 to 2261")


def image_numbers(message: catalog_pb2.BatchDeleteImagesRequest) -> list[int]:
    """Return the numbers in the catalog of the images whose ids are in a request.

    Raises
    ------
    MessageError
        If the number of ids is out of range, or an id is malformed.
    """
    require(check_count(len(message.image_ids), "image_ids"))
    require(fault for i, one in enumerate(message.image_ids) for fault in check_image_id(one, f"image_ids[{i}]"))
    return [image_number(one) for one in message.image_ids]


def page_of(message: catalog_pb2.ListImagesRequest) -> tuple[int, int]:
    """Read a request for one page of the list of images.

    Returns
    -------
    size : int
        Maximum number of images on the page.
    after : int
        Number of the image after which the page begins; -1 for the first page.

    Raises
    ------
    MessageError
        If the page size is negative, or the token was not made by `page_token`.
    """
    faults = []
    if message.page_size < 0:
        faults.append(Violation("page_size", f"must not be negative, is {message.page_size}"))
    if message.page_token and any(check_image_id(message.page_token, "page_token")):
        faults.append(Violation("page_token", "must be the token from the previous page"))
    if faults:
        raise MessageError(faults)
    after = image_number(message.page_token) if message.page_token else -1
    return min(message.page_size or DEFAULT_PAGE, MAX_PAGE), after


def page_token(last: int) -> str:
    """Return the token of the page that begins after the image with this number."""
    return image_id(last)

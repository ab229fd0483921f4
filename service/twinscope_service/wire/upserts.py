"""Conversion between messages and the images that a client sends to be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twinscope.v1 import catalog_pb2

from twinscope_service.matching.new_image import Description, NewImage, Upload
from twinscope_service.wire.queries import check_fingerprint, decoded, fingerprint_message, fingerprint_of
from twinscope_service.wire.records import check_facts, check_time, facts_message, facts_of, nanoseconds, timestamp
from twinscope_service.wire.rules import (
    Violation,
    below,
    check_count,
    check_sequence,
    check_text,
    check_upload,
    require,
)
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SOURCE: Final = 4096
_MAX_CATEGORY: Final = 256
_MAX_NAME: Final = 255


def description_message(description: Description) -> catalog_pb2.ImageDescription:
    """Convert the description of an image to a message."""
    return catalog_pb2.ImageDescription(
        source=escaped(description.source),
        category=escaped(description.category),
        published_name=escaped(description.published_name),
    )


def _description(message: catalog_pb2.ImageDescription) -> Description:
    return Description(unescaped(message.source), unescaped(message.category), unescaped(message.published_name))


def new_image_message(image: NewImage) -> catalog_pb2.NewImage:
    """Convert an image that is to be stored to a message."""
    return catalog_pb2.NewImage(
        description=description_message(image.description),
        fingerprint=fingerprint_message(image.fingerprint),
        file=facts_message(image.file),
    )


def new_image_of(message: catalog_pb2.NewImage, path: str = "image") -> NewImage:
    """Convert a message to an image that is to be stored.

    Raises
    ------
    MessageError
        If the message violates a rule, or if the thumbnail cannot be decoded.
    RecipeError
        If the recipe differs from the recipe of this release.
    """
    field = below(path, "fingerprint")
    require(
        (
            *_check_description(message.description, below(path, "description")),
            *check_fingerprint(message.fingerprint, field),
            *check_facts(message.file, below(path, "file")),
        )
    )
    fingerprint = fingerprint_of(message.fingerprint, field)
    decoded(fingerprint, field)
    return NewImage(_description(message.description), fingerprint, facts_of(message.file))


def check_upserts(message: catalog_pb2.BatchUpsertImagesRequest, path: str = "") -> None:
    """Check the number of images in a batch, and check that no two images have the same source.

    This function does not read the images; `new_image_of` reads each of them.

    Raises
    ------
    MessageError
        If the message violates a rule.
    """
    field = below(path, "images")
    require(check_count(len(message.images), field))
    first: dict[str, int] = {}
    duplicates = []
    for i, image in enumerate(message.images):
        j = first.setdefault(image.description.source, i)
        if j != i:
            duplicates.append(
                Violation(f"{field}[{i}].description.source", f"must be unique, but {field}[{j}] also has it")
            )
    require(duplicates)


def upload_message(upload: Upload) -> catalog_pb2.UploadHeader:
    """Convert the header of an upload to a message."""
    return catalog_pb2.UploadHeader(
        sequence=upload.sequence,
        description=description_message(upload.description),
        size_bytes=upload.size,
        sha256=upload.sha256,
        modify_time=timestamp(upload.mtime_ns),
    )


def upload_of(message: catalog_pb2.UploadHeader, path: str = "header") -> Upload:
    """Convert a message to the header of an upload.

    Raises
    ------
    MessageError
        If the message violates a rule.
    """
    require(
        (
            *check_sequence(message.sequence, below(path, "sequence")),
            *_check_description(message.description, below(path, "description")),
            *check_upload(message.size_bytes, message.sha256, path),
            *check_time(message.modify_time, below(path, "modify_time")),
        )
    )
    return Upload(
        message.sequence, _description(message.description), message.size_bytes, message.sha256,
        nanoseconds(message.modify_time),
    )  # fmt: skip


def _check_description(message: catalog_pb2.ImageDescription, path: str) -> Iterator[Violation]:
    yield from check_text(message.source, below(path, "source"), 1, _MAX_SOURCE)
    if "\0" in message.source:
        yield Violation(below(path, "source"), "must not contain a NUL character")
    yield from check_text(message.category, below(path, "category"), 1, _MAX_CATEGORY)
    yield from check_text(message.published_name, below(path, "published_name"), 0, _MAX_NAME)

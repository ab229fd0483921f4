"""The requests to a server and the meaning of its responses, for blocking and asynchronous clients.

A dialogue is a generator: it yields the calls to make, receives their responses, and returns the result.
`twinscope_client.remote.engine` makes the calls and blocks, `twinscope_client.aio` awaits them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc, similarity_pb2, similarity_pb2_grpc
from twinscope_indexer.hashing.thumbnail import decode_thumbnail
from twinscope_indexer.image_id import image_number
from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.wire.answers import answer_of
from twinscope_service.wire.instruments import instrument_message
from twinscope_service.wire.queries import fingerprint_message, options_message

from twinscope_client.engine.arguments import require_hashes
from twinscope_client.engine.images import DecodedFile, acquisition, grey_pixels
from twinscope_client.remote.errors import exception_of
from twinscope_client.remote.upload import Upload

if TYPE_CHECKING:
    import grpc
    import grpc.aio
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.options import Options

_BATCH: Final = 1024
"""Largest number of queries in one message."""
_BATCH_CANDIDATES: Final = 65_536
"""Largest number of queries in one message, times ``k``."""
HEALTH_TIMEOUT: Final = 5.0
"""Longest time for a health check, in seconds."""
_HEALTH: Final = "/grpc.health.v1.Health/Check"
R = TypeVar("R")


class Stubs(NamedTuple):
    """The methods of a server, blocking or asynchronous like its channel."""

    similarity: similarity_pb2_grpc.SimilarityServiceStub
    catalog: catalog_pb2_grpc.CatalogServiceStub
    health: Callable[..., Any]
    """The health check. It needs no token, and gRPC does not retry it."""

    @classmethod
    def of(cls, channel: grpc.Channel | grpc.aio.Channel) -> Stubs:
        """Build the stubs of a channel."""
        health = channel.unary_unary(_HEALTH, request_serializer=bytes, response_deserializer=bytes)
        return cls(
            similarity_pb2_grpc.SimilarityServiceStub(channel), catalog_pb2_grpc.CatalogServiceStub(channel), health
        )


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make.

    Attributes
    ----------
    method : callable
        A method of a stub.
    request : message or Upload
        An upload becomes a stream of messages.
    """

    method: Callable[..., Any]
    request: Any


class Found(NamedTuple):
    """The answer for an image, and the thumbnail of the image as a JPEG."""

    answer: Answer
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """The end of a dialogue, with its result."""

    value: R


Dialogue = Generator[Call, Any, R]
"""A generator that yields calls, receives their responses, and returns the result."""


def proceed(dialogue: Dialogue[R], response: Any) -> Call | Outcome[R]:
    """Advance a dialogue to its next call or to its end.

    Parameters
    ----------
    dialogue : Dialogue
    response : message or None
        The response of the last call; None at the start.
    """
    try:
        return dialogue.send(response)
    except StopIteration as end:
        return Outcome(end.value)


def describe(stubs: Stubs) -> Dialogue[catalog_pb2.GetIndexResponse]:
    """Request the description of the server's index."""
    described: catalog_pb2.GetIndexResponse = yield Call(stubs.catalog.GetIndex, catalog_pb2.GetIndexRequest())
    return described


def identity_of(index: catalog_pb2.GetIndexResponse) -> str:
    """Return the identifier of the store and of the generation that it answers from."""
    return f"{index.store_id}/{index.generation}"


def search(stubs: Stubs, image: Any, options: Options, instrument: InstrumentMetadata | None = None) -> Dialogue[Found]:
    """Search by hash and thumbnail, then by the image itself if it could change the answer.

    Raises
    ------
    ImageError
        If the image cannot be read.
    """
    query, content = _query_and_content(image)
    instrument = acquisition(image, instrument)
    metadata = None if instrument is None else instrument_message(instrument)
    if metadata is not None:
        query.instrument.CopyFrom(metadata)
    request = similarity_pb2.SearchRequest(query=query, options=options_message(options))
    result = (yield Call(stubs.similarity.Search, request)).result
    if result.pixels_would_change_grade:
        result = (yield Call(stubs.similarity.SearchByImage, Upload(content, options, metadata))).result
    return Found(answer_of(result.answer), query.fingerprint.thumbnail)


def _query_and_content(image: Any) -> tuple[similarity_pb2.Query, Any]:
    """Return the query of an image, and the content to upload: the file, or the pixels if there is no file.

    The pixels of a file are not kept, because many searches can be in progress at once.
    """
    pixels = grey_pixels(image)
    query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(pixels)))
    if isinstance(image, DecodedFile):
        return query, image.path
    return query, pixels if isinstance(image, (np.ndarray, Image.Image)) else image


def search_hashes(
    stubs: Stubs, hashes: Sequence[PHash], options: Options, recipe: str, where: str
) -> Dialogue[list[Answer]]:
    """Search by many hashes.

    Parameters
    ----------
    stubs : Stubs
    hashes : sequence of PHash
    options : Options
    recipe : str
        The recipe of the server's index.
    where : str
        The target of the server, for messages.

    Raises
    ------
    TypeError
        If an item is not a `PHash`.
    RecipeError
        If a hash was made by another recipe.
    """
    given = require_hashes(hashes, recipe)
    message = options_message(options)
    message.recipe = recipe
    size = max(1, min(_BATCH, _BATCH_CANDIDATES // (message.policy.k or 1)))
    answers = []
    for start in range(0, len(given), size):
        queries = [similarity_pb2.Query(hash=hashed.code) for hashed in given[start : start + size]]
        request = similarity_pb2.BatchSearchRequest(queries=queries, options=message)
        for result in (yield Call(stubs.similarity.BatchSearch, request)).results:
            if result.HasField("error"):
                raise exception_of(result.error, where)
            answers.append(answer_of(result.answer))
    return answers


def search_stored(stubs: Stubs, image_id: str, options: Options) -> Dialogue[Answer]:
    """Search by a stored image.

    Raises
    ------
    UnknownImageError
        If the text is not an image id.
    """
    message = options_message(options)
    image_number(image_id)
    request = similarity_pb2.SearchRequest(query=similarity_pb2.Query(image_id=image_id), options=message)
    return answer_of((yield Call(stubs.similarity.Search, request)).result.answer)


def thumbnail(stubs: Stubs, image_id: str) -> Dialogue[NDArray[np.uint8]]:
    """Request the thumbnail of a reference, uint8, shape (height, width).

    Raises
    ------
    UnknownImageError
        If the text is not an image id.
    """
    image_number(image_id)
    response = yield Call(stubs.catalog.GetThumbnail, catalog_pb2.GetThumbnailRequest(image_id=image_id))
    return decode_thumbnail(response.thumbnail)

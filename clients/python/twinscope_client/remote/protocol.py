"""The requests to a server and the conversion of its responses, for the blocking client and the client for asyncio.

Each operation is a generator, called a dialogue. A dialogue yields the calls to make, receives the responses to these
calls, and returns the result of the operation. `twinscope_client.remote.engine` makes blocking calls, and
`twinscope_client.aio` awaits the calls.
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
from twinscope_client.engine.images import DecodedFile, acquisition, grey_pixels, is_page
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
"""Maximum number of queries in one message."""
_BATCH_CANDIDATES: Final = 65_536
"""Maximum number of candidates that one message can request: the number of queries times ``k``."""
HEALTH_TIMEOUT: Final = 5.0
"""Maximum duration of a health check, in seconds."""
_HEALTH: Final = "/grpc.health.v1.Health/Check"
R = TypeVar("R")


class Stubs(NamedTuple):
    """The methods of a server. The methods are blocking or asynchronous, like the channel that they use."""

    similarity: similarity_pb2_grpc.SimilarityServiceStub
    catalog: catalog_pb2_grpc.CatalogServiceStub
    health: Callable[..., Any]
    """Method for the health check. This method needs no token, and gRPC does not retry it."""

    @classmethod
    def of(cls, channel: grpc.Channel | grpc.aio.Channel) -> Stubs:
        """Return the methods of the server to which the channel is connected."""
        health = channel.unary_unary(_HEALTH, request_serializer=bytes, response_deserializer=bytes)
        return cls(
            similarity_pb2_grpc.SimilarityServiceStub(channel), catalog_pb2_grpc.CatalogServiceStub(channel), health
        )


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the server that the client has not made yet.

    Attributes
    ----------
    method : callable
        Method of a gRPC stub.
    request : message or Upload
        Request to send. The messages of an `Upload` are sent as a stream.
    """

    method: Callable[..., Any]
    request: Any


class Found(NamedTuple):
    """The answer to a search by image, and the thumbnail of this image as a JPEG."""

    answer: Answer
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """The result of a dialogue that has ended."""

    value: R


Dialogue = Generator[Call, Any, R]
"""A generator that yields the calls to make, receives the responses to these calls, and returns the result."""


def proceed(dialogue: Dialogue[R], response: Any) -> Call | Outcome[R]:
    """Continue a dialogue, and return its next call, or its result if the dialogue has ended.

    Parameters
    ----------
    dialogue : Dialogue
    response : message or None
        Response to the previous call, or None at the start of the dialogue.
    """
    try:
        return dialogue.send(response)
    except StopIteration as end:
        return Outcome(end.value)


def describe(stubs: Stubs) -> Dialogue[catalog_pb2.GetIndexResponse]:
    """Request a description of the store on the server and of its index."""
    described: catalog_pb2.GetIndexResponse = yield Call(stubs.catalog.GetIndex, catalog_pb2.GetIndexRequest())
    return described


def identity_of(index: catalog_pb2.GetIndexResponse) -> str:
    """Return the identifier of the store and of the generation that the server searches."""
    return f"{index.store_id}/{index.generation}"


def search(stubs: Stubs, image: Any, options: Options, instrument: InstrumentMetadata | None = None) -> Dialogue[Found]:
    """Search by the hash and the thumbnail of an image.

    If the full-size pixels could change the answer, then search by the full-size image.

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
    """Return the query for an image, and the content to upload: the file, or the pixels if there is no file.

    If there is a file, its decoded pixels are not kept in memory, because many searches can be in progress at once. For
    a page of a stack, the pixels are uploaded, because a server would choose the page of an uploaded stack itself.
    """
    pixels = grey_pixels(image)
    query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(pixels)))
    if isinstance(image, DecodedFile):
        return query, pixels if image.page else image.path
    return query, pixels if isinstance(image, (np.ndarray, Image.Image)) or is_page(image) else image


def search_hashes(
    stubs: Stubs, hashes: Sequence[PHash], options: Options, recipe: str, target: str
) -> Dialogue[list[Answer]]:
    """Search by many hashes, in as many messages as needed.

    Parameters
    ----------
    stubs : Stubs
    hashes : sequence of PHash
    options : Options
    recipe : str
        Recipe of the hashes in the index of the server.
    target : str
        Target of the server, for error messages.

    Raises
    ------
    TypeError
        If an item is not a `PHash`.
    RecipeError
        If a hash was computed with a recipe other than `recipe`.
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
                raise exception_of(result.error, target)
            answers.append(answer_of(result.answer))
    return answers


def search_stored(stubs: Stubs, image_id: str, options: Options) -> Dialogue[Answer]:
    """Search by an image that is in the store.

    Raises
    ------
    UnknownImageError
        If `image_id` is not 16 hexadecimal digits.
    """
    message = options_message(options)
    image_number(image_id)
    request = similarity_pb2.SearchRequest(query=similarity_pb2.Query(image_id=image_id), options=message)
    return answer_of((yield Call(stubs.similarity.Search, request)).result.answer)


def thumbnail(stubs: Stubs, image_id: str) -> Dialogue[NDArray[np.uint8]]:
    """Request the thumbnail of a reference: an array of uint8 with the shape (height, width).

    Raises
    ------
    UnknownImageError
        If `image_id` is not 16 hexadecimal digits.
    """
    image_number(image_id)
    response = yield Call(stubs.catalog.GetThumbnail, catalog_pb2.GetThumbnailRequest(image_id=image_id))
    return decode_thumbnail(response.thumbnail)

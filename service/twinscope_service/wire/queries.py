"""Conversion of fingerprints, queries and options to messages, and back."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from twinscope.v1 import similarity_pb2, types_pb2
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.hashability import Reason, Unhashable
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, require_recipe
from twinscope_indexer.image_id import image_number

from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.matching.name_rules import MAX_CATEGORIES, MAX_CATEGORY_NAME
from twinscope_service.matching.options import Options
from twinscope_service.matching.query import Query
from twinscope_service.wire.answers import check_policy, policy_message, policy_of
from twinscope_service.wire.instruments import check_instrument, instrument_of
from twinscope_service.wire.rules import (
    MAX_TAG,
    MessageError,
    Violation,
    below,
    check_candidates,
    check_count,
    check_image_id,
    check_text,
    check_upload,
    require,
)
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_THUMBNAIL: Final = 64 << 10
"""Maximum size of an encoded thumbnail, in bytes."""

_MAX_REMEMBERED: Final = 512
"""Maximum size of options that are cached, in bytes. Options are larger only if they name many categories."""
_MAX_RECIPE: Final = 256
_MAX_DETAIL: Final = 256
_REASONS: Final[dict[Reason, types_pb2.Unhashable.Reason.ValueType]] = {
    "featureless": types_pb2.Unhashable.REASON_FEATURELESS,
    "degenerate": types_pb2.Unhashable.REASON_DEGENERATE,
    "noise": types_pb2.Unhashable.REASON_NOISE,
    "saturated": types_pb2.Unhashable.REASON_SATURATED,
}
_REASON_OF: Final = {number: reason for reason, number in _REASONS.items()}


def fingerprint_message(fingerprint: Fingerprint) -> types_pb2.Fingerprint:
    """Convert a fingerprint to a message."""
    hashed = fingerprint.hashed
    if isinstance(hashed, PHash):
        return types_pb2.Fingerprint(hash=hashed.code, recipe=hashed.recipe, thumbnail=fingerprint.thumbnail)
    unhashable = types_pb2.Unhashable(reason=_REASONS[hashed.reason], detail=escaped(hashed.detail))
    return types_pb2.Fingerprint(unhashable=unhashable, recipe=RECIPE, thumbnail=fingerprint.thumbnail)


def fingerprint_of(message: types_pb2.Fingerprint, path: str) -> Fingerprint:
    """Convert a message to a fingerprint without decoding the thumbnail.

    Raises
    ------
    MessageError
        If the message violates a rule.
    RecipeError
        If the recipe differs from the recipe of this release.
    """
    require(check_fingerprint(message, path))
    return _fingerprint(message)


def _fingerprint(message: types_pb2.Fingerprint) -> Fingerprint:
    """Convert a message to a fingerprint; `check_fingerprint` must have accepted the message."""
    require_recipe(message.recipe)
    if message.WhichOneof("identity") == "hash":
        return Fingerprint(PHash(message.hash, message.recipe), message.thumbnail)
    unhashable = message.unhashable
    return Fingerprint(Unhashable(_REASON_OF[unhashable.reason], unescaped(unhashable.detail)), message.thumbnail)


def check_fingerprint(message: types_pb2.Fingerprint, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that a fingerprint breaks.

    This function does not check the content of the thumbnail.
    """
    identity = message.WhichOneof("identity")
    if identity is None:
        yield Violation(path, "either hash or unhashable must be set")
    elif identity == "hash":
        yield from _check_hash(message.hash, below(path, "hash"))
    else:
        if message.unhashable.reason not in _REASON_OF:
            yield Violation(below(path, "unhashable.reason"), "must be a reason that this release knows")
        yield from check_text(message.unhashable.detail, below(path, "unhashable.detail"), 0, _MAX_DETAIL)
    yield from check_text(message.recipe, below(path, "recipe"), 1, _MAX_RECIPE, is_escaped=False)
    if len(message.thumbnail) > MAX_THUMBNAIL:
        description = f"must have at most {MAX_THUMBNAIL} bytes, has {len(message.thumbnail)}"
        yield Violation(below(path, "thumbnail"), description)


def _check_hash(code: bytes, path: str) -> Iterator[Violation]:
    if len(code) != BYTES:
        yield Violation(path, f"must have {BYTES} bytes, has {len(code)}")


def query_of(message: similarity_pb2.Query, path: str = "query") -> Query | int:
    """Convert a message to a query.

    Returns
    -------
    Query or int
        The query, or the number in the catalog of the stored image that is the query.

    Raises
    ------
    MessageError
        If the message violates a rule.
    RecipeError
        If the recipe differs from the recipe of this release.
    """
    tag_faults = check_text(message.client_tag, below(path, "client_tag"), 0, MAX_TAG, is_escaped=False)
    target = message.WhichOneof("target")
    if target == "hash":
        require((*tag_faults, *_check_hash(message.hash, below(path, "hash"))))
        return Query(PHash(message.hash))
    if target == "image_id":
        require((*tag_faults, *check_image_id(message.image_id, below(path, "image_id"))))
        return image_number(message.image_id)
    if target == "fingerprint":
        field = below(path, "fingerprint")
        require((*tag_faults, *check_fingerprint(message.fingerprint, field)))
        query = decoded(_fingerprint(message.fingerprint), field)
        if not message.HasField("instrument"):
            return query
        require(check_instrument(message.instrument, below(path, "instrument")))
        return replace(query, instrument=instrument_of(message.instrument))
    raise MessageError((*tag_faults, Violation(path, "hash, image_id or fingerprint must be set")))


def decoded(fingerprint: Fingerprint, path: str) -> Query:
    """Decode the thumbnail of a fingerprint and return the query.

    `path` is the path of the fingerprint in the request, for error messages.

    Raises
    ------
    MessageError
        If the thumbnail cannot be decoded.
    """
    try:
        return fingerprint.query()
    except ImageError as error:
        raise MessageError([Violation(below(path, "thumbnail"), error.detail)]) from error


def options_message(options: Options) -> similarity_pb2.SearchOptions:
    """Convert search options to a message."""
    return similarity_pb2.SearchOptions(
        policy=policy_message(options.policy),
        verification=similarity_pb2.VERIFICATION_FULL if options.verify else similarity_pb2.VERIFICATION_NONE,
        categories=[escaped(category) for category in options.categories],
        min_generation=options.min_generation,
        recipe=RECIPE,
    )


def options_of(message: similarity_pb2.SearchOptions, path: str = "options") -> Options:
    """Convert a message to search options.

    Raises
    ------
    MessageError
        If the message violates a rule.
    RecipeError
        If the recipe of bare hashes differs from the recipe of this release.
    """
    sent = message.SerializeToString()
    return (_remembered if len(sent) <= _MAX_REMEMBERED else _read_options)(sent, path)


def _read_options(sent: bytes, path: str) -> Options:
    message = similarity_pb2.SearchOptions.FromString(sent)
    require(_check_options(message, path))
    if message.recipe:
        require_recipe(message.recipe)
    return Options(
        policy_of(message.policy, below(path, "policy")),
        message.verification != similarity_pb2.VERIFICATION_NONE,
        tuple(unescaped(category) for category in message.categories),
        message.min_generation,
    )


_remembered = lru_cache(maxsize=256)(_read_options)  # most queries contain the same few options


def _check_options(message: similarity_pb2.SearchOptions, path: str) -> Iterator[Violation]:
    yield from check_policy(message.policy, below(path, "policy"))
    if message.verification not in similarity_pb2.Verification.values():
        yield Violation(below(path, "verification"), f"this release does not know the value {message.verification}")
    if len(message.categories) > MAX_CATEGORIES:
        description = f"must have at most {MAX_CATEGORIES} elements, has {len(message.categories)}"
        yield Violation(below(path, "categories"), description)
    else:
        for i, category in enumerate(message.categories):
            yield from check_text(category, below(path, f"categories[{i}]"), 1, MAX_CATEGORY_NAME)
    if message.min_generation < 0:
        yield Violation(below(path, "min_generation"), f"must not be negative, is {message.min_generation}")
    yield from check_text(message.recipe, below(path, "recipe"), 0, _MAX_RECIPE, is_escaped=False)


def batch_options(message: similarity_pb2.BatchSearchRequest, path: str = "") -> Options:
    """Check the size of a batch and return the options of the batch.

    This function does not read the queries; `query_of` reads each of them.

    Raises
    ------
    MessageError
        If the message violates a rule.
    RecipeError
        If the recipe of bare hashes differs from the recipe of this release.
    """
    field = below(path, "queries")
    require(check_count(len(message.queries), field))
    options = options_of(message.options, below(path, "options"))
    require(check_candidates(len(message.queries), options.policy.k, field))
    return options


def header_options(message: similarity_pb2.ImageHeader, path: str = "header") -> Options:
    """Check the header of a search by image and return the options in it.

    Raises
    ------
    MessageError
        If the message violates a rule.
    """
    require(
        (
            *check_upload(message.size_bytes, message.sha256, path),
            *check_text(message.client_tag, below(path, "client_tag"), 0, MAX_TAG, is_escaped=False),
            *check_instrument(message.instrument, below(path, "instrument")),
        )
    )
    return options_of(message.options, below(path, "options"))

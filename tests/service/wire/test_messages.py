"""Messages are converted without loss, and every broken rule of the contract gives an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from shelf import Shelf
from twinscope.v1 import catalog_pb2, similarity_pb2, types_pb2
from twinscope_client import connect
from twinscope_indexer.errors import RecipeError
from twinscope_indexer.hashing.hashability import REASONS, Unhashable
from twinscope_indexer.hashing.perceptual import RECIPE, PHash
from twinscope_indexer.hashing.thumbnail import LONG_SIDE, encode_thumbnail
from twinscope_indexer.image_id import image_id
from twinscope_indexer.metadata.reader import InstrumentMetadata, StagePosition
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.answer import LABELLED, Answer, ChanceOfError, Match, Transform
from twinscope_service.matching.options import Options
from twinscope_service.matching.policy import POLICIES, Policy
from twinscope_service.matching.query import Query
from twinscope_service.wire import answers, index, queries, records, rules, text, upserts

M = TypeVar("M", bound=Message)

# -- strategies --------------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.binary().map(os.fsdecode) | st.just("a\\b\\udc80")
PATHS = ANY_TEXT.filter(lambda name: "\0" not in name and name)
SHORT = st.text("aé\\\udc80", min_size=1, max_size=8)
COUNTS = st.integers(0, 2**63 - 1)
IDS = st.integers(0, 2**63 - 1).map(image_id)
SCORES = st.floats(-1, 1)
CODES = st.binary(min_size=128, max_size=128)
POLICY = st.builds(
    Policy,
    name=SHORT,
    rule=st.sampled_from(["scene", "legacy"]),
    k=st.integers(1, 1000),
    max_distance=st.integers(0, 1024),
    ssim_distance=st.integers(0, 1024),
    excellent_ssim=SCORES,
    good_scene=SCORES,
    lone_scene=SCORES,
    ssim_margin=st.floats(0, 2),
    scene_margin=st.floats(0, 2),
    reach=st.sampled_from(["frame", "views", "windows"]),
    far_distance=st.integers(0, 1024),
    max_p_wrong=st.floats(0, 1),
    ssim=st.sampled_from(["never", "best", "all"]),
)
SIZES = st.none() | st.floats(allow_nan=False)
INSTRUMENTS = st.none() | st.builds(
    InstrumentMetadata,
    vendor=st.none() | st.sampled_from(["Zeiss", "FEI"]),
    instrument=st.none() | SHORT,
    beam_energy_kev=SIZES,
    working_distance_mm=SIZES,
    magnification=SIZES,
    pixel_width_nm=SIZES,
    pixel_height_nm=SIZES,
    field_width_um=SIZES,
    detector=st.none() | SHORT,
    stage=st.builds(StagePosition, SIZES, SIZES, SIZES, SIZES, SIZES),
    acquired=st.none() | SHORT,
    data_bar_px=st.none() | st.integers(0, 10_000),
)
MATCHES = st.builds(
    Match,
    image_id=IDS,
    source=ANY_TEXT,
    category=ANY_TEXT,
    code=ANY_TEXT,
    distance=st.integers(0, 1024),
    scene_score=st.none() | SCORES,
    shift=st.none() | st.tuples(SCORES, SCORES),
    ssim=st.none() | SCORES,
    note=ANY_TEXT,
    published_prefix=st.none() | ANY_TEXT,
    transform=st.none() | st.builds(Transform, *3 * [st.text("a,%. ", max_size=8)]),
    instrument=INSTRUMENTS,
    contradictions=st.lists(ANY_TEXT, max_size=3).map(tuple),
)
ANSWERS = st.builds(
    Answer,
    grade=st.sampled_from(["excellent", "good", "doubtful", "ambiguous", "unverified", "none", "unhashable"]),
    matches=st.lists(MATCHES, max_size=3).map(tuple),
    reason=ANY_TEXT,
    query_hash=st.none() | CODES.map(bytes.hex),
    policy=POLICY,
    generation=COUNTS,
    recipe=st.just(RECIPE),
    taxonomy=ANY_TEXT,
    instrument=INSTRUMENTS,
    p_wrong=st.none() | st.builds(ChanceOfError, *3 * [st.floats(0, 1)], ANY_TEXT),
).filter(lambda answer: answer.matches or answer.grade not in LABELLED)
RECORDS = st.builds(
    Record,
    id=COUNTS,
    root=PATHS.map(lambda name: Path("/", name)),
    path=PATHS,
    member=st.none() | PATHS,
    size=COUNTS,
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    sha256=st.binary(min_size=32, max_size=32),
    format=st.sampled_from(["TIFF", "JPEG"]),
    mode=st.sampled_from(["L", "I;16"]),
    bits=st.integers(0, 64),
    width=st.integers(1, 10**6),
    height=st.integers(1, 10**6),
    hash=CODES,
    unhashable=st.none(),
    recipe=st.just(RECIPE),
    category=ANY_TEXT,
    code=ANY_TEXT,
    taxonomy=ANY_TEXT,
    published_prefix=st.none() | ANY_TEXT,
    indexed_at=st.datetimes().map(lambda time: f"{time.replace(microsecond=0).isoformat()}Z"),
    generation=COUNTS,
) | st.just(
    Record(
        7, Path("/lab"), "a.tif", None, 1, 0, b"", "TIFF", "L", 8, 1, 1, None, "featureless: \udcff", RECIPE, "", "",
        "", None, "2024-02-29T23:59:59Z", 1,
    )
)  # fmt: skip
HASHED = CODES.map(PHash) | st.builds(Unhashable, reason=st.sampled_from(REASONS), detail=SHORT)
FINGERPRINTS = st.builds(queries.Fingerprint, HASHED, st.just(b""))
DESCRIPTIONS = st.builds(upserts.Description, SHORT, SHORT, st.just("") | SHORT)
TIMES = st.integers(-9_214_560_000 * 10**9, 9_214_646_399 * 10**9)
DIGESTS = st.sampled_from([b"", bytes(32)])
FACTS = st.builds(
    records.FileFacts,
    size=COUNTS,
    mtime_ns=TIMES,
    sha256=DIGESTS,
    format=st.sampled_from(["", "TIFF"]),
    mode=st.sampled_from(["", "I;16"]),
    bits=st.integers(0, 64),
    width=st.integers(0, 10**6),
    height=st.integers(0, 10**6),
)


def received(message: M) -> M:
    """Return a message as it arrives after serialisation."""
    return type(message).FromString(message.SerializeToString())


# -- round trips -------------------------------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_any_text_round_trips(name: str) -> None:
    sent = text.escaped(name)
    sent.encode()  # it is valid UTF-8
    assert text.unescaped(sent) == name


def test_escapes_follow_the_contract() -> None:
    assert text.escaped("plain é 日本") == "plain é 日本"
    assert text.escaped(os.fsdecode(b"a\xe9b\\")) == r"a\udce9b" + "\\\\"


@pytest.mark.parametrize("sent", ["\\", "a\\b", r"\u0041", r"\udc8", "\\\\\\", r"\UDC80"])
def test_stray_backslashes_are_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        text.unescaped(sent)


@given(ANSWERS)
def test_answers_round_trip(answer: Answer) -> None:
    message = received(answers.answer_message(answer))
    arrived = answers.answer_of(message)
    assert arrived == answer
    assert repr(arrived) == repr(answer)  # distinguishes 0.0 from -0.0, and a tuple from a list
    for name in ("category", "code"):
        sent = text.unescaped(getattr(message, name)) if message.HasField(name) else None
        assert sent == getattr(answer, name)


def test_every_policy_attribute_has_a_field() -> None:
    others = {"name", "rule", "reach"}
    assert {field.name for field in fields(Policy)} == set(answers.THRESHOLDS) | others | {"ssim"}
    assert set(types_pb2.Policy.DESCRIPTOR.fields_by_name) == set(answers.THRESHOLDS.values()) | others | {"full_size"}


@given(RECORDS)
def test_records_round_trip(record: Record) -> None:
    assert records.record_of(received(records.image_message(record))) == record


@given(FINGERPRINTS)
def test_fingerprints_round_trip(fingerprint: queries.Fingerprint) -> None:
    assert queries.fingerprint_of(received(queries.fingerprint_message(fingerprint)), "") == fingerprint


@given(st.builds(Options, POLICY, st.booleans(), st.lists(SHORT).map(tuple), COUNTS))
def test_options_round_trip(options: Options) -> None:
    assert queries.options_of(received(queries.options_message(options))) == options


@given(st.builds(upserts.NewImage, DESCRIPTIONS, FINGERPRINTS, FACTS))
def test_new_images_round_trip(image: upserts.NewImage) -> None:
    assert upserts.new_image_of(received(upserts.new_image_message(image))) == image


@given(st.builds(upserts.Upload, st.integers(1, 2**63 - 1), DESCRIPTIONS, st.integers(1, 2**63 - 1), DIGESTS, TIMES))
def test_upload_headers_round_trip(upload: upserts.Upload) -> None:
    assert upserts.upload_of(received(upserts.upload_message(upload))) == upload


def test_fingerprint_gives_the_query_of_its_pixels(shelf: Shelf) -> None:
    pixels = shelf.pixels["Tips", 0]
    made = queries.fingerprint_message(queries.Fingerprint.of_pixels(pixels))
    arrived = queries.query_of(received(similarity_pb2.Query(fingerprint=made)))
    embedded = Query.of_pixels(pixels)
    assert isinstance(arrived, Query)
    assert arrived.hashed == embedded.hashed
    assert arrived.pixels is None
    np.testing.assert_array_equal(arrived.thumbnail, embedded.thumbnail)


def test_data_of_a_real_store_round_trip(shelf: Shelf) -> None:
    with connect(str(shelf.store)) as engine:
        answer, stats = engine.search(shelf.reference("Tips", 0)), engine.stats()
    assert answer.grade == "excellent"
    assert answers.answer_of(received(answers.answer_message(answer))) == answer
    arrived = index.stats_of(received(index.index_message(stats)))
    assert arrived == stats
    assert repr(arrived) == repr(stats)  # in the same order
    store = Store(shelf.store)
    kept = list(store.catalog.all_records())
    store.close()
    assert len(kept) == 6
    assert [records.record_of(received(records.image_message(record))) for record in kept] == kept


# -- policies ----------------------------------------------------------------------------------------------------------


def test_omitted_policy_is_the_default() -> None:
    assert answers.policy_of(types_pb2.Policy()) == POLICIES["default"]
    assert queries.options_of(similarity_pb2.SearchOptions()) == Options()


def test_named_policy_is_changed_as_without_a_server() -> None:
    expected = POLICIES["legacy"].adjusted({"k": 3, "max_distance": 0, "excellent_ssim": 0.0})
    assert expected.name == "legacy+changes"
    for name in ("legacy", "reference"):  # the current and the former name
        message = types_pb2.Policy(name=name, k=3, max_distance_bits=0, excellent_ssim=0.0)
        assert answers.policy_of(message) == expected
        assert answers.policy_of(types_pb2.Policy(name=name, k=2)) == POLICIES["legacy"]


def test_unknown_grade_is_refused() -> None:
    message = types_pb2.Answer(policy=answers.policy_message(POLICIES["default"]))
    for unknown in (0, 99):
        message.grade = unknown
        with pytest.raises(rules.MessageError, match=r"answer\.grade"):
            answers.answer_of(message)


# -- rules -------------------------------------------------------------------------------------------------------------

THUMBNAIL = encode_thumbnail(np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8))


def a_fingerprint(**changes: object) -> types_pb2.Fingerprint:
    return types_pb2.Fingerprint(**({"hash": bytes(128), "recipe": RECIPE, "thumbnail": THUMBNAIL} | changes))


def a_query(**changes: object) -> similarity_pb2.Query:
    return similarity_pb2.Query(**({"client_tag": "t" * 128} | changes))


def whole(**changes: object) -> types_pb2.Policy:
    """Return a complete policy."""
    message = answers.policy_message(Policy(name="n" * 64))
    for name, value in changes.items():
        if value is None:
            message.ClearField(name)
        else:
            setattr(message, name, value)
    return message


def options(**changes: object) -> similarity_pb2.SearchOptions:
    return similarity_pb2.SearchOptions(**({"recipe": RECIPE} | changes))


def a_batch(count: int, **policy: int) -> similarity_pb2.BatchSearchRequest:
    queries_ = [similarity_pb2.Query()] * count
    return similarity_pb2.BatchSearchRequest(queries=queries_, options=options(policy=types_pb2.Policy(**policy)))


def a_header(**changes: object) -> similarity_pb2.ImageHeader:
    return similarity_pb2.ImageHeader(**({"size_bytes": 1, "sha256": bytes(32), "client_tag": "t" * 128} | changes))


def a_description(**changes: object) -> catalog_pb2.ImageDescription:
    given = {"source": "s" * 4096, "category": "c" * 256, "published_name": "p" * 255}
    return catalog_pb2.ImageDescription(**(given | changes))


def an_image(**changes: object) -> catalog_pb2.NewImage:
    facts = catalog_pb2.FileFacts(
        format="f" * 16, mode="m" * 16, bits=64, width=10**6, height=10**6, modify_time=Timestamp(seconds=9_214_646_399)
    )
    return catalog_pb2.NewImage(
        **({"description": a_description(), "fingerprint": a_fingerprint(), "file": facts} | changes)
    )


def facts(**changes: object) -> catalog_pb2.NewImage:
    return an_image(file=catalog_pb2.FileFacts(**changes))


def described(**changes: object) -> catalog_pb2.NewImage:
    return an_image(description=a_description(**changes))


def an_upload(**changes: object) -> catalog_pb2.UploadHeader:
    return catalog_pb2.UploadHeader(**({"sequence": 1, "description": a_description(), "size_bytes": 1} | changes))


def upserts_of(*sources: str) -> catalog_pb2.BatchUpsertImagesRequest:
    described_ = [catalog_pb2.ImageDescription(source=source) for source in sources]
    return catalog_pb2.BatchUpsertImagesRequest(images=[catalog_pb2.NewImage(description=d) for d in described_])


def deletion(*ids: str) -> catalog_pb2.BatchDeleteImagesRequest:
    return catalog_pb2.BatchDeleteImagesRequest(image_ids=ids)


def page(**changes: object) -> catalog_pb2.ListImagesRequest:
    return catalog_pb2.ListImagesRequest(**changes)


def chunk(data: bytes) -> None:
    rules.require(rules.check_chunk(data))


def sequence(number: int) -> None:
    rules.require(rules.check_sequence(number, "sequence"))


def policy_in_options(**thresholds: float) -> similarity_pb2.SearchOptions:
    return options(policy=types_pb2.Policy(**thresholds))


ID = "7" + "f" * 15


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (queries.query_of, a_query(hash=bytes(128))),
        (queries.query_of, a_query(image_id=ID)),
        (queries.query_of, a_query(fingerprint=a_fingerprint())),
        (queries.query_of, a_query(fingerprint=a_fingerprint(thumbnail=b""))),
        (queries.options_of, options(policy=whole())),
        (queries.options_of, options(verification=2, categories=["c" * 256] * 64, min_generation=2**63 - 1)),
        (queries.batch_options, a_batch(1024, k=64)),
        (queries.batch_options, a_batch(65, k=1000)),
        (queries.header_options, a_header()),
        (upserts.new_image_of, an_image()),
        (upserts.new_image_of, facts()),
        (upserts.check_upserts, upserts_of(*map(str, range(1024)))),
        (upserts.upload_of, an_upload()),
        (records.image_numbers, deletion(*[ID] * 1024)),
        (records.page_of, page(page_size=2**31 - 1, page_token=records.page_token(2**63 - 1))),
        (rules.image_number_of, ID),
        (chunk, bytes(1 << 20)),
        (sequence, 1),
    ],
)
def test_messages_at_the_limits_are_accepted(read: Callable[[object], object], message: object) -> None:
    read(message)


@pytest.mark.parametrize(
    ("read", "message", "found"),
    [
        (queries.query_of, a_query(), ["query"]),
        (queries.query_of, a_query(hash=bytes(127)), ["query.hash"]),
        (queries.query_of, a_query(hash=b""), ["query.hash"]),
        (queries.query_of, a_query(image_id="8" + "0" * 15), ["query.image_id"]),
        (queries.query_of, a_query(image_id=ID.upper()), ["query.image_id"]),
        (queries.query_of, a_query(image_id=ID[1:]), ["query.image_id"]),
        (queries.query_of, a_query(image_id=ID + "\n"), ["query.image_id"]),
        (queries.query_of, a_query(hash=bytes(1), client_tag="é" * 65), ["query.client_tag", "query.hash"]),
        (queries.query_of, a_query(image_id="", client_tag="é" * 65), ["query.client_tag", "query.image_id"]),
        (queries.query_of, similarity_pb2.Query(client_tag="é" * 65), ["query.client_tag", "query"]),
        (
            queries.query_of,
            a_query(fingerprint=types_pb2.Fingerprint()),
            ["query.fingerprint", "query.fingerprint.recipe"],
        ),
        (queries.query_of, a_query(fingerprint=a_fingerprint(hash=bytes(129))), ["query.fingerprint.hash"]),
        (queries.query_of, a_query(fingerprint=a_fingerprint(recipe="")), ["query.fingerprint.recipe"]),
        (queries.query_of, a_query(fingerprint=a_fingerprint(recipe="r" * 257)), ["query.fingerprint.recipe"]),
        (queries.query_of, a_query(fingerprint=a_fingerprint(thumbnail=b"GIF89a")), ["query.fingerprint.thumbnail"]),
        (
            queries.query_of,
            a_query(fingerprint=a_fingerprint(thumbnail=THUMBNAIL + bytes(1 << 16))),
            ["query.fingerprint.thumbnail"],
        ),
        (
            queries.query_of,
            a_query(fingerprint=types_pb2.Fingerprint(unhashable={"detail": "d" * 257}, recipe=RECIPE)),
            ["query.fingerprint.unhashable.reason", "query.fingerprint.unhashable.detail"],
        ),
        (queries.options_of, options(policy=types_pb2.Policy(name="best")), ["options.policy.name"]),
        (queries.options_of, options(policy=types_pb2.Policy(name="n" * 65)), ["options.policy.name"]),
        (queries.options_of, policy_in_options(k=0), ["options.policy.k"]),
        (queries.options_of, policy_in_options(k=1001), ["options.policy.k"]),
        (queries.options_of, policy_in_options(max_distance_bits=-1), ["options.policy.max_distance_bits"]),
        (queries.options_of, policy_in_options(ssim_distance_bits=1025), ["options.policy.ssim_distance_bits"]),
        (queries.options_of, policy_in_options(excellent_ssim=1.0000001), ["options.policy.excellent_ssim"]),
        (queries.options_of, policy_in_options(good_scene=float("nan")), ["options.policy.good_scene"]),
        (
            queries.options_of,
            policy_in_options(ssim_margin=-0.1, scene_margin=float("inf")),
            ["options.policy.ssim_margin", "options.policy.scene_margin"],
        ),
        (queries.options_of, options(policy=whole(k=0)), ["options.policy.k"]),
        (queries.options_of, options(policy=whole(good_scene=None)), ["options.policy.good_scene"]),
        (queries.options_of, options(policy=whole(name="")), ["options.policy.name"]),
        (queries.options_of, options(policy=whole(name="\\")), ["options.policy.name"]),
        (queries.options_of, options(policy=whole(rule=9)), ["options.policy.rule"]),
        (queries.options_of, options(verification=3), ["options.verification"]),
        (queries.options_of, options(categories=["a"] * 65), ["options.categories"]),
        (
            queries.options_of,
            options(categories=["a", "", "c" * 257]),
            ["options.categories[1]", "options.categories[2]"],
        ),
        (queries.options_of, options(min_generation=-1), ["options.min_generation"]),
        (queries.options_of, options(recipe="r" * 257), ["options.recipe"]),
        (queries.batch_options, a_batch(0), ["queries"]),
        (queries.batch_options, a_batch(1025), ["queries"]),
        (queries.batch_options, a_batch(66, k=1000), ["queries"]),
        (queries.header_options, a_header(size_bytes=0), ["header.size_bytes"]),
        (queries.header_options, a_header(sha256=bytes(31)), ["header.sha256"]),
        (queries.header_options, a_header(client_tag="t" * 129), ["header.client_tag"]),
        (queries.header_options, a_header(options=policy_in_options(k=0)), ["header.options.policy.k"]),
        (
            upserts.new_image_of,
            catalog_pb2.NewImage(),
            ["image.description.source", "image.description.category", "image.fingerprint", "image.fingerprint.recipe"],
        ),
        (upserts.new_image_of, described(source="s" * 4097), ["image.description.source"]),
        (upserts.new_image_of, described(source="a\0b"), ["image.description.source"]),
        (upserts.new_image_of, described(source="a\\b"), ["image.description.source"]),
        (upserts.new_image_of, described(category="c" * 257), ["image.description.category"]),
        (upserts.new_image_of, described(published_name="p" * 256), ["image.description.published_name"]),
        (upserts.new_image_of, an_image(fingerprint=a_fingerprint(thumbnail=b"x")), ["image.fingerprint.thumbnail"]),
        (upserts.new_image_of, facts(size_bytes=-1, bits=65), ["image.file.size_bytes", "image.file.bits"]),
        (upserts.new_image_of, facts(width=-1, height=1_000_001), ["image.file.width", "image.file.height"]),
        (upserts.new_image_of, facts(sha256=bytes(33)), ["image.file.sha256"]),
        (upserts.new_image_of, facts(format="f" * 17, mode="m" * 17), ["image.file.format", "image.file.mode"]),
        (upserts.new_image_of, facts(modify_time=Timestamp(seconds=9_214_646_400)), ["image.file.modify_time"]),
        (upserts.new_image_of, facts(modify_time=Timestamp(nanos=-1)), ["image.file.modify_time"]),
        (upserts.check_upserts, upserts_of(), ["images"]),
        (upserts.check_upserts, upserts_of(*map(str, range(1025))), ["images"]),
        (upserts.check_upserts, upserts_of("a", "b", "a", "a"), [f"images[{i}].description.source" for i in (2, 3)]),
        (upserts.upload_of, an_upload(sequence=0), ["header.sequence"]),
        (upserts.upload_of, an_upload(size_bytes=-1, sha256=b"x"), ["header.size_bytes", "header.sha256"]),
        (upserts.upload_of, an_upload(description=a_description(category="")), ["header.description.category"]),
        (upserts.upload_of, an_upload(modify_time=Timestamp(seconds=-9_214_560_001)), ["header.modify_time"]),
        (records.image_numbers, deletion(), ["image_ids"]),
        (records.image_numbers, deletion(*[ID] * 1025), ["image_ids"]),
        (records.image_numbers, deletion(ID, "../etc", ID, ""), ["image_ids[1]", "image_ids[3]"]),
        (records.page_of, page(page_size=-1, page_token="5"), ["page_size", "page_token"]),
        (rules.image_number_of, "", ["image_id"]),
        (chunk, b"", ["chunk"]),
        (chunk, bytes((1 << 20) + 1), ["chunk"]),
        (sequence, 0, ["sequence"]),
    ],
)
def test_broken_rules_name_their_fields(read: Callable[[object], object], message: object, found: list[str]) -> None:
    with pytest.raises(rules.MessageError) as caught:
        read(message)
    assert [violation.field for violation in caught.value.violations] == found
    assert all(violation.description for violation in caught.value.violations)
    assert len(str(caught.value)) < 1500  # long texts of the client are not repeated


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (queries.query_of, a_query(fingerprint=a_fingerprint(recipe="dhash/1"))),
        (
            queries.query_of,
            a_query(fingerprint=types_pb2.Fingerprint(unhashable={"reason": 1}, recipe="dhash/1")),
        ),
        (queries.options_of, options(recipe="dhash/1")),
        (upserts.new_image_of, an_image(fingerprint=a_fingerprint(recipe="dhash/1"))),
    ],
)
def test_hashes_of_another_recipe_are_refused(read: Callable[[object], object], message: object) -> None:
    with pytest.raises(RecipeError, match="dhash/1"):
        read(message)


def test_pages_are_read_from_requests() -> None:
    assert records.page_of(page()) == (100, -1)
    assert records.page_of(page(page_size=7, page_token=records.page_token(0))) == (7, 0)
    assert records.page_of(page(page_size=1001)) == (1000, -1)


def test_largest_thumbnail_is_within_the_limit() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (LONG_SIDE, LONG_SIDE), np.uint8)
    # Noise whose blocks of 4 x 4 pixels all have the same mean, which gives the finest quantisation.
    blocks = np.tile(np.repeat([0, 255], 8), (48 * 48, 1)).astype(np.uint8)
    fine = rng.permuted(blocks, axis=1).reshape(48, 48, 4, 4).swapaxes(1, 2).reshape(192, 192)
    assert max(len(encode_thumbnail(pixels)) for pixels in (noise, fine)) <= queries.MAX_THUMBNAIL


@pytest.mark.parametrize(("member", "page", "shown"), [(None, 3, "a.tif#page=3"), ("b.tif", 2, "a.zip!b.tif#page=2")])
def test_the_source_of_a_page_names_the_page(member: str | None, page: int, shown: str) -> None:
    path = "a.tif" if member is None else "a.zip"
    record = Record(
        7, Path("/lab"), path, member, 1, 0, b"", "TIFF", "L", 8, 1, 1, None, "featureless", RECIPE, "", "", "", None,
        "2024-02-29T23:59:59Z", 1, page,
    )  # fmt: skip
    assert records.record_of(received(records.image_message(record))).uri == record.uri == f"/lab/{shown}"

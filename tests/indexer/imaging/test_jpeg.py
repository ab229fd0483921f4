"""For every JPEG file, the two decoders give the same pixels and errors as Pillow alone."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.luma import luma
from twinscope_indexer.imaging.reader import read_image, read_pil_image

END = b"\xff\xd9"
Reader = Callable[[bytes], object]


def pattern(seed: int, height: int, width: int) -> np.ndarray:
    """Return noise, colours at the ends of the scale, or waves, depending on the seed."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if seed % 3 == 1:
        return rng.integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255)
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / rng.uniform(2, 40) + y / rng.uniform(2, 40)) for _ in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def saved(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", **options)
    return data.getvalue()


def sampled(pixels: np.ndarray, subsampling: str) -> bytes:
    """Encode with a subsampling that Pillow does not write."""
    return bytes(imagecodecs.jpeg8_encode(pixels, level=85, subsampling=subsampling))


def at_the_scan(data: bytes) -> int:
    """Return the position of the entropy-coded data of the first scan."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def stuffed(head: bytes, body: bytes) -> bytes:
    """Return a stream with any bytes as pixels. Its only marker after the header is the end marker."""
    return head + body.replace(b"\xff", b"\xff\0") + END


def without_bytes(data: bytes, start: int, count: int) -> bytes:
    """Remove bytes from the quantisation table at `start`, which is the only table of its segment."""
    length = int.from_bytes(data[start - 3 : start - 1], "big") - count
    return data[: start - 3] + length.to_bytes(2, "big") + data[start - 1 : start] + data[start + count :]


GREY = Image.fromarray(pattern(2, 61, 83)[..., 0])
COLOUR = Image.fromarray(pattern(2, 61, 83))
EXIF = Image.Exif()
EXIF[0x0112] = 6  # turned by 90 degrees
PLAIN = {
    "grey": saved(GREY),
    "4:4:4": saved(COLOUR, subsampling=0),
    "4:2:2": saved(COLOUR, subsampling=1),
    "4:2:0": saved(COLOUR, subsampling=2),
    "poor": saved(COLOUR, quality=1),
    "optimised": saved(GREY, optimize=True),
    "one pixel": saved(Image.new("L", (1, 1), 77)),
    "one colour pixel": saved(Image.new("RGB", (1, 1), "orange")),
    "rubbish after the end": saved(GREY) + b"rubbish" + bytes(999),
    "another image after the end": saved(GREY) + saved(COLOUR),
    "restarts": saved(GREY, restart_marker_blocks=3),
    "no restart yet": saved(Image.new("L", (8, 8)), restart_marker_blocks=3),
    "rgb": saved(COLOUR, keep_rgb=True),
    "4:1:1": sampled(np.array(COLOUR), "411"),
    "4:4:0": sampled(np.array(COLOUR), "440"),
    "exif": saved(COLOUR, exif=EXIF),
    "icc": saved(GREY, icc_profile=b"a profile" * 9),
    "comment": saved(GREY, comment=b"a comment"),
}
OTHER = {
    "grey progressive": saved(GREY, progressive=True),
    "progressive": saved(COLOUR, progressive=True),
    "cmyk": saved(COLOUR.convert("CMYK")),
    "rubbish before the frame": saved(GREY).replace(b"\xff\xc0", b"rubbish\xff\xc0"),
    "two frames": saved(GREY).replace(b"\xff\xc0", bytes.fromhex("ffc0 000b 08 003d 0053 01 011100 ffc0")),
    "no end": saved(GREY)[:-3],
    "wider than libjpeg allows": saved(GREY).replace(struct.pack(">HH", 61, 83), struct.pack(">HH", 1, 65_501)),
    "no height": saved(GREY).replace(struct.pack(">HH", 61, 83), struct.pack(">HH", 0, 83)),
    "12 bits": saved(GREY).replace(struct.pack(">BHH", 8, 61, 83), struct.pack(">BHH", 12, 61, 83)),
    "nothing": b"",
    "JFIF without its version": saved(GREY).replace(saved(GREY)[2:20], b"\xff\xe0\x00\x06JFIF"),
    "half a quantisation table": without_bytes(saved(GREY), saved(GREY).index(b"\xff\xdb") + 5, 32),
    "16-bit quantisation steps": saved(GREY).replace(b"\xff\xdb\x00\x43\x00", b"\xff\xdb\x00\x43\x10"),
    "only markers": b"\xff\xd8" + END,
}  # fmt: skip


def outcome(read: Reader, data: bytes) -> object:
    """Return the full result or error of a reader, in comparable form."""
    try:
        got = read(data)
    except ImageError as error:
        return error.fault, str(error)
    if isinstance(got, Image.Image):
        return got.mode, got.size, got.tobytes()
    if isinstance(got, np.ndarray):
        return got.shape, got.flags.writeable, got.flags.c_contiguous, got.tobytes()
    described = got.format, got.mode, got.bits, got.width, got.height, got.pages, got.page, got.window
    return *described, got.pixels.shape, got.pixels.flags.writeable, got.pixels.flags.c_contiguous, got.pixels.tobytes()


def by_pillow(read: Reader, data: bytes) -> object:
    with mock.patch.object(jpeg, "_is_plain", return_value=False):
        return outcome(read, data)


@pytest.mark.parametrize("kind", [*PLAIN, *OTHER])
@pytest.mark.parametrize("read", [read_image, read_pil_image, decode_thumbnail])
def test_every_kind_of_file_decodes_as_by_pillow(kind: str, read: Reader) -> None:
    data = (PLAIN | OTHER)[kind]
    assert outcome(read, data) == by_pillow(read, data)


def read_slowly(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a header, read byte by byte."""
    if data[:2] != b"\xff\xd8":
        raise ImageError("", "damaged", "no start")
    at = 2
    while True:
        while at < len(data) and data[at] != 0xFF:
            at += 1
        if at + 4 > len(data):
            raise ImageError("", "truncated", "stops")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0, 1) or 0xD0 <= marker <= 0xD8:
            at += 2
        elif marker == 0xD9:
            raise ImageError("", "damaged", "ends")
        else:
            end = at + 2 + data[at + 2] * 256 + data[at + 3]
            if end > len(data):
                raise ImageError("", "truncated", "stops")
            if end < at + 4:
                raise ImageError("", "damaged", "impossible")
            yield marker, at, end
            if marker == 0xDA:
                return
            at = end


def collected(segments: Iterator[tuple[int, int, int]]) -> list[object]:
    """Return all segments, and the fault that ends them."""
    found: list[object] = []
    try:
        for one in segments:
            found.append(one)
    except ImageError as error:
        found.append(error.fault)
    return found


@settings(max_examples=1500, deadline=None)
@given(
    data=st.lists(st.sampled_from([0, 1, 2, 3, 0x0A, 0xC0, 0xD0, 0xD8, 0xD9, 0xDA, 0xE1, *[0xFF] * 6]), max_size=60),
    searched=st.sampled_from([1, 2, 3, 7, 1 << 18]),
)
def test_any_header_is_read_as_byte_by_byte(data: list[int], searched: int) -> None:
    with mock.patch.object(jpeg, "_SEARCHED", searched):
        for stream in (bytes(data), b"\xff\xd8" + bytes(data)):
            assert collected(jpeg._segments(stream, "")) == collected(read_slowly(stream))


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\0", b"\xff\xd0", b"\0"], ids=bytes.hex)
def test_fill_bytes_of_a_header_are_skipped_in_few_steps(filling: bytes) -> None:
    head, rest = PLAIN["grey"][:2], PLAIN["grey"][2:]
    steps = 0

    def step(*_: object) -> object:
        nonlocal steps
        steps += 1
        return step

    tracing = sys.gettrace()
    sys.settrace(step)
    try:
        found = jpeg.frame(head + filling * 600_000 + rest, "")
    finally:
        sys.settrace(tracing)
    assert found == jpeg.frame(PLAIN["grey"], "")
    assert steps < 1000  # lines of Python


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_streams_equal_pillow_without_using_it(kind: str) -> None:
    with mock.patch.object(jpeg, "JpegImageFile", side_effect=AssertionError):
        read = read_image(PLAIN[kind])
    assert np.array_equal(read.pixels, np.array(Image.open(io.BytesIO(PLAIN[kind])).convert("L")))


@pytest.mark.parametrize("kind", OTHER)
def test_other_streams_are_decoded_by_pillow(kind: str) -> None:
    with mock.patch.object(jpeg, "JpegImageFile", side_effect=OSError("Pillow")), pytest.raises(ImageError):
        read_image(OTHER[kind])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Draw any JPEG that an encoder can write."""
    height, width = (draw(st.integers(1, 70)) for _ in range(2))
    pixels = pattern(draw(st.integers(0, 999)), height, width)
    appended = draw(st.sampled_from([b"", b"", b"\0" * 700, b"\xff\xd8\xff", END]))
    if draw(st.integers(0, 9)) == 0:
        return sampled(pixels, draw(st.sampled_from(["444", "422", "420", "411", "440"]))) + appended
    mode = draw(st.sampled_from(["L", "L", "RGB", "RGB", "RGB", "CMYK"]))
    options = {"quality": draw(st.integers(1, 100)), "subsampling": draw(st.integers(0, 2))}
    if draw(st.integers(0, 4)) == 0:
        options |= draw(
            st.sampled_from([{"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}, {"exif": EXIF}])
        )
    return saved(Image.fromarray(pixels).convert(mode), **options) + appended


@given(files())
@settings(deadline=None, max_examples=300)
def test_any_file_decodes_as_by_pillow(data: bytes) -> None:
    assert outcome(read_image, data) == by_pillow(read_image, data)
    assert np.array_equal(read_image(data).pixels, np.array(Image.open(io.BytesIO(data)).convert("L")))
    assert outcome(read_pil_image, data) == by_pillow(read_pil_image, data)
    assert outcome(decode_thumbnail, data) == by_pillow(decode_thumbnail, data)


@pytest.mark.parametrize("kind", ["grey", "4:2:0", "rubbish after the end", "progressive", "restarts", "cmyk"])
@pytest.mark.parametrize("end", [b"", END])
def test_truncated_files_fail_or_decode_as_by_pillow(kind: str, end: bytes) -> None:
    data = (PLAIN | OTHER)[kind]
    for keep in np.linspace(0, len(data) - 1, 50).astype(int).tolist():
        for read in (read_image, decode_thumbnail):
            assert outcome(read, data[:keep] + end) == by_pillow(read, data[:keep] + end), keep


@given(
    st.sampled_from(sorted(PLAIN | OTHER)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=20),
    st.booleans(),
)
@settings(deadline=None, max_examples=500)
def test_files_with_flipped_bits_fail_or_decode_as_by_pillow(
    kind: str, flips: list[tuple[float, int]], header: bool
) -> None:
    data = bytearray((PLAIN | OTHER)[kind])
    for position, bit in flips if data else []:
        data[int(position * (min(len(data), 640 if header else len(data)) - 1))] ^= 1 << bit
    for read in (lambda data: read_image(data, pixel_budget=4_000_000), decode_thumbnail):
        assert outcome(read, bytes(data)) == by_pillow(read, bytes(data))


def test_damaged_metadata_of_a_thumbnail_is_ignored() -> None:
    data = saved(GREY, exif=EXIF)
    at = data.index(b"Exif") + 6
    damaged = data[:at] + b"XX" + data[at + 2 :]
    assert outcome(decode_thumbnail, damaged) == outcome(decode_thumbnail, saved(GREY))


@given(
    st.sampled_from(["grey", "4:4:4", "4:2:2", "4:2:0", "poor"]),
    st.one_of(st.binary(max_size=3000), st.tuples(st.floats(0, 1), st.binary(max_size=40))),
    st.binary(max_size=64),
)
@settings(deadline=None, max_examples=400)
def test_damaged_plain_stream_decodes_as_by_pillow(
    kind: str, change: bytes | tuple[float, bytes], steps: bytes
) -> None:
    data = PLAIN[kind]
    at = at_the_scan(data)
    body = bytearray(data[at:-2].replace(b"\xff\0", b"\xff"))
    if isinstance(change, bytes):
        body[:] = change
    else:
        start = int(change[0] * len(body))
        body[start : start + len(change[1]) // 2] = change[1]
    tables = data.index(b"\xff\xdb") + 5
    hostile = stuffed(data[:tables] + steps + data[tables + len(steps) : at], bytes(body))
    assert jpeg._is_plain(hostile)
    assert outcome(read_image, hostile) == by_pillow(read_image, hostile)
    assert outcome(decode_thumbnail, hostile) == by_pillow(decode_thumbnail, hostile)


def test_block_size_of_pillow_makes_no_difference() -> None:
    """Pillow passes 64 KiB at a time to libjpeg. In some streams, the damage or the end is just before or after 64
    KiB."""
    for seed in range(6):
        data = saved(Image.fromarray(pattern(3 * seed, 300, 400)), quality=95)
        at = at_the_scan(data)
        body = bytearray(data[at:-2].replace(b"\xff\0", b"\xff"))
        rng = np.random.default_rng(seed)
        for position in rng.integers(0, len(body), 30).tolist():
            body[position] = int(rng.integers(256))
        hostile = stuffed(data[:at], bytes(body))
        assert len(hostile) > 1 << 17
        for stream in (hostile, stuffed(data[:at], bytes(body[: 65_530 - at + seed])) + bytes(70_000)):
            assert jpeg._is_plain(stream)
            assert outcome(read_image, stream) == by_pillow(read_image, stream)


@pytest.mark.parametrize("refusal", [RuntimeError("corrupt"), ValueError("too large"), MemoryError()])
def test_streams_refused_by_simplejpeg_are_left_to_pillow(refusal: Exception) -> None:
    for kind in ("grey", "4:2:0"):
        with mock.patch.object(simplejpeg, "decode_jpeg", side_effect=refusal):
            assert outcome(read_image, PLAIN[kind]) == by_pillow(read_image, PLAIN[kind])


def test_pillow_with_another_library_decodes_everything() -> None:
    with (
        mock.patch.object(jpeg, "_SAME_LIBRARY", False),
        mock.patch.object(simplejpeg, "decode_jpeg", side_effect=AssertionError),
    ):
        assert read_image(PLAIN["grey"]).pixels.shape == (61, 83)
    assert jpeg._SAME_LIBRARY


def test_size_is_checked_before_decoding() -> None:
    huge = PLAIN["grey"].replace(struct.pack(">HH", 61, 83), struct.pack(">HH", 65_000, 65_000))
    assert jpeg._is_plain(huge)
    with mock.patch.object(simplejpeg, "decode_jpeg", side_effect=AssertionError):
        for read, fault in (
            (read_image, "too_large"),
            (read_pil_image, "too_large"),
            (decode_thumbnail, "unsupported"),
        ):
            with pytest.raises(ImageError) as caught:
                read(huge)
            assert caught.value.fault == fault


def test_thumbnails_equal_pillow_without_using_it() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        thumbnail = encode_thumbnail(pattern(seed, *rng.integers(1, 300, 2).tolist())[..., 0])
        with mock.patch.object(jpeg, "JpegImageFile", side_effect=AssertionError):
            pixels = decode_thumbnail(thumbnail)
        assert not pixels.flags.writeable
        assert np.array_equal(pixels, np.array(Image.open(io.BytesIO(thumbnail))))


def test_luma_of_every_colour_equals_pillow() -> None:
    levels = np.arange(256, dtype=np.uint8)
    plane = np.stack(np.meshgrid(levels, levels, indexing="ij"), -1)
    for red in levels:
        colour = np.concatenate([np.full((256, 256, 1), red), plane], -1)
        assert np.array_equal(luma(colour), np.array(Image.fromarray(colour).convert("L")))
    flipped = colour[::-1, ::2]
    assert np.array_equal(luma(flipped), np.array(Image.fromarray(flipped.copy()).convert("L")))


def test_real_files_decode_as_by_pillow(micrographs_dir: Path) -> None:
    paths = sorted(path for path in micrographs_dir.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    assert paths
    for path in paths:
        assert outcome(read_image, path.read_bytes()) == by_pillow(read_image, path.read_bytes()), path


def test_header_with_too_many_segments_is_refused() -> None:
    data = b"\xff\xd8" + b"\xff\xfe\x00\x02" * 70_000 + saved(Image.new("L", (8, 8)))[2:]
    with pytest.raises(ImageError, match="more than 65,536 segments"):
        jpeg.without_metadata(data, "it")
    assert not jpeg._is_plain(data)


ENDLESS = {
    **{kind: data for kind, data in PLAIN.items() if data.find(END) == len(data) - 2 > 1500},
    "progressive": saved(COLOUR, progressive=True),
    "progressive grey": saved(GREY, progressive=True),
    "cmyk": saved(COLOUR.convert("CMYK")),
    "restarts": saved(COLOUR, restart_marker_blocks=3),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_stream_without_its_end_marker_is_read_only_if_all_blocks_are_there(kind: str) -> None:
    data = ENDLESS[kind]
    expected = read_image(data).pixels
    for whole in (data[:-2], data[:-1], data[:-2] + bytes(100), data[:-2] + bytes(1)):
        assert np.array_equal(read_image(whole).pixels, expected)
        assert outcome(read_image, whole) == by_pillow(read_image, whole)
    for missing in (3, 4, 5, 9, 60, len(data) // 3):
        for cut in (data[:-missing], data[:-missing] + bytes(200)):
            with pytest.raises(ImageError, match="no end marker") as caught:
                read_image(cut)
            assert caught.value.fault == "truncated"


def test_progressive_stream_that_ends_between_its_scans_is_refused() -> None:
    data = ENDLESS["progressive"]
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for at in scans[1:]:
        tables = data.rfind(b"\xff\xc4", 0, at)
        cut = data[: tables if tables > scans[scans.index(at) - 1] else at]
        with pytest.raises(ImageError, match="no end marker"):
            read_image(cut)
        assert read_image(cut + END).pixels.shape == read_image(data).pixels.shape  # its writer ended the file here


def test_size_is_checked_before_a_missing_end_is_looked_for() -> None:
    huge = PLAIN["grey"][:-2].replace(struct.pack(">HH", 61, 83), struct.pack(">HH", 65_000, 65_000))
    with mock.patch.object(simplejpeg, "decode_jpeg", side_effect=AssertionError), pytest.raises(ImageError) as caught:
        read_image(huge)
    assert caught.value.fault == "too_large"

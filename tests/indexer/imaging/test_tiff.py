"""A TIFF file with mistakes is read if all data for the pixels are in the file; otherwise, the file is refused."""

from __future__ import annotations

import io
import itertools
import re
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from handmade_tiff import (
    BITS,
    COLOUR_MAP,
    LENGTH,
    PHOTOMETRIC,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE_TYPE,
    TILE_COUNTS,
    TILE_LENGTH,
    TILE_OFFSETS,
    TILE_WIDTH,
    Page,
    grey_tags,
    handmade,
    strips,
    tiles,
)
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image

H, W = 52, 67
GREY = np.clip(128 + 500 * gaussian_filter(np.random.default_rng(1).normal(size=(H, W)), 2), 0, 255).astype(np.uint8)
COLOUR = np.stack([GREY, np.roll(GREY, 7, 0), np.roll(GREY, 9, 1)], -1)
STRIP = GREY.tobytes()


def fault_of(data: bytes, words: str = ".") -> str:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(data)
    return caught.value.fault


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def is_read(data: bytes, pixels: np.ndarray = GREY) -> None:
    assert np.array_equal(read_image(data).pixels, pixels)


def packed(form: str) -> tuple[int, bytes]:
    """Return the number of a compression, and the compressed pixels."""
    codes = {"lzw": 5, "deflate": 8, "packbits": 32773, "zstd": 50000, "lzma": 34925}
    encode = zlib.compress if form == "deflate" else getattr(imagecodecs, f"{form}_encode")
    data = GREY if form == "packbits" else STRIP
    return codes[form], bytes(encode(data))


# ---------------------------------------------------------------- byte counts


@pytest.mark.parametrize("more", [1, 160, 2**32 - 1 - len(STRIP)])
@pytest.mark.parametrize("pixels_last", [False, True])
def test_byte_count_that_is_too_large_is_read(more: int, pixels_last: bool) -> None:
    one = Page(grey_tags(GREY, t279=len(STRIP) + more), [STRIP])
    is_read(handmade(one, pixels_last=pixels_last))
    rows = 20  # the last strip has fewer rows than its byte count says
    several = Page(grey_tags(GREY, t278=rows) | {STRIP_COUNTS: [rows * W] * 3}, strips(GREY, rows))
    is_read(handmade(several, pixels_last=pixels_last))
    cells = tiles(GREY, 32)
    tags = grey_tags(GREY, t278=None) | {TILE_WIDTH: 32, TILE_LENGTH: 32, TILE_COUNTS: [1024 + more] * len(cells)}
    is_read(handmade(Page(tags, cells), pixels_last=pixels_last))


@pytest.mark.parametrize("count", [0, None])
@pytest.mark.parametrize("pixels_last", [False, True])
def test_missing_byte_counts_are_replaced_by_what_the_pixels_need(count: int | None, pixels_last: bool) -> None:
    for rows in (H, 20):
        counts = None if count is None else [0] * -(-H // rows)
        page = Page(grey_tags(GREY, t278=rows) | {STRIP_COUNTS: counts}, strips(GREY, rows))
        is_read(handmade(page, pixels_last=pixels_last))
        assert fault_of(handmade(page, pixels_last=True)[:-1]) in {"truncated", "damaged"}


@pytest.mark.parametrize("form", ["lzw", "deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("count", ["too large", "0", "left out"])
@pytest.mark.parametrize("pixels_last", [False, True])
def test_wrong_byte_counts_of_compressed_pixels(form: str, count: str, pixels_last: bool) -> None:
    code, data = packed(form)
    told = {"too large": len(data) + 1000, "0": 0, "left out": None}[count]
    page = Page(grey_tags(GREY, t259=code) | {STRIP_COUNTS: told}, [data])
    is_read(handmade(page, pixels_last=pixels_last))
    cut = handmade(page, pixels_last=True)[: -len(data) // 2]
    assert fault_of(cut) == ("truncated" if count == "too large" else "damaged")


def test_byte_count_that_is_too_small_is_refused() -> None:
    assert fault_of(handmade(Page(grey_tags(GREY, t279=len(STRIP) - 1), [STRIP]))) == "damaged"
    short = {STRIP_COUNTS: [20 * W, 20 * W - 1, 12 * W]}
    assert fault_of(handmade(Page(grey_tags(GREY, t278=20) | short, strips(GREY, 20)))) == "damaged"
    assert fault_of(handmade(Page(grey_tags(GREY, t278=20) | {STRIP_COUNTS: [20 * W] * 2}, strips(GREY, 20)))) == (
        "truncated"
    )


@pytest.mark.parametrize("layout", ["one strip", "strips", "tiles"])
def test_pixels_that_are_missing_are_refused_at_every_length(layout: str) -> None:
    page = {
        "one strip": Page(grey_tags(GREY, t279=len(STRIP) + 99), [STRIP]),
        "strips": Page(grey_tags(GREY, t278=9) | {STRIP_COUNTS: [9 * W] * 6}, strips(GREY, 9)),
        "tiles": Page(grey_tags(GREY, t278=None) | {TILE_WIDTH: 32, TILE_LENGTH: 32}, tiles(GREY, 32)),
    }[layout]
    data = handmade(page, pixels_last=True)
    is_read(data)
    spare = (32 - H % 32) * 32 if layout == "tiles" else 0  # rows of the last tile that are below the image
    for length in range(len(data) - 1, data.index(page.segments[0]), -41):
        if len(data) - length <= spare:
            is_read(data[:length])
        else:
            assert fault_of(data[:length]) == "truncated"


# ---------------------------------------------------------------- sparse files


def test_segments_that_are_not_stored_are_zeros() -> None:
    holed = GREY.copy()
    holed[16:32, 32:48] = 0
    cells = tiles(holed, 16)
    number = 1 * 5 + 2
    sparse = [b"" if index == number else cell for index, cell in enumerate(cells)]
    tile_tags = grey_tags(GREY, t278=None) | {TILE_WIDTH: 16, TILE_LENGTH: 16}
    is_read(handmade(Page(tile_tags, sparse)), holed)
    rows = GREY.copy()
    rows[10:20] = 0
    is_read(handmade(Page(grey_tags(GREY, t278=10), [s if any(s) else b"" for s in strips(rows, 10)])), rows)
    code, _ = packed("deflate")
    compressed = [zlib.compress(s) if any(s) else b"" for s in strips(rows, 10)]
    is_read(handmade(Page(grey_tags(GREY, t278=10, t259=code), compressed)), rows)
    assert np.array_equal(tifffile.imread(io.BytesIO(handmade(Page(tile_tags, sparse)))), holed)


@pytest.mark.parametrize("code", [TILE_OFFSETS, TILE_COUNTS, STRIP_OFFSETS, STRIP_COUNTS])
def test_segment_with_only_an_offset_or_only_a_byte_count_is_refused(code: int) -> None:
    if code in {TILE_OFFSETS, TILE_COUNTS}:
        tags, cells = grey_tags(GREY, t278=None) | {TILE_WIDTH: 16, TILE_LENGTH: 16}, tiles(GREY, 16)
    else:
        tags, cells = grey_tags(GREY, t278=10), strips(GREY, 10)
    values = [8 + sum(map(len, cells[:number])) for number in range(len(cells))]
    if code in {TILE_COUNTS, STRIP_COUNTS}:
        values = [len(cell) for cell in cells]
    values[3] = 0
    assert fault_of(handmade(Page(tags | {code: values}, cells)), "are missing") == "damaged"


# ---------------------------------------------------------------- colour maps, few bits, odd bits


def test_colour_map_of_8_bit_values() -> None:
    for colours in (np.arange(256), np.arange(256) // 2, np.arange(256)[::-1]):
        page = Page(grey_tags(GREY, t262=3) | {COLOUR_MAP: [*colours.tolist()] * 3}, [STRIP])
        is_read(handmade(page), colours[GREY].astype(np.uint8))
    deep = np.arange(256) * 256
    deep[255] = 65535
    is_read(handmade(Page(grey_tags(GREY, t262=3) | {COLOUR_MAP: [*deep.tolist()] * 3}, [STRIP])), GREY)


def bits_of(samples: np.ndarray, bits: int) -> bytes:
    """Pack samples, every row to whole bytes."""
    wide = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(len(samples), -1, 2), axis=-1)
    return np.packbits(wide[..., 16 - bits :].reshape(len(samples), -1), axis=1).tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [2, 5])
@pytest.mark.parametrize("planar", [False, True])
def test_colour_of_few_bits(bits: int, photometric: int, planar: bool) -> None:
    colour = COLOUR if photometric == 2 else np.dstack([COLOUR, GREY // 2])
    few = colour >> (8 - bits)
    channels = few.shape[-1]
    tags = grey_tags(GREY, t262=photometric, t277=channels) | {BITS: [bits] * channels}
    if planar:
        tags |= {284: 2}
        segments = [bits_of(few[..., channel], bits) for channel in range(channels)]
    else:
        segments = [bits_of(few.reshape(H, -1), bits)]
    levels = (few.astype(int) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    expected = Image.fromarray(levels, "RGB" if photometric == 2 else "CMYK").convert("L")
    is_read(handmade(Page(tags, segments)), np.array(expected))


def test_grey_of_one_bit_with_alpha() -> None:
    both = np.stack([GREY > 128, GREY > 99], -1).astype(np.uint8)
    tags = grey_tags(GREY, t277=2) | {BITS: [1, 1], 338: 2}
    is_read(handmade(Page(tags, [bits_of(both.reshape(H, -1), 1)])), (GREY > 128).astype(np.uint8) * 255)


@pytest.mark.parametrize("bits", [3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15])
def test_odd_numbers_of_bits_equal_tifffile(bits: int) -> None:
    samples = (GREY.astype(np.uint16) << 8) >> (16 - bits)
    data = handmade(Page(grey_tags(GREY, t258=bits), [bits_of(samples, bits)]))
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), samples)
    expected = read_image(tiff(samples)).pixels if bits > 8 else (samples.astype(int) * 255 // ((1 << bits) - 1))
    is_read(data, expected)
    parts = [bits_of(part, bits) for part in np.split(samples, range(9, H, 9))]
    is_read(handmade(Page(grey_tags(GREY, t258=bits, t278=9), parts)), expected)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floating_point_of_each_size(dtype: str) -> None:
    samples = GREY.astype(dtype) / 7
    read = read_image(tiff(samples, rowsperstrip=9)).pixels
    assert np.abs(read.astype(int) - read_image(tiff(samples.astype("f8"))).pixels).max() <= 1


def test_floating_point_of_24_bits() -> None:
    samples = (GREY.astype(np.float32) / 8).astype(np.float32)  # exact in 16 bits of precision
    data = imagecodecs.float24_encode(samples, byteorder="<")
    page = Page(grey_tags(GREY, t258=24) | {339: 3}, [data])
    assert np.array_equal(tifffile.imread(io.BytesIO(handmade(page))), samples)
    is_read(handmade(page), read_image(tiff(samples)).pixels)


def test_samples_that_are_not_read_are_named() -> None:
    assert fault_of(handmade(Page(grey_tags(GREY, t277=3, t262=2) | {BITS: [5, 6, 5]}, [STRIP * 2])), "5, 6, 5") == (
        "unsupported"
    )
    complex_samples = grey_tags(GREY, t258=64) | {339: 6}
    assert fault_of(handmade(Page(complex_samples, [STRIP * 8])), "sample format 6|COMPLEX") == "unsupported"
    subsampled = grey_tags(GREY, t262=6, t277=3) | {BITS: [8, 8, 8]}
    assert fault_of(handmade(Page(subsampled, [STRIP * 3])), "YCbCr") == "unsupported"


# ---------------------------------------------------------------- the chain of directories


@pytest.mark.parametrize("subfile", [0, 1])
@pytest.mark.parametrize("following", [8, 9, 0x7FFFFFFF, 0xFFFFFFFF, "itself", "pixels"])
@pytest.mark.parametrize("pixels_last", [False, True])
def test_broken_chain_after_a_whole_page(subfile: int, following: int | str, pixels_last: bool) -> None:
    tags = grey_tags(GREY) | {SUBFILE_TYPE: subfile}
    if isinstance(following, str):
        plain = handmade(Page(tags, [STRIP]), pixels_last=pixels_last)
        at = int.from_bytes(plain[4:8], "little")
        following = at if following == "itself" else plain.index(STRIP) + 2
    is_read(handmade(Page(tags, [STRIP], following), pixels_last=pixels_last))


def relinked(data: bytes, page: int, following: int) -> bytes:
    """Set the pointer of the directory of a page to the next directory."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[page].offset + 2 + 12 * len(file.pages[page].tags)
    return data[:at] + following.to_bytes(4, "little") + data[at + 4 :]


def test_loop_over_two_pages_is_read() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY[::2, ::2].copy(), metadata=None, subfiletype=1, photometric="minisblack")
        writer.write(GREY, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        first = file.pages[0].offset
    read = read_image(relinked(buffer.getvalue(), 1, first))
    assert (read.page, read.pages) == (1, 2)
    assert np.array_equal(read.pixels, GREY)


def test_reduced_copy_does_not_stand_for_a_page_that_was_cut_off() -> None:
    half = GREY[::2, ::2].copy()
    first = handmade(Page(grey_tags(half) | {SUBFILE_TYPE: 1}, [half.tobytes()]))
    is_read(first, half)
    linked = relinked(first, 0, len(first) + len(STRIP))  # as libtiff writes: pixels, then the directory of the page
    for rest in (2, 50, len(STRIP)):
        assert fault_of(linked + STRIP[:rest], "first page that holds an image") == "truncated"


# ---------------------------------------------------------------- compressions

IMAGES = {"grey": (GREY, "minisblack"), "colour": (COLOUR, "rgb"), "deep": (GREY.astype(np.uint16) * 200, "minisblack")}
CODECS = {
    "lzw": IMAGES, "packbits": IMAGES, "zlib": IMAGES, "deflate": IMAGES, "zstd": IMAGES, "lzma": IMAGES,
    "png": IMAGES, "jpeg2000": IMAGES, "jpegxl": IMAGES, "jpegxr": IMAGES, "lerc": IMAGES,
    "webp": ["colour"], "jpeg": ["grey", "colour"],
}  # fmt: skip


def compressed(codec: str, kind: str, **layout: object) -> bytes:
    array, photometric = IMAGES[kind]
    options = {"lossless": True} if codec == "webp" else {}
    return tiff(array, photometric=photometric, compression=codec, compressionargs=options, **layout)


@pytest.mark.parametrize("codec", CODECS)
def test_every_compression_equals_tifffile(codec: str) -> None:
    for kind, layout in itertools.product(CODECS[codec], [{}, {"rowsperstrip": 16}, {"tile": (32, 32)}]):
        data = compressed(codec, kind, **layout)
        expected = read_image(tiff(tifffile.imread(io.BytesIO(data)), photometric=IMAGES[kind][1])).pixels
        assert np.array_equal(read_image(data).pixels, expected), (kind, layout)


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_pixels_that_are_missing_are_refused(codec: str) -> None:
    kind = "colour" if codec == "webp" else "grey"
    data = compressed(codec, kind)
    whole = read_image(data).pixels
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (start,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
        code = int(file.pages[0].compression)
        tables = file.pages[0].tags.valueof(347)
    assert tables is None
    tags = grey_tags(GREY, t259=code)
    if kind == "colour":
        tags |= {SAMPLES: 3, PHOTOMETRIC: 2, BITS: [8, 8, 8]}
    stream = data[start : start + count]
    is_read(handmade(Page(tags, [stream])), whole)
    for length in {*range(max(1, count - 30), count), *range(1, count, 1 + count // 25)}:
        cut = handmade(Page(tags | {STRIP_COUNTS: count}, [stream[:length]]), pixels_last=True)
        try:
            read = read_image(cut)
        except ImageError as error:
            assert error.fault == "truncated"  # noqa: PT017  pixels that are whole are read
            continue
        assert np.array_equal(read.pixels, whole), length


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg2000", "jpegxl", "jpegxr", "lerc"])
def test_compressed_stream_of_another_size_is_refused(codec: str) -> None:
    kind = "colour" if codec == "webp" else "grey"
    data = compressed(codec, kind)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (start,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
        code = int(file.pages[0].compression)
    tags = grey_tags(GREY, t259=code, t256=W - 1, t257=H - 20) | {ROWS_PER_STRIP: H - 20}
    if kind == "colour":
        tags |= {SAMPLES: 3, PHOTOMETRIC: 2, BITS: [8, 8, 8]}
    assert fault_of(handmade(Page(tags, [data[start : start + count]])), "of another size") == "damaged"
    assert fault_of(handmade(Page(tags, [b"rubbish" * 99]))) in {"damaged", "truncated"}


@pytest.mark.skipif(not hasattr(imagecodecs, "CCITTRLE"), reason="an older imagecodecs cannot decode fax codes")
@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_fax_equals_pillow(compression: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY > 128).save(buffer, "TIFF", compression=compression)
    data = buffer.getvalue()
    is_read(data, (GREY > 128).astype(np.uint8) * 255)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        (start,), (count,) = page.dataoffsets, page.databytecounts
        tags = grey_tags(GREY, t258=1, t259=int(page.compression), t262=int(page.photometric))
        tags |= {code: page.tags.valueof(code) for code in (266, 292, 293) if code in page.tags}
    stream = data[start : start + count]
    is_read(handmade(Page(tags, [stream]), pixels_last=True), (GREY > 128).astype(np.uint8) * 255)
    cut = handmade(Page(tags | {STRIP_COUNTS: count}, [stream[:-1]]), pixels_last=True)
    assert fault_of(cut) == "truncated"  # the decoder would not notice the missing data


@pytest.mark.parametrize(
    ("code", "words"),
    [(9, r"JBIG_BW \(9\)"), (34676, r"SGILOG \(34676\)"), (32809, r"THUNDERSCAN \(32809\)"), (12345, "number 12345")],
)
def test_other_compressions_are_named(code: int, words: str) -> None:
    assert fault_of(handmade(Page(grey_tags(GREY, t259=code), [STRIP])), words) == "unsupported"


def test_compression_without_its_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = compressed("lerc", "grey")
    monkeypatch.setattr(imagecodecs, "LERC", None)
    assert fault_of(data, re.escape("LERC (34887) needs a decoder")) == "unsupported"


@pytest.mark.parametrize("length", ["told", "left out"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_old_style_jpeg_as_one_stream(kind: str, length: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[kind][0]).save(buffer, "JPEG", quality=95)
    stream = buffer.getvalue()
    expected = np.array(Image.open(buffer).convert("L"))
    colours = {SAMPLES: 3, PHOTOMETRIC: 6, BITS: [8, 8, 8]} if kind == "colour" else {}
    tags = grey_tags(GREY, t259=6) | colours | {513: 8}
    if length == "told":
        tags |= {514: len(stream)}
    is_read(handmade(Page(tags, [stream])), expected)
    is_read(handmade(Page(tags | {513: None}, [stream])), expected)
    assert fault_of(handmade(Page(tags, [stream[:-60]]))) == "truncated"
    assert fault_of(handmade(Page(tags | {LENGTH: H - 1}, [stream])), "another size") == "damaged"
    assert fault_of(handmade(Page(tags, [b"rubbish" * 99])), "one whole JPEG stream") == "unsupported"


def test_jpeg_strip_without_its_end_marker_is_read() -> None:
    for layout in ({}, {"rowsperstrip": 16}):
        data = tiff(GREY, compression="jpeg", **layout)
        expected = read_image(data).pixels
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            parts = [data[o : o + c] for o, c in zip(page.dataoffsets, page.databytecounts, strict=True)]
        tags = grey_tags(GREY, t259=7) | {ROWS_PER_STRIP: layout.get("rowsperstrip", H)}
        is_read(handmade(Page(tags, [part[:-2] for part in parts])), expected)
        assert fault_of(handmade(Page(tags, [*parts[:-1], parts[-1][:-9]]))) == "truncated"


def test_shared_jpeg_tables_complete_a_strip_without_its_end_marker() -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF", compression="jpeg")
    data = buffer.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert page.jpegtables
        at = page.dataoffsets[-1] + page.databytecounts[-1]
        assert data[at - 2 : at] == b"\xff\xd9"
    open_ended = data[: at - 2] + b"\xff\xff" + data[at:]
    assert np.array_equal(read_image(data).pixels, read_image(open_ended).pixels)

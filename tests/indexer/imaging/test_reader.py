"""Decoding of image files: pixels equal to Pillow's, windows for deep samples, and faults."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import imagehash
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import window
from twinscope_indexer.imaging.reader import GreyImage, read_image, read_pil_image

H, W = 52, 67


def scene(seed: int, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    """Return texture on several scales, in 0 .. 1."""
    rng = np.random.default_rng(seed)
    field = sum(gaussian_filter(rng.normal(size=shape), s, mode="wrap") * s for s in (1, 2, 5, 11, 23))
    return (field - field.min()) / (field.max() - field.min())


def scene8(seed: int, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    return np.rint(scene(seed, shape) * 255).astype(np.uint8)


GREY = scene8(1)
COLOUR = np.stack([scene8(2), scene8(3), scene8(4)], -1)
COLOUR_ALPHA = np.dstack([COLOUR, scene8(5)])
PALETTE = np.random.default_rng(6).integers(0, 65536, (3, 256)).astype(np.uint16)


def tiff(array: np.ndarray | Iterator[bytes], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def packed_tiff(array: np.ndarray, bits: int, **options: object) -> bytes:
    """Write samples of fewer than eight bits. This function packs them, because older versions of imagecodecs
    cannot."""
    rows = np.unpackbits(array[..., None], axis=-1)[..., 8 - bits :].reshape(len(array), -1)
    encoded = iter([np.packbits(rows, axis=1).tobytes()])
    options |= {"shape": array.shape, "dtype": np.uint8, "bitspersample": bits, "rowsperstrip": len(array)}
    return tiff(encoded, **options)


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("L"))


def edited(data: bytes, tag: int, value: int, *, kind: int = 4, count: int = 1) -> bytes:
    """Overwrite a tag of the first directory of a little-endian classic TIFF file."""
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            return data[:entry] + struct.pack("<HHII", tag, kind, count, value) + data[entry + 12 :]
    raise LookupError(tag)


def png(ihdr: bytes, idat: bytes) -> bytes:
    chunks = ((b"IHDR", ihdr), (b"IDAT", idat), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def fault_of(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    assert caught.value.detail
    assert str(caught.value).startswith(caught.value.source)
    return caught.value.fault


# ---------------------------------------------------------------- 8 bits: equal to Pillow


@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(4))),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]),
    fmt=st.sampled_from(["TIFF", "PNG", "BMP", "JPEG"]),
)
@settings(deadline=None, max_examples=200)
def test_eight_bits_equal_the_conversion_by_pillow(pixels: np.ndarray, mode: str, fmt: str) -> None:
    rgba = Image.fromarray(pixels, "RGBA")
    image = rgba.convert("RGB").quantize(17) if mode == "P" else rgba.convert("RGB" if mode == "CMYK" else mode)
    image = image.convert(mode)
    try:
        data = saved(image, fmt)
    except OSError:  # the format does not support the mode
        return
    read = read_image(data)
    expected = Image.open(io.BytesIO(data))
    assert (read.format, read.mode, read.window) == (fmt, expected.mode, None)
    assert (read.width, read.height, read.pages, read.page) == (*expected.size, 1, 0)
    assert np.array_equal(read.pixels, np.array(expected.convert("L")))


KINDS = {
    "grey": (GREY, {"photometric": "minisblack"}, "L"),
    "white is zero": (GREY, {"photometric": "miniswhite"}, "L"),
    "rgb": (COLOUR, {"photometric": "rgb"}, "RGB"),
    "planar rgb": (np.moveaxis(COLOUR, -1, 0).copy(), {"photometric": "rgb", "planarconfig": "separate"}, "RGB"),
    "rgba": (COLOUR_ALPHA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "RGBA"),
    "premultiplied": (COLOUR_ALPHA, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "RGBA"),
    "rgb and more": (COLOUR_ALPHA, {"photometric": "rgb", "extrasamples": ["unspecified"]}, "RGB"),
    "grey and alpha": (
        COLOUR_ALPHA[..., :2].copy(),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        "LA",
    ),
    "palette": (GREY, {"photometric": "palette", "colormap": PALETTE}, "P"),
    "cmyk": (COLOUR_ALPHA, {"photometric": "separated"}, "CMYK"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_tiff_variants_of_eight_bits_equal_pillow(kind: str, compression: str | None) -> None:
    array, options, mode = KINDS[kind]
    layouts = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"tile": (128, 128)}]
    predictors = [None] if compression in {None, "packbits"} else [None, 2]
    for layout, order, big, predictor in itertools.product(layouts, "<>", [False, True], predictors):
        data = tiff(
            array, compression=compression, byteorder=order, bigtiff=big, predictor=predictor, **layout, **options
        )
        read = read_image(data)
        readable = data
        if big and order == ">":  # Pillow does not support it
            readable = tiff(array, compression=compression, predictor=predictor, **layout, **options)
        assert np.array_equal(read.pixels, by_pillow(readable)), (layout, order, big, predictor)
        assert (read.format, read.mode, read.bits, read.window) == ("TIFF", mode, 8, None)


@pytest.mark.parametrize("compression", ["deflate", "zstd", "lzma"])
def test_other_compressions_equal_pillow(compression: str) -> None:
    for array, options, _ in KINDS.values():
        data = tiff(array, compression=compression, rowsperstrip=20, **options)
        assert np.array_equal(read_image(data).pixels, by_pillow(data))


@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 16}, {"tile": (16, 32)}, {"tile": (128, 128)}])
@pytest.mark.parametrize("kind", ["grey", "white is zero", "rgb"])
def test_jpeg_in_tiff_equals_pillow(kind: str, layout: dict[str, object]) -> None:
    array, options, mode = KINDS[kind]
    data = tiff(array, compression="jpeg", **layout, **options)
    assert np.array_equal(read_image(data).pixels, by_pillow(data))
    assert read_image(data).mode == mode


def test_jpeg_in_tiff_with_shared_tables_equals_pillow() -> None:
    for image in (Image.fromarray(GREY), Image.fromarray(COLOUR)):
        data = saved(image, "TIFF", compression="jpeg")
        assert np.array_equal(read_image(data).pixels, by_pillow(data))


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_than_eight_bits_equal_pillow(bits: int, photometric: str) -> None:
    data = packed_tiff(GREY >> (8 - bits), bits, photometric=photometric)
    read = read_image(data)
    assert np.array_equal(read.pixels, by_pillow(data))
    assert (read.bits, read.mode) == (bits, "1" if bits == 1 else "L")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("array", [GREY, COLOUR, GREY.astype(np.uint16) * 257], ids=["grey", "rgb", "deep"])
def test_tiff_is_turned_upright_as_by_pillow(orientation: int, array: np.ndarray) -> None:
    options = [(274, 3, 1, orientation, True)]
    upright = by_pillow(tiff(array if array.dtype == np.uint8 else GREY, extratags=options))
    read = read_image(tiff(array, extratags=options))
    assert (read.height, read.width) == upright.shape
    if array.dtype == np.uint8:
        assert np.array_equal(read.pixels, upright)
    else:
        stretched = np.rint((upright.astype(float) - upright.min()) * 255 / np.ptp(upright))
        assert np.array_equal(read.pixels, stretched)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_equals_pillow_with_any_metadata(quality: int, progressive: bool, subsampling: int) -> None:
    plain = saved(Image.fromarray(COLOUR), "JPEG", quality=quality, progressive=progressive, subsampling=subsampling)
    rubbish = b"Exif\0\0II*\0\xff\xff\xff\x7f rubbish"
    segments = b"".join(
        b"\xff" + marker + struct.pack(">H", 2 + len(rubbish)) + rubbish for marker in (b"\xe1", b"\xe2", b"\xfe")
    )
    for data in (plain, plain[:2] + segments + plain[2:]):
        read = read_image(data)
        assert np.array_equal(read.pixels, by_pillow(plain))
        assert (read.format, read.mode, read.bits) == ("JPEG", "RGB", 8)


def test_png_transparency_and_text_change_nothing() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("note", "x" * 5000, zip=True)
    for image in (Image.fromarray(COLOUR).quantize(30), Image.fromarray(GREY), Image.fromarray(COLOUR)):
        plain = saved(image, "PNG")
        decorated = saved(image, "PNG", pnginfo=info, transparency=b"\x00\x80" if image.mode == "P" else None)
        assert np.array_equal(read_image(decorated).pixels, by_pillow(plain))


def test_animated_png_gives_its_first_frame() -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())
    for hidden in (False, True):
        data = saved(first, "PNG", save_all=True, append_images=[second, second], default_image=hidden)
        read = read_image(data)
        assert np.array_equal(read.pixels, GREY)
        assert (read.pages, read.page) == (Image.open(io.BytesIO(data)).n_frames, 0)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 1), (8, 8), (H, W)])
def test_interlaced_png(size: tuple[int, int]) -> None:
    image = GREY[: size[0], : size[1]]
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    reduced = [image[top::down, left::right] for top, left, down, right in passes]
    raw = b"".join(b"\0" + row.tobytes() for one in reduced if one.size for row in one)
    header = struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 1)
    assert np.array_equal(read_image(png(header, zlib.compress(raw))).pixels, image)
    assert fault_of(png(header, zlib.compress(raw[:-1]))) == "truncated"


def test_run_length_encoded_bmp_equals_pillow() -> None:
    rows = b"".join(bytes([60, row, 7, 255 - row]) + b"\0\0" for row in range(50)) + b"\0\1"
    colours = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256))
    start = 54 + len(colours)
    data = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start)
    data += struct.pack("<IiiHHIIiiII", 40, 67, 50, 1, 8, 1, len(rows), 0, 0, 256, 0) + colours + rows
    assert np.array_equal(read_image(data).pixels, by_pillow(data))
    assert fault_of(data[:22] + struct.pack("<i", 900_000) + data[26:]) == "truncated"
    assert fault_of(data[:22] + struct.pack("<i", 3_000_000) + data[26:]) == "too_large"


# ---------------------------------------------------------------- pages, planes, channels


def pages(*written: tuple[np.ndarray, dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for array, options in written:
            writer.write(array, metadata=None, **options)
    return buffer.getvalue()


FULL = (GREY, {"photometric": "minisblack"})
REDUCED = (GREY[::2, ::2].copy(), {"photometric": "minisblack", "subfiletype": 1})
MASK = (GREY > 99, {"photometric": "mask", "subfiletype": 4})
SPECK = (np.zeros((1, 3), np.uint8), {"photometric": "minisblack"})


@pytest.mark.parametrize(
    ("written", "page"),
    [
        ([FULL, FULL, REDUCED], 0),
        ([REDUCED, FULL], 1),
        ([MASK, REDUCED, SPECK, FULL, FULL], 3),
        ([MASK, REDUCED], 1),
        ([REDUCED, SPECK], 1),
    ],
)
def test_first_page_that_holds_an_image_is_read(written: list[tuple[np.ndarray, dict]], page: int) -> None:
    read = read_image(pages(*written))
    assert (read.pages, read.page) == (len(written), page)
    assert np.array_equal(read.pixels, written[page][0])


def test_file_of_masks_is_refused() -> None:
    assert fault_of(pages(MASK, MASK)) == "damaged"


def test_first_plane_of_stacks_and_volumes_is_read() -> None:
    stack = np.stack([scene8(seed, (64, 80)) for seed in range(17)])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack, imagej=True)
    volume = tiff(stack, volumetric=True, photometric="minisblack", tile=(16, 16, 16))
    channels = tiff(stack[:3], photometric="minisblack", planarconfig="separate")
    interleaved = tiff(np.moveaxis(stack[:5], 0, -1).copy(), photometric="minisblack", planarconfig="contig")
    for data in (buffer.getvalue(), volume, channels, interleaved):
        assert np.array_equal(read_image(data).pixels, stack[0])


def test_grey_palettes_stay_grey_and_colour_stays_colour() -> None:
    for data, mode in (
        (tiff(GREY), "L"),
        (tiff(GREY.astype(np.uint16) * 257), "L"),
        (tiff(GREY, photometric="palette", colormap=np.tile(np.arange(256, dtype=np.uint16) * 256, (3, 1))), "L"),
        (tiff(GREY, photometric="palette", colormap=PALETTE), "RGB"),
        (tiff(COLOUR_ALPHA, photometric="rgb", extrasamples=["unassalpha"]), "RGB"),
        (tiff(COLOUR.astype(np.uint16) * 257, photometric="rgb"), "RGB"),
        (saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "RGB"),
        (saved(Image.fromarray(GREY), "JPEG"), "L"),
        (saved(Image.fromarray(GREY > 9), "PNG"), "L"),
    ):
        image = read_pil_image(data)
        assert image.mode == mode
        grey = read_image(data)
        assert image.size == (grey.width, grey.height)
        assert np.abs(np.array(image.convert("L")).astype(int) - grey.pixels).max() <= 1
        if mode == "L":
            assert np.array_equal(image, grey.pixels)
    assert np.array_equal(read_pil_image(tiff(COLOUR, photometric="rgb")), COLOUR)


# ---------------------------------------------------------------- more than 8 bits: the window


def phash(pixels: np.ndarray) -> imagehash.ImageHash:
    image = Image.fromarray(pixels)
    return imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32)


EXACT = {
    "v << 8": lambda v: v.astype(np.uint16) << 8,
    "v * 257": lambda v: v.astype(np.uint16) * 257,
    "v as 16 bits": lambda v: v.astype(np.uint16),
    "v << 7": lambda v: v.astype(np.uint16) << 7,
    "12 bits": lambda v: v.astype(np.uint16) << 4,
    "12 bits, scaled": lambda v: np.rint(v * (4095 / 255)).astype(np.uint16),
    "14 bits": lambda v: v.astype(np.uint16) << 6,
    "signed": lambda v: (v.astype(np.int16) << 7) - 9000,
    "32 bits": lambda v: v.astype(np.uint32) << 24,
    "signed 32 bits": lambda v: v.astype(np.int32) * 1000 - 77,
    "float 0 .. 1": lambda v: v.astype(np.float32) / 255,
    "half": lambda v: v.astype(np.float16),
    "double, calibrated": lambda v: v * 1.25e-9 - 3e-8,
}


@pytest.mark.parametrize("export", EXACT)
@pytest.mark.parametrize("low_high", [(0, 255), (60, 110), (0, 40)])
def test_deep_export_of_an_8_bit_image_has_the_same_hash(export: str, low_high: tuple[int, int]) -> None:
    low, high = low_high
    shallow = (low + scene8(11, (240, 320)) * ((high - low) / 255)).astype(np.uint8)
    deep = EXACT[export](shallow)
    for data in (tiff(deep, byteorder=">"), tiff(deep, compression="zlib", predictor=None)):
        read = read_image(data)
        assert read.window is not None
        # every level keeps its rank, so that equalising gives the same image
        levels = {int(v): int(read.pixels[shallow == v][0]) for v in np.unique(shallow)}
        assert all(np.all(read.pixels[shallow == v] == grey) for v, grey in levels.items())
        assert sorted(set(levels.values())) == list(levels.values())
        assert phash(read.pixels) - phash(shallow) == 0


@pytest.mark.parametrize("seed", range(20, 26))
@pytest.mark.parametrize("use", [1.0, 0.6, 0.35])
@pytest.mark.parametrize("bits", [12, 14, 16])
def test_scan_with_finer_levels_hashes_as_its_upper_byte(seed: int, use: float, bits: int) -> None:
    rng = np.random.default_rng(seed)
    scan = scene(seed, (240, 320)) * use + rng.normal(scale=0.01, size=(240, 320))
    deep = np.rint(np.clip(scan, 0, 1) * (2**bits - 1)).astype(np.uint16)
    exported = (deep >> (bits - 8)).astype(np.uint8)
    assert phash(read_image(tiff(deep)).pixels) - phash(exported) <= 4
    assert phash(read_image(saved(Image.fromarray(deep), "PNG")).pixels) - phash(exported) <= 4
    as_signed = deep.astype(np.int32)
    assert np.array_equal(read_image(tiff(as_signed)).pixels, read_image(tiff(deep)).pixels)


@pytest.mark.parametrize("seed", range(30, 34))
def test_float_scan_with_fine_noise_has_a_close_hash(seed: int) -> None:
    shallow = scene8(seed, (240, 320))
    noise = np.random.default_rng(seed).uniform(-0.45, 0.45, shallow.shape)
    for full in (1.0, 255.0):
        deep = np.clip((shallow + noise) / 255, 0, 1) * full
        assert phash(read_image(tiff(deep.astype(np.float32))).pixels) - phash(shallow) <= 4


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_hot_and_dead_pixels_do_not_flatten_the_image(dtype: type) -> None:
    shallow = scene8(40, (240, 320))
    deep = (shallow.astype(np.int32) * 4 + 2000).astype(dtype)
    deep[3, 5], deep[100, 200] = 32767, 0
    read = read_image(tiff(deep))
    assert read.window is not None
    assert 2000 <= read.window[0] < read.window[1] <= 2000 + 4 * 255
    assert phash(read.pixels) - phash(shallow) <= 4


BARS = {
    "10 bits, white bar": (lambda v: v.astype(np.uint16) * 4, 65535, 65535),
    "10 bits, white text": (lambda v: v.astype(np.uint16) * 4 + 100, 0, 65535),
    "12 bits, white text": (lambda v: v.astype(np.uint16) * 16, 0, 65535),
    "8 bits in 16": (lambda v: v.astype(np.uint16), 0, 65280),
    "signed, black bar": (lambda v: v.astype(np.int16) * 4 + 20000, -32768, 32767),
    "offset, black bar, white text": (lambda v: v.astype(np.uint16) * 4 + 30000, 0, 65535),
    "32 bits": (lambda v: v.astype(np.uint32) * 4, 0, 2**32 - 1),
    "signed 32 bits": (lambda v: v.astype(np.int32) * 4, -(2**31), 2**31 - 1),
    "float 0 .. 1": (lambda v: v.astype(np.float32) / 255, 0, 255),
    "half 0 .. 1": (lambda v: v.astype(np.float16) / 255, 0, 65504),
    "double, largest values": (lambda v: v / 255, -np.finfo(np.float64).max, np.finfo(np.float64).max),
}


def with_bar(deep: np.ndarray, ground: float, text: float, rows: int = 20) -> np.ndarray:
    image = np.concatenate([deep, np.full((rows, deep.shape[1]), ground, deep.dtype)])
    image[-rows + 6 : -6, 20:200] = text
    return image


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", BARS)
@pytest.mark.parametrize("seed", [41, 42])
def test_info_bar_at_full_scale_does_not_flatten_the_scan(kind: str, seed: int) -> None:
    convert, ground, text = BARS[kind]
    shallow = scene8(seed, (240, 320))
    read = read_image(tiff(with_bar(convert(shallow), ground, text)))
    assert phash(read.pixels[:240]) - phash(shallow) <= 4
    assert len(np.unique(read.pixels[:240])) >= 60
    white, black = read.pixels[-10, 100], read.pixels[-10, 250]
    assert white == 255
    assert black == (255 if ground == text else 0)


@pytest.mark.parametrize("kind", BARS)
def test_hot_pixels_and_an_info_bar_do_not_flatten_the_scan(kind: str) -> None:
    convert, ground, text = BARS[kind]
    shallow = scene8(43, (240, 320))
    deep = convert(shallow)
    deep[7, 9] = deep.max() + (text / 2 - deep.max() / 2)
    read = read_image(tiff(with_bar(deep, ground, text)))
    assert read.pixels[7, 9] == 255
    assert phash(read.pixels[:240]) - phash(shallow) <= 4


def unbarred(samples: np.ndarray) -> tuple[float, float]:
    """Return the window of an image without info bars: the extremes, or the percentiles if the extremes are too far
    apart."""
    ordered = np.sort(samples[np.isfinite(samples)], axis=None)
    spare = int(ordered.size * window.OUTLIERS)
    inner = float(ordered[spare]), float(ordered[-1 - spare])
    outer = float(ordered[0]), float(ordered[-1])
    return inner if 0 < (inner[1] - inner[0]) * window.STRETCH < outer[1] - outer[0] else outer


@pytest.mark.parametrize("top", [4095, 16383, 65535])
@pytest.mark.parametrize("blur", [0.7, 1.0, 2.0])
def test_bright_specimens_are_not_info_bars(top: int, blur: float) -> None:
    """Saturated particles on a dark background have blurred edges, even if the particles are small. Calibrated scans
    are not truncated."""
    rng = np.random.default_rng(44)
    across, down = np.meshgrid(np.arange(1200), np.arange(1000))
    ground = rng.normal(60, 12, across.shape)
    for radius in (3, 7, 8, 10, 80):
        particle = gaussian_filter(((across - 500) ** 2 + (down - 300) ** 2 < radius**2).astype(float), blur)
        deep = np.clip(ground + particle * top * 1.5, 0, top) - 500  # below zero: not a scan of 8 bits or of 0 .. 1
        assert window.fit(deep.astype(np.float32)) == unbarred(deep.astype(np.float32))


def test_masks_are_not_info_bars() -> None:
    shallow = scene8(45, (240, 320)).astype(np.uint16)
    mask = shallow // 16  # 16 levels
    mask[:10] = 65535
    assert window.fit(mask) == (0, 65535)
    near = shallow * 100 + 1000  # the scan keeps more than a quarter of the range
    near[:10] = 65535
    assert window.fit(near) == (float(near.min()), 65535)


def test_sparse_image_on_a_constant_background_survives() -> None:
    deep = np.zeros((240, 320), np.uint16)
    deep[7, 7:10] = 4000
    assert read_image(tiff(deep)).window == (0, 4000)


@given(
    samples=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8"]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30))
    )
)
@settings(deadline=None)
def test_window_is_linear_rounded_and_clipped(samples: np.ndarray) -> None:
    finite = samples[np.isfinite(samples)].astype(float)
    if not finite.size:
        with pytest.raises(ValueError, match="finite"):
            window.fit(samples)
        return
    low, high = window.fit(samples)
    grey = window.apply(samples, (low, high))
    assert grey.dtype == np.uint8
    assert grey.shape == samples.shape
    for value, got in zip(samples.ravel().tolist(), grey.ravel().tolist(), strict=True):
        if not high > low or not np.isfinite(value):
            expected = 0.0
        else:
            expected = (min(max(float(value), low), high) - low) / (high - low) * 255
        assert abs(got - expected) <= 0.5 + 1e-9


def test_non_finite_values_become_black() -> None:
    deep = scene(50).astype(np.float32) * 7 - 3
    clean = read_image(tiff(deep)).pixels.copy()
    deep[0, :4] = np.nan, np.inf, -np.inf, np.nan
    read = read_image(tiff(deep))
    assert read.pixels[0, :4].tolist() == [0, 0, 0, 0]
    assert np.abs(read.pixels.ravel()[4:].astype(int) - clean.ravel()[4:]).max() <= 1
    assert fault_of(tiff(np.full((20, 20), np.nan, np.float32))) == "damaged"
    with pytest.raises(ImageError):
        read_pil_image(tiff(np.full((20, 20), np.inf, np.float64)))


def test_extreme_floats_have_a_window() -> None:
    most = np.finfo(np.float64).max
    grey = read_image(tiff(np.repeat([[-most, 0.0, most]], 20, 0))).pixels
    assert grey[0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.float32])
def test_constant_deep_image_is_black(dtype: type) -> None:
    read = read_image(tiff(np.full((20, 30), 7, dtype)))
    assert not read.pixels.any()
    assert read.window == (7, 7)


def test_deep_white_is_zero_is_inverted() -> None:
    deep = GREY.astype(np.uint16) * 100
    black, white = (read_image(tiff(deep, photometric=kind)) for kind in ("minisblack", "miniswhite"))
    assert np.array_equal(white.pixels, 255 - black.pixels)
    assert white.window == black.window[::-1]
    assert np.array_equal(read_pil_image(tiff(deep, photometric="miniswhite")), white.pixels)


@pytest.mark.parametrize("planar", [False, True])
def test_deep_colour_becomes_luma_by_one_window(planar: bool) -> None:
    deep = COLOUR.astype(np.uint16) * 257
    array = np.moveaxis(deep, -1, 0).copy() if planar else deep
    data = tiff(array, photometric="rgb", planarconfig="separate" if planar else "contig")
    read = read_image(data)
    low, high = read.window
    assert (read.mode, read.bits) == ("RGB", 16)
    expected = ((deep @ np.array([0.299, 0.587, 0.114])) - low) / (high - low) * 255
    assert np.abs(read.pixels - expected).max() <= 0.51
    floats = read_image(tiff(COLOUR.astype(np.float32) / 255, photometric="rgb"))
    assert np.abs(floats.pixels - COLOUR @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_goes_through_the_window(channels: int) -> None:
    deep = COLOUR_ALPHA[..., :channels].astype(np.uint16) << 4
    read = read_image(imagecodecs.png_encode(deep.squeeze()))
    assert (read.format, read.mode, read.bits) == ("PNG", ["I;16", "LA", "RGB", "RGBA"][channels - 1], 16)
    tiff_read = read_image(tiff(deep[..., 0] if channels < 3 else deep[..., :3].copy()))
    assert np.array_equal(read.pixels, tiff_read.pixels)
    assert read.window == tiff_read.window


@pytest.mark.parametrize(("dtype", "mode"), [("u2", "I;16"), ("i2", "I"), ("u4", "I"), ("f4", "F"), ("f8", "F")])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_deep_tiff_variants_agree(dtype: str, mode: str, compression: str | None) -> None:
    deep = (scene(60) * 30000).astype(dtype)
    expected = read_image(tiff(deep))
    assert (expected.mode, expected.bits) == (mode, 8 * deep.itemsize)
    predictors = [None] if compression in {None, "packbits"} else [None, 3 if dtype[0] == "f" else 2]
    for order, layout, predictor in itertools.product("<>", [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}], predictors):
        read = read_image(tiff(deep, byteorder=order, compression=compression, predictor=predictor, **layout))
        assert np.array_equal(read.pixels, expected.pixels)
        assert read.window == expected.window


# ---------------------------------------------------------------- sources


def test_every_kind_of_source_is_read_in_the_same_way(tmp_path: Path) -> None:
    data = tiff(GREY, rowsperstrip=9)
    path = tmp_path / "no_extension"
    path.write_bytes(data)
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", data)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(path, "a")
    advanced = io.BytesIO(data)
    advanced.seek(100)
    for source in (str(path), path, data, advanced):
        assert np.array_equal(read_image(source).pixels, GREY)
    with path.open("rb") as stream, zipfile.ZipFile(packed) as archive, archive.open("a.jpg") as member:
        for source in (stream, member, stream):
            assert np.array_equal(read_image(source).pixels, GREY)
            assert not source.closed
    with path.open("rb", buffering=0) as stream:
        assert np.array_equal(read_image(stream).pixels, GREY)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert np.array_equal(read_image(archive.extractfile("a")).pixels, GREY)
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as stream:  # its name is a number
        assert np.array_equal(read_image(stream).pixels, GREY)


def test_pixels_are_contiguous_writable_and_described() -> None:
    for array in (GREY, COLOUR, COLOUR_ALPHA, GREY.astype(np.uint16) * 9, GREY.astype(np.float32)):
        read = read_image(tiff(array, extratags=[(274, 3, 1, 6, True)]))
        assert isinstance(read, GreyImage)
        assert read.pixels.flags.c_contiguous
        assert read.pixels.flags.writeable
        assert read.pixels.dtype == np.uint8
        assert read.pixels.shape == (read.height, read.width) == (W, H)


def test_global_state_of_pillow_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    image = Image.fromarray(COLOUR)
    sources = [saved(image, fmt) for fmt in ("TIFF", "PNG", "BMP", "JPEG")] + [tiff(GREY.astype(np.uint16))]
    expected = [read_image(source).pixels for source in sources]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda source: read_image(source).pixels, sources * 10)
        for got, wanted in zip(results, expected * 10, strict=True):
            assert np.array_equal(got, wanted)


# ---------------------------------------------------------------- faults


def test_sources_that_cannot_be_opened(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "absent.tif") == "missing"
    assert fault_of(tmp_path) == "unreadable"
    os.mkfifo(tmp_path / "pipe")
    assert fault_of(tmp_path / "pipe") == "unreadable"
    assert fault_of("null\0character") == "unreadable"
    (tmp_path / "empty.tif").touch()
    assert fault_of(tmp_path / "empty.tif") == "empty"
    assert fault_of(tmp_path / "empty.tif" / "below") == "missing"
    assert fault_of(b"") == "empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(GREY))
    path.chmod(0)
    assert fault_of(path) == "unreadable"


def test_missing_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(GREY))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(ImageError, match="no permission to read it") as caught:
        read_image(path)
    assert caught.value.fault == "unreadable"


def test_stream_that_fails_is_unreadable() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 8:
                raise OSError(5, "Input/output error")
            return super().read(size)

    for data in (tiff(GREY), saved(Image.fromarray(GREY), "BMP"), saved(Image.fromarray(GREY), "PNG")):
        assert fault_of(Failing(data)) == "unreadable"


def test_content_and_not_the_name_decides_the_format(tmp_path: Path) -> None:
    text = tmp_path / "notes.tif"
    text.write_text("Specimen 7, 15 kV\n")
    assert fault_of(text) == "unsupported"
    assert fault_of(b"GIF89a" + bytes(50)) == "unsupported"
    disguised = tmp_path / "really_a_png.jpg"
    disguised.write_bytes(saved(Image.fromarray(GREY), "PNG"))
    assert read_image(disguised).format == "PNG"


def test_errors_contain_the_given_name(tmp_path: Path) -> None:
    for source, options, expected in (
        (b"?", {"name": "set.zip!a.tif"}, "set.zip!a.tif"),
        (tmp_path / "gone", {}, str(tmp_path / "gone")),
        (b"?", {}, "<bytes>"),
    ):
        for read in (read_image, read_pil_image):
            with pytest.raises(ImageError) as caught:
                read(source, **options)
            assert caught.value.source == expected


ALL_FORMATS = {
    "tiff": tiff(GREY),
    "tiff strips": tiff(COLOUR, rowsperstrip=5),
    "tiff tiles, lzw": tiff(GREY, tile=(16, 16), compression="lzw"),
    "tiff deflate": tiff(GREY.astype(np.uint16) * 99, compression="zlib", rowsperstrip=20, predictor=2),
    "tiff packbits": tiff(GREY, compression="packbits", byteorder=">"),
    "tiff jpeg": tiff(COLOUR, compression="jpeg", rowsperstrip=16),
    "tiff jpeg tiles": tiff(GREY, compression="jpeg", tile=(32, 32)),
    "tiff zstd": tiff(GREY, compression="zstd"),
    "tiff float": tiff(GREY.astype(np.float32), compression="zlib", predictor=3, bigtiff=True),
    "tiff planar": tiff(np.moveaxis(COLOUR, -1, 0).copy(), photometric="rgb", planarconfig="separate"),
    "tiff palette": tiff(GREY, photometric="palette", colormap=PALETTE),
    "tiff bilevel": tiff(GREY > 99),
    "tiff volume": tiff(np.stack([GREY] * 16), volumetric=True, photometric="minisblack", tile=(16, 16, 16)),
    "tiff pages": pages(REDUCED, MASK, FULL),
    "tiff png": tiff(GREY, compression="png"),
    "tiff jpeg 2000": tiff(GREY, compression="jpeg2000"),
    "tiff jpeg xl": tiff(GREY, compression="jpegxl", tile=(32, 32)),
    "tiff lerc": tiff(GREY, compression="lerc"),
    "tiff fax": saved(Image.fromarray(GREY > 99), "TIFF", compression="group4"),
    "jpeg": saved(Image.fromarray(GREY), "JPEG"),
    "jpeg progressive": saved(Image.fromarray(COLOUR), "JPEG", progressive=True),
    "png": saved(Image.fromarray(COLOUR), "PNG"),
    "png palette": saved(Image.fromarray(COLOUR).quantize(9), "PNG"),
    "png deep": saved(Image.fromarray(GREY.astype(np.uint16) * 99), "PNG"),
    "png deep colour": imagecodecs.png_encode(COLOUR.astype(np.uint16) * 99),
    "png animated": saved(Image.fromarray(GREY), "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
    "webp": saved(Image.fromarray(COLOUR), "WEBP"),
    "jp2": saved(Image.fromarray(COLOUR), "JPEG2000"),
    "bmp": saved(Image.fromarray(COLOUR), "BMP"),
    "bmp palette": saved(Image.fromarray(COLOUR).quantize(9), "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALL_FORMATS)
def test_truncated_file_is_refused_unless_pixels_are_whole(kind: str) -> None:
    data = ALL_FORMATS[kind]
    try:
        whole = read_image(data)
    except ImageError as error:
        if "the installed imagecodecs lacks" not in error.detail:
            raise
        pytest.skip(error.detail)
    for keep in sorted({*range(1, 64), *np.linspace(64, len(data) - 1, 60).astype(int).tolist()}):
        try:
            read = read_image(data[:keep])
        except ImageError:
            continue
        assert np.array_equal(read.pixels, whole.pixels)  # only data after the pixels was cut off
        assert kind.startswith("tiff") or (kind.startswith("jpeg") and keep >= len(data) - 2)
    pixels_cut = ALL_FORMATS["tiff"][: -len(GREY) * 2]
    assert fault_of(pixels_cut) == "truncated"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(ALL_FORMATS[draw(st.sampled_from(sorted(ALL_FORMATS)))])
    for _ in range(draw(st.integers(1, 6))):
        end = draw(st.sampled_from([min(len(data), 250), len(data)]))  # mostly headers
        at = draw(st.integers(0, end - 1))
        data[at : at + draw(st.integers(0, 4))] = draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\1\0"]))
        )
        if len(data) < 2:
            break
    if data[:4] == b"\x89PNG" and draw(st.booleans()):  # correct checksums, so that damage reaches the decoder
        at = 8
        while at + 12 <= len(data):
            end = at + 8 + int.from_bytes(data[at : at + 4], "big")
            if end + 4 > len(data):
                break
            data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
            at = end + 4
    return bytes(data)


@given(data=damaged(), read=st.sampled_from([read_image, read_pil_image]))
@settings(max_examples=1500)
def test_damaged_file_raises_only_image_errors(data: bytes, read: object) -> None:
    with contextlib.suppress(ImageError):
        assert isinstance(read(data, pixel_budget=4_000_000), GreyImage | Image.Image)


@pytest.mark.parametrize(
    "magic", [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"]
)
@given(garbage=st.binary(max_size=200))
@settings(deadline=None, max_examples=40)
def test_garbage_after_the_magic_number_is_refused(magic: bytes, garbage: bytes) -> None:
    assert fault_of(magic + garbage) in {"truncated", "damaged", "unsupported", "too_large"}


def test_false_dimensions_are_refused_without_memory() -> None:
    plain = tiff(GREY)
    bombs = {
        "tiff": edited(edited(plain, 256, 50_000), 257, 40_000),
        "tiff deflate": edited(edited(tiff(GREY, compression="zlib"), 256, 50_000), 257, 40_000),
        "png": png(struct.pack(">IIBBBBB", 50_000, 40_000, 8, 0, 0, 0, 0), zlib.compress(bytes(999))),
        "bmp": ALL_FORMATS["bmp"][:18] + struct.pack("<ii", 50_000, 40_000) + ALL_FORMATS["bmp"][26:],
        "jpeg": ALL_FORMATS["jpeg"].replace(struct.pack(">HH", H, W), struct.pack(">HH", 50_000, 40_000)),
    }
    tracemalloc.start()
    for data in bombs.values():
        assert fault_of(data) == "too_large"
    within = {
        "tiff": edited(edited(plain, 256, 10_000), 257, 20_000),
        "tiff deflate": edited(edited(tiff(GREY, compression="zlib"), 256, 10_000), 257, 20_000),
        "png": png(struct.pack(">IIBBBBB", 10_000, 20_000, 8, 0, 0, 0, 0), zlib.compress(bytes(999))),
        "bmp": ALL_FORMATS["bmp"][:18] + struct.pack("<ii", 10_000, 20_000) + ALL_FORMATS["bmp"][26:],
    }
    for data in within.values():
        assert fault_of(data) in {"truncated", "damaged"}
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["tiff", "jpeg", "png", "bmp"])
def test_pixel_budget_is_exact(kind: str) -> None:
    assert read_image(ALL_FORMATS[kind], pixel_budget=H * W).pixels.size == H * W
    assert fault_of(ALL_FORMATS[kind], pixel_budget=H * W - 1) == "too_large"


@pytest.mark.parametrize(
    ("tag", "value", "fault"),
    [
        (256, 0, "damaged"),  # width
        (257, 2**32 - 1, "too_large"),  # length
        (258, 0, "damaged"),  # bits
        (258, 65535, "unsupported"),
        (259, 32766, "unsupported"),  # compression
        (262, 8, "unsupported"),  # CIELab
        (262, 2, "damaged"),  # RGB of one channel
        (273, 2**31, "truncated"),  # offset
        (273, 0, "damaged"),
        (277, 0, "damaged"),  # samples
        (278, 0, "damaged"),  # rows per strip
        (279, 10, "damaged"),  # bytes
    ],
)
def test_tags_that_contradict_the_file_are_refused(tag: int, value: int, fault: str) -> None:
    data = tiff(GREY)
    assert fault_of(edited(data, tag, value)) == fault
    if tag != 278:  # a list of these can be ignored
        with pytest.raises(ImageError):
            read_image(edited(data, tag, 8, kind=12, count=3))  # doubles at offset 8


def test_missing_strips_are_refused() -> None:
    data = tiff(GREY, rowsperstrip=13)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for code in (273, 279):
            tag = file.pages[0].tags[code]
            holed = bytearray(data)
            size = {3: 2, 4: 4}[tag.dtype]
            holed[tag.valueoffset + size : tag.valueoffset + 2 * size] = bytes(size)
            assert np.count_nonzero(tifffile.imread(io.BytesIO(holed))[13:26]) == 0  # tifffile reads zeros
            assert fault_of(bytes(holed)) == "damaged"


def test_truncated_or_wrong_jpeg_strip_is_refused() -> None:
    data = tiff(GREY, compression="jpeg")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (start,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    assert fault_of(edited(data, 279, count // 2)) == "truncated"
    size = struct.pack(">HH", H, W)
    at = data.index(size, start)
    assert fault_of(data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :]) == "damaged"
    assert fault_of(data[:at] + struct.pack(">HH", W, H) + data[at + 4 :]) == "damaged"


def test_png_with_damaged_pixels_is_refused() -> None:
    data = ALL_FORMATS["png"]
    at = data.index(b"IDAT") + 40
    assert fault_of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) == "damaged"
    short = png(struct.pack(">IIBBBBB", 30, 30, 8, 0, 0, 0, 0), zlib.compress(bytes(31 * 20)))
    assert fault_of(short) == "truncated"
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        header = struct.pack(">IIBBBBB", 30, 30, 16, colour, 0, 0, 0)
        assert fault_of(png(header, zlib.compress(bytes(30 * (1 + 60 * channels) - 1)))) == "truncated"
        assert fault_of(png(header, b"rubbish" * 9)) == "damaged"


def test_tifffile_is_silent_only_while_reading(caplog: pytest.LogCaptureFixture) -> None:
    data = edited(tiff(GREY), 305, 2**31, kind=2, count=99)  # Software, beyond the end of the file
    assert np.array_equal(read_image(data).pixels, GREY)
    assert fault_of(edited(data, 273, 0)) == "damaged"
    assert not caplog.records
    with caplog.at_level(logging.WARNING), tifffile.TiffFile(io.BytesIO(data)):
        pass
    assert caplog.records


# ---------------------------------------------------------------- real micrographs


def test_real_micrographs(micrographs_dir: Path) -> None:
    lines = (micrographs_dir / "MANIFEST.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    for line in lines[1:]:
        row = dict(zip(header, line.split("\t"), strict=True))
        path = micrographs_dir / row["path"]
        if "BROKEN" in row["note"]:
            assert fault_of(path) == "truncated"
            continue
        read = read_image(path)
        assert (read.format, read.mode) == (row["format"], row["mode"])
        assert (read.width, read.height) == (int(row["width"]), int(row["height"]))
        if read.bits == 8:
            assert read.window is None
            assert np.array_equal(read.pixels, by_pillow(path.read_bytes())), path
        elif read.mode == "I;16":
            deep = tifffile.imread(path)
            assert read.window is not None
            assert phash(read.pixels) - phash((deep >> 8).astype(np.uint8)) <= 4
            assert phash(read.pixels) - phash(np.rint(deep / 257).astype(np.uint8)) <= 4

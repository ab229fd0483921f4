"""WebP and JPEG 2000: the pixels are the same as by Pillow, no bits are lost, and missing data are detected."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image, read_pil_image

H, W = 52, 67
GREY = np.clip(128 + 500 * gaussian_filter(np.random.default_rng(1).normal(size=(H, W)), 2), 0, 255).astype(np.uint8)
COLOUR = np.stack([GREY, np.roll(GREY, 7, 0), np.roll(GREY, 9, 1)], -1)
PICTURES = {
    "L": Image.fromarray(GREY),
    "RGB": Image.fromarray(COLOUR),
    "RGBA": Image.fromarray(np.dstack([COLOUR, GREY])),
}


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


FILES = {
    **{f"WebP {mode}": saved(image, "WEBP") for mode, image in PICTURES.items()},
    **{f"WebP {mode} lossless": saved(image, "WEBP", lossless=True) for mode, image in PICTURES.items()},
    **{f"JPEG 2000 {mode}": saved(image, "JPEG2000") for mode, image in PICTURES.items()},
    "JPEG 2000 codestream": saved(PICTURES["L"], "JPEG2000", no_jp2=True),
    "JPEG 2000 tiles": saved(PICTURES["RGB"], "JPEG2000", tile_size=(32, 32), irreversible=True),
}


def fault_of(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(data, **options)
    return caught.value.fault


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_those_of_pillow(kind: str) -> None:
    data = FILES[kind]
    expected = Image.open(io.BytesIO(data))
    read = read_image(data)
    assert np.array_equal(read.pixels, np.array(expected.convert("L")))
    assert (read.width, read.height, read.mode, read.bits) == (*expected.size, expected.mode, 8)
    assert kind.startswith(read.format)
    assert np.array_equal(read_pil_image(data).convert("RGB"), expected.convert("RGB"))


@pytest.mark.parametrize("kind", FILES)
def test_missing_bytes_are_refused(kind: str) -> None:
    data = FILES[kind]
    for length in {*range(1, 150), *range(150, len(data), 1 + len(data) // 40), *range(len(data) - 6, len(data))}:
        try:
            read = read_image(data[:length])
        except ImageError:
            continue
        assert np.array_equal(read.pixels, read_image(data).pixels)
    assert fault_of(data[: len(data) * 2 // 3]) == "truncated"


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_jpeg2000_keeps_all_bits(bits: int) -> None:
    deep = (GREY.astype(np.uint16) << (bits - 8)) + GREY % 4
    data = imagecodecs.jpeg2k_encode(deep, codecformat="j2k", bitspersample=bits)
    read = read_image(data)
    from_png = read_image(imagecodecs.png_encode(deep))
    assert np.array_equal(read.pixels, from_png.pixels)
    assert (read.window, read.bits) == (from_png.window, bits)
    colour = np.stack([deep, deep.T.reshape(deep.shape), deep[::-1]], -1)
    read = read_image(imagecodecs.jpeg2k_encode(colour, codecformat="jp2"))
    assert np.array_equal(read.pixels, read_image(imagecodecs.png_encode(colour)).pixels)


def test_animated_webp_gives_its_first_frame() -> None:
    frames = [PICTURES["L"].convert("RGB"), Image.fromarray(255 - COLOUR)]
    read = read_image(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert (read.pages, read.page) == (2, 0)
    assert np.array_equal(read.pixels, GREY)


def test_false_sizes_are_refused_before_decoding() -> None:
    for kind in ("WebP RGB", "WebP RGB lossless", "JPEG 2000 L", "JPEG 2000 codestream"):
        assert read_image(FILES[kind], pixel_budget=H * W).pixels.size == H * W
        assert fault_of(FILES[kind], pixel_budget=H * W - 1) == "too_large"
    stream = FILES["JPEG 2000 codestream"]
    huge = stream[:8] + struct.pack(">II", 10_000, 20_000) + stream[16:]  # more tiles than there are
    assert fault_of(huge) == "truncated"
    huge = huge[:24] + struct.pack(">II", 10_000, 20_000) + huge[32:]  # one tile of this size
    with pytest.raises(ImageError):
        read_image(huge, pixel_budget=1_000_000)
    many = stream[:40] + struct.pack(">H", 16_384) + stream[42:]
    assert fault_of(many) == "damaged"


@pytest.mark.parametrize("kind", ["WebP RGB", "WebP RGB lossless", "JPEG 2000 L", "JPEG 2000 codestream"])
def test_damaged_bytes_raise_only_image_errors(kind: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(150):
        data = bytearray(FILES[kind])
        for at in rng.integers(0, [len(data), 200][int(rng.integers(2))], rng.integers(1, 4)):
            data[at] = rng.integers(256)
        try:
            read_image(bytes(data), pixel_budget=4_000_000)
        except ImageError as error:
            assert error.detail  # noqa: PT017  either outcome is right

"""Pages of TIFF files: which pages are pictures, and reading one page without the others."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import tiff_pages
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.imaging.reader import read_image, read_pil_image
from twinscope_indexer.imaging.sniffing import ImageFile
from twinscope_indexer.imaging.tiff_directories import directory_offsets
from twinscope_indexer.indexing.pages import first_hashable_page, pages_of

H, W = 96, 128


def scene(seed: int, height: int = H, width: int = W) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = sum(gaussian_filter(rng.normal(size=(height, width)), s) * s for s in (1, 3, 9))
    return np.uint8(255 * (field - field.min()) / (field.max() - field.min()))


def stack(*pages: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None)
    return buffer.getvalue()


def marked(*pages: tuple[np.ndarray, int]) -> bytes:
    """Write pages with their value of NewSubfileType."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page, kind in pages:
            writer.write(page, subfiletype=kind, contiguous=False, metadata=None)
    return buffer.getvalue()


def links(data: bytes) -> list[int]:
    """Return the positions of the pointers from one directory to the next, in a little-endian classic TIFF file."""
    found, at = [], 4
    while offset := struct.unpack_from("<I", data, at)[0]:
        at = offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0]
        found.append(at)
    return found


def relinked(data: bytes, page: int, offset: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<I", changed, links(data)[page - 1], offset)
    return bytes(changed)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_each_page_is_read(options: dict[str, object], tmp_path: Path) -> None:
    scenes = [scene(n) for n in range(4)]
    data = stack(*scenes, **options)
    (tmp_path / "a.tif").write_bytes(data)
    for source in (data, io.BytesIO(data), tmp_path / "a.tif"):
        assert stack_pages(source) == (1, 2, 3, 4)
        for number, pixels in enumerate(scenes, 1):
            image = read_image(source, page=number)
            assert (image.pages, image.page) == (4, number - 1)
            np.testing.assert_array_equal(image.pixels, pixels)
            np.testing.assert_array_equal(np.array(read_pil_image(source, page=number)), pixels)
        np.testing.assert_array_equal(read_image(source).pixels, scenes[0])


def test_pages_of_every_kind_are_those_of_tifffile() -> None:
    pages = [scene(1), scene(2).astype(np.uint16) * 200, np.stack([scene(n) for n in (3, 4, 5)], -1), scene(6, 50, 200)]
    data = stack(*pages)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        for number, page in enumerate(tiff.pages, 1):
            assert read_image(data, page=number).pixels.shape == page.asarray().shape[:2]
    assert read_image(data, page=2).bits == 16
    np.testing.assert_array_equal(read_image(data, page=3).pixels, np.array(Image.fromarray(pages[2]).convert("L")))


def test_masks_reduced_pages_and_tiny_pages_are_no_pictures() -> None:
    reduced, mask, picture = (scene(2), 1), (scene(3) > 100, 4), (scene(1), 0)
    tiny = (scene(4, 15, 60), 0)
    assert stack_pages(marked(reduced, picture, mask, (scene(5), 0), tiny)) == (2, 4)
    for single in (marked(picture), marked(picture, reduced), marked(mask, picture, tiny), marked(reduced, mask)):
        assert stack_pages(single) == ()


def test_a_thumbnail_without_a_mark_is_no_picture_of_its_own() -> None:
    large = scene(1, 192, 256)
    small = np.asarray(Image.fromarray(large).resize((64, 48), Image.Resampling.LANCZOS))
    half = np.asarray(Image.fromarray(large).resize((128, 96), Image.Resampling.BICUBIC))
    assert stack_pages(stack(large, small, half)) == ()
    assert stack_pages(stack(large, small, scene(2, 48, 64))) == (1, 3)


def test_a_small_page_of_another_field_is_a_picture_of_its_own() -> None:
    assert stack_pages(stack(scene(1, 192, 256), scene(2, 48, 64))) == (1, 2)
    assert stack_pages(stack(scene(1, 192, 256), np.full((48, 64), 7, np.uint8))) == (1, 2)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
def test_other_formats_have_no_pages(format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene(1)).save(buffer, format)
    assert stack_pages(buffer.getvalue()) == ()
    assert read_image(buffer.getvalue(), page=1).page == 0
    with pytest.raises(ImageError, match="has no page 2") as refused:
        read_image(buffer.getvalue(), page=2)
    assert refused.value.fault == "missing"


def test_a_missing_page_is_an_error() -> None:
    data = stack(scene(1), scene(2))
    with pytest.raises(ImageError, match="no page 3; the number of its pages is 2") as refused:
        read_image(data, page=3)
    assert refused.value.fault == "missing"


@pytest.mark.parametrize("target", [1, 2, 3])
def test_a_loop_in_the_chain_ends_the_list(target: int) -> None:
    data = stack(*(scene(n) for n in range(3)))
    first = [struct.unpack_from("<I", data, at)[0] for at in (4, *links(data)[:2])]
    looping = relinked(data, 3, first[target - 1])
    assert stack_pages(looping) == (1, 2, 3)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read_image(looping, page=number).pixels, scene(number - 1))


def test_a_stack_that_is_cut_off_names_the_missing_page() -> None:
    data = stack(*(scene(n) for n in range(4)))
    cut = relinked(data, 2, len(data) + 100)
    assert stack_pages(cut) == (1, 2, 3)
    with pytest.raises(ImageError, match="ends before this page") as refused:
        read_image(cut, page=3)
    assert refused.value.fault == "truncated"
    np.testing.assert_array_equal(read_image(cut, page=2).pixels, scene(1))


@pytest.mark.parametrize(
    "found", [b"\0" * 60, b"\x90" * 60, b"\x05\0" + bytes(range(100, 158)), b"\x02\0" + b"\xff" * 58]
)
def test_a_pointer_to_no_directory_ends_the_list(found: bytes) -> None:
    data = stack(*(scene(n) for n in range(3)))
    wild = relinked(data + found + bytes(50_000), 3, len(data))
    assert stack_pages(wild) == (1, 2, 3)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read_image(wild, page=number).pixels, scene(number - 1))


def test_one_picture_with_a_broken_chain_is_one_image() -> None:
    data = stack(scene(1))
    assert stack_pages(relinked(data, 1, len(data) + 100)) == ()
    assert stack_pages(marked((scene(1), 0), (scene(2), 1))[:-1]) == ()


def test_a_damaged_page_does_not_hide_the_others() -> None:
    data = bytearray(stack(*(scene(n) for n in range(3))))
    offset = struct.unpack_from("<I", data, links(bytes(data))[0])[0]
    for entry in range(struct.unpack_from("<H", data, offset)[0]):
        at = offset + 2 + 12 * entry
        if struct.unpack_from("<H", data, at)[0] == 273:  # StripOffsets
            struct.pack_into("<I", data, at + 8, len(data) + 1000)
    damaged = bytes(data)
    assert stack_pages(damaged) == (1, 2, 3)
    with pytest.raises(ImageError):
        read_image(damaged, page=2)
    np.testing.assert_array_equal(read_image(damaged, page=3).pixels, scene(2))


def test_every_truncation_is_an_image_error_or_a_shorter_stack() -> None:
    data = stack(*(scene(n, 20, 24) for n in range(3)))
    faults = set()
    for size in range(0, len(data), 5):
        number = 0
        try:
            for number in stack_pages(data[:size]):
                read_image(data[:size], page=number)
        except ImageError as error:
            faults.add(error.fault)
    assert "truncated" in faults
    assert faults <= {"empty", "unsupported", "truncated", "damaged"}


def test_flipped_bits_raise_nothing_but_image_errors() -> None:
    data = stack(*(scene(n, 20, 24) for n in range(3)))
    chance = np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        for at in chance.integers(0, len(data), 3):
            changed[at] ^= 1 << int(chance.integers(8))
        try:
            for number in stack_pages(bytes(changed)):
                read_image(bytes(changed), page=number, pixel_budget=1_000_000)
        except ImageError:
            continue


def test_only_the_page_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(stack(*(scene(n) for n in range(2)), bigtiff=True))
    with path.open("r+b") as stream:
        stream.truncate(3 << 30)
    read_image(path, page=2)
    tracemalloc.start()
    np.testing.assert_array_equal(read_image(path, page=2).pixels, scene(1))
    assert stack_pages(path) == (1, 2)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_large_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(scene(1)).save(path)
    with path.open("r+b") as stream:
        stream.truncate((2 << 30) + 1)
    with pytest.raises(ImageError, match="Only TIFF files may be larger") as refused:
        read_image(path)
    assert refused.value.fault == "too_large"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(stack(scene(1), scene(2)))
    assert stack_pages(path) == (1, 2)
    path.write_bytes(stack(scene(3), scene(4), scene(5)))
    assert stack_pages(path) == (1, 2, 3)
    np.testing.assert_array_equal(read_image(path, page=3).pixels, scene(5))


def test_the_chain_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.tif"
    with tifffile.TiffWriter(path) as writer:
        for number in range(300):
            writer.write(np.full((16, 16), number % 251, np.uint8), contiguous=False, metadata=None)
    calls = []

    def counted(file: ImageFile) -> tuple[list[int], str]:
        calls.append(file)
        return directory_offsets(file)

    monkeypatch.setattr(tiff_pages, "directory_offsets", counted)
    assert stack_pages(path) == tuple(range(1, 301))
    assert [int(read_image(path, page=n).pixels[0, 0]) for n in (1, 150, 300)] == [0, 149, 299 % 251]
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pages_of_imagej_that_share_one_directory(tmp_path: Path, dtype: type) -> None:
    scenes = np.stack([scene(n).astype(dtype) for n in range(5)])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, scenes, imagej=True)
    whole = buffer.getvalue()
    order = {b"II": "<", b"MM": ">"}[whole[:2]]
    (at,) = struct.unpack_from(f"{order}I", whole, 4)
    at += 2 + 12 * struct.unpack_from(f"{order}H", whole, at)[0]
    shared = whole[:at] + bytes(4) + whole[at + 4 :]
    with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
        end = tiff.pages[0].dataoffsets[0] + scenes.nbytes
    path = tmp_path / "shared.tif"
    path.write_bytes(shared[:end])
    assert stack_pages(path) == stack_pages(shared) == (1, 2, 3, 4, 5)
    for number in range(1, 6):
        assert np.array_equal(read_image(path, page=number).pixels, read_image(whole, page=number).pixels)
    with pytest.raises(ImageError, match="no page 6"):
        read_image(path, page=6)
    cut = shared[: end - 10]
    assert stack_pages(cut) == (1, 2, 3, 4, 5)
    with pytest.raises(ImageError, match="ends before this page"):
        read_image(cut, page=5)


def test_locations_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(stack(scene(1), scene(2)))
    (tmp_path / "b.tif").write_bytes(stack(scene(1)))
    assert pages_of(path) == [f"{path}#page=1", f"{path}#page=2"]
    assert pages_of(f"{path}#page=2") == [f"{path}#page=2"]
    assert pages_of(tmp_path / "b.tif") == [str(tmp_path / "b.tif")]
    assert pages_of(tmp_path / "missing.tif") == [str(tmp_path / "missing.tif")]


def test_the_first_page_that_can_be_hashed_stands_for_the_file() -> None:
    blank = np.full((H, W), 9, np.uint8)
    assert first_hashable_page(stack(scene(1), scene(2))) == 0
    assert first_hashable_page(stack(blank, blank, scene(1), scene(2))) == 3
    assert first_hashable_page(stack(blank, blank)) == 0
    assert first_hashable_page(stack(blank)) == 0

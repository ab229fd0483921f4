"""If `needs_codec` returns False for a file, Twinscope reads the file without any compiled decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from twinscope_indexer.imaging.codecs import needs_codec
from twinscope_indexer.imaging.reader import read_image

_RAMP = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
_PLAIN: dict[str, tuple[Any, dict[str, Any]]] = {
    "8 bit": (_RAMP.astype(np.uint8), {}),
    "16 bit": (_RAMP, {}),
    "big-endian": (_RAMP, {"byteorder": ">"}),
    "BigTIFF": (_RAMP, {"bigtiff": True}),
    "float": (_RAMP.astype(np.float32), {}),
    "RGB": (np.stack([_RAMP.astype(np.uint8)] * 3, axis=2), {"photometric": "rgb"}),
    "two pages": (np.stack([_RAMP, _RAMP]), {"photometric": "minisblack"}),
    "tiles": (_RAMP, {"tile": (32, 32)}),
}
_PACKED: dict[str, tuple[Any, dict[str, Any]]] = {
    **{name: (_RAMP, {"compression": name}) for name in ("zlib", "lzw", "packbits")},
    "JPEG": (_RAMP.astype(np.uint8), {"compression": "jpeg"}),
    "predictor": (_RAMP, {"compression": "zlib", "predictor": True}),
    "one bit": (_RAMP % 2 > 0, {"photometric": "minisblack"}),
}


@pytest.mark.parametrize("name", _PLAIN)
def test_plain_tiff_needs_no_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pixels, options = _PLAIN[name]
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, pixels, **options)
    expected = read_image(path).pixels
    assert not needs_codec(path)
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", None)
    assert np.array_equal(read_image(path).pixels, expected)


@pytest.mark.parametrize("name", _PACKED)
def test_packed_tiff_needs_a_codec(tmp_path: Path, name: str) -> None:
    pixels, options = _PACKED[name]
    path = tmp_path / "packed.tif"
    tifffile.imwrite(path, pixels, **options)
    assert needs_codec(path)


def test_packed_second_page_needs_a_codec(tmp_path: Path) -> None:
    path = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(_RAMP)
        writer.write(_RAMP, compression="zlib")
    assert needs_codec(path)


def test_more_pages_than_are_read_need_a_codec(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((20, 16, 16), np.uint8), photometric="minisblack")
    assert needs_codec(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_other_formats_need_a_codec(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(_RAMP.astype(np.uint8)).save(path)
    assert needs_codec(path)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"rubbish" * 9])
def test_broken_files_count_as_in_need_of_a_codec(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tif"
    path.write_bytes(content)
    assert needs_codec(path)
    assert needs_codec(tmp_path / "missing.tif")


@pytest.mark.parametrize("size", [10, 60, 150])
def test_cut_off_directory_counts_as_in_need_of_a_codec(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, _RAMP)
    path.write_bytes(path.read_bytes()[:size])
    assert needs_codec(path)

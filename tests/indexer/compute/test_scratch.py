"""Scratch arrays: large arrays in a temporary file."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twinscope_indexer.compute import scratch


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of more than 1000 bytes are scratch arrays, and scans release them every 3000 bytes."""
    monkeypatch.setattr(scratch, "LIMIT", 1000)
    monkeypatch.setattr(scratch, "STEP", 3000)


@pytest.mark.usefixtures("small")
def test_the_limit_decides_where_an_array_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert not scratch.is_scratch(scratch.empty((10, 100), np.uint8))
    for make in (scratch.empty, scratch.zeros):
        array = make((10, 101), np.uint8)
        assert scratch.is_scratch(array)
        assert scratch.is_scratch(array[2:, 3:].T)
        assert not array.any()
        if os.name != "nt":
            assert not list(tmp_path.iterdir())  # the file has no name


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("multiple", [1, 7])
def test_bands_cover_the_array_and_the_values_stay(multiple: int) -> None:
    array = scratch.empty((1000, 33), np.uint16)
    wanted = np.random.default_rng(0).integers(0, 60_000, array.shape, np.uint16)
    covered = np.zeros(1000, int)
    for band in scratch.bands(array, multiple=multiple):
        array[band] = wanted[band]
        covered[band] += 1
        assert band.stop == 1000 or not (band.stop - band.start) % multiple
        assert array[band].nbytes <= max(scratch.STEP, multiple * 66)
    assert (covered == 1).all()
    scratch.release(array, wanted)
    assert np.array_equal(array, wanted)
    assert np.array_equal(scratch.every(9, array), wanted[::9])
    assert list(scratch.bands(wanted)) == [slice(0, 1000)]


@pytest.mark.usefixtures("small")
def test_packed_copies_turned_views() -> None:
    array = scratch.empty((130, 200, 2), np.uint8)
    array[...] = np.random.default_rng(0).integers(0, 255, array.shape, np.uint8)
    for view in (np.rot90(array), np.flipud(array), array[..., 0], np.swapaxes(array, 0, 1)[::-1, :, :1]):
        copy = scratch.packed(view)
        assert copy.flags.c_contiguous
        assert scratch.is_scratch(copy)
        assert np.array_equal(copy, view)
    assert scratch.packed(array) is array
    plain = np.ones((50, 50)).T[::2]
    assert scratch.packed(plain) is plain


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the resident memory of this process")
def test_a_released_array_is_not_in_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGESIZE")  # of files

    array = scratch.empty((scratch.LIMIT + 1,), np.uint8)
    before = resident()
    array[: 32 << 20] = 1
    assert resident() - before >= 32 << 20
    scratch.release(array[5:10])
    assert resident() - before < 4 << 20
    assert array[(32 << 20) - 1] == 1


@pytest.mark.usefixtures("small")
def test_no_room_names_the_folder_and_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_allocate", full)
    with pytest.raises(scratch.ScratchSpaceError, match="TMPDIR") as caught:
        scratch.empty((50_000_000,), np.uint16)
    assert f"needs 0.1 GB in the folder for temporary files, {tmp_path}: No space left" in str(caught.value)


@pytest.mark.usefixtures("small")
def test_a_file_system_that_cannot_reserve_space_is_used_if_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    assert scratch.is_scratch(scratch.zeros((2000,), np.uint8))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(scratch.ScratchSpaceError, match="No space left"):
        scratch.zeros((2000,), np.uint8)

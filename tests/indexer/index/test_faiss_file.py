"""FAISS writes and reads the index file completely or not at all, and detects damage."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import file_sha256
from twinscope_indexer.index import faiss_file
from twinscope_indexer.index.faiss_file import read_index, write_index

NO_IDS = np.empty(0, np.int64)


def random_codes(n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return rng.choice(2**62, n, replace=False).astype(np.int64), rng.integers(0, 256, (n, 128), dtype=np.uint8)


def written(path: Path, ids: NDArray[np.int64], codes: NDArray[np.uint8], size: int = 7) -> str:
    """Write an index file in batches."""
    return write_index(path, len(ids), batches_of(ids, codes, size))


def batches_of(
    ids: NDArray[np.int64], codes: NDArray[np.uint8], size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    return ((ids[at : at + size], codes[at : at + size]) for at in range(0, len(ids), size))


def read(path: Path, digest: str, size: int = 7) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Read an index file in batches and join them."""
    parts = list(read_index(path, digest, size))
    assert all(len(ids) == len(codes) == size for ids, codes in parts[:-1])
    found = zip(*parts, strict=True) if parts else ([NO_IDS], [np.empty((0, 128), np.uint8)])
    ids, codes = map(np.concatenate, found)
    return ids, codes


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_an_index_file_survives_reading_and_rewriting(tmp_path, n, size):
    ids, codes = random_codes(n)
    path, again = tmp_path / "a.faiss", tmp_path / "b.faiss"
    digest = written(path, ids, codes, size)
    assert digest == file_sha256(path) == sha256(path.read_bytes()).hexdigest()
    read_ids, read_codes = read(path, digest, size)
    np.testing.assert_array_equal(read_ids, ids)
    np.testing.assert_array_equal(read_codes, codes)
    assert written(again, read_ids, read_codes) == digest
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.faiss", "b.faiss"]


@pytest.mark.parametrize("n", [0, 1, 300])
def test_faiss_reads_and_searches_the_file(tmp_path, n):
    ids, codes = random_codes(n)
    written(tmp_path / "ours.faiss", ids, codes)
    index = faiss.read_index_binary(str(tmp_path / "ours.faiss"))
    assert (index.ntotal, index.d) == (n, 1024)
    if n:
        distances, found = index.search(codes, 1)
        assert found.ravel().tolist() == ids.tolist()
        assert not distances.any()


@pytest.mark.parametrize("kind", [faiss.IndexBinaryIDMap, faiss.IndexBinaryIDMap2])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_files_written_by_faiss_itself_are_read(tmp_path, n, kind):
    ids, codes = random_codes(n)
    flat = faiss.IndexBinaryFlat(1024)
    index = kind(flat)
    if n:
        index.add_with_ids(codes, ids)
    path = tmp_path / "theirs.faiss"
    faiss.write_index_binary(index, str(path))
    read_ids, read_codes = read(path, file_sha256(path))
    np.testing.assert_array_equal(read_ids, ids)
    np.testing.assert_array_equal(read_codes, codes)


def test_a_file_written_without_faiss_is_read(tmp_path):
    """The file is byte by byte the same as from releases that did not import FAISS."""
    ids, codes = random_codes(300)
    heading = b"".join(
        kind + np.array([1024, 128], "<i4").tobytes() + np.array([300], "<i8").tobytes() + b"\x01\x01\0\0\0"
        for kind in (b"IBM2", b"IBxF")
    )
    sizes = [np.array([size], "<u8").tobytes() for size in (300 * 128, 300)]
    path = tmp_path / "old.faiss"
    path.write_bytes(heading + sizes[0] + codes.tobytes() + sizes[1] + ids.tobytes())
    read_ids, read_codes = read(path, file_sha256(path))
    np.testing.assert_array_equal(read_ids, ids)
    np.testing.assert_array_equal(read_codes, codes)


def test_a_large_file_is_read_in_batches(tmp_path):
    """Reading later batches releases memory but does not change earlier batches."""
    ids, codes = random_codes(40_000)
    path = tmp_path / "a.faiss"
    digest = written(path, ids, codes, 4096)
    parts = list(read_index(path, digest, 9_999))
    assert [len(some) for some, _ in parts] == [9_999] * 4 + [4]
    np.testing.assert_array_equal(np.concatenate([some for some, _ in parts]), ids)
    np.testing.assert_array_equal(np.concatenate([some for _, some in parts]), codes)


def test_a_wrong_number_of_codes_is_refused(tmp_path):
    ids, codes = random_codes(5)
    for count in (4, 6):
        with pytest.raises(ValueError, match=f"expected {count} codes for the index file, got 5"):
            write_index(tmp_path / "a.faiss", count, batches_of(ids, codes, 2))
    assert not list(tmp_path.iterdir())


def test_equal_codes_give_identical_files(tmp_path):
    digests = {written(tmp_path / name, *random_codes(50)) for name in ("a", "b")}
    assert len(digests) == 1


@pytest.mark.parametrize("byte", [0, 4, 60, -1])
def test_one_wrong_byte_in_a_file_is_detected(tmp_path, byte):
    path = tmp_path / "a.faiss"
    digest = written(path, *random_codes(20))
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        read(path, digest)


def test_a_truncated_file_is_detected(tmp_path):
    path = tmp_path / "a.faiss"
    digest = written(path, *random_codes(20))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="damaged"):
        read(path, digest)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"none\.faiss"):
        read(tmp_path / "none.faiss", "0" * 64)


def other_index(kind: str, path: Path) -> None:
    codes = np.zeros((4, 128), np.uint8)
    if kind == "flat without ids":
        index = faiss.IndexBinaryFlat(1024)
        index.add(codes)
        faiss.write_index_binary(index, str(path))
    elif kind == "other width":
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(64))
        faiss.write_index_binary(index, str(path))
    elif kind == "floats":
        faiss.write_index(faiss.IndexFlatL2(8), str(path))
    else:
        path.write_text("no index at all")


@pytest.mark.parametrize("kind", ["flat without ids", "other width", "floats", "text"])
def test_another_kind_of_index_is_refused(tmp_path, kind):
    path = tmp_path / "a.faiss"
    other_index(kind, path)
    with pytest.raises(StoreError, match=r"a\.faiss holds"):
        read(path, file_sha256(path))


def test_another_kind_of_inner_index_is_refused(tmp_path):
    path = tmp_path / "a.faiss"
    faiss.write_index_binary(faiss.IndexBinaryIDMap2(faiss.IndexBinaryHNSW(1024)), str(path))
    with pytest.raises(StoreError, match="holds"):
        read(path, file_sha256(path))


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken.faiss").mkdir()
    with pytest.raises(StoreError, match=r"taken\.faiss cannot be written"):
        written(tmp_path / "taken.faiss", *random_codes(2))
    assert [path.name for path in tmp_path.iterdir()] == ["taken.faiss"]
    with pytest.raises(StoreError, match="cannot be written"):
        written(tmp_path / "none" / "a.faiss", *random_codes(2))


def test_a_file_is_replaced_not_written_into(tmp_path):
    path = tmp_path / "a.faiss"
    written(path, *random_codes(20))
    with path.open("rb") as held:
        before = held.read()
        written(path, *random_codes(30, seed=1))
        held.seek(0)
        assert held.read() == before != path.read_bytes()


def test_a_full_disk_is_reported_with_its_reason(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # Python ignores the signal that comes with it
    try:
        with pytest.raises(StoreError, match=os.strerror(errno.EFBIG)):
            written(tmp_path / "a.faiss", *random_codes(50))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_gets_its_name_after_it_is_on_the_disk(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace

    def seen(step: str, function: Any) -> Any:
        return lambda *given: (steps.append(step), function(*given))[1]

    monkeypatch.setattr(os, "fsync", seen("fsync", fsync))
    monkeypatch.setattr(Path, "replace", seen("replace", replace))
    written(tmp_path / "a.faiss", *random_codes(20))
    assert steps == ["fsync", "replace", "fsync"]


def test_a_file_truncated_during_reading_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.faiss"
    digest = written(path, *random_codes(200))
    monkeypatch.setattr(faiss_file, "_require_sha256", lambda *_: os.truncate(path, 10_000))
    with pytest.raises(StoreError, match=r"a\.faiss holds data that FAISS cannot read"):
        read(path, digest)

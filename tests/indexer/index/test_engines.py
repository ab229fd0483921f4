"""A new engine needs only a module and one line. It then answers the searches of a store like the other engines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from index_contract import code_of, scan
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_indexer.errors import IndexEngineError
from twinscope_indexer.hashing.frames import FRAMES_RECIPE, reference_frames
from twinscope_indexer.hashing.perceptual import RECIPE, PHash
from twinscope_indexer.index.choice import ENGINE_VARIABLE, MEASURED_FROM
from twinscope_indexer.index.engines import ENGINES, engine_index
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import Store, StoreWriter, open_writer

FRAMES = len(reference_frames("views"))


def put(writer: StoreWriter, number: int, code: bytes, frames: bytes) -> None:
    root_id, root, _ = writer.catalog.root_for(Path("/collection"))
    record = Record(
        number, root, f"{number}.jpg", None, 1, 1, bytes(32), "JPEG", "L", 8, 4, 3, code, None, RECIPE,
        ("Tips", "Powder")[number % 2], "L9", "1", None, "2024-01-01T00:00:00Z", writer.generation,
    )  # fmt: skip
    writer.catalog.put(record, root_id, b"", frames)


@pytest.fixture(params=[*ENGINES, "toy"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Force an engine; the toy engine is registered as a new engine would be."""
    monkeypatch.setitem(ENGINES, "toy", "toy_engine:ToySegment")
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return request.param


def test_every_engine_answers_the_searches_of_a_store(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("twinscope_indexer.index.segments._MIN_SIZE", 16)
    codes = {number: code_of(number * 7) for number in range(1, 61)}
    frames = {number: np.random.default_rng(number).bytes(FRAMES * 128) for number in range(1, 61)}
    with open_writer(tmp_path, create=True) as writer:
        writer.catalog.set_meta("reach", "views")
        writer.catalog.set_meta("frames_recipe", FRAMES_RECIPE)
        for number in range(1, 59):
            put(writer, number, codes[number], frames[number])
        writer.publish()
    with closing(Store(tmp_path)) as store:
        with open_writer(tmp_path) as writer:
            for number in (59, 60):
                put(writer, number, codes[number], frames[number])
            writer.catalog.delete([5], writer.generation)
            del codes[5]
            writer.publish()
        view = store.refresh()
        assert (len(view.base), len(view.delta)) == (57, 2)
        for index in (view.base, view.delta, *(kind.index for kind in view.frames.base.values())):
            assert index.describe().engine == engine
        queries = [code_of(number) for number in (1, 9, 420)]
        found = view.search(np.frombuffer(b"".join(queries), np.uint8).reshape(-1, 128), 8, 600)
        answers = [list(zip(near.distances.tolist(), near.ids.tolist(), strict=True)) for near in found]
        assert answers == [scan(codes, query, 8, 600) for query in queries]
        powder = {number: code for number, code in codes.items() if number % 2}
        [near] = view.restricted_to_categories(frozenset({"Powder"})).search(
            np.frombuffer(queries[0], np.uint8)[None], 5, 1024
        )
        assert list(zip(near.distances.tolist(), near.ids.tolist(), strict=True)) == scan(powder, queries[0], 5, 1024)
        for number in (7, 60):
            frame = np.frombuffer(frames[number], np.uint8).reshape(-1, 128)[2:3]
            [best] = view.frames.search("views", frame, 1, 0)
            assert (best.image, best.frame) == (number, 2)
        assert view.nbytes > 59 * (1 + FRAMES) * 136
    with connect(tmp_path) as client:
        [answer] = client.search_hashes([PHash(codes[8])], max_distance=0)
        assert [int(match.image_id, 16) for match in answer.matches][:1] == [scan(codes, codes[8], 1, 0)[0][1]]
        kind = client.stats()["index"]["kind"]
    assert kind.startswith(engine_index(engine).make.title)
    assert kind.endswith(f"(exact), 4 segments; set by {ENGINE_VARIABLE}")
    assert main(["store", "stats", str(tmp_path)]) == 0
    assert f"search: {kind}\n" in capsys.readouterr().out


def test_a_small_store_reports_that_nothing_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    with open_writer(tmp_path, create=True) as writer:
        put(writer, 1, code_of(1), b"")
        writer.publish()
    with connect(tmp_path) as client:
        kind = client.stats()["index"]["kind"]
    reason = f"chosen without a measurement, because the index has fewer than {MEASURED_FROM:,} hashes"
    assert kind == f"blocked scan (exact), one segment; {reason}"


def test_an_unknown_engine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_writer(tmp_path, create=True) as writer:
        writer.publish()
    monkeypatch.setenv(ENGINE_VARIABLE, "fiass")
    assert main(["store", "stats", str(tmp_path)]) == 1
    known = ", ".join(ENGINES)
    assert f"{ENGINE_VARIABLE} is 'fiass'; set it to one of {known}, or unset it" in capsys.readouterr().err
    with pytest.raises(IndexEngineError, match=f"no index engine 'fiass'; the available engines are {known}"):
        engine_index("fiass")


def test_an_engine_that_cannot_be_imported_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "milvus", "no_such_package_anywhere:Segment")
    with pytest.raises(IndexEngineError, match="'milvus' cannot be loaded: No module named 'no_such_package_anywhere'"):
        engine_index("milvus")


def test_a_small_store_is_searched_without_faiss(tmp_path: Path) -> None:
    """The test matters because importing FAISS takes longer than such a search."""
    with open_writer(tmp_path, create=True) as writer:
        put(writer, 1, code_of(1), b"")
        writer.publish()
    program = (
        "import json, sys\nfrom pathlib import Path\nimport numpy as np\nfrom twinscope_indexer.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n[near] = store.view.search(np.zeros((1, 128), np.uint8), 1, 1024)\n"
        "print(json.dumps([near.ids.tolist(), 'faiss' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[1], False]

"""Clients that belong to the first frozen contract, with the current server."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import serving
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.hashing.perceptual import PHash
from twinscope_service.matching.answer import Answer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(2400)]

_ROOT = Path(__file__).resolve().parents[3]
_FIRST = "b7033cfec18b"
"""The commit of ``proto/v1-baseline.binpb``."""
_SCRIPT = _ROOT / "tests" / "support" / "first_node_client.mjs"
_HANGS = 600.0
"""Time limit in seconds that only a hanging process exceeds."""


@pytest.fixture(scope="module")
def first_node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Node client of that commit and return its folder; skip the test without npm or git's history."""
    npm, git = shutil.which("npm"), shutil.which("git")
    if npm is None or git is None:
        pytest.skip("npm (Node 20 or newer) or git is not installed")
    archive = subprocess.run(
        [git, "-C", _ROOT, "archive", _FIRST, "clients/node", "proto"], check=False, capture_output=True
    )
    if archive.returncode != 0:
        pytest.skip(f"commit {_FIRST} is not in the git history, as in a source distribution or a shallow clone")
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    client = folder / "clients" / "node"
    for arguments in (("ci", "--no-audit", "--no-fund"), ("run", "build")):
        command = [npm, *arguments]
        done = subprocess.run(command, check=False, cwd=client, capture_output=True, text=True, timeout=_HANGS)
        assert done.returncode == 0, f"npm {arguments[0]}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return client


@pytest.fixture(scope="module")
def images(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return unchanged references, one with changed grey levels, an unrelated image, an empty and a broken image."""
    folder = tmp_path_factory.mktemp("images")
    names = ("a \\ b.png", "unrelated.tif", "empty.png", "no.tif")
    changed, unrelated, empty, broken = (folder / name for name in names)
    Image.fromarray((shelf.pixels["Fibres", 0] * 0.5 + 60).astype(np.uint8)).save(changed)
    Image.fromarray(synthesise("Powder", 3, width=200, height=200).astype(np.uint8)).save(unrelated)
    Image.new("L", (64, 64), 7).save(empty)
    broken.write_bytes(b"II*\0 broken")
    references = (shelf.reference(category, number) for category, number in shelf.pixels)
    return [*references, changed, unrelated, empty, broken]


@pytest.fixture(scope="module")
def server(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


def results_of(client: Path, **request: Any) -> dict[str, Any]:
    done = subprocess.run(
        ["node", _SCRIPT, client],
        check=False,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=_HANGS,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def missing(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the values of the old client that the answer lacks or changes; additions are ignored."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [one for name in old for one in missing(old[name], new.get(name, "missing"), f"{path}.{name}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [one for i, pair in enumerate(zip(old, new, strict=True)) for one in missing(*pair, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {old!r} is {new!r}"]


def as_json(answer: Answer) -> Any:
    return json.loads(json.dumps(answer.to_dict()))


def test_first_node_client_reads_every_answer(
    first_node_client: Path, server: str, shelf: Shelf, images: list[Path]
) -> None:
    options = {"k": 2, "maxDistance": 200, "maxPWrong": 0.5, "excellentSsim": 0.9999, "verify": True, "ssim": "all"}
    with connect(server) as engine:
        readable = [engine.search(path) for path in images[:-1]]
        hashes = [answer.query_hash for answer in readable if answer.query_hash is not None]
        expected = [engine.search_hashes([PHash(bytes.fromhex(one), engine.stats()["recipe"])])[0] for one in hashes]
        limited = engine.search(
            images[0], k=2, max_distance=200, max_p_wrong=0.5, excellent_ssim=0.9999, verify=True, ssim="all"
        )
        stats = engine.stats()
    found = results_of(
        first_node_client, target=server, images=[str(path) for path in images], hashes=hashes,
        options=[options, {"categories": ["Cheese"]}, {"maxPWrong": 2}],
    )  # fmt: skip
    assert {answer.grade for answer in readable} >= {"excellent", "none", "unhashable"}
    for path, old, new in zip(images, found["images"], readable, strict=False):
        assert missing(old, as_json(new)) == [], path
    assert [
        one for pair in zip(found["hashes"], expected, strict=True) for one in missing(pair[0], as_json(pair[1]))
    ] == []
    assert missing(found["options"][0], as_json(limited)) == []
    known = {"generation": "generation", "images": "images", "storeId": "store_id", "byCategory": "category"}
    assert {old: found["stats"][old] for old in known} == {old: stats[new] for old, new in known.items()}


def test_first_node_client_reads_every_error(first_node_client: Path, server: str, images: list[Path]) -> None:
    found = results_of(
        first_node_client, target=server, images=[str(images[-1])], hashes=[],
        options=[{"categories": ["Cheese"]}, {"maxPWrong": 2}, {"minGeneration": 99, "timeoutMs": 500}],
    )  # fmt: skip
    broken, unknown, invalid, late = (one["error"] for one in (*found["images"], *found["options"]))
    assert (broken["code"], broken["reason"]) == ("INVALID_ARGUMENT", "IMAGE_UNREADABLE")
    assert broken["details"]["fault"]
    assert (unknown["reason"], [one["field"] for one in unknown["violations"]]) == (
        "UNKNOWN_CATEGORY", ["header.options.categories"],
    )  # fmt: skip
    assert (invalid["reason"], len(invalid["violations"])) == ("INVALID_FIELD", 1)
    assert (late["code"], late["retriable"]) == ("DEADLINE_EXCEEDED", True)


def test_example_of_first_node_client_prints_the_label(first_node_client: Path, server: str, shelf: Shelf) -> None:
    example = first_node_client / "build" / "examples" / "search-by-image.js"
    image = shelf.reference("Tips", 0)
    done = subprocess.run(["node", example, server, image], check=False, capture_output=True, text=True, timeout=_HANGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{image}: excellent -> Tips")

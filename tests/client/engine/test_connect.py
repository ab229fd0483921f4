"""``connect``: targets, images in every form, and the behaviour of an engine."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from raw_client import Authority, authority
from shelf import Shelf
from twinscope_client import aio, connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.engine.images import grey_pixels
from twinscope_client.errors import AccessError, ClosedError, ServerError
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.channel import bearer
from twinscope_client.testing import serving
from twinscope_indexer.errors import ImageError, StoreError
from twinscope_indexer.hashing.perceptual import PHash
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_service.errors import OptionError, SettingsError
from twinscope_service.matching.policy import POLICIES
from twinscope_service.server.tokens import token_line


def test_a_store_is_opened_by_path_or_text(shelf: Shelf) -> None:
    for target in (shelf.store, str(shelf.store)):
        with connect(target) as ts:
            assert ts.search(shelf.reference("Tips", 0)).category == "Tips"


def test_a_target_without_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("missing", "file", "folder"):
        with pytest.raises(StoreError, match="twinscope index"):
            connect(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_opening_a_store_does_not_change_it(shelf: Shelf) -> None:
    files = [path for path in shelf.store.iterdir() if not path.name.endswith(("-wal", "-shm"))]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    with connect(shelf.store) as ts:
        ts.search(shelf.pixels["Tips", 0])
        ts.stats()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before


# -- images in every form -------------------------------------------------------------------------------------------


def test_an_image_has_the_same_answer_in_every_form(shelf: Shelf) -> None:
    path = shelf.reference("Fibres", 1)
    pixels = read_image(path).pixels
    forms = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "stream": io.BytesIO(path.read_bytes()),
        "array": pixels,
        "read-only": np.broadcast_to(pixels, pixels.shape),
        "strided": np.repeat(pixels, 2, axis=1)[:, ::2],
        "RGB array": np.stack([pixels] * 3, axis=2),
        "RGBA array": np.stack([pixels, pixels, pixels, pixels // 2], axis=2),
        "PIL": Image.fromarray(pixels),
        "PIL RGB": Image.fromarray(pixels).convert("RGB"),
    }
    with connect(shelf.store) as ts:
        answers = {name: ts.search(form) for name, form in forms.items()}
        with path.open("rb") as stream:
            answers["file"] = ts.search(stream)
    for name, answer in answers.items():
        assert answer == answers["path"], name
    assert answers["path"].grade == "excellent"


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64, np.int8, ">u2", np.bool_, np.uint8]
)
@pytest.mark.parametrize("colour", [False, True])
def test_an_array_is_windowed_like_its_file(tmp_path: Path, dtype: str, colour: bool) -> None:
    rng = np.random.default_rng(2)
    shape = (40, 50, 3) if colour else (40, 50)
    if np.dtype(dtype) == np.bool_ and colour:
        pytest.skip("no TIFF has three bits per pixel")
    array = (rng.gamma(3, 20, shape) % 120).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb" if colour else "minisblack")
    found, expected = grey_pixels(array), read_image(tmp_path / "x.tif").pixels
    assert found.dtype == np.uint8
    assert found.shape == (40, 50)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I", "I;16", "F"])
def test_a_pil_image_is_read_by_its_pixels(mode: str) -> None:
    pixels = synthesise("Tips", 1, width=80, height=64).astype(np.uint8)
    deep = {"I": np.int32, "I;16": np.uint16, "F": np.float32}
    if mode in deep:
        image = Image.fromarray(pixels.astype(deep[mode]) * 200)
        expected = grey_pixels(pixels.astype(deep[mode]) * 200)
    else:
        image = Image.fromarray(pixels).convert(mode)
        expected = np.asarray(image.convert("L"))
    assert image.mode == mode
    np.testing.assert_array_equal(grey_pixels(image), expected)


def test_the_array_of_the_caller_is_never_changed() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    grey_pixels(pixels)[:] = 0
    assert pixels[5, 7] == 47


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((4, 5), np.complex64),
        np.array([["a", "b"]]),
    ],
)
def test_an_array_that_is_not_an_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="real numbers") as caught:
        grey_pixels(array)
    assert (caught.value.source, caught.value.fault) == ("array", "unsupported")


def test_an_unreadable_image_raises(shelf: Shelf, tmp_path: Path) -> None:
    with connect(shelf.store) as ts:
        for image in (tmp_path / "missing.tif", tmp_path, b"", b"no image"):
            with pytest.raises(ImageError):
                ts.search(image)


# -- thresholds ----------------------------------------------------------------------------------------------------


def test_thresholds_belong_to_the_request(shelf: Shelf) -> None:
    path = shelf.reference("Tips", 0)
    with connect(shelf.store) as ts:
        assert ts.search(path, excellent_ssim=1.0).grade == "good"
        assert ts.search(path, policy="legacy").policy == POLICIES["legacy"]
        own = POLICIES["default"].adjusted({"k": 1})
        assert ts.search(path, policy=own).policy == own
        assert len(ts.search(path, k=3, max_distance=1024).matches) == 3
        with pytest.raises(OptionError, match=r"no option 'max_distence'. Did you mean 'max_distance'\? Known: .*, k,"):
            ts.search(path, max_distence=1)
        with pytest.raises(OptionError, match=r"no policy 'legcy'. Did you mean 'legacy'\?"):
            ts.search(path, policy="legcy")


# -- the engine ----------------------------------------------------------------------------------------------------


def test_an_engine_describes_its_store(shelf: Shelf) -> None:
    with connect(shelf.store) as ts:
        stats = ts.stats()
        assert (stats["images"], stats["searchable"], stats["failures"]) == (6, 6, 0)
        assert stats["category"] == {"Fibres": 2, "Particles": 2, "Tips": 2}
        # L9 is the code of Tips, so four of the six prefixes are wrong.
        assert (stats["prefixes"], stats["contradicting_prefixes"]) == (6, 4)
        assert stats["roots"] == [str(shelf.references)]
        assert ts.identity == f"{stats['store_id']}/{stats['generation']}"


def test_thumbnails_are_scaled_references(shelf: Shelf) -> None:
    with connect(shelf.store) as ts:
        best = ts.search(shelf.reference("Tips", 0)).best
        assert best is not None
        thumbnail = ts.thumbnail(best.image_id)
        assert thumbnail is not None
        small = Image.fromarray(shelf.pixels["Tips", 0]).resize(thumbnail.shape[::-1], Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(small).ravel(), thumbnail.ravel())[0, 1] > 0.99
        assert ts.thumbnail("0" * 16) is None


def test_an_engine_keeps_its_generation_until_refreshed(tmp_path: Path) -> None:
    def add(name: str, number: int) -> np.ndarray:
        pixels = synthesise("Tips", number, width=160, height=120).astype(np.uint8)
        (tmp_path / "Tips").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "Tips" / name)
        index([tmp_path / "Tips"], tmp_path / "store", workers=1)
        return pixels

    add("a.png", 1)
    with connect(tmp_path / "store") as ts:
        before = ts.identity
        new = add("b.png", 2)
        assert ts.search(new).grade == "none"
        assert ts.identity == before
        ts.refresh()
        assert ts.search(new).grade == "excellent"
        assert ts.identity != before


def test_threads_share_an_engine(shelf: Shelf) -> None:
    paths = [shelf.reference(category, number) for category, number in shelf.pixels]
    with connect(shelf.store) as ts, ThreadPoolExecutor(8) as pool:
        alone = [ts.search(path) for path in paths]
        assert list(pool.map(ts.search, paths * 4)) == alone * 4


@pytest.mark.parametrize("nothing", [None, 5, ["a.tif"]])
def test_the_type_of_a_value_without_an_image_is_named(nothing):
    with pytest.raises(TypeError, match=type(nothing).__name__):
        grey_pixels(nothing)


# -- servers ---------------------------------------------------------------------------------------------------------

NOBODY = "grpcs://127.0.0.1:1"


def blocking(target: Any, do: Callable[[Any], Any], **settings: Any) -> Any:
    with connect(target, **settings) as ts:
        return do(ts)


def in_asyncio(target: str, do: Callable[[Any], Any], **settings: Any) -> Any:
    async def ask() -> Any:
        async with aio.connect(target, **settings) as ts:
            return await do(ts)

    return asyncio.run(ask())


WAYS = {"blocking": blocking, "asyncio": in_asyncio}


@pytest.fixture(params=list(WAYS))
def with_engine(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that calls a server: target, action on the engine, options of the connection."""
    return WAYS[request.param]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with the openssl command")
    return authority(tmp_path_factory.mktemp("tls"), "ca")


@pytest.mark.parametrize("half", ["certificate", "key"])
def test_certificate_and_key_go_together(with_engine: Callable[..., Any], ca: Authority, half: str) -> None:
    """If gRPC gets a certificate without a key, or a key without a certificate, it ends the whole process."""
    files = dict(zip(("certificate", "key"), ca.issue("client"), strict=True))
    with pytest.raises(SettingsError, match="give both or neither"):
        with_engine(NOBODY, lambda ts: ts.stats(), **{half: files[half]})


@pytest.mark.parametrize("half", ["--cert", "--key"])
@pytest.mark.parametrize("command", [("search", "x.tif", "--at", NOBODY), ("health", NOBODY)], ids=["search", "health"])
def test_the_command_requires_certificate_and_key_together(
    ca: Authority, half: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, half, str(ca.pem)]) == 1
    assert "--cert and --key" in capsys.readouterr().err


def test_paths_of_files_can_be_text(shelf: Shelf, ca: Authority, with_engine: Callable[..., Any]) -> None:
    certificate, key = map(str, ca.issue("both"))
    settings = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": str(ca.pem)}
    with serving(str(shelf.store), **settings) as target:
        stats = with_engine(target, lambda ts: ts.stats(), ca=str(ca.pem), certificate=certificate, key=key)
    assert stats["images"] == 6


@pytest.mark.parametrize("kind", ["ca", "certificate", "key", "foreign key", "encrypted key"])
def test_a_wrong_tls_file_is_named(ca: Authority, with_engine: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    certificate, key = ca.issue("mine")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text(ca.issue("another")[1].read_text() if kind == "foreign key" else "no PEM")
    if kind == "encrypted key":
        lock = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(wrong), "-passout", "pass:sesame"]
        subprocess.run(lock, check=True, capture_output=True)
    files = {"ca": ca.pem, "certificate": certificate, "key": key} | {kind.split()[-1]: wrong}
    with pytest.raises(SettingsError, match=re.escape(str(wrong))):
        with_engine(NOBODY, lambda ts: ts.stats(), **files)
    with pytest.raises(SettingsError, match=re.escape(f"{tmp_path / 'none'} cannot be read")):
        with_engine(NOBODY, lambda ts: ts.stats(), **(files | {kind.split()[-1]: tmp_path / "none"}))


@pytest.mark.parametrize("kind", ["foreign", "expired", "of another host"])
def test_an_untrusted_certificate_raises_at_once(
    shelf: Shelf,
    ca: Authority,
    with_engine: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """gRPC repeats every call except the health check, for eight seconds."""
    monkeypatch.setattr(dialogue, "describe", lambda stubs: pytest.fail("continued"))
    trusted = authority(tmp_path, "foreign").pem if kind == "foreign" else ca.pem
    certificate, key = ca.issue("late" if kind == "expired" else "server", days=-1 if kind == "expired" else 2)
    host = "127.0.0.2" if kind == "of another host" else "127.0.0.1"
    with (
        serving(shelf.store, tls_certificate=certificate, tls_key=key, host=host) as target,
        pytest.raises(ServerError, match="certificate of the server is not trusted: ") as caught,
    ):
        with_engine(target, lambda ts: ts.stats(), ca=trusted)
    fault = {"expired": "expired", "foreign": "issuer", "of another host": "the name in the certificate differs"}
    assert fault[kind] in str(caught.value)
    cure = {
        "expired": "renew",
        "foreign": "--ca or connect(",
        "of another host": "a name that the certificate contains",
    }
    assert cure[kind] in str(caught.value)
    assert (caught.value.code, caught.value.retriable) == ("UNAVAILABLE", False)


def test_a_server_without_a_health_check_is_used(
    shelf: Shelf, ca: Authority, with_engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is a server behind a proxy that forwards only the two services."""
    monkeypatch.setattr(dialogue, "_HEALTH", "/twinscope.v1.Nothing/Check")
    certificate, key = ca.issue("shy")
    with serving(shelf.store, tls_certificate=certificate, tls_key=key) as target:
        assert with_engine(target, lambda ts: ts.stats(), ca=ca.pem)["images"] == 6


def test_tls_files_are_refused_without_tls(ca: Authority, with_engine: Callable[..., Any]) -> None:
    certificate, key = ca.issue("idle")
    for files in ({"ca": ca.pem}, {"certificate": certificate, "key": key}, {"key": key}):
        with pytest.raises(SettingsError, match=r"write grpcs://127\.0\.0\.1:1"):
            with_engine("grpc://127.0.0.1:1", lambda ts: ts.stats(), **files)


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
@pytest.mark.parametrize(
    "rest", ["ann:secret@127.0.0.1:1/", "ann@127.0.0.1:1", "127.0.0.1:1/?y=1", "127.0.0.1:1#y", "ann:secret@host"]
)
def test_a_target_is_only_host_and_port(with_engine: Callable[..., Any], scheme: str, rest: str) -> None:
    with pytest.raises(SettingsError, match="grpc://host:port") as caught:
        with_engine(f"{scheme}://{rest}", lambda ts: ts.stats())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["text", "function"])
@pytest.mark.parametrize(
    "token", ["sesame\n", " sesame", "sesame ", "sesame\r\n", "ses\tame", "s\N{LATIN SMALL LETTER E WITH ACUTE}same",
              "", b"sesame", 5, None],
    ids=ascii,
)  # fmt: skip
def test_a_token_that_cannot_be_sent_is_refused_unseen(
    shelf: Shelf, with_engine: Callable[..., Any], token: Any, given: str
) -> None:
    if token is None and given == "text":
        pytest.skip("no token")
    with serving(shelf.store) as target, pytest.raises(SettingsError, match="the token") as caught:
        with_engine(target, lambda ts: ts.stats(), token=token if given == "text" else lambda: token)
    assert "same" not in str(caught.value)
    if given == "text":
        with pytest.raises(SettingsError, match="the token"):  # before any call
            aio.connect(NOBODY, token=token)


def test_tokens_of_printable_ascii_can_be_sent() -> None:
    for token in ("".join(map(chr, range(33, 127))), "open sesame", "1"):
        assert bearer(token) == ("authorization", f"Bearer {token}")


@pytest.mark.parametrize("way", ["file", "environment"])
def test_the_command_strips_its_token(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    (tmp_path / "tokens").write_text(token_line("ann", "read", "sesame"))
    (tmp_path / "token").write_text("\tsesame \r\n")
    monkeypatch.setenv("TWINSCOPE_TOKEN", "wrong" if way == "file" else " sesame\n")
    more = ["--token-file", str(tmp_path / "token")] if way == "file" else []
    with serving(shelf.store, tokens=tmp_path / "tokens") as target:
        assert main(["search", str(shelf.reference("Tips", 0)), "--at", target, *more]) == 0
    assert "excellent -> Tips" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["blocking", "asyncio", "command"])
def test_a_token_file_can_change(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str) -> None:
    (tmp_path / "tokens").write_text(token_line("ann", "read", "sesame"))
    file = tmp_path / "token"
    file.write_text("wrong")
    with serving(shelf.store, tokens=tmp_path / "tokens") as target:
        if way == "command":
            command = ["search", str(shelf.reference("Tips", 0)), "--at", target, "--token-file", str(file)]
            assert main(command) == 1
            file.write_text(" sesame\n")
            assert main(command) == 0
            file.unlink()
            assert main(command) == 1
            assert f"token file {file} cannot be read" in capsys.readouterr().err
            return
        with pytest.raises(AccessError):
            WAYS[way](target, lambda ts: ts.stats(), token=file)
        file.write_text("sesame\n")
        assert WAYS[way](target, lambda ts: ts.stats(), token=file)["images"] == 6
        file.unlink()
        with pytest.raises(SettingsError, match="cannot be read"):
            WAYS[way](target, lambda ts: ts.stats(), token=file)


# -- options of a connection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "ca", "certificate", "key", "timeout"])
def test_a_folder_takes_no_server_options(shelf: Shelf, name: str) -> None:
    value: Any = 5.0 if name == "timeout" else "x"
    with pytest.raises(OptionError, match=f"^{name} can be used only with a server, but .* is a folder"):
        connect(shelf.store, **{name: value})
    with connect(shelf.store, **{name: None}) as ts:
        assert ts.stats()["images"] == 6


def test_the_command_takes_no_server_options_for_a_folder(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINSCOPE_TOKEN", "sesame")  # the variable may be meant for another command
    command = ["search", str(shelf.reference("Tips", 0)), "--at", str(shelf.store)]
    assert main(command) == 0
    for more in (["--ca", "ca.pem"], ["--token-file", str(tmp_path / "none")]):
        assert main([*command, *more]) == 1
        assert "only with a server" in capsys.readouterr().err


def test_a_misspelt_connection_option_is_refused(shelf: Shelf, with_engine: Callable[..., Any]) -> None:
    for target in (NOBODY, str(shelf.store)):
        with pytest.raises(OptionError, match=r"no option 'tokn'. Did you mean 'token'\? Known: ca, certificate, key"):
            connect(target, tokn="x")
    with pytest.raises(OptionError, match="Did you mean 'token'"):
        with_engine(NOBODY, lambda ts: ts.stats(), tokn="x")


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan")])
def test_a_timeout_is_a_positive_number(with_engine: Callable[..., Any], timeout: Any) -> None:
    with pytest.raises(OptionError, match="timeout must be a number of seconds above 0"):
        with_engine(NOBODY, lambda ts: ts.stats(), timeout=timeout)


# -- closing ---------------------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[Any], Any]] = {
    "search": lambda ts: ts.search(np.zeros((40, 40), np.uint8)),
    "search_hashes": lambda ts: ts.search_hashes([PHash(bytes(128))]),
    "no hashes": lambda ts: ts.search_hashes([]),
    "search_stored": lambda ts: ts.search_stored("0" * 16),
    "no id": lambda ts: ts.search_stored("no id"),
    "thumbnail": lambda ts: ts.thumbnail("0" * 16),
    "no thumbnail": lambda ts: ts.thumbnail("no id"),
    "stats": lambda ts: ts.stats(),
    "identity": lambda ts: ts.identity,
    "refresh": lambda ts: ts.refresh(),
    "search_many": lambda ts: ts.search_many([]),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_closed_engine_raises(shelf: Shelf, name: str) -> None:
    ask = METHODS[name]

    async def in_asyncio(target: str) -> None:
        async with aio.connect(target) as engine:
            pass
        with pytest.raises(ClosedError, match=f"{target} was closed"):
            await (engine.identity() if name == "identity" else ask(engine))

    with serving(shelf.store) as target:
        for where in (shelf.store, target):
            with connect(where) as engine:
                pass
            engine.close()  # a second time is no error
            with pytest.raises(ClosedError, match=f"{where} was closed"):
                ask(engine)
        asyncio.run(in_asyncio(target))


# -- writes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["embedded", *WAYS])
def test_a_written_image_is_found(tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The write is the example in the documentation. The search of the example finds the image. An engine that was
    opened before finds the image, too."""
    pixels = {name: synthesise("Tips", number, width=160, height=120).astype(np.uint8)
              for number, name in enumerate(("old", "new"))}  # fmt: skip
    (tmp_path / "Tips").mkdir()
    Image.fromarray(pixels["old"]).save(tmp_path / "Tips" / "old.png")
    Image.fromarray(pixels["new"]).save(tmp_path / "new.png")
    index([tmp_path / "Tips"], tmp_path / "store", workers=1)

    def write(target: str) -> int:
        manual = (Path(__file__).resolve().parents[3] / "docs" / "server.md").read_text(encoding="utf-8")
        text = re.search(r"## A write\n.*?```python\n(.*?)```", manual, re.DOTALL)[1]
        changes = {"127.0.0.1:50051": target.removeprefix("grpc://"), "tip_0042.jpg": str(tmp_path / "new.png"),
                   "sample_123.tif": str(tmp_path / "new.png")}  # fmt: skip
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        names: dict[str, Any] = {"__name__": "example"}
        exec(text, names)
        return int(names["stored"].generation)

    async def read_in_asyncio(target: str) -> Any:
        async with aio.connect(target) as ts:
            before = await ts.search(tmp_path / "new.png")
            generation = await asyncio.to_thread(write, target)
            return before, await ts.search(tmp_path / "new.png", min_generation=generation)

    def read(ts: Any, target: str) -> Any:
        return ts.search(tmp_path / "new.png"), ts.search(tmp_path / "new.png", min_generation=write(target))

    with serving(tmp_path / "store", refresh_seconds=600) as target:
        if way == "asyncio":
            before, after = asyncio.run(read_in_asyncio(target))
        else:
            with connect(tmp_path / "store" if way == "embedded" else target) as ts:
                before, after = read(ts, target)
    assert before.grade == "none"
    assert (after.grade, after.category) == ("excellent", "Tips")
    assert capsys.readouterr().out == "excellent Tips\n"

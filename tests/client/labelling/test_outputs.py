"""Output files are complete or absent, never replace another file, and have valid names."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_client import outputs
from twinscope_client.errors import OutputError
from twinscope_client.outputs import (
    category_folder,
    fitting_name,
    folded,
    folded_order,
    is_free,
    numbered,
    put_bytes,
    put_source,
    replace_if_changed,
)

_MODES = ("copy", "hard", "sym")


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def state(path: Path) -> tuple[int, int, int]:
    """Return the properties that change if a file is written or replaced, without the times that reading may change."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def partial_files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lab" / "x.tif"
    path.parent.mkdir()
    path.write_bytes(b"pixels")
    path.chmod(0o640)
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_600_000_000_987_654_321))
    return path


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("L5_x.tif", "L5_x.tif"),
        ("a b 'c',é.tif", "a b 'c',é.tif"),
        ("../x", "_x"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".hidden.tif", "hidden.tif"),
        ("a\\b\0c\nd\x1b", "a_b_c_d_"),
        ("ends.", "ends"),
        ("ends .. .", "ends"),
        ("x.tif ", "x.tif"),
        ('a:b<c>d"e|f?g*h.tif', "a_b_c_d_e_f_g_h.tif"),
        ("\x7f\x85\u2028.tif", "__\u2028.tif"),
        ("CON", "_CON"),
        ("con.tif", "_con.tif"),
        ("Aux .x.tif", "_Aux .x.tif"),
        ("lpt9.tar.gz", "_lpt9.tar.gz"),
        ("COM\u00b2.tif", "_COM\u00b2.tif"),
        ("CONIN$", "_CONIN$"),
        ("NUL:", "NUL_"),
        ("console.tif", "console.tif"),
        ("com10.tif", "com10.tif"),
        ("ICON.tif", "ICON.tif"),
    ],
)
def test_names_are_made_valid(name: str, expected: str) -> None:
    assert fitting_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "s" * 300 + ".tif",
        "é" * 200 + ".tif",
        os.fsdecode(b"\xff" * 300) + ".tif",
        "x." + "y" * 250,  # a long text after a dot is not a suffix
        "L5." + "sample " * 40,
        "." * 300,
        "a." * 200,
    ],
)
def test_long_names_are_cut_and_leave_room_for_a_number(name: str, tmp_path: Path) -> None:
    fitted = fitting_name(name)
    for path in islice(numbered(tmp_path / fitted), 3):
        path.write_bytes(b"")
    assert len(list(tmp_path.iterdir())) == 3
    assert name.endswith(".tif") == fitted.endswith(".tif")


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_no_name_leaves_its_folder(name: bytes) -> None:
    fitted = fitting_name(os.fsdecode(name))
    assert fitted not in {"", ".", ".."}
    assert not set(fitted) & {"/", "\0", "\n"}
    assert not fitted.startswith(".")
    assert len(os.fsencode(fitted)) + len("_12345678901") <= 255


_RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"
}


@given(
    st.text(st.sampled_from('CONconAUXnulLPT1.: "<>|?*\\/\0\n\u00e9'), max_size=12)
    | st.text(max_size=300).map("NUL.".__add__)
)
def test_every_name_can_exist_on_windows(name: str) -> None:
    """The rules are from Microsoft's page 'Naming Files, Paths, and Namespaces'."""
    fitted = fitting_name(name)
    assert not set(fitted) & {*'<>:"/\\|?*', *map(chr, range(32))}
    assert fitted[-1] not in ". "
    assert fitted.partition(".")[0].rstrip(" ").upper() not in _RESERVED
    assert fitting_name(fitted) == fitted or fitted.startswith(" ")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Tips/L9_A.tif", "tips/l9_a.TIF", True), ("\u00dcbersicht", "\u00fcBERSICHT", True),
        ("u\u0308ber", "\u00fcber", True), ("a", "b", False), ("a_2", "a", False),
    ],
)  # fmt: skip
def test_names_that_are_the_same_on_windows_or_macos(one: str, other: str, same: bool) -> None:
    assert (folded(one) == folded(other)) == (folded_order(one, other) == 0) == same
    assert folded_order(one, other) == -folded_order(other, one)


def test_numbers_go_before_the_suffix() -> None:
    assert [path.name for path in islice(numbered(Path("a/L5_x.tif")), 3)] == ["L5_x.tif", "L5_x_2.tif", "L5_x_3.tif"]


# -- sources -------------------------------------------------------------------------------------------------------


def test_copy_keeps_content_times_and_mode(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "Tips" / "L9_x.tif"
    assert put_source(source, digest(b"pixels"), target, "copy")
    found, before = target.stat(), source.stat()
    assert target.read_bytes() == b"pixels"
    assert (found.st_mtime_ns, found.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert found.st_ino != before.st_ino
    assert list(target.parent.iterdir()) == [target]


def test_links(source: Path, tmp_path: Path) -> None:
    assert put_source(source, digest(b"pixels"), tmp_path / "hard.tif", "hard")
    assert put_source(source, digest(b"pixels"), tmp_path / "sym.tif", "sym")
    assert (tmp_path / "hard.tif").stat().st_ino == source.stat().st_ino
    assert (tmp_path / "sym.tif").readlink() == source


@pytest.mark.parametrize("mode", _MODES)
def test_source_that_is_a_relative_link(source: Path, tmp_path: Path, mode: Any) -> None:
    link = source.with_name("link.tif")
    link.symlink_to("x.tif")
    target = tmp_path / "out" / "deep" / "x.tif"
    assert put_source(link, digest(b"pixels"), target, mode)
    assert target.read_bytes() == b"pixels"


@pytest.mark.parametrize("mode", _MODES)
def test_same_content_is_not_written_again(source: Path, tmp_path: Path, mode: Any) -> None:
    target = tmp_path / "x.tif"
    target.write_bytes(b"pixels")
    before = state(target)
    assert not put_source(source, digest(b"pixels"), target, mode)
    assert state(target) == before


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten(source: Path, tmp_path: Path, mode: Any, kind: str) -> None:
    target = tmp_path / "x.tif"
    if kind == "file":
        target.write_bytes(b"precious")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        put_source(source, digest(b"pixels"), target, mode)
    if kind == "file":
        assert target.read_bytes() == b"precious"
    assert target.is_dir() == (kind == "folder")
    assert target.is_symlink() == (kind == "dangling link")
    assert not (tmp_path / "nowhere").exists()
    assert partial_files(tmp_path) == []


@pytest.mark.parametrize("mode", _MODES)
def test_changed_source_is_not_copied(source: Path, tmp_path: Path, mode: Any) -> None:
    with pytest.raises(OutputError, match="has changed since"):
        put_source(source, digest(b"other pixels"), tmp_path / "out" / "x.tif", mode)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", _MODES)
def test_missing_source_is_an_error(source: Path, tmp_path: Path, mode: Any) -> None:
    source.unlink()
    with pytest.raises(OutputError, match="No such file"):
        put_source(source, digest(b"pixels"), tmp_path / "out.tif", mode)
    assert not (tmp_path / "out.tif").is_symlink()


@pytest.mark.parametrize("mode", _MODES)
def test_file_with_the_name_of_the_folder_is_an_error(source: Path, tmp_path: Path, mode: Any) -> None:
    (tmp_path / "Tips").write_bytes(b"a file")
    with pytest.raises(OutputError, match="Tips cannot be created"):
        put_source(source, digest(b"pixels"), tmp_path / "Tips" / "x.tif", mode)
    assert (tmp_path / "Tips").read_bytes() == b"a file"


@pytest.mark.parametrize("size", [0, 1, 70_000, 2**18, 2**19 + 1])
@pytest.mark.parametrize("sharing", [True, False])
def test_copy_is_complete_with_and_without_shared_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, sharing: bool
) -> None:
    """The copy shares the blocks of the file if the file system supports this. Otherwise, this process copies the
    blocks."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if not sharing:
        monkeypatch.setattr(pytest.importorskip("fcntl"), "ioctl", refuse)
    data = bytes(i % 251 for i in range(size))
    source = tmp_path / "source.tif"
    source.write_bytes(data)
    assert put_source(source, digest(data), tmp_path / "x.tif", "copy")
    assert (tmp_path / "x.tif").read_bytes() == data
    (tmp_path / "x.tif").write_bytes(b"edited")
    assert source.read_bytes() == data


def test_copy_with_shared_blocks_is_also_checked(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def share(writer: Any, _request: int, _reader: int) -> None:
        writer.write(b"others")
        writer.flush()

    monkeypatch.setattr(pytest.importorskip("fcntl"), "ioctl", share)
    with pytest.raises(OutputError, match="has changed since it was compared"):
        put_source(source, digest(b"pixels"), tmp_path / "out" / "x.tif", "copy")
    assert list((tmp_path / "out").iterdir()) == []
    assert put_source(source, digest(b"others"), tmp_path / "out" / "x.tif", "copy")
    assert (tmp_path / "out" / "x.tif").read_bytes() == b"others"


def test_folder_without_permission_is_an_error(source: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o555)
    if os.access(closed, os.W_OK):
        pytest.skip("this user can write everywhere")
    with pytest.raises(OutputError, match="Permission denied"):
        put_source(source, digest(b"pixels"), closed / "x.tif", "copy")


def test_failed_copy_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: Path, partial: Path) -> None:
        Path(partial).write_bytes(b"pix")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "_shared", lambda *_: False)
    monkeypatch.setattr(outputs, "_streamed", full)
    with pytest.raises(OutputError, match="No space left"):
        put_source(source, digest(b"pixels"), tmp_path / "out" / "x.tif", "copy")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_overwritten_without_hard_links(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert put_source(source, digest(b"pixels"), tmp_path / "x.tif", "copy")
    assert (tmp_path / "x.tif").read_bytes() == b"pixels"
    (tmp_path / "y.tif").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        put_source(source, digest(b"pixels"), tmp_path / "y.tif", "copy")
    assert (tmp_path / "y.tif").read_bytes() == b"precious"
    with pytest.raises(OutputError, match="--link copy"):
        put_source(source, digest(b"pixels"), tmp_path / "z.tif", "hard")
    assert partial_files(tmp_path) == []


def test_one_of_several_processes_gets_a_name(tmp_path: Path) -> None:
    script = """if True:
        import sys, pathlib
        from twinscope_client.outputs import put_bytes
        won = 0
        for number in range(60):
            try:
                won += put_bytes(sys.argv[1].encode() * 20000, pathlib.Path(str(number)))
            except FileExistsError:
                pass
        print(won)
    """
    racers = [
        subprocess.Popen([sys.executable, "-c", script, name], cwd=tmp_path, stdout=subprocess.PIPE) for name in "abc"
    ]
    won = [int(racer.communicate(timeout=240)[0]) for racer in racers]
    assert sum(won) == 60
    contents = [(tmp_path / str(number)).read_text() for number in range(60)]
    assert all(text == text[0] * 20000 for text in contents)
    assert [sum(text[0] == name for text in contents) for name in "abc"] == won


def test_windows_renames_and_never_overwrites(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, a rename fails if the target exists. Many file systems of microscope PCs have no hard links."""

    def rename(partial: Path, target: Path) -> None:
        os.link(partial, target)  # fails as the rename of Windows does
        partial.unlink()

    monkeypatch.setattr(outputs.os, "name", "nt")
    monkeypatch.setattr(outputs, "_shared", lambda *_: False)
    monkeypatch.setattr(type(source), "rename", rename)
    assert put_source(source, digest(b"pixels"), tmp_path / "x.tif", "copy")
    (tmp_path / "y.tif").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        put_source(source, digest(b"pixels"), tmp_path / "y.tif", "copy")
    assert (tmp_path / "y.tif").read_bytes() == b"precious"
    assert partial_files(tmp_path) == []
    deep = tmp_path.joinpath(*["folder with a long name"] * 12) / "x.tif"
    monkeypatch.setattr(outputs, "_appear", lambda *_: (_ for _ in ()).throw(FileNotFoundError(2, "No such file")))
    with pytest.raises(OutputError, match="more than 259 characters: use a shorter output folder"):
        put_bytes(b"jpeg", deep)


# -- bytes and tables ----------------------------------------------------------------------------------------------


def test_bytes_are_written_once(tmp_path: Path) -> None:
    target = tmp_path / "Tips" / "L9_0.jpg"
    assert put_bytes(b"jpeg", target)
    before = state(target)
    assert not put_bytes(b"jpeg", target)
    assert state(target) == before
    with pytest.raises(FileExistsError):
        put_bytes(b"other", target)
    assert target.read_bytes() == b"jpeg"


def test_is_free(tmp_path: Path) -> None:
    assert is_free(tmp_path / "x", digest(b"a"))
    (tmp_path / "x").write_bytes(b"a")
    assert is_free(tmp_path / "x", digest(b"a"))
    assert not is_free(tmp_path / "x", digest(b"b"))
    (tmp_path / "link").symlink_to("nowhere")
    assert not is_free(tmp_path / "link", digest(b"a"))


def test_table_is_replaced_only_if_it_changes(tmp_path: Path) -> None:
    table = tmp_path / "new" / "matches.csv"
    assert replace_if_changed(table, b"one")
    before = state(table)
    assert not replace_if_changed(table, b"one")
    assert state(table) == before
    assert replace_if_changed(table, b"two")
    assert table.read_bytes() == b"two"
    assert list(table.parent.iterdir()) == [table]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder cannot be written"):
        replace_if_changed(tmp_path / "folder", b"one")
    assert partial_files(tmp_path) == []


@pytest.mark.parametrize(
    ("category", "folder"),
    [
        ("plots", "plots_"), ("Plots", "Plots_"), ("report.html", "report.html_"), ("REPORT.HTML", "REPORT.HTML_"),
        ("run.sqlite", "run.sqlite_"), ("run.sqlite-journal", "run.sqlite-journal_"), ("..plots", "plots_"),
        ("matches.csv", "matches.csv_"), ("labels.jsonl", "labels.jsonl_"), ("summary.json", "summary.json_"),
        ("plots_", "plots__"), ("Plots__", "Plots___"), ("plot", "plot"), ("Tips", "Tips"),
        ("a/b", "a_b"), ("report", "report"),
    ],
)  # fmt: skip
def test_category_never_gets_a_folder_that_the_run_uses(category: str, folder: str) -> None:
    assert category_folder(category) == folder

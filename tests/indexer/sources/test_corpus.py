"""Walks over folders, files and archives: the order is fixed, every omission is reported, and nothing is written."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.errors import ImageError, SourceError
from twinscope_indexer.sources import archive, decompression
from twinscope_indexer.sources.archive import archive_stem, is_archive, open_archive
from twinscope_indexer.sources.corpus import RUN_MARKER, Item, Walk, scope_of, walk
from twinscope_indexer.sources.location import opened_source, source_uri

AWKWARD = ["with space.jpg", 'it\'s "quoted".jpg', "größe µm.jpg", "日本.jpg", "new\nline.jpg", "-rf.jpg", "a;b&c.jpg"]


def read(item):
    with item.open() as content:
        return content.stream.read()


def read_at(root, path, member):
    with opened_source(root, path, member) as content:
        return content.stream.read()


def walked(source: Path, skipped: Walk | None = None, **options) -> list[Item]:
    return list(walk(scope_of(source), Walk() if skipped is None else skipped, **options))


def inner(source: Path, skipped: Walk | None = None) -> list[str]:
    return [item.inner_path for item in walked(source, skipped)]


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode(errors="surrogateescape"))
    return folder


def tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as stream:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as stream:
        for name, data in members:
            stream.writestr(name, data)
    return path


def packed(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write an archive in the format of its suffix."""
    if path.suffix == ".zip":
        return zipped(path, members)
    modes = {".tar": "w", ".xz": "w:xz", ".txz": "w:xz", ".bz2": "w:bz2", ".tbz2": "w:bz2"}
    return tar(path, members, modes.get(path.suffix, "w:gz"))


KINDS = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip"]


# -- folders ------------------------------------------------------------------------------------------------------


def test_images_are_sorted_by_name_on_any_file_system(tmp_path, monkeypatch):
    names = ["b/2.tif", "b/10.jpg", "a/z.png", "c.JPEG", "a/b/c.bmp", "B.jpg"]
    fill(tmp_path, *names)
    expected = ["B.jpg", "a/b/c.bmp", "a/z.png", "b/10.jpg", "b/2.tif", "c.JPEG"]
    assert inner(tmp_path) == expected
    listing = os.scandir

    class Backwards:
        def __init__(self, path):
            self._entries = sorted(listing(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert inner(tmp_path) == expected


def test_other_files_are_counted_by_suffix(tmp_path):
    fill(tmp_path, "a.jpg", "b.txt", "c.TXT", "d", "e.weird suffix")
    skipped = Walk()
    assert inner(tmp_path, skipped) == ["a.jpg"]
    assert skipped.ignored == {".txt": 2, "no suffix": 2}


def test_hidden_files_and_folders_are_skipped(tmp_path):
    fill(tmp_path, "a.jpg", ".b.jpg", ".git/c.jpg", "._d.jpg")
    skipped = Walk()
    assert inner(tmp_path, skipped) == ["a.jpg"]
    assert skipped.ignored == {"hidden": 3}


def test_a_hidden_folder_given_as_source_is_walked(tmp_path):
    fill(tmp_path, ".cache/a.jpg")
    assert inner(tmp_path / ".cache") == ["a.jpg"]


def test_an_item_has_size_time_and_path(tmp_path):
    fill(tmp_path, "Tips/a.jpg")
    os.utime(tmp_path / "Tips/a.jpg", ns=(5, 1_234_567_890_123_456_789))
    [item] = walked(tmp_path)
    assert (item.root, item.path, item.member, item.name) == (tmp_path, "Tips/a.jpg", None, "a.jpg")
    assert (item.size, item.mtime_ns) == (len(read(item)), 1_234_567_890_123_456_789)
    assert item.uri == str(tmp_path / "Tips/a.jpg")
    assert item.levels == ["Tips"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_are_walked_and_read(tmp_path, name):
    fill(tmp_path, f"dir {name}/{name}")
    [item] = walked(tmp_path)
    assert item.name == name
    assert read(item) == (tmp_path / f"dir {name}" / name).read_bytes()


def test_names_that_are_not_utf8_are_walked_and_read(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    try:
        fill(tmp_path, name)
    except OSError:
        pytest.skip("the file system takes only UTF-8 names")
    [item] = walked(tmp_path)
    assert os.fsencode(item.path) == b"caf\xe9 \xff.jpg"
    assert read(item).startswith(b"content")


def test_links_are_followed_but_loops_end(tmp_path):
    fill(tmp_path / "real", "a.jpg", "deep/b.jpg")
    (tmp_path / "real/deep/up").symlink_to(tmp_path / "real")
    (tmp_path / "real/deep/self").symlink_to(tmp_path / "real/deep")
    (tmp_path / "linked").symlink_to(tmp_path / "real/deep")
    (tmp_path / "one.jpg").symlink_to(tmp_path / "real/a.jpg")
    assert inner(tmp_path) == ["linked/b.jpg", "linked/up/a.jpg", "one.jpg", "real/a.jpg", "real/deep/b.jpg"]


def test_broken_and_circular_links_are_reported(tmp_path):
    fill(tmp_path, "a.jpg", "z.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "round").symlink_to("round")
    skipped = Walk()
    assert inner(tmp_path, skipped) == ["a.jpg", "z.jpg"]
    assert [Path(path).name for path, _ in skipped.unreadable] == ["broken.jpg", "circle.jpg"]


def test_unreadable_folder_is_reported_with_the_reason(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    listing = os.scandir

    def guarded(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", guarded)
    skipped = Walk()
    assert inner(tmp_path, skipped) == ["a/1.jpg", "c/3.jpg"]
    assert skipped.unreadable == [(str(tmp_path / "b"), "no permission to read it")]


def test_pipes_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.tar")
    skipped = Walk()
    [item] = walked(tmp_path, skipped)
    with pytest.raises(ImageError, match="not a regular file"):
        read(item)
    [(path, reason)] = skipped.unreadable
    assert path.endswith("pipe.tar")
    assert "not a regular file" in reason


def test_folders_are_skipped_on_request(tmp_path):
    fill(tmp_path, "a/1.jpg", "store/2.jpg")
    items = walked(tmp_path, leave_out=lambda folder: folder == tmp_path / "store")
    assert [item.path for item in items] == ["a/1.jpg"]


def test_a_walk_is_lazy(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    items = walk(scope_of(tmp_path), Walk())
    assert next(items).path == "a/1.jpg"
    (tmp_path / "b/2.jpg").unlink()
    assert list(items) == []


# -- sources ------------------------------------------------------------------------------------------------------


def test_a_single_file_of_any_name_is_a_source(tmp_path):
    fill(tmp_path, "Tips/scan.dat", "Tips/other.jpg")
    [item] = walked(tmp_path / "Tips/scan.dat")
    assert (item.root, item.path, item.levels) == (tmp_path / "Tips", "scan.dat", [])


def test_a_source_keeps_its_given_name(tmp_path, monkeypatch):
    fill(tmp_path / "real", "a.jpg")
    (tmp_path / "Tips").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert scope_of("real/../Tips/").root == tmp_path / "Tips"
    assert walked(Path("Tips"))[0].root.name == "Tips"


@pytest.mark.parametrize("name", ["none", "none.jpg", "a.jpg/below", "nul\0"])
def test_a_source_that_does_not_exist_is_refused_by_name(tmp_path, name):
    fill(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match="no such file or folder"):
        scope_of(tmp_path / name)


@pytest.mark.parametrize("fault", ["missing", "unreadable"])
def test_removed_or_replaced_image_is_an_image_error(tmp_path, fault):
    fill(tmp_path, "a.jpg")
    [item] = walked(tmp_path)
    item.file.unlink()
    if fault == "unreadable":
        item.file.mkdir()
    with pytest.raises(ImageError) as refused:
        read(item)
    assert refused.value.fault == fault


def test_large_file_is_not_read_into_memory(tmp_path):
    with (tmp_path / "a.tif").open("wb") as stream:
        stream.write(b"begin")
        stream.truncate(archive.MAX_FILE + 1)
    [item] = walked(tmp_path)
    tracemalloc.start()
    with item.open() as content:
        assert content.stream.read(5) == b"begin"
        assert content.size == archive.MAX_FILE + 1
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("page", [0, 2])
def test_the_digest_is_that_of_the_whole_file(tmp_path, page):
    path = tmp_path / "a.tif"
    for data in (b"first content", b"other content"):
        path.write_bytes(data)
        with opened_source(tmp_path, "a.tif", None, page) as content:
            content.stream.read(4)
            assert [content.sha256(), content.sha256()] == [hashlib.sha256(data).digest()] * 2


def test_a_page_is_named_after_the_file(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x")
    [item] = walked(f"{tmp_path}/a.tif#page=12")
    assert (item.path, item.page) == ("a.tif", 12)
    assert item.uri == f"{tmp_path}/a.tif#page=12"
    assert source_uri(tmp_path, "a.zip", "b.tif", 3) == f"{tmp_path}/a.zip!b.tif#page=3"
    [whole] = walked(tmp_path)
    assert (whole.page, whole.uri) == (0, f"{tmp_path}/a.tif")


@pytest.mark.parametrize("name", ["a.tif#page=0", "a.tif#page=-1", "a.tif#page=x", "b.tif#page=1", "#page=2"])
def test_what_is_no_page_of_a_file_is_not_found(tmp_path, name):
    (tmp_path / "a.tif").write_bytes(b"x")
    with pytest.raises(SourceError, match="no such file"):
        scope_of(tmp_path / name)


def test_a_folder_or_an_archive_has_no_pages(tmp_path):
    tar(tmp_path / "a.tar", [("x.tif", b"x")])
    for name in (f"{tmp_path}#page=1", tmp_path / "a.tar#page=1"):
        with pytest.raises(SourceError, match="no such file"):
            scope_of(name)


def test_a_file_name_with_a_page_names_the_file(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x")
    (tmp_path / "a.tif#page=2").write_bytes(b"y")
    [item] = walked(tmp_path / "a.tif#page=2")
    assert (item.path, item.page, read(item)) == ("a.tif#page=2", 0, b"y")


# -- archives -----------------------------------------------------------------------------------------------------

MEMBERS = [("top.jpg", b"0" * 10), ("Tips/b.tif", b"1" * 5000), ("Tips/deep/ä b'c.jpg", b"2"), ("Tips/a.jpg", b"")]


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_an_archive_are_walked_and_read_in_place(tmp_path, kind):
    packed(tmp_path / f"box{kind}", [*MEMBERS, ("notes.txt", b"no image")])
    skipped = Walk()
    items = walked(tmp_path, skipped)
    assert [(item.path, item.member, item.size) for item in items] == [
        (f"box{kind}", name, len(data)) for name, data in MEMBERS
    ]
    assert [read(item) for item in items] == [data for _, data in MEMBERS]
    assert items[2].uri == f"{tmp_path}/box{kind}!Tips/deep/ä b'c.jpg"
    assert items[2].inner_path == f"box{kind}/Tips/deep/ä b'c.jpg"
    assert items[2].levels == ["box", "Tips", "deep"]
    assert items[0].levels == ["box"]
    assert skipped.ignored == {".txt": 1}
    assert [path.name for path in tmp_path.iterdir()] == [f"box{kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_a_source(tmp_path, kind):
    path = packed(tmp_path / f"Tips{kind}", MEMBERS)
    assert [item.member for item in walked(path)] == [name for name, _ in MEMBERS]


@pytest.mark.parametrize("kind", KINDS)
def test_archives_are_skipped_on_request(tmp_path, kind):
    fill(tmp_path, "a.jpg")
    packed(tmp_path / f"box{kind}", MEMBERS)
    assert [item.path for item in walked(tmp_path, archives=False)] == ["a.jpg"]


@pytest.mark.parametrize("kind", KINDS)
def test_members_with_paths_outside_the_archive_write_nothing(tmp_path, kind):
    outside = tmp_path / "outside.jpg"
    names = ["../outside.jpg", "../../up.jpg", f"{outside}", "./dot.jpg", "a/../b.jpg"]
    (tmp_path / "in").mkdir()
    packed(tmp_path / "in" / f"box{kind}", [(name, name.encode()) for name in names])
    items = walked(tmp_path / "in")
    assert len(items) == len(names)
    assert [read(item).decode() for item in items] == names
    assert all(".." not in item.levels for item in items)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["in", f"box{kind}"])


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_members_are_skipped(tmp_path, kind):
    names = ["./Tips/a.jpg", "./Tips/._a.jpg", "__MACOSX/._b.jpg", ".git/c.jpg"]
    packed(tmp_path / f"box{kind}", [(name, b"x") for name in names])
    [item] = walked(tmp_path)
    assert item.inner_path == f"box{kind}/Tips/a.jpg"
    assert read(item) == b"x"


@pytest.mark.parametrize("kind", [".tar", ".tgz"])
def test_tar_names_that_are_not_utf8_are_read(tmp_path, kind):
    name = os.fsdecode(b"\xe9t\xe9.jpg")
    path = tmp_path / f"box{kind}"
    with tarfile.open(path, "w:gz" if kind == ".tgz" else "w", format=tarfile.GNU_FORMAT) as stream:
        info = tarfile.TarInfo(name)
        info.size = 3
        stream.addfile(info, io.BytesIO(b"abc"))
    [item] = walked(tmp_path)
    assert item.member == name
    assert read(item) == b"abc"


@pytest.mark.parametrize("kind", KINDS)
def test_last_of_members_with_the_same_name_counts(tmp_path, kind):
    path = tmp_path / f"box{kind}"
    if kind == ".zip":
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed(path, [("a.jpg", b"old"), ("b.jpg", b"x"), ("a.jpg", b"newer")])
    else:
        packed(path, [("a.jpg", b"old"), ("b.jpg", b"x"), ("a.jpg", b"newer")])
    items = walked(tmp_path)
    assert {item.member: (item.size, read(item)) for item in items} == {"a.jpg": (5, b"newer"), "b.jpg": (1, b"x")}
    assert len(items) == 2


@pytest.mark.parametrize("kind", [".tar", ".tgz"])
def test_only_files_and_hard_links_in_a_tar_are_images(tmp_path, kind):
    with tarfile.open(tmp_path / f"box{kind}", "w:gz" if kind == ".tgz" else "w") as stream:
        for name, kind_of_member, target in [
            ("a.jpg", tarfile.REGTYPE, ""),
            ("again.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("lost.jpg", tarfile.LNKTYPE, "gone.jpg"),
            ("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("folder.jpg", tarfile.DIRTYPE, ""),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind_of_member, target
            info.size = 3 if kind_of_member == tarfile.REGTYPE else 0
            stream.addfile(info, io.BytesIO(b"abc"))
    assert [(item.member, read(item)) for item in walked(tmp_path)] == [("a.jpg", b"abc"), ("again.jpg", b"abc")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"\0" * 100, b"\x1f\x8b\x08\0broken", b"PK\3\4"])
def test_invalid_archive_is_reported_and_the_walk_continues(tmp_path, kind, content):
    (tmp_path / f"bad{kind}").write_bytes(content)
    fill(tmp_path, "a.jpg", "z.jpg")
    skipped = Walk()
    assert inner(tmp_path, skipped) == ["a.jpg", "z.jpg"]
    [(path, reason)] = skipped.unreadable
    assert path.endswith(f"bad{kind}")
    assert "its suffix matches its format" in reason


@pytest.mark.parametrize("kind", KINDS)
def test_git_lfs_pointer_instead_of_an_archive_is_named(tmp_path, kind):
    (tmp_path / f"Tips{kind}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    skipped = Walk()
    assert inner(tmp_path, skipped) == []
    assert "Run 'git lfs pull'" in skipped.unreadable[0][1]


@pytest.mark.parametrize(("real", "named"), [(".tar", ".tgz"), (".tgz", ".tar"), (".zip", ".tar"), (".tar", ".zip")])
def test_archive_with_a_wrong_suffix_is_reported(tmp_path, real, named):
    packed(tmp_path / f"x{real}", MEMBERS).rename(tmp_path / f"x{named}")
    skipped = Walk()
    assert inner(tmp_path, skipped) == []
    assert len(skipped.unreadable) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_archive_is_no_fault(tmp_path, kind):
    packed(tmp_path / f"x{kind}", [])
    skipped = Walk()
    assert inner(tmp_path, skipped) == []
    assert skipped.unreadable == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_in_a_truncated_archive_is_reported(tmp_path, kind):
    """Wherever the archive is cut, every member is correct or raises an `ImageError`, and the damage is reported."""
    noise = random.Random(0)
    members = [(f"{i}.jpg", noise.randbytes(700 + i)) for i in range(6)]
    whole = packed(tmp_path / f"x{kind}", members).read_bytes()
    # A tar ends with padding; a cut within the padding loses nothing.
    content = len(whole) if kind != ".tar" else 6 * (512 + 1024)
    (tmp_path / f"x{kind}").unlink()
    for cut in range(1, content, 97):
        path = tmp_path / f"cut{cut}{kind}"
        path.write_bytes(whole[:cut])
        skipped, intact, faults = Walk(), {}, set()
        for item in walked(path, skipped):
            try:
                intact[item.member] = read(item)
            except ImageError as error:
                faults.add(error.fault)
        assert faults <= {"truncated", "damaged"}
        assert intact.items() <= dict(members).items()
        assert skipped.unreadable, cut
        path.unlink()


def test_complete_members_of_a_truncated_tar_are_read(tmp_path):
    path = tar(tmp_path / "x.tar", [(f"{i}.jpg", bytes([i]) * 600) for i in range(4)])
    path.write_bytes(path.read_bytes()[: 3 * 1536 + 100])
    skipped = Walk()
    items = walked(path, skipped)
    assert [read(item) for item in items] == [bytes([i]) * 600 for i in range(3)]
    assert "after its 3 readable files" in skipped.unreadable[0][1]


@pytest.mark.parametrize("kind", [".tar", ".tgz"])
def test_a_damaged_tar_header_is_reported(tmp_path, kind):
    path = tar(tmp_path / "plain.tar", [(f"{i}.jpg", bytes([i]) * 600) for i in range(4)])
    data = bytearray(path.read_bytes())
    path.unlink()
    data[2 * 1536 + 150] ^= 0xFF  # within the checksum of the third header
    (tmp_path / f"x{kind}").write_bytes(gzip.compress(data) if kind == ".tgz" else data)
    skipped = Walk()
    assert [item.member for item in walked(tmp_path, skipped)] == ["0.jpg", "1.jpg"]
    assert len(skipped.unreadable) == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", [".tar", ".tgz", ".tar.xz", ".tar.bz2", ".zip", "lzma.zip"])
def test_damage_anywhere_in_an_archive_raises_image_errors(tmp_path_factory, kind, data):
    path = tmp_path_factory.mktemp("damage") / f"x{kind}"
    if kind == "lzma.zip":
        zipped(path, MEMBERS, zipfile.ZIP_LZMA)
    else:
        packed(path, MEMBERS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 9000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    sources = set()
    for item in walked(path):
        try:
            read(item)
        except ImageError as error:
            sources.add(error.source.partition("!")[0])
    assert sources <= {str(path)}


def test_a_changed_archive_is_opened_again(tmp_path):
    path = tar(tmp_path / "x.tar", [("a.jpg", b"old")])
    [item] = walked(path)
    tar(path, [("b.jpg", b"b" * 2000), ("a.jpg", b"new content")])
    assert read(item) == b"new content"
    with pytest.raises(ImageError) as refused:
        read_at(item.root, item.path, "gone.jpg")
    assert refused.value.fault == "missing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_member_or_archive_is_an_image_error(tmp_path, kind):
    path = packed(tmp_path / f"x{kind}", MEMBERS)
    with pytest.raises(ImageError, match="does not contain this file"):
        read_at(tmp_path, path.name, "none.jpg")
    path.unlink()
    with pytest.raises(ImageError):
        read_at(tmp_path, path.name, "top.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_from_several_threads(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archive, "_GZIP_SPACING", 1 << 16)
    noise = random.Random(1)
    members = [(f"{i}.jpg", noise.randbytes(20_000 + i)) for i in range(12)]
    opened = open_archive(packed(tmp_path / f"x{kind}", members))
    wrong = []

    def read_all(order: int) -> None:
        shuffled = random.Random(order).sample(members, len(members))
        wrong.extend(name for name, data in shuffled if opened.read(name) != data)

    threads = [threading.Thread(target=read_all, args=(order,), daemon=True) for order in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_encrypted_or_unknown_zip_member_is_an_image_error(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a.jpg", b"x" * 100)], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for start in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        data[start] |= 1  # the flag for encryption
    path.write_bytes(data)
    with pytest.raises(ImageError, match="encrypted"):
        read(walked(path)[0])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Tips.tar.gz", "Tips"),
        ("a/Tips.TGZ", "Tips"),
        ("v1.2.tar", "v1.2"),
        ("x.zip", "x"),
        ("plain", "plain"),
        ("Tips.tar.xz", "Tips"),
        ("Tips.tbz2", "Tips"),
    ],
)
def test_the_stem_of_an_archive_is_its_name_without_the_suffix(name, stem):
    assert archive_stem(name) == stem
    assert is_archive(name) == (name != "plain")


@pytest.mark.parametrize("name", ["a.gz", "a.xz", "a.jpg", "tar", "a.7z", "a.zip.jpg"])
def test_other_files_are_not_archives(name):
    assert not is_archive(name)


@pytest.mark.parametrize("name", ["Tips.7z", "Tips.RAR", "Tips.tar.zst", "Tips.7z.001"])
@pytest.mark.parametrize("named", [False, True])
def test_archives_that_are_not_read_are_named(tmp_path, name, named):
    fill(tmp_path / "in", name, "a.jpg")
    skipped = Walk()
    assert inner(tmp_path / "in" / name if named else tmp_path / "in", skipped) == ([] if named else ["a.jpg"])
    [(path, reason)] = skipped.unreadable
    assert path == str(tmp_path / "in" / name)
    assert "only .tar, .tar.gz, .tar.xz, .tar.bz2 and .zip archives can be read" in reason
    assert not skipped.ignored


def test_backslashes_in_a_zip_separate_folders(tmp_path):
    names = ["lab\\Tips\\a.jpg", "lab\\Tips\\", "lab\\.git\\b.jpg", "C:\\x\\Fibres\\c.jpg"]
    zipped(tmp_path / "box.zip", [(name, name.encode()) for name in names])
    tips, fibres = walked(tmp_path)
    assert (tips.member, tips.name, tips.levels) == ("lab/Tips/a.jpg", "a.jpg", ["box", "lab", "Tips"])
    assert read(tips) == read_at(tmp_path, "box.zip", names[0]) == names[0].encode()
    assert fibres.levels == ["box", "x", "Fibres"]


@pytest.mark.parametrize("kind", [".tar", ".zip"])
@pytest.mark.parametrize("name", ["/etc/Tips/a.jpg", "//host/Tips/a.jpg", "../../Tips/a.jpg", "C:/Tips/a.jpg"])
def test_roots_drives_and_dots_in_an_archive_are_no_folders(tmp_path, kind, name):
    packed(tmp_path / f"box{kind}", [(name, b"x")])
    [item] = walked(tmp_path)
    assert read(item) == b"x"
    assert item.levels[-1] == "Tips"
    assert not {"/", "//", "..", "C:"} & set(item.levels)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"box{kind}"]


@pytest.mark.parametrize("kind", [".tar", ".tgz", ".tar.xz", ".tar.bz2", ".zip"])
def test_missing_permission_is_not_called_damage(tmp_path, kind, monkeypatch):
    path = packed(tmp_path / f"box{kind}", MEMBERS)
    listed = walked(path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(5, 5))  # a changed archive is opened again
    real = io.open

    def refuse(file, *rest, **options):
        if str(file) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(file, *rest, **options)

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    skipped = Walk()
    assert walked(path, skipped) == []
    assert skipped.unreadable == [(str(path), f"archive {path} cannot be read: no permission to read it")]
    with pytest.raises(ImageError, match="no permission to read it") as caught:
        read(listed[0])
    assert caught.value.fault == "unreadable"


def test_missing_permission_for_a_file_is_told(tmp_path, monkeypatch):
    [item] = walked(fill(tmp_path, "a.jpg"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(ImageError, match=r"a\.jpg: no permission to read it") as caught:
        read(item)
    assert caught.value.fault == "unreadable"


# -- xz and bzip2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".tar.xz", ".tar.bz2"])
def test_members_are_read_in_any_order_with_little_memory(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(decompression, "_KEPT", 1 << 14)
    monkeypatch.setattr(decompression, "_BLOCK", 1 << 12)
    noise = random.Random(1)
    members = [(f"{i}.jpg", noise.randbytes(9000 + i)) for i in range(12)]
    opened = open_archive(packed(tmp_path / f"x{kind}", members))
    for name, data in [*members, *reversed(members), *noise.sample(members, 12)]:
        assert opened.read(name) == data


@pytest.mark.parametrize("kind", [".tar.xz", ".tar.bz2"])
def test_several_streams_and_padding_are_one_archive(tmp_path, kind):
    plain = tar(tmp_path / "plain", MEMBERS).read_bytes()
    compress = lzma.compress if kind == ".tar.xz" else bz2.compress
    halves = compress(plain[:700]), compress(plain[700:])
    (tmp_path / f"x{kind}").write_bytes(halves[0] + bytes(8 if kind == ".tar.xz" else 0) + halves[1])
    skipped = Walk()
    assert [(item.member, read(item)) for item in walked(tmp_path / f"x{kind}", skipped)] == MEMBERS
    assert not skipped.unreadable


@pytest.mark.parametrize("kind", [".tar.xz", ".tar.bz2"])
def test_small_archive_of_large_zeros_needs_little_memory(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(decompression, "_KEPT", 1 << 18)
    info = tarfile.TarInfo("a.txt")
    info.size = 12 << 20
    content = info.tobuf() + bytes(info.size + 1024)
    packed_content = lzma.compress(content, preset=0) if kind == ".tar.xz" else bz2.compress(content)
    (tmp_path / f"x{kind}").write_bytes(packed_content)
    assert len(packed_content) < 10_000
    skipped = Walk()
    tracemalloc.start()
    try:
        assert walked(tmp_path / f"x{kind}", skipped) == []
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
    assert skipped.ignored == {".txt": 1}


def test_xz_that_needs_too_much_memory_is_refused(tmp_path, monkeypatch):
    path = packed(tmp_path / "x.tar.xz", MEMBERS)
    monkeypatch.setattr(decompression, "_MEMORY", 1 << 20)
    skipped = Walk()
    assert walked(path, skipped) == []
    assert "Memory usage limit" in skipped.unreadable[0][1]


# -- outputs of labelling runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "link to nothing"])
def test_a_folder_with_the_marker_is_left_out(tmp_path, kind):
    fill(tmp_path / "lab", "a.tif", "out/Tips/L9_b.tif", "other/c.tif")
    path = tmp_path / "lab" / "out" / RUN_MARKER
    make = {
        "file": path.touch,
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link to nothing": lambda: path.symlink_to("nowhere"),
    }
    make[kind]()
    skipped = Walk()
    assert [item.path for item in walked(tmp_path / "lab", skipped, leave_out=skipped.leave_out_run)] == [
        "a.tif",
        "other/c.tif",
    ]
    assert skipped.runs == [str(path.parent)]


@pytest.mark.parametrize("name", ["run.sqlite", "twinscope-run", f"{RUN_MARKER}.txt"])
def test_other_names_do_not_mark_a_run(tmp_path, name):
    fill(tmp_path / "lab", "a.tif")
    (tmp_path / "lab" / name).touch()
    skipped = Walk()
    assert [item.path for item in walked(tmp_path / "lab", skipped, leave_out=skipped.leave_out_run)] == ["a.tif"]
    assert skipped.runs == []

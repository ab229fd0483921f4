"""Tables that spreadsheet programs save are read, or refused with a message; no image gets a wrong label."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.indexing.folder_rule import Place
from twinscope_indexer.indexing.label_rules import LabelRule, label_rule
from twinscope_indexer.indexing.label_table import LabelTable, read_label_table
from twinscope_indexer.sources.corpus import Item
from twinscope_indexer.taxonomy import builtin_taxonomy

NAMES = [category.name for category in builtin_taxonomy().categories]


def item(path: str, member: str | None = None) -> Item:
    return Item(Path("/data/collection"), path, member, 1, 1)


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def code_of(rule: LabelRule, path: str, member: str | None = None) -> str:
    one = item(path, member)
    return rule(one, one.inner_path, Place(("collection",))).code


def test_table_lists_paths_archive_members_or_base_names(tmp_path):
    path = table(tmp_path, "file,category\na/x.jpg,Tips\nb.tar/d/y.jpg,L8\nz.jpg,Powder\n")
    rule = label_rule(str(path), builtin_taxonomy())
    assert code_of(rule, "a/x.jpg") == "L9"
    assert code_of(rule, "b.tar", "d/y.jpg") == "L8"
    assert code_of(rule, "anywhere/z.jpg") == "L8"


def test_table_path_labels_no_image_in_another_folder(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\na/x.jpg,Tips\n")), builtin_taxonomy())
    for other in ("b/x.jpg", "x.jpg", "c/a/x.jpg"):
        with pytest.raises(TaxonomyError, match="no label"):
            code_of(rule, other)


def test_path_takes_precedence_over_base_name():
    labels = LabelTable({"x.jpg": "Powder", "a/x.jpg": "Tips", "b/x.jpg": ""})
    assert labels.label_of("a/x.jpg") == "Tips"
    assert labels.label_of("c/x.jpg") == "Powder"
    with pytest.raises(TaxonomyError):  # the image is listed, but its category is blank
        labels.label_of("b/x.jpg")


def test_folder_and_prefix_do_not_replace_a_missing_row(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\nother.jpg,Tips\n")), builtin_taxonomy())
    with pytest.raises(TaxonomyError, match="no label") as refused:
        code_of(rule, "Tips/L9_x.jpg")
    assert refused.value.cause == "no label in the table of labels"


def test_a_category_in_a_table_must_be_known(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\nx.jpg,Cats\n")), builtin_taxonomy())
    with pytest.raises(TaxonomyError, match="'Cats'"):
        code_of(rule, "x.jpg")


def test_tables_written_by_spreadsheets_and_windows(tmp_path):
    text = '\ufefffile,note,category\r\na\\x.jpg,first, Tips \r\n./b/y.jpg,,Powder\r\n"with, comma.jpg",,Fibres\r\n'
    assert read_label_table(table(tmp_path, text)).labels == {
        "a/x.jpg": "Tips", "b/y.jpg": "Powder", "with, comma.jpg": "Fibres",
    }  # fmt: skip


ROWS = [("2024/a.jpg", "Tips"), ("2024/b.jpg", "Powder")]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("separator", "header"), [(";", "file;category"), ("\t", "file\tcategory"), (",", "File,Category"),
                              (" , ", "file, category"), (";", '"FILE";"Category"')],
)  # fmt: skip
def test_the_forms_that_spreadsheets_save(tmp_path, coding, end, separator, header):
    text = end.join([header, *(f"{name}{separator}{label} " for name, label in ROWS), ""])
    assert read_label_table(table(tmp_path, text.encode(coding))).labels == dict(ROWS)


def test_names_are_the_same_in_both_unicode_forms(tmp_path):
    for one, other in (("NFC", "NFD"), ("NFD", "NFC")):
        text = unicodedata.normalize(one, "file,category\nDrähte/ä.jpg,Tips\n")
        rule = label_rule(str(table(tmp_path, text)), builtin_taxonomy())
        assert code_of(rule, unicodedata.normalize(other, "Drähte/ä.jpg")) == "L9"


@pytest.mark.parametrize("start", ["C:\\lab\\collection\\", "\\\\server\\share\\collection\\", "/mnt/old/collection/"])
def test_paths_of_another_computer_count_from_the_folder_of_the_collection(tmp_path, start):
    names = ["Tips/a.jpg", "Powder/a.jpg", "Powder/b.jpg", "c.jpg"]
    rows = "".join(f"{start}{name},{('Tips', 'Powder', 'Powder', 'Fibres')[n]}\n" for n, name in enumerate(names))
    path = table(tmp_path, "file,category\n" + rows.replace("/", "\\" if "\\" in start else "/"))
    rule = label_rule(str(path), builtin_taxonomy(), [item(name) for name in [*names, "b.jpg"]])
    assert [code_of(rule, name) for name in names] == ["L9", "L8", "L8", "L1"]
    with pytest.raises(TaxonomyError, match="no label"):  # not the b.jpg of the folder Powder
        code_of(rule, "b.jpg")


def test_equally_many_folders_of_another_computer_label_nothing(tmp_path):
    path = table(tmp_path, "file,category\nC:\\one\\a.jpg,Tips\nC:\\two\\a.jpg,Powder\n")
    rule = label_rule(str(path), builtin_taxonomy(), [item("a.jpg")])
    with pytest.raises(TaxonomyError, match="no label"):
        code_of(rule, "a.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("file,color\nx.jpg,Tips\n", "'category'"),
        ("category\nTips\n", "the header must contain"),
        ("Labels of 2024;;\n;;\nfile;category\nx.jpg;Tips\n", "the header is in line 3, below a title"),
        ("x.jpg,Tips\ny.jpg,Tips\n", "has no header"),
        ("file,category\nx.jpg,Tips\nx.jpg,Powder\n", "line 3.*'Tips'.*'Powder'"),
        ("file,category\na\\x.jpg,Tips\na/x.jpg,Powder\n", "line 3"),
        ("file,category\nx.jpg,Tips\nx.jpg,\n", "line 3"),
        ("file,category\nwith, comma.jpg,Tips\n", "line 2: the row has more columns"),
        ("file,category\n,Tips\n", "line 2: the row names no image"),
        ("file,path,category\nx,y,Tips\n", "several headings mean"),
        (b"file,category\n\xff.jpg,Tips\n", "line 2: this is not UTF-8 .byte 0xff.; save it as 'CSV UTF-8'"),
        (b"PK\x03\x04 xl/workbook.xml", "save it as 'CSV UTF-8'"),
    ],
)
def test_malformed_or_contradictory_table_is_refused(tmp_path, text, message):
    with pytest.raises(TaxonomyError, match=message):
        read_label_table(table(tmp_path, text))


def test_repeated_rows_are_harmless_and_short_rows_unlabelled(tmp_path):
    labels = read_label_table(table(tmp_path, "file,category\nx.jpg,Tips\nx.jpg,Tips\ny.jpg\n")).labels
    assert labels == {"x.jpg": "Tips", "y.jpg": ""}


@given(st.dictionaries(st.text("abc ./,\"'é", min_size=1), st.sampled_from(sorted(NAMES)), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_table_from_a_csv_writer_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "category"))
        writer.writerows(rows.items())
    plain = {name.strip(): label for name, label in rows.items() if not {".", "/"} & set(name) and name.strip()}
    try:
        found = read_label_table(path).labels
    except TaxonomyError:  # two spellings of one path have different labels, or a row names no image
        assert any(not name.strip("./ ") for name in rows) or len({name.strip() for name in plain}) < len(rows)
        return
    assert {name: found[name] for name in plain} == plain

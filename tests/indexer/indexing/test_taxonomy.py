"""Categories, their spellings and codes, and the rules that give an image its category."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.indexing.label_rules import label_rule
from twinscope_indexer.sources.corpus import Item
from twinscope_indexer.taxonomy import (
    Category,
    Taxonomy,
    builtin_taxonomy,
    label_of,
    load_labels,
    load_taxonomy,
    published_prefix,
)

PUBLISHED = {
    "L0": "Biological",
    "L1": "Fibres",
    "L2": "Films_Coated_Surface",
    "L3": "MEMS_devices_and_electrodes",
    "L4": "Nanowires",
    "L5": "Particles",
    "L6": "Patterned_surface",
    "L7": "Porous_Sponge",
    "L8": "Powder",
    "L9": "Tips",
}


def item(path: str, member: str | None = None, root: str = "/data/collection") -> Item:
    return Item(Path(root), path, member, 1, 1)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "taxonomy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# -- the built-in categories -------------------------------------------------------------------------------------


def test_the_ten_built_in_codes_are_the_published_ones():
    assert {c.code: c.name for c in builtin_taxonomy().categories} == PUBLISHED


@given(st.sampled_from(builtin_taxonomy().categories), st.sampled_from(["_", " ", "-", "  ", "."]), st.integers(0, 2))
def test_case_and_separators_do_not_matter(category, separator, case):
    change = (str.upper, str.lower, str.title)[case]
    for spelling in (category.name, category.code, *category.aliases):
        written = change(spelling.replace("_", separator).replace(" ", separator))
        assert builtin_taxonomy().resolve(f" {written} ") == category


@pytest.mark.parametrize(
    ("spelling", "code"), [("Fibers", "L1"), ("fibre", "L1"), ("MEMS", "L3"), ("tip", "L9"), ("Coated-Surface", "L2")]
)
def test_aliases(spelling, code):
    assert builtin_taxonomy().resolve(spelling).code == code


@pytest.mark.parametrize("label", ["Cats", "", "   ", "___", "L10", "L", "Tips2", "Particles Powder", "L 5"])
def test_unknown_category_is_refused_with_the_known_ones(label):
    with pytest.raises(TaxonomyError) as refused:
        builtin_taxonomy().resolve(label)
    message = str(refused.value)
    assert repr(label) in message
    assert all(f"{name} ({code})" in message for code, name in PUBLISHED.items())


def test_kept_unknown_names_become_categories_of_their_own():
    keeping = load_taxonomy(keep_unknown=True)
    assert keeping.resolve(" Graphene flakes ") == Category("Graphene flakes", "Graphene flakes")
    assert keeping.resolve("tips").code == "L9"


@pytest.mark.parametrize("label", ["", "  ", "--", "a\nb", "a\x00b", "broken \udcff"])
def test_labels_that_cannot_be_folder_names_are_not_kept(label):
    with pytest.raises(TaxonomyError):
        load_taxonomy(keep_unknown=True).resolve(label)


# -- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "member", "code"),
    [
        ("Tips/a.jpg", None, "L9"),
        ("Tips/2019/a.jpg", None, "L9"),
        ("Tips/Powder/a.jpg", None, "L8"),
        ("Tips.tar.gz", "a.jpg", "L9"),
        ("Tips.tar", "Powder/a.jpg", "L8"),
        ("Powder/batch.zip", "x/a.jpg", "L8"),
        ("Powder/Tips.TGZ", "x/a.jpg", "L9"),
    ],
)
def test_the_nearest_known_folder_or_archive_names_the_category(path, member, code):
    rule = label_rule("folder", builtin_taxonomy())
    assert rule(item(path, member), "").code == code


def test_the_root_may_name_the_category():
    rule = label_rule("folder", builtin_taxonomy())
    assert rule(item("a.jpg", root="/data/Tips"), "a.jpg").code == "L9"


def test_folders_above_the_root_do_not_name_the_category():
    with pytest.raises(TaxonomyError, match="'x'"):
        label_rule("folder", builtin_taxonomy())(item("a.jpg", root="/home/tips/x"), "a.jpg")


def test_an_unknown_folder_is_named_in_the_refusal():
    with pytest.raises(TaxonomyError, match="'Cats'"):
        label_rule("folder", builtin_taxonomy())(item("Cats/a.jpg"), "Cats/a.jpg")


def test_with_keep_the_nearest_folder_counts_if_none_is_known():
    rule = label_rule("folder", load_taxonomy(keep_unknown=True))
    assert rule(item("Cats/a.jpg"), "").name == "Cats"
    assert rule(item("Tips/old/a.jpg"), "").name == "Tips"


def test_decomposed_unicode_names_are_the_same(tmp_path):
    path = toml(tmp_path, 'version = "1"\n[[category]]\ncode = "A"\nname = "Körner"\n')
    assert load_taxonomy(path).resolve(unicodedata.normalize("NFD", "KÖRNER")).code == "A"


# -- prefixes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("L5_ab.jpg", "L5"),
        ("l5_ab.jpg", "L5"),
        ("L12_ab.jpg", "L12"),
        ("L5ab.jpg", None),
        ("xL5_ab.jpg", None),
        ("", None),
    ],
)
def test_published_prefix_is_read_from_the_name(name, prefix):
    assert published_prefix(name) == prefix


def test_a_prefix_is_a_label_only_on_request():
    image = item("Tips/L5_ab.jpg")
    assert label_rule("folder", builtin_taxonomy())(image, "").code == "L9"
    assert label_rule("prefix", builtin_taxonomy())(image, "").code == "L5"


def test_a_prefix_does_not_help_an_unknown_folder():
    with pytest.raises(TaxonomyError):
        label_rule("folder", builtin_taxonomy())(item("Cats/L5_ab.jpg"), "")


@pytest.mark.parametrize("name", ["ab.jpg", "L12_ab.jpg", "Tips_ab.jpg", "L5.jpg"])
def test_missing_or_unknown_prefix_is_refused(name):
    with pytest.raises(TaxonomyError):
        label_rule("prefix", builtin_taxonomy())(item(f"Tips/{name}"), "")


def test_the_longest_matching_prefix_counts():
    taxonomy = Taxonomy("1", (Category("A", "one"), Category("A_B", "two"), Category("AB", "three")))
    assert [taxonomy.of_prefix(f"{name}_x.jpg").name for name in ("a", "A_B", "AB")] == ["one", "two", "three"]


# -- custom taxonomies -----------------------------------------------------------------------------------------


def test_a_taxonomy_is_read_from_toml(tmp_path):
    text = (
        'version = "lab/2"\n[[category]]\ncode = "G"\nname = "Graphene"\ndescription = "d"\naliases = ["Flakes"]\n'
        '[[category]]\ncode = "H"\nname = "hBN"\n'
    )
    taxonomy = load_taxonomy(toml(tmp_path, text))
    assert taxonomy.version == "lab/2"
    assert taxonomy.categories == (Category("G", "Graphene", "d", ("Flakes",)), Category("H", "hBN"))
    assert taxonomy.resolve("FLAKES").name == "Graphene"


def test_a_taxonomy_may_begin_with_a_byte_order_mark(tmp_path):
    path = toml(tmp_path, '\ufeffversion = "1"\n[[category]]\ncode = "G"\nname = "Graphene"\n')
    assert load_taxonomy(path).resolve("g").name == "Graphene"


ONE = '[[category]]\ncode = "G"\nname = "Graphene"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "TOML"),
        ("", "version"),
        (ONE, "version"),
        ("version = 1\n" + ONE, "version"),
        ('version = "1"\n', "category"),
        ('version = "1"\ncategory = []\n', "category"),
        ('version = "1"\n[category]\ncode = "G"\nname = "n"\n', "category"),
        ('version = "1"\n[[category]]\ncode = "G"\n', "name"),
        ('version = "1"\n[[category]]\ncode = ""\nname = "n"\n', "code"),
        ('version = "1"\n[[category]]\ncode = 5\nname = "n"\n', "code"),
        ('version = "1"\n[[category]]\ncode = "G"\nname = "n"\nalias = ["x"]\n', "alias"),
        ('version = "1"\n[[category]]\ncode = "G"\nname = "n"\naliases = "x"\n', "aliases"),
        ('version = "1"\n[[category]]\ncode = "G"\nname = "n"\naliases = [1]\n', "aliases"),
        ('version = "1"\ncategory = ["x"]\n', "code"),
        ('version = "1"\n[[category]]\ncode = "-"\nname = "n"\n', "neither a letter"),
    ],
)
def test_malformed_taxonomy_is_refused_with_the_cause(tmp_path, text, message):
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(toml(tmp_path, text))


@pytest.mark.parametrize("content", [b"version = '\xff'", None], ids=["no UTF-8", "no file"])
def test_an_unreadable_taxonomy_is_refused_by_name(tmp_path, content):
    path = tmp_path / "lab.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaxonomyError, match=r"lab\.toml"):
        load_taxonomy(path)


@pytest.mark.parametrize(
    "second",
    [
        Category("G", "Other"),
        Category("O", "graphene"),
        Category("O", "Other", aliases=("GRAPHENE",)),
        Category("flakes", "Other"),
    ],
)
def test_one_spelling_for_two_categories_is_refused(second):
    with pytest.raises(TaxonomyError, match="means both Graphene and"):
        Taxonomy("1", (Category("G", "Graphene", aliases=("Flakes",)), second))


def test_one_spelling_twice_for_one_category_is_harmless():
    taxonomy = Taxonomy("1", (Category("G", "Graphene", aliases=("graphene", "g")),))
    assert taxonomy.resolve("G").name == "Graphene"


# -- tables of labels --------------------------------------------------------------------------------------------


def test_table_lists_paths_archive_members_or_base_names(tmp_path):
    path = table(tmp_path, "file,category\na/x.jpg,Tips\nb.tar/d/y.jpg,L8\nz.jpg,Powder\n")
    rule = label_rule(str(path), builtin_taxonomy())
    assert rule(item("a/x.jpg"), "a/x.jpg").code == "L9"
    assert rule(item("b.tar", "d/y.jpg"), "b.tar/d/y.jpg").code == "L8"
    assert rule(item("anywhere/z.jpg"), "anywhere/z.jpg").code == "L8"


def test_table_path_labels_no_image_in_another_folder(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\na/x.jpg,Tips\n")), builtin_taxonomy())
    for other in ("b/x.jpg", "x.jpg", "c/a/x.jpg"):
        with pytest.raises(TaxonomyError, match="no label"):
            rule(item(other), other)


def test_path_takes_precedence_over_base_name():
    labels = {"x.jpg": "Powder", "a/x.jpg": "Tips", "b/x.jpg": ""}
    assert label_of(labels, "a/x.jpg") == "Tips"
    assert label_of(labels, "c/x.jpg") == "Powder"
    with pytest.raises(TaxonomyError):  # listed, and left blank
        label_of(labels, "b/x.jpg")


def test_folder_and_prefix_do_not_replace_a_missing_row(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\nother.jpg,Tips\n")), builtin_taxonomy())
    with pytest.raises(TaxonomyError, match="no label"):
        rule(item("Tips/L9_x.jpg"), "Tips/L9_x.jpg")


def test_a_category_in_a_table_must_be_known(tmp_path):
    rule = label_rule(str(table(tmp_path, "file,category\nx.jpg,Cats\n")), builtin_taxonomy())
    with pytest.raises(TaxonomyError, match="'Cats'"):
        rule(item("x.jpg"), "x.jpg")


def test_tables_written_by_spreadsheets_and_windows(tmp_path):
    text = '\ufefffile,note,category\r\na\\x.jpg,first, Tips \r\n./b/y.jpg,,Powder\r\n"with, comma.jpg",,Fibres\r\n'
    assert load_labels(table(tmp_path, text)) == {"a/x.jpg": "Tips", "b/y.jpg": "Powder", "with, comma.jpg": "Fibres"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("file,label\nx.jpg,Tips\n", "columns"),
        ("file;category\nx.jpg;Tips\n", "columns"),
        ("category\nTips\n", "columns"),
        ("file,category\nx.jpg,Tips\nx.jpg,Powder\n", "line 3.*'Tips'.*'Powder'"),
        ("file,category\na\\x.jpg,Tips\na/x.jpg,Powder\n", "line 3"),
        ("file,category\nx.jpg,Tips\nx.jpg,\n", "line 3"),
        (b"file,category\n\xff.jpg,Tips\n", "cannot be read"),
    ],
)
def test_malformed_or_contradictory_table_is_refused(tmp_path, text, message):
    with pytest.raises(TaxonomyError, match=message):
        load_labels(table(tmp_path, text))


def test_a_missing_table_is_refused_by_name(tmp_path):
    with pytest.raises(TaxonomyError, match=r"none\.csv"):
        label_rule(str(tmp_path / "none.csv"), builtin_taxonomy())


def test_repeated_rows_are_harmless_and_short_rows_unlabelled(tmp_path):
    labels = load_labels(table(tmp_path, "file,category\nx.jpg,Tips\nx.jpg,Tips\ny.jpg\n"))
    assert labels == {"x.jpg": "Tips", "y.jpg": ""}


@given(st.dictionaries(st.text("abc ./,\"'é", min_size=1), st.sampled_from(sorted(PUBLISHED)), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_table_from_a_csv_writer_is_read_back(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.mktemp("table") / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "category"))
        writer.writerows(rows.items())
    plain = {name: code for name, code in rows.items() if "." not in name and "/" not in name}
    try:
        found = load_labels(path)
    except TaxonomyError:  # two spellings of one path contradict each other; impossible for plain names
        assert len(plain) < len(rows)
        return
    assert {name: found[name] for name in plain} == plain

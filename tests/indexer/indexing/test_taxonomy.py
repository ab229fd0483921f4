"""Categories, their spellings and codes, and the rules that give an image its category."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.indexing.folder_rule import Place
from twinscope_indexer.indexing.label_rules import label_rule
from twinscope_indexer.sources.corpus import Item
from twinscope_indexer.taxonomy import (
    Category,
    Taxonomy,
    builtin_taxonomy,
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


PLACE = Place(("collection",))


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
    decomposed = unicodedata.normalize("NFD", "Drähte")
    assert keeping.resolve(decomposed) == keeping.resolve("Drähte") == Category("Drähte", "Drähte")


@pytest.mark.parametrize("label", ["", "  ", "--", "a\nb", "a\x00b", "broken \udcff"])
def test_labels_that_cannot_be_folder_names_are_not_kept(label):
    with pytest.raises(TaxonomyError):
        load_taxonomy(keep_unknown=True).resolve(label)


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
    assert label_rule("folder", builtin_taxonomy())(image, "", PLACE).code == "L9"
    assert label_rule("prefix", builtin_taxonomy())(image, "", PLACE).code == "L5"


def test_a_prefix_does_not_help_an_unknown_folder():
    with pytest.raises(TaxonomyError):
        label_rule("folder", builtin_taxonomy())(item("Cats/L5_ab.jpg"), "", PLACE)


@pytest.mark.parametrize("name", ["ab.jpg", "L12_ab.jpg", "Tips_ab.jpg", "L5.jpg"])
def test_missing_or_unknown_prefix_is_refused(name):
    with pytest.raises(TaxonomyError):
        label_rule("prefix", builtin_taxonomy())(item(f"Tips/{name}"), "", PLACE)


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


EXTENDS = 'extends = "sem-majority/1"\n'


def test_a_taxonomy_extends_the_built_in_one(tmp_path):
    text = EXTENDS + (
        'version = "lab/3"\n'
        '[[category]]\ncode = "L6"\nname = "Patterned_surface"\naliases = ["Gratings", "Patterned surface (neu)"]\n'
        '[[category]]\nname = "Tips"\naliases = ["Spitzen"]\n'
        '[[category]]\ncode = "W"\nname = "Wires"\n'
    )
    taxonomy = load_taxonomy(toml(tmp_path, text))
    assert taxonomy.version == "lab/3"
    assert {c.code: c.name for c in taxonomy.categories} == PUBLISHED | {"W": "Wires"}
    for spelling, code in (("gratings", "L6"), ("Patterned", "L6"), ("Spitzen", "L9"), ("tip", "L9"), ("wires", "W")):
        assert taxonomy.resolve(spelling).code == code


def test_an_extension_without_a_version_gets_one_of_its_content(tmp_path):
    one, other = (
        load_taxonomy(toml(tmp_path, f'{EXTENDS}[[category]]\ncode = "L9"\naliases = ["{alias}"]\n')).version
        for alias in ("a1", "a2")
    )
    assert one.startswith("sem-majority/1+")
    assert one != other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine"\n', "only 'sem-majority/1' can be extended"),
        (EXTENDS + '[[category]]\ncode = "X"\nname = "Film"\n', "means both"),
        (EXTENDS + '[[category]]\ncode = "L6"\nname = "Tips"\n', "means both"),
        (EXTENDS + '[[category]]\ncode = "L6"\naliases = ["Tip"]\n', "means both"),
        (EXTENDS + '[[category]]\nname = "Wires"\n', "needs 'code'"),
        (EXTENDS + '[[category]]\ncode = "L6"\nalias = ["x"]\n', "alias"),
    ],
)
def test_an_ambiguous_extension_is_refused(tmp_path, text, message):
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(toml(tmp_path, text))


@pytest.mark.parametrize("name", ["builtin", "default", "sem-majority/1", Path("builtin"), None])
def test_the_built_in_taxonomy_has_names(name):
    assert load_taxonomy(name) == builtin_taxonomy()


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("Patterned surface (neu)", "L6"), ("PatternedSurface", "L6"), ("Tipps", "L9"), ("nano wires", "L4"),
        ("Films on glass", "L2"), ("Other", None), ("2023", None), ("", None), ("L10", None),
    ],
)  # fmt: skip
def test_a_similar_category_is_suggested(label, code):
    found = builtin_taxonomy().similar(label)
    assert (None if found is None else found.code) == code
    if found is not None:
        with pytest.raises(TaxonomyError, match=f"did you mean {found.name} .{code}.[?] Known") as refused:
            builtin_taxonomy().resolve(label)
        assert refused.value.cause == f"{label!r} is not a category; did you mean {found.name} ({code})?"


def test_one_spelling_twice_for_one_category_is_harmless():
    taxonomy = Taxonomy("1", (Category("G", "Graphene", aliases=("graphene", "g")),))
    assert taxonomy.resolve("G").name == "Graphene"

"""Decoding of text whose encoding is unknown, and of text in base64."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.metadata.text import decode, decode_base64, element_text, parse_xml

JAPANESE = "[SemImageFile]\r\nSampleName=試料テスト\r\n"
GERMAN = "“Müller’s” sample – 5 €, Fläche 8,2 µm"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "shift_jis"])
def test_japanese_text(encoding: str) -> None:
    assert decode(JAPANESE.encode(encoding)) == JAPANESE
    assert decode(JAPANESE.encode(encoding) + b"\0\0" + b"rest") == JAPANESE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_western_text(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize("text", ["a préférée b", "it’s “A” ’n’ “B”", "été", "Größe in µm", "naïve – “Ö”"])
def test_western_words_are_never_japanese(text: str) -> None:
    assert decode(text.encode("cp1252")) == text


@settings(max_examples=50)
@given(st.binary(max_size=100))
def test_decoding_never_fails(data: bytes) -> None:
    assert "\0" not in decode(data)


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=60), st.integers(0, 9))
def test_base64_with_any_padding(text: str, spaces: int) -> None:
    content = (text + " " * spaces).encode()
    written = base64.b64encode(content).decode()
    broken = "\r\n".join(written[at : at + 7] for at in range(0, len(written), 7))
    for form in (written, written.rstrip("="), broken, f" {written}\n") if written else ():
        assert decode_base64(form) == decode(content)


def test_truncated_base64_is_read_up_to_the_cut() -> None:
    written = base64.b64encode(b"<a>" + b"x" * 50).decode()
    for end in range(4, len(written)):
        assert ("<a>" + "x" * 50).startswith(decode_base64(written[:end]))


@pytest.mark.parametrize("text", ["", "[Beam]\nHV=5", "a=b", "abc=def", "ab===", "<a/>", "ä" * 8, "YQ==\0"])
def test_other_text_is_not_base64(text: str) -> None:
    assert decode_base64(text) is None


def test_texts_of_elements() -> None:
    tree = parse_xml(' \n<?xml version="1.0"?><a><b u="m">1</b><c><d>2</d></c><e>3</e><e>4</e><f u="m"/></a>')
    found = [element_text(tree, path) for path in ("a/b", "a/b/@u", "a/c/d", "a/c", "a/e", "a/f", "a/b/x", "z")]
    assert found == ["1", "m", "2", None, None, None, None, None]

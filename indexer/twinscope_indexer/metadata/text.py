"""Functions that decode text in an unknown encoding, and functions that read the text formats of instruments.

These formats are lines, INI, XML, and text in base64.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from xml.parsers import expat

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also splits at characters that do not end a line
_DEEPEST = 32  # maximum number of levels of nested elements; the deepest known file has 9 levels
_SAMPLE = 64  # number of bytes from which UTF-16 without a byte order mark is recognised
# Two Japanese characters in succession, in Shift-JIS. One alone can also be a quotation mark before a letter, in
# Windows-1252.
_JAPANESE = re.compile(rb"(?:[\x81-\x98][\x40-\x7e\x80-\xfc]){2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def decode(data: bytes) -> str:
    """Decode the text before the first null character.

    If the bytes look like UTF-16, they are decoded as UTF-16. Other bytes are decoded as UTF-8. If they are not valid
    UTF-8, they are decoded as Shift-JIS if they contain Japanese words, and otherwise as Windows-1252. If a byte is
    undefined in Windows-1252, the text is decoded as Latin-1. Decoding therefore never fails.
    """
    if wide := _utf_16(data):
        return data.decode(wide, "replace").removeprefix("\ufeff").partition("\0")[0]
    plain = data.partition(b"\0")[0]
    for encoding in ("utf-8-sig", *(["cp932"] if _JAPANESE.search(plain) else []), "cp1252"):
        try:
            return plain.decode(encoding)
        except UnicodeDecodeError:
            continue
    return plain.decode("latin-1")


def _utf_16(data: bytes) -> str | None:
    """Return the name of the encoding if the bytes look like UTF-16, otherwise None."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = data[:_SAMPLE]
    if len(sample) < 4:
        return None
    # In each character of Western text, one byte is null. All null bytes are first bytes, or all are second bytes.
    sample = sample.rstrip(b"\0") if not sample.startswith(b"\0") else sample
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if not first and second > len(sample) // 4:
        return "utf-16-le"
    if not second and first > len(sample) // 4:
        return "utf-16-be"
    return None


def decode_base64(text: str) -> str | None:
    """Decode a text in base64, with or without its padding. White space is ignored.

    Parameters
    ----------
    text : str
        A text that may be base64. If the text was truncated, the result contains the part before the cut.

    Returns
    -------
    str or None
        The decoded text. The result is None if `text` contains other characters than base64.
    """
    digits = "".join(text.split())
    if not _BASE64.fullmatch(digits):
        return None
    digits = digits.rstrip("=")
    if len(digits) % 4 == 1:  # the text was truncated; one digit contains less than a byte
        digits = digits[:-1]
    return decode(base64.b64decode(digits + "=" * (-len(digits) % 4)))


def lines(text: str) -> list[str]:
    """Split text at the line ends of Windows, Unix and classic Mac OS."""
    return _LINE_END.split(text)


def parse_ini(text: str, section: str = "") -> dict[str, dict[str, str]]:
    """Read an INI text. Lines that are neither ``[section]`` nor ``key=value`` are ignored.

    Parameters
    ----------
    text : str
    section : str
        Name of the section for the lines before the first section header.

    Returns
    -------
    dict of str to dict of str to str
        Keys and values of every section that has values. If a section contains a key twice, the last value is used.
    """
    found: dict[str, dict[str, str]] = {}
    for line in lines(text):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
            continue
        key, separator, value = stripped.partition("=")
        if separator and key.strip():
            found.setdefault(section, {})[key.strip()] = value.strip()
    return found


def parse_xml(text: str) -> dict[str, Any]:
    """Read the elements of an XML text.

    A text with a document type declaration is not read. Such a declaration can define entities that expand without
    limit or that refer to other files. If a text is damaged or truncated, or has more than 32 levels of nested
    elements, the elements before that point are kept.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict
        The elements as plain JSON. The result is empty if nothing can be read. An element with children or attributes
        becomes a dictionary. In this dictionary, the key of an attribute is ``@name``, and the key of the element's
        text is empty. Any other element is replaced by its text. Several elements with the same name become a list.
    """
    elements = _Elements()
    parser = expat.ParserCreate("utf-8")  # `text` is already decoded, so ignore the encoding in its declaration
    text = text.lstrip("\ufeff \t\r\n")  # a declaration must be at the very start
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = elements.refuse
    parser.StartElementHandler = elements.start
    parser.EndElementHandler = elements.end
    parser.CharacterDataHandler = elements.add_text
    with suppress(expat.ExpatError, _RefusedError):
        parser.Parse(text.encode("utf-8", "replace"), True)
    return elements.close()


def element_text(tree: object, path: str) -> str | None:
    """Return the text of an element that `parse_xml` returned.

    Parameters
    ----------
    tree : object
        Result of `parse_xml`, or one element of this result.
    path : str
        Names of the elements from the outside to the inside, with slashes between them.

    Returns
    -------
    str or None
        The text of the element. If the element is missing, occurs twice or has children, the result is None.
    """
    for name in path.split("/"):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    if isinstance(tree, Mapping) and all(not key or key.startswith("@") for key in tree):
        tree = tree.get("")
    return tree if isinstance(tree, str) else None


class _RefusedError(Exception):
    """Error that stops the reading of an XML text."""


class _Elements:
    """An object that collects the elements of an XML text. The elements that are still open are on a stack."""

    def __init__(self) -> None:
        self._names = [""]
        self._contents: list[dict[str, Any]] = [{}]
        self._texts: list[list[str]] = [[]]

    def refuse(self, *_declaration: object) -> None:
        raise _RefusedError

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._names) > _DEEPEST:
            raise _RefusedError
        self._names.append(name)
        self._contents.append({f"@{key}": value for key, value in attributes.items()})
        self._texts.append([])

    def add_text(self, text: str) -> None:
        self._texts[-1].append(text)

    def end(self, name: str) -> None:
        content, text = self._contents.pop(), "".join(self._texts.pop()).strip()
        self._names.pop()
        if content and text:
            content[""] = text
        outer, value = self._contents[-1], content or text
        if name not in outer:
            outer[name] = value
        elif isinstance(outer[name], list):
            outer[name].append(value)
        else:
            outer[name] = [outer[name], value]

    def close(self) -> dict[str, Any]:
        """Close all open elements.

        The text of an element that is still open is left out, because this text may be truncated.
        """
        while len(self._names) > 1:
            self._texts[-1].clear()
            self.end(self._names[-1])
        return self._contents[0]

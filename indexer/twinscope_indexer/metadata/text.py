"""Functions that decode text in an unknown encoding, and functions that read the text formats of instruments.

These formats are lines, INI and XML.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Any
from xml.parsers import expat

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also splits at characters that do not end a line
_DEEPEST = 32  # maximum number of levels of nested elements; the deepest known file has 9 levels


def decode(data: bytes) -> str:
    """Decode the text before the first null character.

    If the bytes look like UTF-16, they are decoded as UTF-16. Other bytes are decoded as UTF-8 or, if they are not
    valid UTF-8, as Windows-1252. If a byte is undefined in Windows-1252, the text is decoded as Latin-1. Decoding
    therefore never fails.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").partition("\0")[0]
    if len(data) > 3 and data[0] and data[2] and not data[1] and not data[3]:
        return data.decode("utf-16-le", "replace").partition("\0")[0]
    plain = data.partition(b"\0")[0]
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return plain.decode(encoding)
        except UnicodeDecodeError:
            continue
    return plain.decode("latin-1")


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
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = elements.refuse
    parser.StartElementHandler = elements.start
    parser.EndElementHandler = elements.end
    parser.CharacterDataHandler = elements.add_text
    with suppress(expat.ExpatError, _RefusedError):
        parser.Parse(text.encode("utf-8", "replace"), True)
    return elements.close()


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

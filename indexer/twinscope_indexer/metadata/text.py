"""Decoding of text of unknown encoding, and parsing of the formats that instruments use: lines, INI and XML."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Any
from xml.parsers import expat

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines would also split at characters of the content
_DEEPEST = 32  # levels of nested elements; the deepest known file has 9


def decode(data: bytes) -> str:
    """Decode text up to the first null character: as UTF-16 if it looks like it, else UTF-8, else Windows-1252.

    Decoding never fails: text with bytes that are undefined in Windows-1252 is decoded as Latin-1.
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
    """Read ``[section]`` and ``key=value`` lines; other lines are ignored.

    Parameters
    ----------
    text : str
    section : str
        Section of the lines before the first section header.

    Returns
    -------
    dict of str to dict of str to str
        Sections that have values. If a key occurs twice, the last value counts.
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

    A text with a document type is refused, because it can declare entities that expand or refer to other files. If a
    text is damaged, truncated or nested more than 32 levels deep, the elements before that point are kept.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict
        Plain JSON, empty if nothing can be read. An element with children or attributes is a dictionary (attributes as
        ``@name``, its own text under the empty name); any other element is its text. Elements of one name are a list.
    """
    elements = _Elements()
    parser = expat.ParserCreate("utf-8")  # the text is already decoded, whatever encoding it declares
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = elements.refuse
    parser.StartElementHandler = elements.start
    parser.EndElementHandler = elements.end
    parser.CharacterDataHandler = elements.add_text
    with suppress(expat.ExpatError, _RefusedError):
        parser.Parse(text.encode("utf-8", "replace"), True)
    return elements.close()


class _RefusedError(Exception):
    """Stops the parsing of a text."""


class _Elements:
    """Collector of elements, with a stack of the open ones."""

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
        """Close all open elements, without their own text, which may be truncated."""
        while len(self._names) > 1:
            self._texts[-1].clear()
            self.end(self._names[-1])
        return self._contents[0]

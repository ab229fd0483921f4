"""Text out of bytes of unknown encoding, and the forms in which instruments write it: lines, INI and XML."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Any
from xml.parsers import expat

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines would also split at characters that are content
_DEEPEST = 32  # elements within elements; the deepest that was seen is 9


def decode(data: bytes) -> str:
    """Decode text up to the first null character: UTF-16 if it looks like it, else UTF-8, else Windows-1252.

    Never fails; bytes that Windows-1252 does not have are taken for Latin-1.
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
    """Split at line ends of Windows, Unix and old Macintoshes."""
    return _LINE_END.split(text)


def parse_ini(text: str, section: str = "") -> dict[str, dict[str, str]]:
    """Read ``[section]`` and ``key=value`` lines; others are passed over.

    Parameters
    ----------
    text : str
    section : str
        What lines before the first section header belong to.

    Returns
    -------
    dict of str to dict of str to str
        Sections that have values; of a key that is written twice the last.
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

    A text with a document type is refused, as only that can declare entities, which grow or name other files. Of one
    that is damaged or cut off, or has more than 32 elements within each other, is kept what came before.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict
        Plain JSON: an element that has others, or attributes, is a dictionary (attributes by ``@name``, its own text
        by the empty name), any other is its text; of elements of one name, a list. Empty if nothing can be read.
    """
    elements = _Elements()
    parser = expat.ParserCreate("utf-8")  # whatever the text says of its encoding: it has been decoded
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = elements.refuse
    parser.StartElementHandler = elements.start
    parser.EndElementHandler = elements.end
    parser.CharacterDataHandler = elements.say
    with suppress(expat.ExpatError, _RefusedError):
        parser.Parse(text.encode("utf-8", "replace"), True)
    return elements.close()


class _RefusedError(Exception):
    """The rest of a text is not to be read."""


class _Elements:
    """Collects elements; those that are open are on a stack."""

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

    def say(self, text: str) -> None:
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
        """End what is still open, without its own text, which may be cut off."""
        while len(self._names) > 1:
            self._texts[-1].clear()
            self.end(self._names[-1])
        return self._contents[0]

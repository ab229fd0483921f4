"""The tags of Gatan DigitalMicrograph: names and values in groups, in a binary form.

The tags are in ``.dm3`` and ``.dm4`` files, and in a tag of TIFF files of this program. Only numbers and texts
are read. Images and other long arrays are skipped, so that a file of any size can be read.

Twinscope does not use ncempy or RosettaSciIO here, for three reasons. Both are published under the GPL. Neither can
read the tag in TIFF files. A damaged file can keep them busy without limit. The results were compared with ncempy.

Sources: the public descriptions of the format by G. Jefferis (``.dm3``) and C. Boothroyd (``.dm4``).
"""

from __future__ import annotations

import math
import os
import struct
from contextlib import suppress
from typing import Any, BinaryIO

from twinscope_indexer.metadata.text import decode

_MOST_TAGS = 20_000  # the largest known file has 3,000 tags
_MOST_TEXT = 1 << 18  # maximum number of characters of all texts together
_DEEPEST = 32  # maximum number of levels of nested groups
_LONGEST = 4096  # maximum number of characters of a text
_MOST_NUMBERS = 16  # maximum number of values of a structure
_GROUP, _VALUE = 20, 21
_STRUCTURE, _ARRAY = 15, 20
_MARK = b"%%%%"
# Code of a type in the file, and its format as in `struct`.
_FORMS = {2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "B", 10: "b", 11: "q", 12: "Q"}
_TEXT = 4  # texts are arrays of this type


def read_tags(stream: BinaryIO) -> dict[str, Any]:
    """Read the tags of a file, from the present position of the stream.

    Parameters
    ----------
    stream : binary file
        The file, which must be seekable.

    Returns
    -------
    dict
        The tags as plain JSON. A group is a dictionary. A tag without a name has its number in the group as key,
        beginning with 0. Numbers that are not finite are text. If the file is damaged, the result contains the tags
        before that point. If the file is of another kind, the result is empty.
    """
    document = _Document(stream)
    with suppress(_EndError):
        document.read()
    return document.tags


class _EndError(Exception):
    """Error that stops the reading: the file is damaged, cut off, or larger than a limit."""


class _Document:
    """The reader of one file. `tags` contains what was read so far."""

    def __init__(self, stream: BinaryIO) -> None:
        self.tags: dict[str, Any] = {}
        self._stream = stream
        self._position = stream.tell()
        self._end = stream.seek(0, os.SEEK_END)
        self._word = "I"  # format of sizes and numbers of tags
        self._order = "<"  # byte order of the values; everything else is big-endian
        self._tags_left = _MOST_TAGS
        self._text_left = _MOST_TEXT

    def read(self) -> None:
        (version,) = self._numbers(">I")
        if version not in {3, 4}:
            raise _EndError
        self._word = "I" if version == 3 else "Q"
        _size, order = self._numbers(f">{self._word}I")
        self._order = "<" if order == 1 else ">"
        self._read_group(self.tags, 1)

    def _read_group(self, group: dict[str, Any], depth: int) -> None:
        if depth > _DEEPEST:
            raise _EndError
        *_flags, count = self._numbers(f">BB{self._word}")
        for index in range(count):
            kind, length = self._numbers(">BH")
            name = decode(self._take(length)) or str(index)
            if self._word == "Q":
                self._numbers(">Q")  # the size of the tag
            self._tags_left -= 1
            if self._tags_left < 0 or kind not in {_GROUP, _VALUE}:
                raise _EndError
            if kind == _GROUP:
                inner = group[name] = {}
                self._read_group(inner, depth + 1)
            elif (value := self._read_value()) is not None:
                group[name] = value

    def _read_value(self) -> Any:
        """Read a value. The result is None if the value is too long and was skipped."""
        if self._take(len(_MARK)) != _MARK:
            raise _EndError
        (length,) = self._numbers(f">{self._word}")
        if not 0 < length <= 4 * _MOST_NUMBERS:
            raise _EndError
        kind, *rest = self._numbers(f">{length}{self._word}")
        if kind in _FORMS:
            return _plain(self._numbers(self._order + _FORMS[kind])[0])
        if kind == _STRUCTURE:
            values = self._numbers(self._order + _structure(rest))
            return [_plain(value) for value in values]
        if kind != _ARRAY or len(rest) < 2:
            raise _EndError
        return self._read_array(rest[0], rest[1:-1], rest[-1])

    def _read_array(self, kind: int, description: list[int], count: int) -> str | None:
        form = _structure(description) if kind == _STRUCTURE else _FORMS.get(kind)
        if form is None:
            raise _EndError
        size = count * struct.calcsize("=" + form)
        if kind != _TEXT or count > min(_LONGEST, self._text_left):
            self._skip(size)
            return None
        self._text_left -= count
        return self._take(size).decode("utf-16-le" if self._order == "<" else "utf-16-be", "replace").rstrip("\0")

    def _numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, size: int) -> bytes:
        self._stream.seek(self._position)
        self._skip(size)
        return self._stream.read(size)

    def _skip(self, size: int) -> None:
        self._position += size
        if self._position > self._end:
            raise _EndError


def _structure(description: list[int]) -> str:
    """Return the format of a structure: length of the name, number of fields, then length and type of each field."""
    kinds = description[3::2]
    if len(description) < 2 or len(kinds) != description[1] or not all(kind in _FORMS for kind in kinds):
        raise _EndError
    return "".join(_FORMS[kind] for kind in kinds)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

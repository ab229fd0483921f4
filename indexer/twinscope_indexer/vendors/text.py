"""Text out of bytes of unknown encoding, and the two forms in which instruments write it."""

from __future__ import annotations

import codecs
import re

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines would also split at characters that are content


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

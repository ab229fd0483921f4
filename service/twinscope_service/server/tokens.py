"""Bearer tokens: a file stores the SHA-256 of each token, and the server reloads the file when it changes.

The server compares tokens in constant time.
"""

from __future__ import annotations

import hmac
import logging
import re
import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from twinscope_service.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

LOGGER = logging.getLogger("twinscope.server")

Role = Literal["read", "write"]
_LINE = re.compile(r"(?P<name>\S+)\s+(?P<role>read|write)\s+(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Holder:
    """The client that a token belongs to."""

    name: str
    role: Role
    """Role of the client: ``read`` permits searches, ``write`` also permits changes of the store."""


def token_line(name: str, role: Role, token: str) -> str:
    """Return the line that adds a token to a token file.

    A SHA-256 without salt is enough: tokens are long and random (`secrets.token_urlsafe`), so nobody can guess them.
    """
    return f"{name} {role} {sha256(token.encode()).hexdigest()}"


class Tokens:
    """The tokens in a token file.

    Parameters
    ----------
    path : Path
        Path of the token file. Each line describes one token with a name, the role (``read`` or ``write``), and the
        SHA-256 of the token in hexadecimal. A ``#`` begins a comment.

    Raises
    ------
    SettingsError
        If the file cannot be read, or if a line is malformed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._holders = self._read()
        self._warned = ""

    def holder(self, token: str) -> Holder | None:
        """Return the client that a token belongs to, or None if the token is unknown."""
        digest = sha256(token.encode()).digest()
        found = None
        for known, holder in self._current():
            if hmac.compare_digest(known, digest):  # no break: the duration must not reveal which token matches
                found = holder
        return found

    def _current(self) -> list[tuple[bytes, Holder]]:
        with self._lock:
            try:
                stamp = self._stamped()
                if stamp != self._stamp:
                    self._holders, self._stamp = self._read(), stamp
                self._warned = ""
            except SettingsError as error:  # another program may be writing the file
                if str(error) != self._warned:
                    LOGGER.warning("%s; the previous tokens stay valid until the file can be read", error)
                self._warned = str(error)
            return self._holders

    def _stamped(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            msg = f"token file {self._path} cannot be read: {error.strerror}"
            raise SettingsError(msg) from error
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> list[tuple[bytes, Holder]]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"token file {self._path} cannot be read: {error}"
            raise SettingsError(msg) from error
        holders = []
        for number, line in enumerate(lines, start=1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            fields = _LINE.fullmatch(text)
            if fields is None:
                msg = f"token file {self._path}, line {number}: expected 'name read|write sha256-in-hexadecimal'"
                raise SettingsError(msg)
            role: Role = "write" if fields["role"] == "write" else "read"
            holders.append((bytes.fromhex(fields["digest"]), Holder(fields["name"], role)))
        return holders

"""The rules that messages must follow; the comments of the wire contract state these rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twinscope_indexer.errors import TwinscopeError
from twinscope_indexer.image_id import image_number, is_image_id

from twinscope_service.wire.text import unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BATCH: Final = 1024
"""Maximum number of queries, images or ids in one message."""
MAX_CANDIDATES: Final = 65_536
"""Maximum number of queries in a message, multiplied by k. This maximum limits the size of the response."""
MAX_TAG: Final = 128
"""Maximum size of the tag of a client, in bytes."""
MAX_CHUNK: Final = 1 << 20
"""Maximum size of a chunk of an uploaded file, in bytes."""


class Violation(NamedTuple):
    """One rule that a message violates; the server sends it as a FieldViolation of google.rpc.BadRequest."""

    field: str
    """Path of the field, which begins at the request, such as ``queries[3].hash``."""
    description: str
    """Description of the rule and of the value that violates it."""


class MessageError(TwinscopeError):
    """A message violates rules of the wire contract.

    Attributes
    ----------
    violations : tuple of Violation
        All rules that the message violates.
    """

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{field}: {description}" for field, description in self.violations))


def require(violations: Iterable[Violation]) -> None:
    """Raise an error if there are violations.

    Raises
    ------
    MessageError
        If there are violations.
    """
    found = tuple(violations)
    if found:
        raise MessageError(found)


def below(path: str, field: str) -> str:
    """Return the path of a field in the message that has the path `path`; the request itself has the path ""."""
    return f"{path}.{field}" if path else field


def check_text(text: str, path: str, least: int, most: int, *, is_escaped: bool = True) -> Iterator[Violation]:
    """Yield a violation if a string has a wrong length in bytes, as it is sent, or contains a wrong escape."""
    size = len(text.encode())
    if not least <= size <= most:
        yield Violation(path, "must be set" if size == 0 else f"must have {least} to {most} bytes, has {size}")
    elif is_escaped:
        try:
            unescaped(text)
        except ValueError as error:
            yield Violation(path, str(error))


def check_count(count: int, path: str) -> Iterator[Violation]:
    """Yield a violation if the number of queries, images or ids in a batch is out of range."""
    if not 1 <= count <= MAX_BATCH:
        yield Violation(path, f"must have 1 to {MAX_BATCH} elements, has {count}")


def check_candidates(queries: int, k: int, path: str) -> Iterator[Violation]:
    """Yield a violation if the response to a batch would be too large."""
    if queries * k > MAX_CANDIDATES:
        yield Violation(
            path, f"{queries} queries with k = {k} give more than {MAX_CANDIDATES} candidates; send fewer queries"
        )


def check_sequence(sequence: int, path: str) -> Iterator[Violation]:
    """Yield a violation if a sequence number is not positive.

    The server checks separately that the numbers of a stream increase.
    """
    if sequence < 1:
        yield Violation(path, f"must be at least 1, is {sequence}")


def check_upload(size_bytes: int, sha256: bytes, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that the declared size and SHA-256 of a file break.

    The server separately checks the maximum size.
    """
    if size_bytes < 1:
        yield Violation(
            below(path, "size_bytes"), f"must be the size of the file in bytes, at least 1; is {size_bytes}"
        )
    yield from check_digest(sha256, below(path, "sha256"))


def check_digest(sha256: bytes, path: str) -> Iterator[Violation]:
    """Yield a violation if an optional SHA-256 has a wrong length."""
    if len(sha256) not in (0, 32):
        yield Violation(path, f"must have 32 bytes or be empty, has {len(sha256)}")


def check_chunk(chunk: bytes, path: str = "chunk") -> Iterator[Violation]:
    """Yield a violation if a chunk of an uploaded file has a wrong size."""
    if not 1 <= len(chunk) <= MAX_CHUNK:
        yield Violation(path, f"must have 1 to {MAX_CHUNK} bytes, has {len(chunk)}")


def check_image_id(image_id: str, path: str) -> Iterator[Violation]:
    """Yield a violation if an image id is malformed."""
    if not is_image_id(image_id):
        shown = f"; got {image_id[:40]!r}" if image_id else ""
        yield Violation(path, f"must be an image id: 16 lower-case hexadecimal digits, the first of them 0 to 7{shown}")


def image_number_of(image_id: str, path: str = "image_id") -> int:
    """Return the number in the catalog of the image with this id.

    Raises
    ------
    MessageError
        If the id is malformed.
    """
    require(check_image_id(image_id, path))
    return image_number(image_id)

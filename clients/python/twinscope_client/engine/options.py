"""The keywords of searches and connections: one definition for all engines, checked by mypy and at run time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict

from twinscope_service.errors import OptionError
from twinscope_service.matching.policy import Thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinscope_indexer.metadata.model import InstrumentMetadata
    from twinscope_service.matching.policy import Policy

File = str | PathLike[str]
"""Path of a file."""
Token = str | PathLike[str] | Callable[[], str]
"""A bearer token, or the file that holds it or a function that returns it, read for every request."""
AsyncToken = str | PathLike[str] | Callable[[], str | Awaitable[str]]
"""The same for asyncio. The function must not block; it can be a coroutine function."""


class HashOptions(Thresholds, total=False):
    """Options of `search_hashes` and `search_stored`."""

    policy: str | Policy
    """``default`` (the default), ``legacy``, or your own policy."""
    categories: Sequence[str]
    """Search only references of these categories (name, code or alias); by default all."""
    min_generation: int
    """Answer from this generation of the store or a newer one; the response to a write names its generation. Waits
    for it up to 30 seconds, and not longer than a call to a server can take."""


class SearchManyOptions(HashOptions, total=False):
    """Options of `search_many`."""

    verify: bool
    """False: compare hashes only; the best grade is then ``unverified``. True by default."""


class SearchOptions(SearchManyOptions, total=False):
    """Options of `search`."""

    instrument: InstrumentMetadata | None
    """Instrument metadata of the image. By default they are read from the file and from the text file beside it
    (`twinscope_indexer.metadata.reader`). A candidate that contradicts them makes the answer ``doubtful``."""


class _ServerOptions(TypedDict, total=False):
    ca: File | None
    """PEM file of the authorities to trust instead of the system's."""
    certificate: File | None
    """PEM file of the certificate of this client (mTLS); requires `key`."""
    key: File | None
    """PEM file of the private key of `certificate`."""
    timeout: float | None
    """Longest time for one call to a server, in seconds; 60 by default."""


class ConnectOptions(_ServerOptions, total=False):
    """Options of `connect`, all for servers."""

    token: Token | None
    """Bearer token. Without TLS it is sent to this machine only."""


class AsyncConnectOptions(_ServerOptions, total=False):
    """Options of `aio.connect`."""

    token: AsyncToken | None
    """Bearer token. Without TLS it is sent to this machine only."""


def require_known(given: Mapping[str, object], kind: Any) -> None:
    """Check the names of keywords against the `TypedDict` that lists them.

    Raises
    ------
    OptionError
        If a keyword is unknown. The message suggests the closest one and lists all.
    """
    for name in sorted(given.keys() - kind.__optional_keys__):
        raise OptionError.unknown("option", name, kind.__optional_keys__)

"""The keyword arguments of searches and connections. All engines use the same keyword arguments.

The type checker mypy can check these keyword arguments in programs that use Twinscope. Twinscope also checks these
keyword arguments at run time.
"""

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
"""Bearer token: text, the path of a file that holds the token, or a function that returns the token. Twinscope reads
the file or calls the function again for every request."""
AsyncToken = str | PathLike[str] | Callable[[], str | Awaitable[str]]
"""Bearer token for asyncio: text, the path of a file, or a function that returns the token. The function must not block
the event loop; it can be a coroutine function."""


class HashOptions(Thresholds, total=False):
    """Options of `search_hashes` and `search_stored`."""

    policy: str | Policy
    """Name of the policy, ``default`` or ``legacy``, or a `Policy` with your own thresholds. By default ``default``."""
    categories: Sequence[str]
    """Names, codes or aliases of the categories to search. By default, references of all categories are searched."""
    min_generation: int
    """Number of the oldest generation of the store that the search may use. The response to a write contains the number
    of a generation. Use this number if the search must find the written images. The search waits at most 30 seconds for
    this generation, and not longer than the maximum duration of a call to a server."""


class SearchManyOptions(HashOptions, total=False):
    """Options of `search_many`."""

    verify: bool
    """Whether candidates are verified; True by default. If False, only hashes are compared, and the best possible grade
    is ``unverified``."""


class SearchOptions(SearchManyOptions, total=False):
    """Options of `search`."""

    instrument: InstrumentMetadata | None
    """Instrument metadata of the image. By default, Twinscope reads the metadata from the image file and from the text
    file beside the image file; see `twinscope_indexer.metadata.reader`. If the metadata of the best match contradict
    these metadata, the answer is ``doubtful``."""


class _ServerOptions(TypedDict, total=False):
    ca: File | None
    """Path of a PEM file with the certificate authorities that Twinscope trusts instead of the authorities of the
    operating system."""
    certificate: File | None
    """Path of a PEM file with the certificate of this client, for mutual TLS (mTLS). It requires `key`."""
    key: File | None
    """Path of a PEM file with the private key of `certificate`."""
    timeout: float | None
    """Maximum duration of one call to a server, in seconds; 60 by default."""


class ConnectOptions(_ServerOptions, total=False):
    """Options of `connect`. All these options apply only to servers."""

    token: Token | None
    """Bearer token. Without TLS, the token can be sent only to a server on this machine."""


class AsyncConnectOptions(_ServerOptions, total=False):
    """Options of `aio.connect`."""

    token: AsyncToken | None
    """Bearer token. Without TLS, the token can be sent only to a server on this machine."""


def require_known(given: Mapping[str, object], kind: Any) -> None:
    """Check that every keyword is a keyword of the `TypedDict` `kind`.

    Raises
    ------
    OptionError
        If a keyword is unknown. The message suggests the most similar keyword and lists all keywords.
    """
    for name in sorted(given.keys() - kind.__optional_keys__):
        raise OptionError.unknown("option", name, kind.__optional_keys__)

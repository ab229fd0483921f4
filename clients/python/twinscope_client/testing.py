"""A real Twinscope server in this process, on a free port, for the tests of programs that use Twinscope."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope_client.errors import MissingExtraError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


@contextmanager
def serving(store: str | os.PathLike[str], **settings: Any) -> Iterator[str]:
    """Start a server for a store; the server runs until the ``with`` block ends.

    This server is the same as the server of ``twinscope serve``, and it uses real sockets. By default the server uses a
    free port. At the end of the ``with`` block the server stops at once and does not wait for calls in progress. The
    port and the waiting time can be changed with `settings`. Environment variables are ignored.

    Parameters
    ----------
    store : path or str
        Folder of a store that was built with the command ``twinscope index`` or the function `twinscope.index`.
    **settings
        Settings of the server: attributes of `ServerSettings`, such as ``tokens=Path("tokens")`` or ``write=False``.

    Yields
    ------
    str
        Target for `twinscope.connect`: ``grpc://127.0.0.1:port``, or ``grpcs://...`` if the settings include a
        certificate.

    Raises
    ------
    StoreError
        If the folder contains no store, or if the store in the folder cannot be used.
    SettingsError
        If a setting is unknown or out of range, or if the port is in use.
    MissingExtraError
        If the server is not installed (``pip install 'twinscope[server]'``).

    Examples
    --------
    A pytest fixture:

    >>> @pytest.fixture(scope="session")  # doctest: +SKIP
    ... def twinscope_target(tmp_path_factory):
    ...     store = tmp_path_factory.mktemp("twinscope") / "store"
    ...     index(["labelled-images"], store)
    ...     with serving(store) as target:
    ...         yield target
    """
    from twinscope_service.server.settings import load_settings

    try:
        from twinscope_service.server.server import TwinscopeServer
    except ImportError as error:
        what = "a server for tests"
        raise MissingExtraError(what, "server") from error

    given = {"port": 0, "lame_duck_seconds": 0.0, "grace_seconds": 0.0} | settings
    server = TwinscopeServer(Path(store), load_settings(given, environment={}))
    server.start()
    try:
        yield server.target
    finally:
        server.stop()

"""Thumbnails for the answers of the engine for asyncio. A notebook cannot await them."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from twinscope_client.remote.channel import current_token
from twinscope_client.remote.engine import RemoteEngine
from twinscope_client.remote.protocol import HEALTH_TIMEOUT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinscope_client.engine.options import AsyncConnectOptions


class BlockingThumbnails:
    """Thumbnails for a notebook.

    A notebook shows an answer while the event loop is running, so the notebook cannot await thumbnails.
    """

    def __init__(self, target: str, options: AsyncConnectOptions) -> None:
        self._target = target
        self._options = options

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Fetch the thumbnail of a reference over a separate connection, in a separate thread."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._fetch, image_id).result()

    def _fetch(self, image_id: str) -> NDArray[np.uint8] | None:
        token = self._options.get("token")
        present: Any = None if token is None else current_token(token)
        if inspect.isawaitable(present):
            present = asyncio.run(_await(present))
        options: Any = self._options | {"token": present, "timeout": HEALTH_TIMEOUT}
        with RemoteEngine(self._target, **options) as engine:
            return engine.thumbnail(image_id)


async def _await(token: Any) -> Any:
    return await token

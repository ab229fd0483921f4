"""The connection of an engine for asyncio to a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from twinscope_client.remote import protocol as dialogue

if TYPE_CHECKING:
    from twinscope_client.remote.channel import Endpoint


class Connection:
    """A gRPC channel, the stubs of the channel, and the event loop to which the channel belongs.

    Parameters
    ----------
    endpoint : Endpoint
        The server. The channel belongs to the event loop that is running now.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.loop = asyncio.get_running_loop()
        if endpoint.credentials is None:
            self.channel = grpc.aio.insecure_channel(endpoint.address, endpoint.options)
        else:
            self.channel = grpc.aio.secure_channel(endpoint.address, endpoint.credentials, endpoint.options)
        self.stubs = dialogue.Stubs.of(self.channel)

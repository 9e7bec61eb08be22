"""A daphne that reads a file no faster than the machine takes it.

Daphne's own `send` returns before anything is on the wire: for a machine that reads slowly the whole image piles up in
memory (measured: 600 MB of it for one idle reader, and for a hundred servers a hundred times that).
"""

import asyncio
from typing import Any

from daphne.server import Server
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]


@implementer(IPushProducer)
class Tap:
    """What Twisted turns off when a connection's write buffer is full, and on again when it has drained."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:  # noqa: N802, the name is Twisted's
        self.open.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self.open.set()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone: whoever waits goes on, and finds that out."""
        self.open.set()


class PacedServer(Server):  # type: ignore[misc]  # daphne has no types
    """Daphne, but a response that comes in pieces waits with the next one until the last is on its way."""

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        connection = self.connections.get(protocol)
        if message.get("type") != "http.response.body" or connection is None or protocol.channel is None:
            await super().handle_reply(protocol, message)
        elif message.get("more_body", False):
            tap = connection.get("tap")
            if tap is None:
                tap = connection["tap"] = Tap()
                protocol.registerProducer(tap, True)
            await super().handle_reply(protocol, message)
            await tap.open.wait()
        else:
            if connection.pop("tap", None):
                protocol.unregisterProducer()
            await super().handle_reply(protocol, message)

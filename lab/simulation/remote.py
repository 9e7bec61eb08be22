"""How a test gives orders to a simulation, and asks what happened in it: over HTTP, wherever it runs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

ALL = "*"
"""In place of a server's name."""


class Remote:
    """A running simulation, by the address of its BMC."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def order(self, name: str, order: str, **arguments: Any) -> None:
        """Has a server (or `ALL`) do one of `server.ORDERS`, e.g. `order("sim-0003", "power_loss", seconds=2)`."""
        self._ask(f"/{name}/{order}", json.dumps(arguments).encode())

    def record(self, name: str) -> dict[str, Any]:
        """What happened to one server: see `SimulatedServer.record`."""
        found: list[dict[str, Any]] = json.loads(self._ask(f"/{name}"))
        return found[0]

    def records(self) -> list[dict[str, Any]]:
        """What happened to all of them."""
        found: list[dict[str, Any]] = json.loads(self._ask(""))
        return found

    def log(self, name: str, job: int) -> bytes:
        """The whole log of a job, by its place in the server's record."""
        return self._ask(f"/{name}/log/{job}")

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        try:
            with self._opener.open(f"{self.url}/control/servers{path}", body, timeout=60) as answer:
                said: bytes = answer.read()
                return said
        except urllib.error.HTTPError as error:
            raise ValueError(f"the simulation refuses {path}: {error.read().decode(errors='replace')}") from None

"""Many simulated servers on one event loop, with their BMC and the address by which a test gives its orders."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .bmc import Bmc
from .remote import Remote
from .server import ORDERS, SimulatedServer
from .spec import SSH_PORT, Pace, ServerSpec
from .wire import Answer, Request, serve

CONTROL = "/control/servers"


class Simulation:
    """Servers that are off until Landfall (or an order) switches them on; `url` is Landfall's, as machines see it.

    On the first `faithful` of them jobs are processes of bash, by the text that Landfall sends.
    """

    def __init__(
        self,
        url: str,
        specs: Sequence[ServerSpec],
        folder: Path,
        *,
        port: int = 0,
        pace: Pace | None = None,
        seed: int = 0,
        faithful: int = 0,
    ) -> None:
        self.folder = folder
        self.servers = {
            spec.name: SimulatedServer(
                spec, url.rstrip("/"), folder / spec.name, pace or Pace(), random.Random(f"{seed} {spec.name}"),
                number < faithful,
            )
            for number, spec in enumerate(specs)
        }  # fmt: skip
        self._port = port
        self._bmc = Bmc(self.servers)
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where BMC and control answer."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """BMC and control answer from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._listener = await serve(self._answer, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Every server is off, and nothing of it is left."""
        if self._listener:
            self._listener.close()
        for server in self.servers.values():
            await server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _answer(self, request: Request) -> Answer:
        if not request.path.startswith(CONTROL):
            return await self._bmc.answer(request)
        try:
            return self._control(request)
        except (KeyError, TypeError, ValueError) as error:
            return Answer(400, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())

    def _control(self, request: Request) -> Answer:
        """GET /control/servers[/name[/log/index]], POST /control/servers/name/order; the name * is all of them."""
        _, _, rest = request.path.partition(CONTROL)
        name, _, what = rest.strip("/").partition("/")
        servers = list(self.servers.values()) if name in ("", "*") else [self.servers[name]]
        if request.method == "POST":
            arguments = json.loads(request.body or b"{}")
            for server in servers:
                ORDERS[what](server, **arguments)
            return Answer(200, b"{}")
        if what.startswith("log/"):
            return Answer(200, bytes(servers[0].jobs[int(what.removeprefix("log/"))].log))
        return Answer(200, json.dumps([server.record() for server in servers]).encode())


@contextmanager
def running(simulation: Simulation) -> Iterator[Remote]:
    """The simulation on a thread of its own, and the way to give it orders; stopped at the end."""
    started, loop_of = threading.Event(), []
    failures: list[BaseException] = []

    async def live() -> None:
        stop = asyncio.Event()
        loop_of.append((asyncio.get_running_loop(), stop))
        try:
            await simulation.start()
            started.set()
            await stop.wait()
        finally:
            await simulation.stop()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="simulation", daemon=True)
    thread.start()
    started.wait()
    try:
        if failures:
            raise failures[0]
        yield Remote(simulation.url)
    finally:
        for loop, stop in loop_of:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)
        thread.join(30)


_claims: list[socket.socket] = []
"""One address of each network that this process has taken, bound for as long as the process lives."""


def free_network() -> int:
    """The second number of a network in 127.0.0.0/8 that no other simulation has, nor gets while this process lives."""
    numbers = list(range(64, 250))
    random.SystemRandom().shuffle(numbers)
    for number in numbers:
        claim = socket.socket()
        try:
            claim.bind((f"127.{number}.255.254", SSH_PORT))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return number
    raise OSError("every loopback network is in use")

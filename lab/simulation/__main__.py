"""`python -m lab.simulation`: simulated servers until Ctrl-C; prints one line of JSON once they can be switched on."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import tempfile
from pathlib import Path

from .simulation import Simulation, free_network
from .spec import Pace, specs


def parser() -> argparse.ArgumentParser:
    """The command line of the simulation."""
    result = argparse.ArgumentParser(prog="python -m lab.simulation", description=__doc__)
    result.add_argument("--servers", type=int, default=20)
    result.add_argument("--landfall", default="http://127.0.0.1:8600", help="its URL, as machines see it")
    result.add_argument("--port", type=int, default=0, help="of BMC and control on 127.0.0.1")
    result.add_argument("--network", type=int, default=0, help="servers are in 127.NETWORK.0.0; default: a free one")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--pace", type=Pace.of, default=Pace(), help='JSON: {"command": 0.2, "firmware": [3, 6], ...}')
    result.add_argument("--slower", type=float, default=1.0, help="how many times as long everything takes")
    result.add_argument("--faithful", type=int, default=0, help="on so many servers bash itself runs the jobs")
    result.add_argument("--register", action="store_true", help="also into the inventory that DATABASE_URL names")
    return result


async def live(options: argparse.Namespace) -> None:
    """Runs until the process is told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chosen = specs(options.servers, options.network or free_network())
    folder = Path(tempfile.mkdtemp(prefix="landfall-simulation-"))
    pace = options.pace.slower(options.slower)
    simulation = Simulation(
        options.landfall, chosen, folder, port=options.port, pace=pace, seed=options.seed, faithful=options.faithful
    )
    await simulation.start()
    try:
        if options.register:
            await asyncio.to_thread(register, chosen, simulation.url)
        network = chosen[0].network if chosen else 0
        print(json.dumps({"url": simulation.url, "network": network, "servers": len(chosen)}), flush=True)
        await stop.wait()
    finally:
        await simulation.stop()


def register(chosen: object, url: str) -> None:
    """The servers in the inventory of the Landfall that this process' environment names."""
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from .inventory import register as into_inventory

    into_inventory(chosen, url)  # type: ignore[arg-type]


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(live(parser().parse_args()))


if __name__ == "__main__":
    main()

"""`python -m tests.chaos`: one run of seeded faults against a whole Landfall; prints what was done and what was wrong.

It begins a PostgreSQL, a web process, workers and simulated servers of its own, and ends them. Exit status 0 when
nothing was wrong.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.simulation.processes import environment
from tests import postgres
from tests.chaos.faults import COSTLY, ENDING, Kind, draw
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.chaos.house import House

PATIENCE = "0.2"
"""Simulated servers are quicker than real ones: so are the timeouts."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--servers", type=int, default=40)
    result.add_argument("--workers", type=int, default=2)
    result.add_argument("--seconds", type=float, default=60, help="for which faults are injected")
    result.add_argument("--slower", type=float, default=5, help="how many times as long everything takes on servers")
    result.add_argument("--faithful", type=int, default=0, help="on so many servers bash itself runs the jobs")
    result.add_argument("--database-away", type=float, default=3, help="seconds for which it is stopped")
    result.add_argument("--limit", type=float, default=240, help="seconds after which everything should have ended")
    for kind, times in CONTROLLER.items():
        result.add_argument(f"--{kind.name.lower().replace('_', '-')}", type=int, default=times, help="how often")
    return result


CONTROLLER = {
    Kind.KILL_WORKER: 4,
    Kind.FREEZE_WORKER: 1,
    Kind.TERM_WORKER: 2,
    Kind.KILL_WEB: 1,
    Kind.STOP_DATABASE: 1,
}
"""How often what is done to the controller."""


def main() -> None:
    options = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="landfall-chaos-") as name, postgres.cluster() as cluster:
        folder, port = Path(name), free_port()
        os.environ |= environment(folder, cluster.url("postgres"), port) | {"LANDFALL_PATIENCE": PATIENCE}
        import django

        django.setup()
        from tests.chaos.house import house

        with house(
            folder, cluster, port, PATIENCE, servers=options.servers, workers=options.workers, slots=options.servers,
            seed=options.seed, slower=options.slower, faithful=options.faithful,
        ) as made:  # fmt: skip
            made.database_away = options.database_away
            report = run(made, options)
    print(json.dumps(report, indent=1))
    sys.exit(1 if report["wrong"] else 0)


def run(house: "House", options: argparse.Namespace) -> dict[str, Any]:
    """What was done, how it ended, and what was wrong."""
    from tests.chaos import people, proofs

    chance = random.Random(options.seed)
    servers = [record["name"] for record in house.remote.records()]
    controller = {kind: getattr(options, kind.name.lower()) for kind in CONTROLLER}
    faults = draw(options.seed, servers, options.seconds, controller)
    began = time.monotonic()
    for fault in faults:
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        if fault.kind in people.ACTS:
            house.done[fault.kind] += people.act(fault, chance)
        else:
            house.commit(fault, chance)
    house.settle()
    ended = people.wait_for_ends(began + options.limit)
    disturbed = {fault.server for fault in faults if fault.kind in (*COSTLY, *ENDING, Kind.HOLD, Kind.BMC_BUSY)}
    given_up = frozenset(fault.server for fault in faults if fault.kind in ENDING)
    time.sleep(1)
    wrong = list(proofs.complaints(house.remote, frozenset(servers) - disturbed, given_up))
    return {
        "seed": options.seed,
        "servers": options.servers,
        "database away": options.database_away,
        "seconds": round(time.monotonic() - began, 1),
        "faults": {kind.value: times for kind, times in sorted(house.done.items()) if kind is not Kind.REQUEST},
        "ended": Counter(ended),
        **people.counts(),
        "wrong": wrong,
        "what happened there": {name: proofs.account(house.remote, name) for name in servers if _named(name, wrong)},
    }


def _named(server: str, sentences: list[str]) -> bool:
    return any(server in sentence for sentence in sentences)


if __name__ == "__main__":
    main()

"""A Landfall in processes of its own, on a PostgreSQL of its own, with simulated servers; and the faults done to it."""

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.simulation import Landfall, Process, Remote
from tests.postgres import Cluster

from .faults import Fault, Kind

FROZEN_FOR = 25.0
"""Seconds: longer than a lease."""


@dataclass(slots=True)
class House:
    """Web process, workers, database and simulation, each of which can be killed; what dies is started again."""

    landfall: Landfall
    cluster: Cluster
    remote: Remote
    slots: int
    web: Process
    workers: list[Process] = field(default_factory=list)
    done: Counter[Kind] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    later: list[threading.Timer] = field(default_factory=list)
    database_away: float = 3.0

    def add_worker(self) -> None:
        """One more worker process."""
        self.workers.append(self.landfall.worker(self.slots, f"worker-{len(self.landfall.processes)}"))

    def commit(self, fault: Fault, chance: random.Random) -> None:
        """Does it. What is to follow (going on after a freeze) follows by itself."""
        match fault.kind:
            case Kind.KILL_WORKER | Kind.TERM_WORKER | Kind.FREEZE_WORKER:
                self._hit_a_worker(fault.kind, chance)
            case Kind.KILL_WEB:
                self.web.kill()
                self.web.wait()
                self.web = self.landfall.web()
            case Kind.STOP_DATABASE:
                self.cluster.stop()
                time.sleep(self.database_away)
                self.cluster.start()
            case _:
                self._order(fault, chance)
        self.done[fault.kind] += 1

    def _hit_a_worker(self, kind: Kind, chance: random.Random) -> None:
        victim = chance.choice(self.workers)
        if kind is Kind.FREEZE_WORKER:
            victim.send_signal(signal.SIGSTOP)
            self._after(FROZEN_FOR, lambda: victim.send_signal(signal.SIGCONT))
            return
        self.workers.remove(victim)
        victim.send_signal(signal.SIGCONT)
        victim.send_signal(signal.SIGKILL if kind is Kind.KILL_WORKER else signal.SIGTERM)
        self.add_worker()  # as systemd would
        with suppress(subprocess.TimeoutExpired):
            victim.wait(timeout=0.1)

    def _order(self, fault: Fault, chance: random.Random) -> None:
        name, seconds = fault.server, chance.uniform(1, 4)
        match fault.kind:
            case Kind.DROP:
                self.remote.order(name, "drop")
            case Kind.DEAF:
                self.remote.order(name, "deaf", seconds=seconds)
            case Kind.FREEZE_SERVER:
                self.remote.order(name, "freeze", seconds=seconds)
            case Kind.READY_TWICE:
                self.remote.order(name, "ready", copies=[0.0, seconds])
            case Kind.HOME_TWICE:
                self.remote.order(name, "phone_home", copies=[0.0, seconds])
            case Kind.FORGED:
                self.remote.order(name, "ready", forged=2)
                self.remote.order(name, "phone_home", forged=2)
            case Kind.REPLAY:
                self.remote.order(name, "replay")
            case Kind.BMC_BUSY:
                self.remote.order(name, "bmc", statuses=[409, 503])
            case Kind.POWER_LOSS:
                self.remote.order(name, "power_loss", seconds=seconds)
            case Kind.IO_ERROR:
                self.remote.order(name, "io_error")

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        self.later.append(timer)

    def settle(self) -> None:
        """Whatever was to follow has followed; every frozen process goes on."""
        for timer in self.later:
            timer.join()
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)


@contextmanager
def house(
    folder: Path,
    cluster: Cluster,
    port: int,
    patience: str,
    *,
    servers: int,
    workers: int,
    slots: int,
    seed: int,
    slower: float,
    faithful: int = 0,
) -> Iterator[House]:
    """The house, its database migrated, its servers in the inventory; everything is ended afterwards."""
    landfall = Landfall(folder, cluster.url("postgres"), port)
    landfall.env = {**landfall.env, "LANDFALL_PATIENCE": patience}
    try:
        landfall.manage("migrate", "--verbosity", "0")
        web = landfall.web()
        remote = landfall.simulation(
            "--servers", str(servers), "--seed", str(seed), "--slower", str(slower), "--faithful", str(faithful)
        )
        made = House(landfall, cluster, remote, slots, web)
        for _ in range(workers):
            made.add_worker()
        yield made
    finally:
        landfall.stop()

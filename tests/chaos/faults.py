"""The faults that a chaos run does to Landfall and to its servers, drawn from a seed. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is done, in the words of docs/reliability.md."""

    # to the controller
    KILL_WORKER = "kill -9 of a worker"
    FREEZE_WORKER = "worker frozen past its lease (SIGSTOP, 25 s, SIGCONT)"
    TERM_WORKER = "SIGTERM of a worker"
    KILL_WEB = "kill -9 of the web process"
    STOP_DATABASE = "database stopped and started again"
    # to a server: nothing that it has in memory is lost
    DROP = "SSH connections cut"
    DEAF = "SSH port closed for seconds"
    FREEZE_SERVER = "server hangs for seconds, connections stay open"
    READY_TWICE = "`ready` sent three times"
    HOME_TWICE = "phone-home sent three times"
    FORGED = "calls with forged tokens"
    REPLAY = "every call made again, newest first"
    BMC_BUSY = "BMC answers 409 and 503 before it obeys"
    # to a server: its rescue system, or a step, is lost
    POWER_LOSS = "power lost in the middle, back after seconds"
    IO_ERROR = "rsync fails with a disk I/O error, once"
    # by people
    CANCEL = "cancelled"
    HOLD = "held before a step, released later"
    RESET = "ended by force"
    REQUEST = "install requested"


HARMLESS = (
    Kind.DROP, Kind.DEAF, Kind.FREEZE_SERVER, Kind.READY_TWICE, Kind.HOME_TWICE, Kind.FORGED, Kind.REPLAY,
    Kind.BMC_BUSY,
)  # fmt: skip
"""To a server, and no reason to do anything twice."""
COSTLY = (Kind.POWER_LOSS, Kind.IO_ERROR)
"""To a server, and after which steps are done again."""
ENDING = (Kind.CANCEL, Kind.RESET)
"""By people, and after which no login is expected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done `at` seconds after the beginning, to a server or to the controller."""

    at: float
    kind: Kind
    server: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


AN_INSTALL = 25.0
"""Seconds that an install takes, about: what is done to a server is done in them."""


def draw(seed: int, servers: Sequence[str], seconds: float, controller: Mapping[Kind, int]) -> list[Fault]:
    """The requests and the faults of a run, in their order: the controller's as often as `controller` says.

    A server gets one costly or ending fault at most: retries are counted, and a server that loses its power often
    enough ends as failed, as it should.
    """
    chance = random.Random(seed)
    faults = [Fault(chance.uniform(2, seconds), kind) for kind, times in controller.items() for _ in range(times)]
    for server in servers:
        requested = chance.uniform(0, max(seconds - AN_INSTALL, 1))
        kinds = chance.sample(HARMLESS, k=chance.choice((0, 1, 2)))
        if chance.random() < 0.4:
            kinds.append(chance.choice((*COSTLY, *COSTLY, Kind.HOLD, Kind.HOLD, *ENDING)))
        faults.append(Fault(requested, Kind.REQUEST, server))
        faults += [Fault(requested + chance.uniform(0, AN_INSTALL), kind, server) for kind in kinds]
    return sorted(faults, key=lambda fault: fault.at)

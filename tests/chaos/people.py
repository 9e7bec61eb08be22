"""What people do during a chaos run, as they would: over the actions, again when the database is away."""

import random
import time
from collections.abc import Callable

from django.db import DatabaseError, connection

from deploy import actions
from deploy.events import Kind as Happened
from deploy.events import Status
from deploy.models import Event, Install, LogChunk
from deploy.steps import steps_for
from lab.simulation.inventory import operator, request
from servers.models import Server

from .faults import Fault, Kind


def act(fault: Fault, chance: random.Random) -> bool:
    """Does it; whether it was possible by then."""
    return _patiently(lambda: ACTS[fault.kind](fault.server, chance))


def _patiently(work: Callable[[], bool]) -> bool:
    """The result, once the database answers: a person would press the button again."""
    while True:
        try:
            return work()
        except DatabaseError:
            connection.close()
            time.sleep(0.5)


def _request(server: str, chance: random.Random) -> bool:
    try:
        request(Server.objects.get(name=server))
    except actions.Refused:  # the answer to the first request was lost, and it was taken
        return False
    return True


def _refusable(work: Callable[[Install], None], server: str) -> bool:
    install = Install.objects.filter(server__name=server).first()
    if install is None:
        return False
    try:
        work(install)
    except actions.Refused:
        return False
    return True


def _cancel(server: str, chance: random.Random) -> bool:
    return _refusable(lambda install: actions.cancel(install, operator()), server)


def _hold(server: str, chance: random.Random) -> bool:
    step = chance.choice(steps_for(licensed=False))
    return _refusable(lambda install: actions.hold(install, operator(), step), server)


def _reset(server: str, chance: random.Random) -> bool:
    return _refusable(lambda install: actions.force_reset(install, operator(), "chaos"), server)


ACTS = {Kind.REQUEST: _request, Kind.CANCEL: _cancel, Kind.HOLD: _hold, Kind.RESET: _reset}
"""What people do, by its kind."""


def wait_for_ends(deadline: float) -> list[str]:
    """How every install has ended, or stands when the time is up; held ones are released meanwhile."""
    while True:
        statuses = _statuses()
        if not any(Status(status).is_live for status in statuses) or time.monotonic() > deadline:
            return statuses
        _patiently(_release_all)
        time.sleep(1)


def _statuses() -> list[str]:
    found: list[str] = []

    def read() -> bool:
        found[:] = Install.objects.values_list("status", flat=True)
        return True

    _patiently(read)
    return found


def _release_all() -> bool:
    for install in Install.objects.exclude(hold_before=""):
        _refusable(lambda one: actions.release(one, operator()), install.server.name)
    return True


def counts() -> dict[str, int]:
    """What the history says of the run."""
    return {
        "installs": Install.objects.count(),
        "events": Event.objects.count(),
        "log chunks": LogChunk.objects.count(),
        "taken over": Event.objects.filter(kind=Happened.TAKEN_OVER).count(),
    }

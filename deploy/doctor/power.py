"""Whether the servers' power is what history says. Asks every BMC, many at a time."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from deploy.events import State, Status
from deploy.models import Install
from servers.models import PowerControl, Server
from servers.power import PowerError, PowerState, power_of

from .finding import Code, Finding

AT_ONCE = 20
"""BMCs asked at the same time: each may take half a minute to say nothing."""
BATCH = 200
LOOK_AGAIN = 3.0
"""Seconds after which a server that seemed to be off is asked again: it may have been restarting just then."""


def examine(counts: Counter[str]) -> Iterator[Finding]:
    """Servers that are off and should be on, and BMCs that do not answer; a BMC is asked twice at most."""
    doubtful: list[Server] = []
    last = 0
    with_bmc = Server.objects.exclude(power_driver=PowerControl.MANUAL).order_by("pk")
    while servers := list(with_bmc.filter(pk__gt=last)[:BATCH]):
        last = servers[-1].pk
        counts["servers"] += len(servers)
        for server, answer in _asked(servers):
            if isinstance(answer, PowerError):
                what = f"Nobody can tell whether it is on: {answer.message}"
                yield Finding(Code.BMC_SILENT, what, answer.fix, server=server.name)
            elif answer is PowerState.OFF and _why_on(server):
                doubtful.append(server)
    if doubtful:
        time.sleep(LOOK_AGAIN)
    for server, answer in _asked(doubtful):
        if answer is PowerState.OFF and (why := _why_on(server)):
            install = _latest(server)
            yield Finding(
                Code.POWER_DIFFERS, f"The server is off, although {why}.",
                "Look at its console and at the BMC's event log, then switch it on"
                + (f"; how it came there: /installs/{install.uuid}/" if install else "."),
                install.uuid if install else None, server.name,
            )  # fmt: skip


def reason_to_be_on(state: State) -> str:
    """Why the server of an install that stands so must have power; empty when it may well be off."""
    if state.status is Status.SUCCEEDED:
        return "its last install succeeded"
    if not state.status.is_live or state.status is Status.HELD or len(state.cycling) > len(state.cycled):
        return ""  # nobody relies on it, or it is being restarted right now
    step = state.next_step() or ""
    if step == "rescue":
        started = any(seq > state.of(step).started_seq for seq in state.cycled)
        return "it was told to start its rescue system" if started and state.of(step).is_open else ""
    if step in ("phone-home", "verify"):
        return "it was told to start its new system"
    return f"the step {step} needs its rescue system" if state.rescue else ""


def _why_on(server: Server) -> str:
    install = _latest(server)
    return reason_to_be_on(install.state()) if install else ""


def _latest(server: Server) -> Install | None:
    return server.installs.order_by("-created_at").first()


def _asked(servers: Sequence[Server]) -> list[tuple[Server, PowerState | PowerError]]:
    """What each server's BMC says of its power."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bmc") as pool:
        return list(zip(servers, pool.map(_state_of, servers), strict=True))


def _state_of(server: Server) -> PowerState | PowerError:
    try:
        return power_of(server).state()
    except PowerError as error:
        return error

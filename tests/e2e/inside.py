"""What the end-to-end tests ask of a running Landfall's own database, and have done as ops: in a process of its own.

`House.inside` calls these functions by name, through `manage.py shell`; arguments and answers are JSON.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from accounts.models import User
from deploy import actions, doctor, journal, logs, transport
from deploy.commands import script
from deploy.context import dry_context
from deploy.events import GENESIS, LIVE, Event, Kind, Status, digest
from deploy.jobs import ROOT
from deploy.models import Install, LogChunk
from deploy.steps.aftermath import read_aftermath
from deploy.terminal import Follower
from images.flavours import EFI_LOADER
from metadata import boot
from servers.models import Server
from servers.power import Target, power_of

TOO_LONG = ("facts", "plan", "layout", "result")
"""What an event may hold that no test looks at."""


def latest(server: str) -> Install:
    """The server's latest install."""
    return Install.objects.filter(server__name=server).latest("created_at")


def count(server: str) -> int:
    """How many installs the server has had."""
    return Install.objects.filter(server__name=server).count()


def history(server: str, install: int = -1) -> dict[str, Any]:
    """What Landfall itself has of the server's latest install (or an earlier one)."""
    row = list(Install.objects.filter(server__name=server).order_by("created_at"))[install]
    events, state, link = row.history(), row.state(), GENESIS
    for event in events:
        link = digest(link, event)
    return {
        "status": row.status,
        "uuid": str(row.uuid),
        "steps": list(state.steps),
        "succeeded": [event.data["step"] for event in events if event.kind is Kind.STEP_SUCCEEDED],
        "started": [[event.data["step"], event.data["attempt"]] for event in events if event.kind is Kind.STEP_STARTED],
        "seconds": {
            name: (progress.ended_at - progress.started_at).total_seconds()
            for name, progress in state.progress.items()
            if progress.ended_at and progress.started_at
        },
        "verified": state.result("verify").get("verified"),
        "host_keys": state.result("verify").get("host_keys"),
        "certificate": state.result("verify").get("certificate"),
        "refold_equals_row": all(getattr(row, key) == value for key, value in journal.projection(state).items()),
        "chain_holds": link == row.digest,
        "failure": row.failure,
        "events": [_short(event) for event in events],
        "log_gaps": list(_gaps(row)),
    }


def _short(event: Event) -> dict[str, Any]:
    data = {key: value for key, value in event.data.items() if key not in TOO_LONG}
    return {"seq": event.seq, "kind": event.kind.value, "at": event.at.timestamp(), **data}


def _gaps(install: Install) -> Iterator[str]:
    """Bytes and lines that are missing in a stored log, or there twice."""
    ends: dict[tuple[str, int], tuple[int, int]] = {}
    for chunk in install.log.order_by("step", "attempt", "offset"):
        of = (chunk.step, chunk.attempt)
        offset, line = ends.get(of, (0, 1))
        if (chunk.offset, chunk.first_line) != (offset, line):
            yield f"{of}: byte {chunk.offset}, line {chunk.first_line} follow where {offset}, {line} should"
        ends[of] = (chunk.offset + chunk.size, chunk.first_line + logs.count(chunk.text))


def log(server: str, step: str, attempt: int) -> str:
    """The stored log of an attempt of the latest install."""
    chunks = latest(server).log.filter(step=step, attempt=attempt).order_by("offset")
    return "".join(chunk.text for chunk in chunks)


def whole_log(server: str) -> list[str]:
    """All pieces of the stored log of the latest install."""
    return list(latest(server).log.values_list("text", flat=True))


# As ops


def hold(server: str, before: str) -> None:
    """The latest install stops before a step."""
    actions.hold(latest(server), _ops(), before)


def release(server: str) -> None:
    """A held install goes on."""
    actions.release(latest(server), _ops())


def retry(server: str) -> str:
    """What a terminal shows of the latest install, which goes on after it has failed, until it has ended."""
    install = latest(server)
    actions.retry(install, _ops())
    shown = io.StringIO()
    Follower(install, shown).follow()
    return shown.getvalue()


def _ops() -> User:
    return User.objects.get(username="ops")


def examine() -> list[str]:
    """What the doctor finds."""
    return [f"{finding.code.value}: {finding.what}" for finding in doctor.examine(power=True)]


# Waiting, at the cost of a query a second instead of a process for every look


def compare_logs(server: str, patience: float) -> dict[str, list[int]]:
    """Once the install is held: of each job, the bytes it wrote on the rescue system, and those stored as they were.

    What is stored of a byte range is that range, without reports of progress that were followed by others.
    """
    install = latest(server)
    _wait(patience, lambda: _is_held(install))
    install.refresh_from_db()
    rescue = install.state().rescue
    assert rescue and install.private_key
    connection = transport.connect(
        install.server.address, install.server.ssh_port, install.private_key, rescue.host_keys
    )  # fmt: skip
    try:
        folder = f"{ROOT}/{install.uuid}"
        jobs = connection.run(f"ls {folder}").output.decode().split()
        written = {job: connection.run(f"cat {folder}/{job}/log").output for job in jobs}
    finally:
        connection.close()
    return {job: [len(data), _stored_truly(install, job, data)] for job, data in written.items()}


def _is_held(install: Install) -> bool:
    status = Status(Install.objects.get(pk=install.pk).status)
    assert status.is_live, f"the install has {status.value}"
    return status is Status.HELD


def _stored_truly(install: Install, job: str, written: bytes) -> int:
    step, _, attempt = job.rpartition("-")
    true = 0
    for chunk in LogChunk.objects.filter(install=install, step=step, attempt=int(attempt)).order_by("offset"):
        part = written[chunk.offset : chunk.offset + chunk.size].decode(errors="replace").replace("\0", "\ufffd")
        if chunk.offset == true and logs.condensed(part) == chunk.text:
            true += chunk.size
    return true


def wait_until_alone(server: str, patience: float) -> float:
    """Waits until no other server is being installed; how many seconds ago the server's phone-home step began."""
    others = Install.objects.filter(status__in=LIVE).exclude(server__name=server)
    _wait(patience, lambda: not others.exists())
    began = latest(server).state().of("phone-home").started_at
    assert began
    return time.time() - began.timestamp()


def wait_for_power_cycles(server: str, number: int, patience: float) -> None:
    """Waits until the latest install has switched the server's power so often."""
    _wait(patience, lambda: len(latest(server).state().cycled) >= number)


def _wait(patience: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(1)


# The guard's look at a system, without an install that has failed


def aftermath(server: str, patience: float) -> str:
    """What the phone-home guard reads of an installed server: it is booted into rescue, and left there."""
    install, row = latest(server), Server.objects.get(name=server)
    private, public = transport.new_key_pair()
    boot.direct_to_rescue(row, install.uuid, public, timedelta(hours=1))
    power = power_of(row)
    power.boot_from(Target.NETWORK)
    power.reset()
    found: list[transport.SSH] = []

    def is_in_rescue() -> bool:
        try:
            key = transport.host_key(row.address, row.ssh_port)
            found.append(transport.connect(row.address, row.ssh_port, private, (key,)))
        except (transport.Unreachable, transport.Refused, transport.WrongHostKey):
            return False  # the system that was installed, which does not know this key, or nobody yet
        return True

    _wait(patience, is_in_rescue)
    boot.direct_to_disk(row, EFI_LOADER)
    try:
        commands = read_aftermath(dry_context(install, row.facts()))
        return found[0].run("bash -s", script(commands).encode(), timeout=300).output.decode(errors="replace")
    finally:
        found[0].close()


_ALL: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        count, history, log, whole_log, hold, release, retry, examine, compare_logs, wait_until_alone,
        wait_for_power_cycles, aftermath,
    )
}  # fmt: skip


def answer(question: str, arguments: str) -> None:
    """Prints the answer."""
    print(json.dumps(_ALL[question](**json.loads(arguments))))

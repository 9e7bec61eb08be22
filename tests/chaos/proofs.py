"""After a chaos run: is every install where its history says, and was nothing lost, doubled or done twice?"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from deploy import doctor, logs
from deploy.events import Kind, Status
from deploy.models import Install, LogChunk
from lab.simulation import Remote

SHOWN = (logs.LineKind.COMMAND, logs.LineKind.OUTPUT, logs.LineKind.EXIT)


def complaints(remote: Remote, calm: frozenset[str], ended: frozenset[str]) -> Iterator[str]:
    """Everything that is not as it should be, in sentences; nothing when all is well.

    `calm` are the servers to which nothing costly was done: nothing may have been done twice there. `ended` are those
    whose install somebody ended: no login is expected of them.
    """
    yield from (f"doctor: {finding}" for finding in doctor.examine(power=True))
    records = {record["name"]: record for record in remote.records()}
    for install in Install.objects.select_related("server").order_by("pk"):
        record = records[install.server.name]
        yield from (f"{install.server.name}: {words}" for words in _of_machine(install, record))
        yield from (f"{install.server.name}: {words}" for words in _of_logs(install, record, remote))
        if install.server.name not in ended and install.status != Status.SUCCEEDED:
            yield f"{install.server.name}: {install.status} in {install.step}: {install.failure}"
        if install.server.name in calm:
            yield from (f"{install.server.name}: {words}" for words in _done_twice(install, record))


def account(remote: Remote, server: str) -> list[str]:
    """What happened to a server, as its install's history and the machine itself tell it, in the order of time."""
    told = []
    for install in Install.objects.filter(server__name=server):
        for event in install.history():
            words = {name: value for name, value in event.data.items() if name in _TOLD}
            if failure := event.data.get("failure"):
                words |= {name: failure[name] for name in ("code", "message")}
            told.append((event.at.timestamp(), f"history: {event.kind.value} {words}"))
    record = remote.record(server)
    told += [(at, f"machine: power {how}") for how, at in record["power_cycles"]]
    told += [(at, "machine: power lost") for at in record["outages"]]
    told += [(boot["at"], f"machine: runs {boot['system']}") for boot in record["boots"]]
    told += [(call["at"], f"machine: {call['path']} {call['status']} {call['kind']}") for call in record["calls"]]
    return [f"{at % 10_000:.2f} {words}" for at, words in sorted(told)]


_TOLD = ("step", "attempt", "reason", "until", "before", "by", "from", "resume_from", "target")


def _of_machine(install: Install, record: dict[str, Any]) -> Iterator[str]:
    """The machine is where the history says."""
    yield from record["complaints"]
    for job in record["jobs"]:
        again = [number for number, times in Counter(job["executed"]).items() if times > 1]
        if again:
            yield f"commands {again} of {job['step']} attempt {job['attempt']} were executed twice in one job"
    keys = [(job["install"], job["step"], job["attempt"], job["boot"]) for job in record["jobs"]]
    yield from (f"job {key} was started {times} times" for key, times in Counter(keys).items() if times > 1)
    if install.status == Status.SUCCEEDED and (record["runs"], record["is_on"]) != ("new", True):
        yield f"succeeded, and yet it runs {record['runs']}"
    untouched = install.status == Status.CANCELLED and not install.state().of("wipe").attempt
    if untouched and record["disk"] != "old":
        yield f"cancelled before the wipe, and yet its disks hold {record['disk']}"


def _done_twice(install: Install, record: dict[str, Any]) -> Iterator[str]:
    """Where nothing was lost, each step has one attempt, and the power was switched twice: into rescue, into disk."""
    attempts = Counter(event.data["step"] for event in install.history() if event.kind is Kind.STEP_STARTED)
    yield from (f"{step} was begun {times} times" for step, times in attempts.items() if times > 1)
    if install.status == Status.SUCCEEDED and len(record["power_cycles"]) != 2:
        yield f"its power was switched {len(record['power_cycles'])} times instead of twice"


def _of_logs(install: Install, record: dict[str, Any], remote: Remote) -> Iterator[str]:
    """Every line that the job of an attempt printed is stored, once and in order.

    Of attempts that failed a part may be missing: what a rescue system that lost its power had not sent yet.
    """
    succeeded = {
        (event.data["step"], event.data["attempt"]) for event in install.history() if event.kind is Kind.STEP_SUCCEEDED
    }
    for number, job in enumerate(record["jobs"]):
        step, attempt = job["step"], job["attempt"]
        if job["install"] != str(install.uuid) or (step, attempt) not in succeeded:
            continue
        chunks = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("offset")
        stored = _lines("".join(chunk.text for chunk in chunks))
        printed = _lines(remote.log(record["name"], number).decode(errors="replace"))
        if stored[: len(printed)] != printed:
            yield f"the log of {step} {attempt} has {len(stored)} lines, not the {len(printed)} that were printed"


def _lines(text: str) -> list[tuple[str, str]]:
    return [(line.kind.value, line.text) for line in logs.parse(text) if line.kind in SHOWN]

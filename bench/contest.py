"""The contest: 100 installs in flight, every worker killed at once, workers started again. Who ends well?

Web process, two workers, PostgreSQL and 100 simulated servers, which speak real SSH and count what is done to them.
Writes its table into the docs itself.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import house, report
from deploy import doctor
from deploy.events import Kind, Status
from deploy.models import Event, Install, LogChunk
from deploy.steps import STEPS
from lab.simulation import Landfall, Process, Remote, inventory
from lab.simulation.proof import LogProof, Piece, compare
from servers.models import Server

INSTALLS = 100
WORKERS = 2
BETWEEN_REQUESTS = 0.5
"""Seconds: so the installs are spread over the steps when the workers die."""
WITHOUT_WORKERS = 2.0
LONGEST = 900.0
"""Half of the rescue step's time, and some more: then a server is restarted again that a dead worker may have."""
PACE = (
    '{"firmware": [3, 6], "system": [4, 8], "command": 0.25, "copy": 10, "copy_lines": 200, "build": 6,'
    ' "retry": [0.5, 5]}'
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the machines and the history say afterwards."""

    succeeded: int
    live: int
    wiped_again: int
    commands_again: int
    power_cycles_again: int
    taken_over: tuple[float, ...]
    events: int
    findings: int
    logs: LogProof

    @property
    def is_won(self) -> bool:
        """Whether nothing was lost, and nothing done twice."""
        twice = self.wiped_again or self.commands_again or self.power_cycles_again
        return self.succeeded == INSTALLS and not twice and not self.findings and self.logs.holds


def main() -> int:
    if not house.inside():
        done = house.again("bench.contest")
        print(done.stdout)
        return done.returncode
    landfall = house.landfall()
    try:
        landfall.web()
        remote = landfall.simulation("--servers", str(INSTALLS), "--pace", PACE)
        workers = start_workers(landfall, 0)
        request_all()
        # On a machine that has more to do the first ones are not that far yet.
        house.wait_until(lambda: house.live()["phone-home"], LONGEST)
        spread = house.live()
        killed = time.time()
        for worker in workers:
            worker.kill()
        say(f"killed {WORKERS} workers with {spread.total()} installs in flight: {by_step(spread)}")
        time.sleep(WITHOUT_WORKERS)
        start_workers(landfall, WORKERS)
        house.wait_until(lambda: not house.live(), LONGEST)
        tally = counted(remote, killed)
    finally:
        landfall.stop()
    text = f"{table(spread, tally)}\n\n{report.machine()}"
    print(text)
    report.put("contest", text)
    return 0 if tally.is_won else 1


def start_workers(landfall: Landfall, first: int) -> list[Process]:
    """Worker processes, each with slots for more than half of the installs."""
    return [landfall.worker(INSTALLS * 6 // 10, f"worker-{first + number}") for number in range(WORKERS)]


def request_all() -> None:
    """An install of every server, one after the other."""
    for server in Server.objects.order_by("name"):
        inventory.request(server)
        time.sleep(BETWEEN_REQUESTS)


def counted(remote: Remote, killed: float) -> Tally:
    """Counts it all up."""
    records = remote.records()
    jobs = [(record["name"], number, job) for record in records for number, job in enumerate(record["jobs"])]
    started = Event.objects.filter(kind=Kind.STEP_STARTED)
    taken = Event.objects.filter(kind=Kind.TAKEN_OVER).order_by("at").values_list("at", flat=True)
    once = Counter((job["install"], job["step"]) for _, _, job in jobs)
    return Tally(
        succeeded=Install.objects.filter(status=Status.SUCCEEDED).count(),
        live=house.live().total(),
        wiped_again=started.filter(data__step="wipe", data__attempt__gt=1).count(),
        commands_again=sum(times - 1 for _, _, job in jobs for times in job["executed"].values())
        + sum(times - 1 for times in once.values()),
        power_cycles_again=sum(len(record["power_cycles"]) - 2 for record in records),
        taken_over=tuple(at.timestamp() - killed for at in taken),
        events=Event.objects.count(),
        findings=len(doctor.look(with_power=True).findings),
        logs=sum((log_of(remote, *job) for job in jobs), LogProof()),
    )


def log_of(remote: Remote, server: str, number: int, job: dict[str, Any]) -> LogProof:
    """How the stored log of a job differs from the one that its server wrote."""
    rows = LogChunk.objects.filter(install__uuid=job["install"], step=job["step"], attempt=job["attempt"])
    stored = [Piece(*row) for row in rows.values_list("offset", "size", "text")]
    return compare(remote.log(server, number), stored)


def table(spread: Counter[str], tally: Tally) -> str:
    """What is published, the peer's figures beside ours."""
    first, last = (f"{tally.taken_over[end]:.1f} s" if tally.taken_over else "-" for end in (0, -1))
    rows: Sequence[Sequence[object]] = (
        ("installs in flight when every worker was killed", spread.total(), 100),
        ("succeeded in the end", tally.succeeded, 0),
        ("failed", INSTALLS - tally.succeeded - tally.live, 8),
        ("stuck for good", tally.live, 92),
        ("begun again with the wipe", tally.wiped_again, "-"),
        ("commands executed twice", tally.commands_again, "-"),
        ("power cycles more than the two of every install", tally.power_cycles_again, "-"),
        ("taken over by new workers", len(tally.taken_over), "-"),
        ("first taken over after the kill", first, "-"),
        ("last taken over after the kill", last, "-"),
        ("events; histories, leases, servers that `doctor` complains of", f"{tally.events:,}; {tally.findings}", "-"),
        ("lines of log", f"{tally.logs.lines:,}", "-"),
        ("lines lost, doubled, changed", f"{tally.logs.lost}, {tally.logs.doubled}, {tally.logs.wrong}", "-"),
    )
    figures = report.table(("", "Landfall", "the best-known peer"), rows)
    return f"{figures}\n\nIn flight when the workers died: {by_step(spread)}."


def by_step(spread: Counter[str]) -> str:
    """How many were in which step, in the order of the steps."""
    return ", ".join(f"{spread[name]} {name}" for name in ("", *STEPS) if spread[name]).replace("  ", " queued ")


def say(line: str) -> None:
    """A line for whoever watches."""
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

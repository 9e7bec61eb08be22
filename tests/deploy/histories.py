"""Installs with a past: events at chosen times, and logs as the rescue system writes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from deploy import events, journal, live, logs
from deploy.events import Blame, Failure, Kind, Status
from deploy.models import Event, Install, LogChunk
from deploy.steps import steps_for
from tests.builders import make_install

SECONDS: Mapping[str, float] = {
    "rescue": 55, "inspect": 3, "plan": 0.2, "wipe": 7, "partition": 12, "config-drive": 1, "mount": 0.4, "copy": 160,
    "bootable": 140, "reboot": 4, "phone-home": 95, "verify": 1,
}  # fmt: skip
"""What the steps take unless a test says otherwise."""

HOST_KEYS = ["SHA256:Q2xpbWIgZXZlcnkgbW91bnRhaW4", "SHA256:Rm9yZCBldmVyeSBzdHJlYW0"]
"""What the installed system tells; the first one is what its SSH server shows."""

STEPS = steps_for(licensed=False)
FAILURE = Failure(
    "command-failed", Blame.PROVIDER, "Copy the image failed: a command ended with exit status 23.",
    "Read its last lines below: they are the command's own words. Mend what they name, then try again.",
    "rsync -aHAXS /run/landfall/image/ /run/landfall/target/", 23, ("rsync: write failed: No space left on device",),
)  # fmt: skip


class Past:
    """Writes the history of an install, with a clock that a test turns."""

    def __init__(self, install: Install, began: datetime | None = None) -> None:
        self.install = install
        self.now = began or timezone.now()
        if began:
            with_new_start(install, began)

    def event(self, kind: Kind, **data: Any) -> events.State:
        """Appends an event at this clock's time."""
        row = Install.objects.get(pk=self.install.pk)
        event = events.Event(row.last_seq + 1, kind, self.now, data)
        state = events.apply(row.state(), event)
        link = events.digest(row.digest, event)
        Event.objects.create(install=row, seq=event.seq, kind=kind.value, at=event.at, data=data, digest=link)
        columns = journal.projection(state) | {"last_seq": event.seq, "digest": link}
        Install.objects.filter(pk=row.pk).update(**columns)
        live.nudge(row.uuid, row.project_id)
        return state

    def wait(self, seconds: float) -> None:
        """Turns the clock on."""
        self.now += timedelta(seconds=seconds)

    def start(self, step: str) -> int:
        """Begins an attempt; its number."""
        state = Install.objects.get(pk=self.install.pk).state()
        if not state.steps:
            self.event(Kind.PLANNED, steps=list(STEPS))
        attempt = state.of(step).attempt + 1
        self.event(Kind.STEP_STARTED, step=step, attempt=attempt)
        return attempt

    def finish(self, step: str, attempt: int = 1, **result: Any) -> None:
        """Ends an attempt well."""
        self.event(Kind.STEP_SUCCEEDED, step=step, attempt=attempt, result=result)

    def fail(self, step: str, attempt: int = 1, failure: Failure = FAILURE, **more: Any) -> None:
        """Ends an attempt badly; for good, unless `resume_from` says where to go on."""
        self.event(Kind.STEP_FAILED, step=step, attempt=attempt, failure=failure.to_json(), **more)

    def until(self, step: str, pace: float = 1.0) -> int:
        """Does every step before this one, and begins it; its attempt."""
        for name in STEPS[: STEPS.index(step)]:
            self.start(name)
            self.wait(SECONDS[name] * pace)
            self.finish(name)
        return self.start(step)

    def through(self, pace: float = 1.0, **login: Any) -> None:
        """Does every step, and succeeds."""
        self.until("verify", pace)
        self.wait(SECONDS["verify"] * pace)
        told: dict[str, Any] = {
            "ssh": "debian@192.0.2.14",
            "port": 22,
            "host_keys": HOST_KEYS,
            "verified": HOST_KEYS[0],
        }
        self.event(Kind.STEP_SUCCEEDED, step="verify", attempt=1, result=told | login)


def with_new_start(install: Install, began: datetime) -> None:
    """Lets a fresh install have been requested at another time: its first event is written anew."""
    from django.db import connection

    from deploy import appendonly

    row = install.events.get(seq=1)
    event = events.Event(1, Kind.REQUESTED, began, row.data)
    link = events.digest(events.GENESIS, event)
    with appendonly.lifted(connection):
        install.events.filter(seq=1).update(at=began, digest=link)
    Install.objects.filter(pk=install.pk).update(created_at=began, started_at=began, digest=link)
    install.refresh_from_db()


def installed(pace: float = 1.0, began: datetime | None = None, **columns: Any) -> Install:
    """An install that succeeded."""
    install = make_install(**columns)
    Past(install, began or timezone.now() - timedelta(hours=1)).through(pace)
    install.refresh_from_db()
    return install


def running(step: str = "copy", began: datetime | None = None, **columns: Any) -> tuple[Install, Past]:
    """An install in the middle of a step, and its clock."""
    install = make_install(**columns)
    past = Past(install, began)
    past.until(step)
    install.refresh_from_db()
    return install, past


# --- logs


def command(number: int, text: str, lines: Sequence[str], status: int = 0, seconds: float = 0.1) -> str:
    """What a command leaves in the log of a step."""
    body = "".join(f"{line}\n" for line in lines)
    return f"\x1e> {number} 1800000000.000000 {text}\n{body}\x1e< {number} {status} {seconds:.3f}\n"


def feed(install: Install, text: str, step: str = "copy", attempt: int = 1) -> LogChunk:
    """Stores a piece of log as a worker does, and tells those who watch."""
    last = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("-offset").first()
    text = text.replace("\0", "\ufffd")
    chunk = LogChunk.objects.create(
        install=install, step=step, attempt=attempt, text=text, size=len(text.encode()), at=timezone.now(),
        offset=last.offset + last.size if last else 0,
        first_line=last.first_line + logs.count(last.text) if last else 1,
    )  # fmt: skip
    live.nudge(install.uuid, install.project_id)
    return chunk


def shown_lines(install: Install, step: str = "copy", attempt: int = 1) -> list[str]:
    """The lines that a page should show of a log, from the rows."""
    chunks = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("offset")
    lines = (line for chunk in chunks for line in logs.parse(chunk.text, chunk.first_line))
    return [line.text for line in lines if line.kind not in (logs.LineKind.PROGRESS, logs.LineKind.EMPTY)]


def ended(install: Install) -> Status:
    """The status as it stands in the row now."""
    return Status(Install.objects.get(pk=install.pk).status)

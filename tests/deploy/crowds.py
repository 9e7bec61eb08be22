"""Many installs at once, for what has to be quick with many: written in bulk, each of them whole."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from django.utils import timezone

from deploy import events, journal, logs
from deploy.events import Kind, State
from deploy.models import Event, Install, LogChunk
from tests.builders import make_install
from tests.deploy.histories import HOST_KEYS, SECONDS, STEPS, command


def crowd(size: int, *, ended: datetime | None = None, chunks: int = 3) -> list[Install]:
    """Installs of one server that succeeded one after the other, with 40 events each and a log of the copy."""
    model = make_install()
    history = list(_history(ended or timezone.now()))
    state = State()
    digests = [(state := events.apply(state, event)).digest for event in history]
    columns = {**journal.projection(state), "wake_at": None, "admitted_at": None, "queued_at": None}
    copied = {name: getattr(model, name) for name in ("project_id", "server_id", "image_id", "hostname", "layout",
              "approved_plan", "ssh_keys")}  # fmt: skip
    made = Install.objects.bulk_create(Install(uuid=uuid4(), **copied, **columns) for _ in range(size))
    for some in (made[start : start + 100] for start in range(0, size, 100)):
        Event.objects.bulk_create(
            Event(install=one, seq=event.seq, kind=event.kind.value, at=event.at, data=event.data, digest=link)
            for one in some for event, link in zip(history, digests, strict=True)
        )  # fmt: skip
        LogChunk.objects.bulk_create(_log(some, chunks))
    return made


def _history(ended: datetime) -> Iterator[events.Event]:
    """Into rescue, every step with its power cycles and waits, and the proof that somebody can log in."""
    told: list[tuple[Kind, dict[str, Any]]] = [
        (Kind.REQUESTED, {"by": "alice"}), (Kind.PLANNED, {"steps": list(STEPS)}),
    ]  # fmt: skip
    for step in STEPS:
        told.append((Kind.STEP_STARTED, {"step": step, "attempt": 1}))
        if step in ("rescue", "reboot"):
            told += [(Kind.POWER_CYCLING, {"step": step}), (Kind.POWER_CYCLED, {"step": step})]
        if step in ("rescue", "phone-home", "verify"):
            told.append((Kind.STEP_WAITING, {"step": step, "attempt": 1, "reason": "its call", "until": None}))
        if step in ("copy", "bootable"):
            told.append((Kind.TAKEN_OVER, {"from": "w-1", "by": "w-2"}))
        if step in ("rescue", "phone-home"):
            kind = Kind.RESCUE_READY if step == "rescue" else Kind.PHONED_HOME
            told.append((kind, {"host_keys": HOST_KEYS, "boot_id": "b"}))
        result = {"ssh": "debian@192.0.2.14", "host_keys": HOST_KEYS} if step == "verify" else {}
        told.append((Kind.STEP_SUCCEEDED, {"step": step, "attempt": 1, "seconds": SECONDS[step], "result": result}))
    began = ended - timedelta(seconds=10 * len(told))
    for seq, (kind, data) in zip(count(1), told):
        yield events.Event(seq, kind, began + timedelta(seconds=10 * seq), data)


def _log(installs: list[Install], chunks: int) -> Iterator[LogChunk]:
    text = command(1, "rsync -aHAXS", [f"usr/lib/x86_64-linux-gnu/file-{number}.so" for number in range(48)])
    size, lines = len(text.encode()), logs.count(text)
    for one in installs:
        for number in range(chunks):
            yield LogChunk(
                install=one, step="copy", attempt=1, offset=number * size, size=size, text=text,
                first_line=1 + number * lines, at=timezone.now(),
            )  # fmt: skip

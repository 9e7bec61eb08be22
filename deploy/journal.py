"""The only writer of an install's history, and of the columns that copy it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from . import events, live, models
from .events import Kind
from .queue import Lease, LeaseLost


def append(
    install: models.Install,
    kind: Kind,
    data: Mapping[str, Any] | None = None,
    *,
    lease: Lease | None = None,
    wake_at: datetime | None = None,
) -> events.State:
    """The state after the event, which is stored together with the row's projection, or not at all.

    With a lease the event is written only while the lease holds (`LeaseLost` otherwise): a worker that was frozen
    past its time cannot write. Without one (people, machines) the install is woken, so that a worker looks at once.
    `wake_at` sets when to look next. `events.IllegalEvent` when the event cannot follow.
    """
    with transaction.atomic():
        row = models.Install.objects.select_for_update().get(pk=install.pk)
        require_lease(row, lease)
        now = timezone.now()
        event = events.Event(row.last_seq + 1, kind, now, dict(data or {}))
        state = events.apply(row.state(), event)
        link = events.digest(row.digest, event)
        models.Event.objects.create(
            install=row, seq=event.seq, kind=kind.value, at=event.at, data=event.data, digest=link
        )
        columns = projection(state) | {"last_seq": event.seq, "digest": link}
        if wake_at or not lease:
            columns["wake_at"] = wake_at or now
        models.Install.objects.filter(pk=row.pk).update(**columns)
        transaction.on_commit(lambda: live.nudge(row.uuid, row.project_id))
    return state


def require_lease(row: models.Install, lease: Lease | None) -> None:
    """Raises `LeaseLost` when the row, read in this transaction, is held by somebody else."""
    if lease and row.lease_token != lease.token:
        raise LeaseLost(f"{row} is held by {row.lease_worker or 'nobody'} now")


def projection(state: events.State) -> dict[str, Any]:
    """The columns of an install's row that copy its state."""
    current = state.of(state.step)
    return {
        "status": state.status.value,
        "step": state.step,
        "attempt": current.attempt,
        "failure": state.failure.to_json() if state.failure else None,
        "cancel_requested": state.cancel_requested,
        "step_started_at": current.started_at,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
    }

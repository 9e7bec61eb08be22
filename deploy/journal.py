"""The only writer of an install's history, and of the columns that copy it."""

import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from metadata import tokens

from . import events, limits, live, models
from .bound import bound
from .events import Event, Kind, State, Status
from .queue import Lease, LeaseLost
from .webhooks import outbox

log = logging.getLogger(__name__)

_LATER = (Kind.HOLD_REQUESTED, Kind.RELEASED)
"""What these ask for concerns a step that is still to come: nobody has to look at once."""
_OVER = {"lease_token": None, "lease_worker": "", "lease_since": None, "lease_until": None}
"""Nobody holds what has ended; who drives it when it is ended by force learns it by this, and writes nothing more."""


def append(
    install: models.Install,
    kind: Kind,
    data: Mapping[str, Any] | None = None,
    *,
    lease: Lease | None = None,
    wake_at: datetime | None = None,
    known: State | None = None,
) -> State:
    """The state after the event, which is stored together with the row's projection, or not at all.

    With a lease the event is written only while the lease holds (`LeaseLost` otherwise): a worker that was frozen
    past its time cannot write. Without one (people, machines) the install is woken, so that a worker looks at once,
    unless what is asked for is still to come.
    `wake_at` sets when to look next. `events.IllegalEvent` when the event cannot follow.

    Whoever has folded the history before passes it as `known`: as long as nobody else has written since, the event
    costs two statements, however long the history. Else the history is read again, under a lock.
    """
    data = dict(data or {})
    with transaction.atomic():
        state = None
        if known:
            # what cannot follow on a history that has grown meanwhile may well follow on what it is now
            with contextlib.suppress(events.IllegalEvent):
                state = _appended(install, known, kind, data, lease, wake_at)
        if state is None:
            row = models.Install.objects.select_for_update().only("lease_token", "lease_worker").get(pk=install.pk)
            require_lease(row, lease)
            state = _appended(install, install.state(), kind, data, lease, wake_at)
            assert state  # the row is locked: nobody can have written meanwhile
        # What its own worker writes gives the others nothing to do, unless an end makes room for the next in line.
        due = not lease or not state.status.is_live
        transaction.on_commit(lambda: live.nudge(install.uuid, install.project_id, due=due))
        transaction.on_commit(lambda: _tell(install, state.seq, kind, data, by_worker=bool(lease)))
    return state


def _tell(install: models.Install, seq: int, kind: Kind, data: Mapping[str, Any], *, by_worker: bool) -> None:
    """One log line for an event that can no longer be undone; what people do at a terminal is not repeated to them."""
    about = {name: data[name] for name in ("step", "attempt") if name in data}
    with bound(install=str(install.uuid), **about):
        log.log(logging.INFO if by_worker else logging.DEBUG, "event %s: %s", seq, kind.value)


def _appended(
    install: models.Install,
    before: State,
    kind: Kind,
    data: dict[str, Any],
    lease: Lease | None,
    wake_at: datetime | None,
) -> State | None:
    """The state after the event, now stored; None when `before` is not where the history stands any more."""
    now = timezone.now()
    event = Event(before.seq + 1, kind, now, data)
    state = events.apply(before, event)
    columns = projection(state)
    joins_line = state.status is Status.QUEUED and (not before.seq or before.status is not Status.QUEUED)
    if wake_at or not (lease or kind in _LATER) or joins_line:
        columns["wake_at"] = wake_at or now
    if joins_line:
        columns |= {"queued_at": now, "admitted_at": None if limits.limits() else now}
    if not state.status.is_live:
        columns |= _OVER
    if state.status is Status.SUCCEEDED:
        columns |= {"private_key": ""}
    unchanged = models.Install.objects.filter(pk=install.pk, last_seq=before.seq)
    if lease:
        unchanged = unchanged.filter(lease_token=lease.token)
    if not unchanged.update(**columns):
        return None
    models.Event.objects.create(
        install_id=install.pk, seq=event.seq, kind=kind.value, at=event.at, data=data, digest=state.digest
    )
    if before.status.is_live and not state.status.is_live:
        outbox.enqueue(install, state)
    if state.status is Status.SUCCEEDED:
        # In the same transaction: a worker that dies behind it leaves nothing open.
        tokens.expire(install.uuid)
    return state


def require_lease(row: models.Install, lease: Lease | None) -> None:
    """Raises `LeaseLost` when the row, read in this transaction, is held by somebody else."""
    if lease and row.lease_token != lease.token:
        raise LeaseLost(f"{row} is held by {row.lease_worker or 'nobody'} now")


def projection(state: State) -> dict[str, Any]:
    """The columns of an install's row that copy its state."""
    current = state.of(state.step)
    return {
        "status": state.status.value,
        "step": state.step,
        "attempt": current.attempt,
        "failure": state.failure.to_json() if state.failure else None,
        "cancel_requested": state.cancel_requested,
        "hold_before": state.hold_before,
        "quiet_since": current.quiet_since,
        "step_started_at": current.started_at,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "last_seq": state.seq,
        "digest": state.digest,
    }

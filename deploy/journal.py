"""The only writer of an install's history, and of the columns that copy it."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from images.flavours import EFI_LOADER
from images.own import forget_secrets, is_own
from metadata import boot, tokens

from . import events, limits, live, logbook, models, rows
from .bound import bound
from .events import Event, Kind, State, Status
from .queue import Lease, LeaseLost
from .webhooks import outbox

_log = logging.getLogger(__name__)

Happening = tuple[Kind, Mapping[str, Any]]
"""What an event says, before it has its number and its time."""

_LATER = (Kind.HOLD_REQUESTED, Kind.RELEASED, Kind.PASSPHRASE_SHOWN)
"""What these ask for concerns a step that is still to come, or none: nobody has to look at once."""
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
    log: logbook.Piece | None = None,
    then: Happening | None = None,
) -> State:
    """The state after the event, which is stored together with the row's projection, or not at all.

    With a lease the event is written only while the lease holds (`LeaseLost` otherwise): a worker that was frozen
    past its time cannot write. Without one (people, machines) the install is woken, so that a worker looks at once,
    unless what is asked for is still to come.
    `wake_at` sets when to look next. `events.IllegalEvent` when the event cannot follow.

    Whoever has folded the history before passes it as `known`: as long as nobody else has written since, the event
    costs two statements, however long the history. Else the history is read again, under a lock. A piece of `log` is
    stored with it, and so is the event `then`, unless it cannot follow on the first.
    """
    happenings = [(kind, dict(data or {})), *([(then[0], dict(then[1]))] if then else [])]
    with transaction.atomic():
        written = None
        if known:
            # what cannot follow on a history that has grown meanwhile may well follow on what it is now
            with contextlib.suppress(events.IllegalEvent):
                written = _appended(install, known, happenings, lease, wake_at)
        if written is None:
            row = models.Install.objects.select_for_update().only("lease_token", "lease_worker").get(pk=install.pk)
            require_lease(row, lease)
            written = _appended(install, install.state(), happenings, lease, wake_at)
            assert written  # the row is locked: nobody can have written meanwhile
        if log:
            logbook.insert([log])
        state = written[-1].state
        # What its own worker writes gives the others nothing to do, unless an end makes room for the next in line.
        due = not lease or not state.status.is_live
        transaction.on_commit(lambda: live.nudge(install.uuid, install.project_id, due=due))
        transaction.on_commit(lambda: _tell(install, written, by_worker=bool(lease)))
    return state


@dataclass(frozen=True, slots=True)
class _Written:
    """An event, and the state after it."""

    event: Event
    state: State


def _tell(install: models.Install, written: Sequence[_Written], *, by_worker: bool) -> None:
    """One log line for an event that can no longer be undone; what people do at a terminal is not repeated to them."""
    level = logging.INFO if by_worker else logging.DEBUG
    if not _log.isEnabledFor(level):
        return
    for event in (one.event for one in written):
        about = {name: event.data[name] for name in ("step", "attempt") if name in event.data}
        with bound(install=str(install.uuid), **about):
            _log.log(level, "event %s: %s", event.seq, event.kind.value)


def _appended(
    install: models.Install,
    before: State,
    happenings: Sequence[Happening],
    lease: Lease | None,
    wake_at: datetime | None,
) -> Sequence[_Written] | None:
    """The events, now stored; None when `before` is not where the history stands any more."""
    now = timezone.now()
    written = _following(before, happenings, now)
    state = written[-1].state
    columns = projection(state)
    joins_line = state.status is Status.QUEUED and (not before.seq or before.status is not Status.QUEUED)
    asks_for_more = not (lease or happenings[0][0] in _LATER) and state.status.is_live
    if wake_at or asks_for_more or joins_line:
        columns["wake_at"] = wake_at or now
    if joins_line:
        columns |= {"queued_at": now, "admitted_at": None if limits.limits() else now}
    if not state.status.is_live:
        columns |= _OVER
    if state.status is Status.SUCCEEDED:
        columns |= {"private_key": ""}
        if state.passphrase_is_known:
            # No retry follows on a success: nothing has to be opened by us any more.
            columns |= {"disk_passphrase": ""}
    unchanged = {"id": install.pk, "last_seq": before.seq} | ({"lease_token": lease.token} if lease else {})
    if not rows.update(models.Install, columns, unchanged):
        return None
    rows.insert(models.Event, [_row(install, one) for one in written])
    if before.status.is_live and not state.status.is_live:
        outbox.enqueue(install, state)
    if happenings[0][0] is Kind.FORCE_RESET:
        # First the boot: a machine that asks just now gets its token under that row's lock, so it expires as well.
        boot.direct_to_disk(install.server, EFI_LOADER)
        tokens.expire(install.uuid)
    if state.status is Status.SUCCEEDED:
        # In the same transaction: a worker that dies behind it leaves nothing open.
        tokens.expire(install.uuid)
        _forget_older(install)
        if is_own(install.image):
            forget_secrets(install.image)
    return written


def _following(before: State, happenings: Sequence[Happening], now: datetime) -> Sequence[_Written]:
    """What has happened as events that follow on `before`; the first one has to, the others where they can."""
    written: list[_Written] = []
    for kind, data in happenings:
        state = written[-1].state if written else before
        event = Event(state.seq + 1, kind, now, data)
        try:
            written.append(_Written(event, events.apply(state, event)))
        except events.IllegalEvent:
            if not written:
                raise
            break
    return written


def _row(install: models.Install, written: _Written) -> rows.Row:
    event = written.event
    return {
        "install_id": install.pk, "seq": event.seq, "kind": event.kind.value, "at": event.at, "data": event.data,
        "digest": written.state.digest,
    }  # fmt: skip


def _forget_older(install: models.Install) -> None:
    """The disks that older installs of the server have encrypted are erased: nobody needs their passphrases."""
    older = models.Install.objects.filter(server=install.server_id).exclude(pk=install.pk)
    older.exclude(disk_passphrase="").update(disk_passphrase="")


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

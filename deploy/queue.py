"""The queue is the table of installs: who may drive which, and for how long.

A claim locks one row and writes the lease into it; the loser of a race finds it locked or taken, and tries the next.
No time in it is trusted further than it can be true: a lease or an alarm that lies further ahead than any can be comes
from a clock that has jumped since, and counts as run out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Case, DateTimeField, F, Q, QuerySet, Value, When

from .events import LIVE, Status
from .models import Install

LEASE_TIME = timedelta(seconds=20)
"""How long a silent worker keeps an install: after that another one goes on with it."""
LONGEST_SLEEP = timedelta(minutes=20)
"""No install is left alone for longer: pauses between attempts are shorter, and waiting ones are looked at oftener."""

CANDIDATES = 20
"""How many due installs a worker tries for at once, until one is his."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's time-limited right to drive an install."""

    install: int
    token: UUID
    worker: str
    since: datetime
    until: datetime
    taken_from: str = ""

    def columns(self) -> dict[str, Any]:
        """The lease as it stands in the install's row."""
        return {
            "lease_token": self.token,
            "lease_worker": self.worker,
            "lease_since": self.since,
            "lease_until": self.until,
        }


class LeaseLost(Exception):
    """Somebody else drives the install now: write nothing more about it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a driver has to know of its install while it is busy: how long its history is, and whether to stop."""

    seq: int
    cancel_requested: bool


def due(now: datetime) -> QuerySet[Install]:
    """The installs that somebody should look at now, and nobody holds."""
    free = Q(lease_token=None) | Q(lease_until__lt=now) | Q(lease_until__gt=now + 2 * LEASE_TIME)
    awake = Q(wake_at__lte=now) | Q(wake_at__gt=now + 2 * LONGEST_SLEEP)
    # Who stands in line for a place is let in by `limits.admit`; to be cancelled one needs no place.
    passed = ~Q(status=Status.QUEUED) | Q(cancel_requested=True) | Q(admitted_at__isnull=False)
    return Install.objects.filter(free, awake, passed, status__in=LIVE)


def claim(worker: str, now: datetime) -> tuple[Install, Lease] | None:
    """An install that is due, now leased to `worker`; None when there is none that is free.

    Costs three queries and a transaction, as much again for every race lost. A row that somebody has locked (a worker
    that was frozen in the middle of a transaction, say) is passed over: it must not keep all the others waiting.
    """
    candidates = due(now).order_by("wake_at").values_list("pk", "lease_token", "lease_worker")[:CANDIDATES]
    for pk, token, holder in candidates:
        lease = Lease(pk, uuid4(), worker, now, now + LEASE_TIME, taken_from=holder)
        with transaction.atomic():
            unlocked = Install.objects.select_for_update(skip_locked=True).filter(pk=pk, lease_token=token)
            if unlocked.values_list("pk").first():
                Install.objects.filter(pk=pk).update(**lease.columns())
                break
    else:
        return None
    return Install.objects.select_related("server", "project", "image__licence").get(pk=pk), lease


def renew(leases: Iterable[Lease], now: datetime) -> int:
    """How many of the leases still hold; all that nobody has locked are prolonged with one UPDATE."""
    tokens = [lease.token for lease in leases]
    if not tokens:
        return 0
    with transaction.atomic():
        # A row that a slow statement keeps locked is renewed next time; it must not let all the others run out.
        unlocked = Install.objects.select_for_update(skip_locked=True).order_by().filter(lease_token__in=tokens)
        keys = list(unlocked.values_list("pk", flat=True))
        return Install.objects.filter(pk__in=keys).update(lease_until=now + LEASE_TIME)


def notices(leases: Iterable[Lease]) -> dict[UUID, Notice]:
    """How the installs of these leases stand, by the lease's token; one query. A lost lease is not among them."""
    tokens = [lease.token for lease in leases]
    if not tokens:
        return {}
    rows = Install.objects.filter(lease_token__in=tokens).order_by()
    found = rows.values_list("lease_token", "last_seq", "cancel_requested")
    return {token: Notice(seq, cancel) for token, seq, cancel in found if token}


def release(lease: Lease, wake_at: datetime | None, seen: int) -> bool:
    """Gives the install back, to be looked at again at `wake_at`; False when the lease was lost before.

    Where the history has grown past event `seen` (the machine has called meanwhile), its own `wake_at` stays.
    """
    mine = Install.objects.filter(pk=lease.install, lease_token=lease.token)
    when = Case(When(last_seq=seen, then=Value(wake_at)), default=F("wake_at"), output_field=DateTimeField())
    return bool(mine.update(lease_token=None, lease_worker="", lease_since=None, lease_until=None, wake_at=when))

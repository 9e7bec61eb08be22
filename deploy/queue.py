"""The queue is the table of installs: who may drive which, and for how long.

A claim is one compare-and-swap UPDATE; the loser of a race learns it from the row count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Case, DateTimeField, F, Q, QuerySet, Value, When

from .events import LIVE
from .models import Install

LEASE_TIME = timedelta(seconds=20)
"""How long a silent worker keeps an install: after that another one goes on with it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's time-limited right to drive an install."""

    install: int
    token: UUID
    worker: str
    until: datetime
    taken_from: str = ""

    def columns(self) -> dict[str, Any]:
        """The lease as it stands in the install's row."""
        return {"lease_token": self.token, "lease_worker": self.worker, "lease_until": self.until}


class LeaseLost(Exception):
    """Somebody else drives the install now: write nothing more about it."""


def due(now: datetime) -> QuerySet[Install]:
    """The installs that somebody should look at now, and nobody holds."""
    free = Q(lease_token=None) | Q(lease_until__lt=now)
    return Install.objects.filter(free, status__in=LIVE, wake_at__lte=now)


def claim(worker: str, now: datetime) -> tuple[Install, Lease] | None:
    """An install that is due, now leased to `worker`; None when there is none.

    Costs three queries, two more for every race lost.
    """
    while found := due(now).order_by("wake_at").first():
        lease = Lease(found.pk, uuid4(), worker, now + LEASE_TIME, taken_from=found.lease_worker)
        mine = Install.objects.filter(pk=found.pk, lease_token=found.lease_token).update(**lease.columns())
        if mine:
            return Install.objects.get(pk=found.pk), lease
    return None


def renew(leases: Iterable[Lease], now: datetime) -> int:
    """How many of the leases still hold; all of them are prolonged with one UPDATE."""
    tokens = [lease.token for lease in leases]
    return Install.objects.filter(lease_token__in=tokens).update(lease_until=now + LEASE_TIME) if tokens else 0


def release(lease: Lease, wake_at: datetime | None, seen: int) -> bool:
    """Gives the install back, to be looked at again at `wake_at`; False when the lease was lost before.

    Where the history has grown past event `seen` (the machine has called meanwhile), its own `wake_at` stays.
    """
    mine = Install.objects.filter(pk=lease.install, lease_token=lease.token)
    when = Case(When(last_seq=seen, then=Value(wake_at)), default=F("wake_at"), output_field=DateTimeField())
    return bool(mine.update(lease_token=None, lease_worker="", lease_until=None, wake_at=when))

"""The queue is the table of installs: who may drive which, and for how long.

A claim locks one row and writes the lease into it; the loser of a race finds it locked or taken, and tries the next.
No time in it is trusted further than it can be true: a lease or an alarm that lies further ahead than any can be comes
from a clock that has jumped since, and counts as run out.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Q, QuerySet

from . import rows
from .events import LIVE, Status
from .models import Install

LEASE_TIME = timedelta(seconds=20)
"""How long a silent worker keeps an install: after that another one goes on with it."""
LONGEST_SLEEP = timedelta(minutes=6)
"""No install is left alone for longer: pauses between attempts are shorter, and waiting ones are looked at oftener."""

CANDIDATES = 100
"""How many due installs a worker looks at: more than it takes, as some may be locked, or taken by others meanwhile."""


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
    """Somebody else drives the install now, or nobody: do nothing more about it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a driver has to know of its install while it is busy: how long its history is, and whether to stop."""

    seq: int
    cancel_requested: bool


def due(now: datetime) -> QuerySet[Install]:
    """The installs that somebody should look at now, and nobody holds."""
    free = Q(lease_token=None) | Q(lease_until__lt=now) | Q(lease_until__gt=now + 2 * LEASE_TIME)
    # A lease that has run out is of a worker that died at work: there is nothing to wait for.
    awake = Q(wake_at__lte=now) | Q(wake_at__gt=now + 2 * LONGEST_SLEEP) | Q(lease_token__isnull=False)
    # Who stands in line for a place is let in by `limits.admit`; to be cancelled one needs no place.
    passed = ~Q(status=Status.QUEUED) | Q(cancel_requested=True) | Q(admitted_at__isnull=False)
    return Install.objects.filter(free, awake, passed, status__in=LIVE)


def claim(worker: str, now: datetime) -> tuple[Install, Lease] | None:
    """An install that is due, now leased to `worker`; None when there is none that is free."""
    return next(iter(claim_all(worker, now, 1)), None)


_DUE = rows.Question(lambda now: due(now).order_by("wake_at").values_list("pk")[:CANDIDATES])


def claim_all(
    worker: str, now: datetime, most: int, held: Container[UUID] = frozenset()
) -> list[tuple[Install, Lease]]:
    """The installs that are due, those that are so for the longest first, now leased to `worker`; `most` at most.

    Costs one query when there is none, else a transaction and four statements, however many there are: when a worker
    has died, another one takes over all that it had at once. A row that somebody has locked (a worker that was frozen
    in the middle of a transaction, say) is passed over: it must not keep all the others waiting. So is one whose lease,
    one of the tokens `held`, has run out in the worker's own hands: it is renewed, and nobody takes over from himself.
    """
    candidates = [pk for (pk,) in _DUE.ask(now)]
    if not candidates:
        return []
    with transaction.atomic():
        unlocked = due(now).filter(pk__in=candidates).select_for_update(skip_locked=True).order_by("wake_at")
        found = unlocked.values_list("pk", "lease_worker", "lease_token")
        takeable = [(pk, holder) for pk, holder, token in found if token not in held]
        leases = [
            Lease(pk, uuid4(), worker, now, now + LEASE_TIME, taken_from=holder) for pk, holder in takeable[:most]
        ]
        rows.update_each(Install, [(lease.columns(), {"id": lease.install}) for lease in leases])
    whole = Install.objects.select_related("server", "project", "image__licence", "image__publication")
    installs = whole.in_bulk([lease.install for lease in leases])
    return [(installs[lease.install], lease) for lease in leases]


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


def prolong(lease: Lease, now: datetime) -> None:
    """The lease holds for its whole time from now on; `LeaseLost` when it is lost. One statement."""
    mine = {"id": lease.install, "lease_token": lease.token}
    if not rows.update(Install, {"lease_until": now + LEASE_TIME}, mine):
        raise LeaseLost(f"the lease of install {lease.install} is lost")


def notices(leases: Iterable[Lease]) -> dict[UUID, Notice]:
    """How the installs of these leases stand, by the lease's token; one query. A lost lease is not among them."""
    tokens = [lease.token for lease in leases]
    if not tokens:
        return {}
    rows = Install.objects.filter(lease_token__in=tokens).order_by()
    found = rows.values_list("lease_token", "last_seq", "cancel_requested")
    return {token: Notice(seq, cancel) for token, seq, cancel in found if token}


def release(lease: Lease, wake_at: datetime | None, seen: int) -> bool:
    """Gives the install back; whether it now sleeps until `wake_at` (for good, if that is None).

    It does not when the lease was lost before, or when the history has grown past event `seen` (the machine has called
    meanwhile): then the row's own `wake_at` stays, and who was woken by the call found the install leased.
    """
    given_back = {"lease_token": None, "lease_worker": "", "lease_since": None, "lease_until": None}
    mine = {"id": lease.install, "lease_token": lease.token}
    if rows.update(Install, given_back | {"wake_at": wake_at}, mine | {"last_seq": seen}):
        return True
    rows.update(Install, given_back, mine)
    return False

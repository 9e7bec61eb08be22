"""Who holds what for too long, and who waits for nobody."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet

from deploy import queue
from deploy.events import LIVE, Status
from deploy.models import Install
from deploy.queue import LEASE_TIME

from .finding import Code, Finding

OVERDUE = timedelta(minutes=10)
"""For so long a live install may wait for a worker with a free slot before anybody is told."""

_NOBODY = {"lease_token": None, "lease_worker": "", "lease_since": None, "lease_until": None}


def examine(now: datetime) -> Iterator[Finding]:
    """Leases that nobody can still have, and installs that nobody will look at."""
    for one in stale(now):
        yield _finding(
            one, Code.LEASE_STALE, f"{_holder(one)}, and it ran out {_ago(now, one.lease_until)}.",
            "`manage.py doctor --mend` takes it away. Is a worker running? `manage.py worker` starts one.",
        )  # fmt: skip
    for one in too_long(now):
        yield _finding(
            one, Code.LEASE_TOO_LONG, f"{_holder(one)}, until {one.lease_until}: no lease is that long.",
            "Compare the clocks of the hosts (`timedatectl`); `manage.py doctor --mend` takes the lease away.",
        )  # fmt: skip
    for one in unwoken(now):
        yield _finding(
            one, Code.NEVER_WOKEN, f"It is {one.status}, nobody holds it, and nobody is to look at it again.",
            "`manage.py doctor --mend` wakes it.",
        )  # fmt: skip
    for one in out_of_line():
        yield _finding(
            one, Code.NEVER_WOKEN, "It is queued, was not let in, and does not stand in line for a place either.",
            "`manage.py doctor --mend` puts it in line.",
        )  # fmt: skip
    for one in queue.due(now).filter(wake_at__lt=now - OVERDUE).select_related("server"):
        yield Finding(
            Code.OVERDUE, f"It has been due since {one.wake_at}, and no worker takes it.",
            "Look whether a worker runs and has slots free (LANDFALL_SLOTS); `manage.py worker` starts another one.",
            one.uuid, one.server.name,
        )  # fmt: skip


def stale(now: datetime) -> QuerySet[Install]:
    """Held by somebody who is gone. A live install is told only once others have had the time to take it over."""
    held = Install.objects.exclude(lease_token=None)
    over = Q(lease_until__lt=now) & ~Q(status__in=LIVE)
    return held.filter(Q(lease_until=None) | Q(lease_until__lt=now - LEASE_TIME) | over).select_related("server")


def too_long(now: datetime) -> QuerySet[Install]:
    """Held for longer than any lease can last, so by a clock that has jumped."""
    held = Install.objects.exclude(lease_token=None)
    return held.filter(lease_until__gt=now + 2 * LEASE_TIME).select_related("server")


def unwoken(now: datetime) -> QuerySet[Install]:
    """Live, but without a time at which somebody looks, and not waiting for a person or for a place either."""
    free = Q(lease_token=None) | Q(lease_until__lt=now)
    waits_for_people = Q(status=Status.HELD, cancel_requested=False)
    waits_in_line = Q(status=Status.QUEUED, admitted_at=None, cancel_requested=False)
    asleep = Install.objects.filter(free, status__in=LIVE, wake_at=None)
    return asleep.exclude(waits_for_people).exclude(waits_in_line).select_related("server")


def out_of_line() -> QuerySet[Install]:
    """Queued, not let in, and not standing in line."""
    lost = Install.objects.filter(status=Status.QUEUED, admitted_at=None, queued_at=None, cancel_requested=False)
    return lost.select_related("server")


def take_away(install: UUID, now: datetime) -> bool:
    """Whether a lease that nobody can have was taken away; the next worker goes on where the last one stopped."""
    lost = [*stale(now).filter(uuid=install), *too_long(now).filter(uuid=install)]
    taken = [Install.objects.filter(pk=one.pk, lease_token=one.lease_token).update(**_NOBODY) for one in lost]
    return any(taken)


def wake(install: UUID, now: datetime) -> bool:
    """Whether a lost wake-up was set again: a worker looks at once, or the install stands in line."""
    lined_up = out_of_line().filter(uuid=install).update(queued_at=now, wake_at=now)
    woken = unwoken(now).filter(uuid=install).update(wake_at=now)
    return bool(lined_up or woken)


def _holder(install: Install) -> str:
    since = f" since {install.lease_since}" if install.lease_since else ""
    ended = "" if install.is_live else f", although it is {install.status}"
    return f"The worker {install.lease_worker or 'without a name'} holds it{since}{ended}"


def _ago(now: datetime, when: datetime | None) -> str:
    return f"{(now - when).total_seconds():.0f} s ago" if when else "at a time that is not known"


def _finding(install: Install, code: Code, what: str, fix: str) -> Finding:
    return Finding(code, what, fix, install.uuid, install.server.name, mendable=True)

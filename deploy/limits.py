"""How many installs may run at once: over all, of one project, from one image. Who is over a limit stands in line.

A place is taken from the moment an install is let in until it ends, or is held. The line is served in order; who waits
for the place of a project or an image does not keep back those behind who need another one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from .events import LIVE, Status
from .models import Install

_LOCK = 0x1A4DFA11
"""The number of PostgreSQL's advisory lock under which places are given away."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` installs at once of those that share the value of `column`; all share an empty one."""

    most: int
    column: str
    sharing: str = ""

    @property
    def words(self) -> str:
        """The limit as a clause."""
        one = self.most == 1
        return f"at most {self.most} install{'' if one else 's'}{self.sharing} {'runs' if one else 'run'} at once"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an install stands in line, from 1 among those that wait for the same, and which limit it is."""

    position: int
    why: str


def limits() -> tuple[Limit, ...]:
    """The limits that are set; none when installs may run without limit."""
    every = (
        Limit(settings.LANDFALL_LIMIT, ""),
        Limit(settings.LANDFALL_LIMIT_PROJECT, "project_id", " of a project"),
        Limit(settings.LANDFALL_LIMIT_IMAGE, "image_id", " from the same image"),
    )
    return tuple(limit for limit in every if limit.most)


def admit(now: datetime) -> int:
    """How many installs that stood in line were let in. One query when nobody does."""
    if not _line().exists():
        return 0
    with transaction.atomic():
        if not _is_first():
            return 0
        passed = [install.pk for install, barrier in _walk() if barrier is None]
        return _line().filter(pk__in=passed).update(admitted_at=now, wake_at=now)


def places() -> dict[int, Place]:
    """Where everybody in line stands, by the install's key; who will be let in at the next look is not among them."""
    found: dict[int, Place] = {}
    before: Counter[tuple[str, int]] = Counter()
    for install, barrier in _walk():
        if barrier:
            share = _share(install, barrier)
            before[share] += 1
            found[install.pk] = Place(before[share], barrier.words)
    return found


def place(install: Install) -> Place | None:
    """Where the install stands in line for the limit that keeps it back; None when none does."""
    if install.status != Status.QUEUED or install.admitted_at:
        return None
    return places().get(install.pk)


def _walk() -> Iterator[tuple[Install, Limit | None]]:
    """Everybody in line, first come first, and the limit that keeps each of them back; two queries."""
    taken: Counter[tuple[str, int]] = Counter()
    current = limits()
    if current:
        for install in _running():
            taken.update(_shares(install, current))
    for install in _line().order_by("queued_at", "pk").only("pk", "project_id", "image_id", "queued_at"):
        shares = _shares(install, current)
        barrier = next(
            (limit for limit, share in zip(current, shares, strict=True) if taken[share] >= limit.most), None
        )
        if barrier is None:
            taken.update(shares)
        yield install, barrier


def _shares(install: Install, current: tuple[Limit, ...]) -> list[tuple[str, int]]:
    return [_share(install, limit) for limit in current]


def _share(install: Install, limit: Limit) -> tuple[str, int]:
    """What the install has in common with those that it shares the limit with."""
    return limit.column, getattr(install, limit.column) if limit.column else 0


def _line() -> QuerySet[Install]:
    return Install.objects.filter(status=Status.QUEUED, admitted_at=None, queued_at__isnull=False)


def _running() -> QuerySet[Install]:
    placed = Install.objects.filter(status__in=LIVE).exclude(status=Status.HELD).exclude(pk__in=_line().values("pk"))
    return placed.order_by().only("pk", "project_id", "image_id")


def _is_first() -> bool:
    """Whether nobody else gives places away now: two that count at the same time would give one away twice.

    The second does not wait for the first, which may be frozen. SQLite has one writer anyway.
    """
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])

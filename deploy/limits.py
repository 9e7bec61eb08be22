"""How many installs may run at once: over all, of one project, from one image, from one mirror. Who is over a limit
stands in line. Customers' own images are counted by the host that they come from: each of them is an image of its own.

A place is taken from the moment an install is let in until it ends, or is held. The line is served in order; who waits
for the place of a project or an image does not keep back those behind who need another one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet

from images import mirrors

from . import rows
from .events import LIVE, Status
from .models import Install

_LOCK = 0x1A4DFA11
"""The number of PostgreSQL's advisory lock under which places are given away."""

Share = tuple[str, int | str]
"""What installs have in common that are counted together."""

_NO_MIRROR: Share = ("mirror", "")
"""Who reads from no mirror is not counted by it."""


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
        Limit(settings.LANDFALL_MIRROR_READERS, "mirror", " from the same mirror"),
    )
    return tuple(limit for limit in every if limit.most)


def admit(now: datetime) -> int:
    """How many installs that stood in line were let in. One query when nobody does."""
    if not _ANYBODY.ask(now):
        return 0
    with transaction.atomic():
        if not _is_first():
            return 0
        passed: dict[str, list[int]] = defaultdict(list)
        for install, barrier in _walk():
            if barrier is None:
                passed[install.mirror].append(install.pk)
        return sum(
            _line().filter(pk__in=those).update(admitted_at=now, wake_at=now, mirror=mirror)
            for mirror, those in passed.items()
        )


def places() -> dict[int, Place]:
    """Where everybody in line stands, by the install's key; who will be let in at the next look is not among them."""
    found: dict[int, Place] = {}
    before: Counter[Share] = Counter()
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
    """Everybody in line, first come first, and the limit that keeps each of them back; two queries, three with mirrors.

    Who reads a published image is given the mirror that has the fewest readers; nothing of it is stored here.
    """
    taken: Counter[Share] = Counter()
    current = limits()
    published = mirrors.published() if settings.LANDFALL_MIRROR_READERS else {}
    readers: Counter[str] = Counter()
    if current or published:
        for install in _running():
            taken.update(_shares(install, current))
            readers[install.mirror] += 1
    for install in _sourced(_line()).order_by("queued_at", "pk").only("pk", "project_id", "image_id", "queued_at"):
        private = published.get(install.image_id)
        install.mirror = "" if private is None else mirrors.least_read(private, readers)
        shares = _shares(install, current)
        full = (
            limit for limit, share in zip(current, shares, strict=True)
            if share != _NO_MIRROR and taken[share] >= limit.most
        )  # fmt: skip
        barrier = next(full, None)
        if barrier is None:
            taken.update(shares)
            readers[install.mirror] += 1
        yield install, barrier


def _shares(install: Install, current: tuple[Limit, ...]) -> list[Share]:
    return [_share(install, limit) for limit in current]


def _share(install: Install, limit: Limit) -> Share:
    """What the install has in common with those that it shares the limit with."""
    if limit.column == "image_id" and (own_url := getattr(install, "own_url", "")):
        return limit.column, urlsplit(own_url).hostname or ""
    return limit.column, getattr(install, limit.column) if limit.column else 0


def _sourced(installs: QuerySet[Install]) -> QuerySet[Install]:
    """The installs with the address, `own_url`, of the image that a customer brings; None for one of the catalogue."""
    return installs.annotate(own_url=F("image__own__shown_url"))


def _line() -> QuerySet[Install]:
    return Install.objects.filter(status=Status.QUEUED, admitted_at=None, queued_at__isnull=False)


_ANYBODY = rows.Question(lambda now: _line().order_by().values_list("pk")[:1])


def _running() -> QuerySet[Install]:
    placed = Install.objects.filter(status__in=LIVE).exclude(status=Status.HELD).exclude(pk__in=_line().values("pk"))
    return _sourced(placed).order_by().only("pk", "project_id", "image_id", "mirror")


def _is_first() -> bool:
    """Whether nobody else gives places away now: two that count at the same time would give one away twice.

    The second does not wait for the first, which may be frozen. SQLite has one writer anyway.
    """
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])

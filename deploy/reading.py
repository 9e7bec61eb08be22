"""What the pages and the websockets read of installs: few queries each, whatever the number of installs or lines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.db.models import Max, QuerySet, Sum, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from accounts.access import projects_of
from accounts.models import User

from . import logs
from .events import Event, Kind, Status
from .models import Event as EventRow
from .models import Install, LogChunk
from .timeline import NOTHING_USUAL, Usual, usual_of

WINDOW_LINES = 400
"""How many lines of a log are shown at once; more are loaded when asked for."""

MOST_CHUNKS = 200
"""How many chunks are read at once, however few lines they hold."""

COMMAND_MARK = "\x1e> "
"""Begins the line with which a command begins."""

MOST_FOUND = 1000
"""How many lines a search gives."""

UNSHOWN = (logs.LineKind.PROGRESS, logs.LineKind.EMPTY)
"""Lines that are counted, but not shown: progress moves a bar instead."""

_USUAL_OF = 20
_USUAL_DAYS = 90
_USUAL_KEY = "deploy.usual"


def installs_of(user: User | AnonymousUser) -> QuerySet[Install]:
    """The installs that a person may see, with server, image and project: those of the own projects, for ops all."""
    installs = Install.objects.select_related("server", "image__licence", "project")
    if not isinstance(user, User):
        return installs.none()
    return installs if user.is_ops else installs.filter(project__in=projects_of(user))


def seen_by(user: User | AnonymousUser) -> str:
    """How far the histories go that a person may see: another word after every event in any of them. One query."""
    found = installs_of(user).order_by().aggregate(newest=Max("pk"), ended=Max("ended_at"), events=Sum("last_seq"))
    ended = found["ended"].timestamp() if found["ended"] else 0
    return f"{found['newest'] or 0}-{ended}-{found['events'] or 0}"


# --- how long it usually takes


def usual_times() -> Mapping[str, Usual]:
    """What installs usually take, by image flavour: medians of the last 20 that succeeded within 90 days.

    Two queries, once a minute and process.
    """
    found: Mapping[str, Usual] | None = cache.get(_USUAL_KEY)
    if found is None:
        found = _usual_times()
        cache.set(_USUAL_KEY, found, 60)
    return found


def usual_for(install: Install) -> Usual:
    """What an install of this image's flavour usually takes."""
    return usual_times().get(install.image.flavour, NOTHING_USUAL)


def _usual_times() -> dict[str, Usual]:
    recent = (
        Install.objects.filter(status=Status.SUCCEEDED, archive=None)
        .filter(ended_at__gte=timezone.now() - timedelta(days=_USUAL_DAYS))
        .annotate(place=Window(RowNumber(), partition_by="image__flavour", order_by="-ended_at"))
        .filter(place__lte=_USUAL_OF)
        .values_list("pk", "image__flavour")
    )
    flavours: dict[int, str] = dict(recent)
    rows = EventRow.objects.filter(install_id__in=flavours).order_by("install_id", "seq")
    histories: dict[str, list[list[Event]]] = defaultdict(list)
    for pk, of_install in groupby(rows, key=lambda row: row.install_id):
        histories[flavours[pk]].append([row.value() for row in of_install])
    return {flavour: usual_of(those) for flavour, those in histories.items()}


# --- the log


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of a log as they came; `id` is a watcher's cursor, `offset` the place in its attempt's log."""

    id: int
    step: str
    attempt: int
    offset: int
    lines: tuple[logs.Line, ...]
    at: datetime

    @classmethod
    def of(cls, row: LogChunk) -> "Chunk":
        """The row, parsed."""
        return cls(row.pk, row.step, row.attempt, row.offset, tuple(logs.parse(row.text, row.first_line)), row.at)


@dataclass(frozen=True, slots=True)
class Extract:
    """A stretch of an attempt's log, and whether there is more of it before and behind."""

    chunks: tuple[Chunk, ...] = ()
    earlier: bool = False
    later: bool = False
    command: logs.Line | None = None
    """The command that the first lines belong to, where it stands before them."""

    @property
    def first(self) -> int:
        """The offset where the stretch begins."""
        return self.chunks[0].offset if self.chunks else 0

    @property
    def last(self) -> int:
        """The offset of its last chunk."""
        return self.chunks[-1].offset if self.chunks else 0

    def progress(self) -> logs.Line | None:
        """The last thing that the running command said about how far it is."""
        return last_progress(self.chunks)


@dataclass(frozen=True, slots=True)
class Found:
    """The lines that a search gave, and whether there are more of them."""

    lines: tuple[logs.Line, ...]
    more: bool = False


def last_progress(chunks: Sequence[Chunk]) -> logs.Line | None:
    """The latest progress in the chunks; None when there is none, or when its command has ended."""
    for chunk in reversed(chunks):
        for line in reversed(chunk.lines):
            if line.kind in (logs.LineKind.EXIT, logs.LineKind.COMMAND):
                return None
            if line.kind is logs.LineKind.PROGRESS:
                return line
    return None


def cursor(install: Install) -> int:
    """The newest chunk there is: read before anything else, so that a watcher who starts from it misses nothing."""
    newest: int | None = LogChunk.objects.filter(install=install).aggregate(newest=Max("pk"))["newest"]
    return newest or 0


def chunks_after(install: int, after: int) -> list[Chunk]:
    """The next chunks behind a watcher's cursor, whatever their step: at most 200 of them."""
    rows = LogChunk.objects.filter(install_id=install, pk__gt=after).order_by("pk")[:MOST_CHUNKS]
    return [Chunk.of(row) for row in rows]


def tail(install: Install, step: str, attempt: int, lines: int = WINDOW_LINES) -> Extract:
    """The end of an attempt's log."""
    log = _log(install, step, attempt)
    return _with_command(log, _upwards(log, lines))


def before(install: Install, step: str, attempt: int, offset: int) -> Extract:
    """What comes before an offset."""
    log = _log(install, step, attempt)
    return _with_command(log, _upwards(log.filter(offset__lt=offset)))


def behind(install: Install, step: str, attempt: int, offset: int) -> Extract:
    """What comes behind the chunk at an offset."""
    return _downwards(_log(install, step, attempt).filter(offset__gt=offset))


def around(install: Install, step: str, attempt: int, line: int) -> Extract:
    """The stretch that a line is in: some lines before it, and what follows."""
    log = _log(install, step, attempt)
    first = log.filter(first_line__lte=max(line - 50, 1)).order_by("-offset").first()
    found = _downwards(log.filter(offset__gte=first.offset) if first else log)
    return _with_command(log, replace(found, earlier=bool(first and first.first_line > 1)))


def search(install: Install, step: str, attempt: int, words: str) -> Found:
    """The lines of an attempt's log that hold the words, whatever the case: the first thousand of them."""
    lines: list[logs.Line] = []
    for row in _log(install, step, attempt).filter(text__icontains=words).order_by("offset").iterator(chunk_size=50):
        shown = (line for line in logs.parse(row.text, row.first_line) if line.kind not in UNSHOWN)
        lines += [line for line in shown if words.lower() in line.text.lower()]
        if len(lines) >= MOST_FOUND:
            return Found(tuple(lines[:MOST_FOUND]), more=True)
    return Found(tuple(lines))


def _log(install: Install, step: str, attempt: int) -> QuerySet[LogChunk]:
    """One attempt's log: read in the order of offsets, for which there is an index."""
    return LogChunk.objects.filter(install=install, step=step, attempt=attempt)


def _upwards(rows: QuerySet[LogChunk], lines: int = WINDOW_LINES) -> Extract:
    kept, more = _enough(rows.order_by("-offset")[: MOST_CHUNKS + 1], lines)
    return Extract(tuple(reversed(kept)), earlier=more)


def _downwards(rows: QuerySet[LogChunk]) -> Extract:
    kept, more = _enough(rows.order_by("offset")[: MOST_CHUNKS + 1], WINDOW_LINES)
    return Extract(tuple(kept), later=more)


def _with_command(log: QuerySet[LogChunk], extract: Extract) -> Extract:
    """The stretch with the command in whose middle it begins, so that one sees what prints these lines."""
    if not extract.earlier or extract.chunks[0].lines[0].kind is logs.LineKind.COMMAND:
        return extract
    above = log.filter(offset__lt=extract.first, text__contains=COMMAND_MARK).order_by("-offset").first()
    if above is None:
        return extract
    marks = (logs.LineKind.COMMAND, logs.LineKind.EXIT)
    last = next(line for line in reversed(Chunk.of(above).lines) if line.kind in marks)
    return replace(extract, command=last if last.kind is logs.LineKind.COMMAND else None)


def _enough(rows: QuerySet[LogChunk], lines: int) -> tuple[list[Chunk], bool]:
    """As many chunks as give `lines` lines, and whether there are more of them."""
    kept: list[Chunk] = []
    held = 0
    for row in rows.iterator(chunk_size=20):
        if held >= lines or len(kept) == MOST_CHUNKS:
            return kept, True
        kept.append(Chunk.of(row))
        held += len(kept[-1].lines)
    return kept, False


# --- the steps of many installs


def planned_steps(installs: Iterable[Install]) -> dict[int, tuple[str, ...]]:
    """The list of steps of each install, by its key: one query."""
    rows = EventRow.objects.filter(install__in=list(installs), kind=Kind.PLANNED).values_list("install_id", "data")
    plans: dict[int, Any] = dict(rows)
    return {pk: tuple(data["steps"]) for pk, data in plans.items()}

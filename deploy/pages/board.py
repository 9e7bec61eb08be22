"""The ops board: every install that runs, and those that failed within a day."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.access import role_required
from accounts.models import Project, Role, User
from deploy import reading
from deploy.context import steps_of
from deploy.events import LIVE, Kind, Status, StepState
from deploy.limits import Place
from deploy.models import Event, Install
from deploy.steps import STEPS
from deploy.timeline import NOTHING_USUAL

from . import line, many, person
from .parts import Part

FAR_OVER = 2.0
"""A step is slow when it takes this many times the usual, and a minute more at least."""

MOST_ROWS = 300
FAILED_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Filter:
    """What of the board is shown; its address holds it."""

    status: str = ""
    project: str = ""
    q: str = ""

    @classmethod
    def of(cls, query: QueryDict) -> "Filter":
        """The filter in a query string; unknown values filter nothing."""
        # PostgreSQL refuses a NUL in a text, whatever it is compared with.
        status, project, words = (query.get(name, "").replace("\0", "").strip() for name in ("status", "project", "q"))
        return cls(status if status in _SHOWN else "", project[:50], words[:100])

    def apply(self, installs: QuerySet[Install]) -> QuerySet[Install]:
        """Those of the installs that it lets through."""
        if self.status:
            installs = installs.filter(status__in=_SHOWN[self.status])
        if self.project:
            installs = installs.filter(project__slug=self.project)
        if self.q:
            installs = installs.filter(Q(server__name__icontains=self.q) | Q(hostname__icontains=self.q))
        return installs


_SHOWN: Mapping[str, tuple[Status, ...]] = {
    "running": (Status.RUNNING,),
    "waiting": (Status.QUEUED, Status.WAITING, Status.HELD),
    "failed": (Status.FAILED,),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One step in a row of small cells; `held` when the install is, or is to be, held before it."""

    title: str
    state: StepState
    held: bool = False


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One install on the board. `since` when it has been where it is: in its step, in line, on hold."""

    install: Install
    cells: tuple[Cell, ...]
    step: str
    since: datetime | None
    seconds: float
    usual: float | None
    place: Place | None = None
    quiet: str = ""
    """Why nothing is heard of it; empty when something is."""

    @property
    def id(self) -> str:
        """Its element's id."""
        return f"install-{self.install.uuid}"

    @property
    def is_failed(self) -> bool:
        return self.install.status == Status.FAILED

    @property
    def is_at_work(self) -> bool:
        """Whether its step goes on: it neither stands still nor has it ended."""
        return self.install.status in (Status.RUNNING, Status.WAITING)

    @property
    def is_held(self) -> bool:
        return self.install.status == Status.HELD

    @property
    def quiet_why(self) -> str:
        """The reason of its silence without the particulars."""
        return self.quiet.partition(": ")[0]

    @property
    def quiet_detail(self) -> str:
        return self.quiet.partition(": ")[2]

    @property
    def hold_title(self) -> str:
        """The step that it is, or is to be, held before; empty when there is none."""
        before = self.install.hold_before
        return STEPS[before].title if before in STEPS else before

    @property
    def is_slow(self) -> bool:
        """Whether its step takes far longer than usual."""
        if self.usual is None or not self.is_at_work:
            return False
        return self.seconds > FAR_OVER * self.usual and self.seconds > self.usual + 60

    @property
    def urgency(self) -> tuple[int, float]:
        """Sorts failed before slow before the rest, and what has stood longest first."""
        return (0 if self.is_failed else 1 if self.is_slow else 2, -self.seconds)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The four figures above the board. Medians are in seconds, None where nothing succeeded."""

    running: int
    waiting: int
    failed_today: int
    median_today: float | None
    median_last_week: float | None


@login_required
@role_required(Role.OPS)
def board(request: HttpRequest) -> HttpResponse:
    """The board; a POST acts on the rows that were chosen."""
    if request.method == "POST":
        return many.act(request)
    wanted = Filter.of(request.GET)
    shown = rows(person(request), wanted)
    context = {
        "rows": shown,
        "numbers": numbers(),
        "filter": wanted,
        "statuses": list(_SHOWN),
        "projects": Project.objects.all(),
        "query": request.GET.urlencode(),
        "now": timezone.now().timestamp(),
        "cut": len(shown) == MOST_ROWS,
    }
    return render(request, "deploy/board.html", context)


def rows(user: User, wanted: Filter) -> list[BoardRow]:
    """The rows, most urgent first: five queries at most, whatever their number."""
    now = timezone.now()
    recent = Q(status=Status.FAILED, ended_at__gte=now - FAILED_FOR)
    # A failure that somebody has already answered with a new install needs nobody's eye.
    answered = Q(server__installs__created_at__gt=F("created_at"))
    installs = reading.installs_of(user).filter(Q(status__in=LIVE) | recent)
    found = list(wanted.apply(installs).exclude(Q(status=Status.FAILED) & answered).order_by("pk")[:MOST_ROWS])
    planned, usual, noted = reading.planned_steps(found), reading.usual_times(), _noted(found)
    places = line.places() if any(line.is_in_line(one) for one in found) else {}
    made = [
        _row(
            one, planned.get(one.pk, ()), usual.get(one.image.flavour, NOTHING_USUAL).steps, now,
            places.get(one.pk), noted.get(one.pk),
        )
        for one in found
    ]  # fmt: skip
    return sorted(made, key=lambda row: row.urgency)


def _noted(installs: Iterable[Install]) -> dict[int, Event]:
    """The event that tells more of those that are held or silent than their rows do, by the key; one query, or none."""
    kinds = {one.pk: Kind.STEP_QUIET if one.quiet_since else Kind.HELD for one in installs if _has_more_to_tell(one)}
    if not kinds:
        return {}
    events = Event.objects.filter(install_id__in=kinds, kind__in=set(kinds.values())).order_by("install_id", "seq")
    return {event.install_id: event for event in events if event.kind == kinds[event.install_id]}


def _has_more_to_tell(install: Install) -> bool:
    return install.quiet_since is not None or install.status == Status.HELD


def _row(
    install: Install,
    steps: Sequence[str],
    usual: Mapping[str, float],
    now: datetime,
    place: Place | None,
    noted: Event | None,
) -> BoardRow:
    since = install.step_started_at or install.started_at
    until = install.ended_at or now
    return BoardRow(
        install,
        tuple(cells(install, steps or steps_of(install.image))),
        STEPS[install.step].title if install.step in STEPS else "",
        noted.at if noted and install.status == Status.HELD else (install.queued_at if place else since),
        (until - since).total_seconds() if since else 0.0,
        usual.get(install.step),
        place,
        noted.data.get("reason", "nothing printed") if noted and install.quiet_since else "",
    )


_CURRENT = {
    Status.RUNNING: StepState.RUNNING,
    Status.FAILED: StepState.FAILED,
    Status.CANCELLED: StepState.FAILED,
    Status.SUCCEEDED: StepState.DONE,
}


def cells(install: Install, steps: Sequence[str]) -> list[Cell]:
    """The install's steps as cells: done up to the current one, to do behind it."""
    held = install.status == Status.HELD
    stands = install.hold_before if held else install.step
    at = steps.index(stands) if stands in steps else -1
    current = _CURRENT.get(Status(install.status), StepState.WAITING)
    states = [
        StepState.DONE if place < at else current if place == at else StepState.PENDING for place in range(len(steps))
    ]
    return [
        Cell(STEPS[name].title, state, name == install.hold_before) for name, state in zip(steps, states, strict=True)
    ]


def numbers() -> Numbers:
    """The four figures: two queries."""
    now = timezone.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    counts = Install.objects.aggregate(
        running=Count("pk", filter=Q(status=Status.RUNNING)),
        waiting=Count("pk", filter=Q(status__in=(Status.QUEUED, Status.WAITING, Status.HELD))),
        failed=Count("pk", filter=Q(status=Status.FAILED, ended_at__gte=today)),
    )
    done = Install.objects.filter(status=Status.SUCCEEDED, ended_at__gte=today - timedelta(days=7))
    took = list(done.order_by().values_list("started_at", "ended_at"))
    return Numbers(
        counts["running"],
        counts["waiting"],
        counts["failed"],
        _median(took, lambda ended: ended >= today),
        _median(took, lambda ended: ended < today),
    )


def _median(took: Iterable[tuple[Any, Any]], counts: Any) -> float | None:
    seconds = [(ended - started).total_seconds() for started, ended in took if started and counts(ended)]
    return median(seconds) if seconds else None


def board_parts(user: User, wanted: Filter) -> tuple[list[Part], list[str]]:
    """The board's parts as HTML, and the ids of its rows in the order of urgency."""
    shown = rows(user, wanted)
    figures = Part("board-numbers", render_to_string("deploy/_board_numbers.html", {"numbers": numbers()}))
    made = [Part(row.id, render_to_string("deploy/_board_row.html", {"row": row}), "board-rows") for row in shown]
    return [figures, *made], [row.id for row in shown]

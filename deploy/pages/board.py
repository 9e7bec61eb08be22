"""The ops board: every install that runs, and those that failed within a day."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import Count, F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.access import role_required
from accounts.models import Project, Role, User
from deploy import actions, reading
from deploy.context import is_licensed
from deploy.events import LIVE, Kind, Status, StepState
from deploy.models import Event, Install
from deploy.steps import POINT_OF_NO_RETURN, STEPS, steps_for
from deploy.timeline import NOTHING_USUAL

from . import person
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
    """One step in a row of small cells."""

    title: str
    state: StepState


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One install on the board."""

    install: Install
    cells: tuple[Cell, ...]
    step: str
    since: datetime | None
    seconds: float
    usual: float | None

    @property
    def id(self) -> str:
        """Its element's id."""
        return f"install-{self.install.uuid}"

    @property
    def is_failed(self) -> bool:
        return self.install.status == Status.FAILED

    @property
    def is_slow(self) -> bool:
        """Whether its step takes far longer than usual."""
        if self.usual is None or self.is_failed:
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
        return _act(request)
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
    """The rows, most urgent first: two queries, whatever their number."""
    now = timezone.now()
    recent = Q(status=Status.FAILED, ended_at__gte=now - FAILED_FOR)
    # A failure that somebody has already answered with a new install needs nobody's eye.
    answered = Q(server__installs__created_at__gt=F("created_at"))
    installs = reading.installs_of(user).filter(Q(status__in=LIVE) | recent)
    found = list(wanted.apply(installs).exclude(Q(status=Status.FAILED) & answered).order_by("pk")[:MOST_ROWS])
    planned, usual = reading.planned_steps(found), reading.usual_times()
    made = [_row(one, planned.get(one.pk, ()), usual.get(one.image.flavour, NOTHING_USUAL).steps, now) for one in found]
    return sorted(made, key=lambda row: row.urgency)


def _row(install: Install, steps: Sequence[str], usual: Mapping[str, float], now: datetime) -> BoardRow:
    since = install.step_started_at or install.started_at
    until = install.ended_at or now
    return BoardRow(
        install,
        tuple(cells(install, steps or steps_for(licensed=is_licensed(install.image)))),
        STEPS[install.step].title if install.step in STEPS else "",
        since,
        (until - since).total_seconds() if since else 0.0,
        usual.get(install.step),
    )


_CURRENT = {
    Status.RUNNING: StepState.RUNNING,
    Status.FAILED: StepState.FAILED,
    Status.CANCELLED: StepState.FAILED,
    Status.SUCCEEDED: StepState.DONE,
}


def cells(install: Install, steps: Sequence[str]) -> list[Cell]:
    """The install's steps as cells: done up to the current one, to do behind it."""
    at = steps.index(install.step) if install.step in steps else -1
    current = _CURRENT.get(Status(install.status), StepState.WAITING)
    states = [
        StepState.DONE if place < at else current if place == at else StepState.PENDING for place in range(len(steps))
    ]
    return [Cell(STEPS[name].title, state) for name, state in zip(steps, states, strict=True)]


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


# --- acting on many


@dataclass(frozen=True, slots=True)
class Result:
    """What has come of one row."""

    install: Install
    done: bool
    words: str


def _act(request: HttpRequest) -> HttpResponse:
    """Cancels or retries what was chosen, one by one. Cancelling asks first, and says what each would leave behind."""
    act = request.POST.get("act")
    if act not in ("cancel", "retry"):
        raise Http404
    chosen = _chosen(request)
    if act == "cancel" and not request.POST.get("sure") and chosen:
        touched = _touched(chosen)
        context = {"installs": [(one, one.pk in touched) for one in chosen], "back": request.get_full_path()}
        return render(request, "deploy/board_cancel.html", context)
    results = [_one(act, install, person(request)) for install in chosen]
    outcome = {"results": results, "act": act, "back": request.get_full_path()}
    return render(request, "deploy/board_results.html", outcome)


def _chosen(request: HttpRequest) -> list[Install]:
    """The installs whose boxes were ticked; what is no install is passed over."""
    uuids = []
    for text in request.POST.getlist("install")[:MOST_ROWS]:
        try:
            uuids.append(UUID(text))
        except ValueError:
            continue
    return list(reading.installs_of(request.user).filter(uuid__in=uuids).order_by("server__name"))


def _touched(installs: Iterable[Install]) -> set[int]:
    """The keys of those whose disks may have been touched: one query."""
    begun = Event.objects.filter(install__in=list(installs), kind=Kind.STEP_STARTED, data__step=POINT_OF_NO_RETURN)
    return set(begun.values_list("install_id", flat=True))


def _one(act: str, install: Install, by: User) -> Result:
    try:
        if act == "cancel":
            actions.cancel(install, by)
        else:
            actions.retry(install, by)
    except actions.Refused as refused:
        return Result(install, False, str(refused))
    return Result(install, True, "is being cancelled" if act == "cancel" else "goes on")

"""The workers, for ops: which processes drive installs, and who holds what since when."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import role_required
from accounts.filters import render_list
from accounts.models import Role
from deploy.heartbeat import WorkerProcess
from deploy.models import Install
from deploy.steps import STEPS

MOST_HOLDINGS = 500


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process as the page shows it; `held` is counted from the leases, not what it last said."""

    process: WorkerProcess
    look: str
    held: int


@dataclass(frozen=True, slots=True)
class Holding:
    """An install in somebody's hands; `run_out` since when its lease is none any more."""

    install: Install
    step: str
    is_orphaned: bool
    run_out: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers above the tables."""

    alive: int
    gone: int
    slots: int
    held: int
    run_out: int


@require_safe
@role_required(Role.OPS)
@never_cache
def workers(request: HttpRequest) -> HttpResponse:
    """Processes and what they hold, now; to htmx, which asks every two seconds, the tables alone."""
    now = timezone.now()
    processes = list(WorkerProcess.objects.all())
    holdings = _holdings(processes, now)
    found = _workers(processes, holdings, now)
    context = {
        "workers": found,
        "holdings": holdings,
        "numbers": _figures(found, holdings),
        "now": now.timestamp(),
        "cut": len(holdings) == MOST_HOLDINGS,
    }
    return render_list(request, "deploy/workers.html", "deploy/_workers.html", context)


def _holdings(processes: list[WorkerProcess], now: datetime) -> list[Holding]:
    """Every install that somebody holds: leases that have run out first, then by worker; one query."""
    alive = {process.name for process in processes if not process.is_gone(now)}
    held = Install.objects.filter(lease_token__isnull=False).select_related("server", "project")
    holdings = [_holding(install, alive, now) for install in held.order_by("lease_since")[:MOST_HOLDINGS]]
    return sorted(holdings, key=lambda one: (not one.run_out, one.install.lease_worker))


def _holding(install: Install, alive: set[str], now: datetime) -> Holding:
    until = install.lease_until
    step = STEPS.get(install.step)
    return Holding(
        install,
        step.title if step else install.step,
        install.lease_worker not in alive,
        until if until and until < now else None,
    )


def _workers(processes: list[WorkerProcess], holdings: list[Holding], now: datetime) -> list[Worker]:
    """Those that are gone first: they are what somebody has to look after."""
    held = Counter(holding.install.lease_worker for holding in holdings)
    found = [Worker(process, _look(process, now), held[process.name]) for process in processes]
    return sorted(found, key=lambda worker: (worker.look != "gone", worker.process.name))


def _look(process: WorkerProcess, now: datetime) -> str:
    if process.is_gone(now):
        return "gone"
    return "stopping" if process.stopping else "alive"


def _figures(found: list[Worker], holdings: list[Holding]) -> Figures:
    alive = [worker for worker in found if worker.look != "gone"]
    return Figures(
        alive=len(alive),
        gone=len(found) - len(alive),
        slots=sum(worker.process.slots for worker in alive),
        held=len(holdings),
        run_out=sum(1 for holding in holdings if holding.run_out),
    )

"""What Prometheus reads: how Landfall does, in figures whose cost does not grow with its past.

What stands now (installs, queue, workers, deliveries) is asked of the database at each scrape, through partial indexes.
What has happened (steps, attempts, lost leases) is counted by following the events from a cursor, each process for
itself, from its first scrape on. So every web process tells the same about the whole installation: scrape one of them,
or take the maximum over them, never the sum. Only requests, watchers and log latency are a process's own.
"""

import threading
import time
from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Max, Min, Q, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from . import queue
from .events import LIVE, Kind, Status
from .heartbeat import GONE_AFTER, WorkerProcess
from .models import Event, Install
from .steps import steps_for
from .webhooks.models import Delivery

registry = CollectorRegistry()
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)

BUILD = Info("landfall_build", "Which Landfall this is.", registry=registry)
BUILD.info({"version": settings.LANDFALL_VERSION})
DATABASE = Gauge("landfall_database_up", "Whether the database answered this scrape.", registry=registry)

STEP_SECONDS = Histogram(
    "landfall_step_seconds",
    "How long attempts at a step took; outcome: succeeded, retried, failed.",
    ["step", "outcome"],
    buckets=(0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200),
    registry=registry,
)
ATTEMPTS = Counter("landfall_step_attempts", "Attempts at a step that were begun.", ["step"], registry=registry)
ENDED = Counter("landfall_installs_ended", "Installs that have ended.", ["status"], registry=registry)
LEASE_LOSSES = Counter(
    "landfall_lease_losses", "Installs that a worker took over from one that had vanished.", registry=registry
)
LOG_LATENCY = Histogram(
    "landfall_log_latency_seconds",
    "From a log line's arrival in the database to its way out to a browser that follows it.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
    registry=registry,
)
WATCHERS = Gauge("landfall_watchers", "Open websockets of this process.", ["kind"], registry=registry)
REQUESTS = Histogram(
    "landfall_http_request_seconds",
    "How long this process took to answer.",
    ["view", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=registry,
)

MOST_EVENTS = 20_000
"""Events read by one scrape at most; what is left comes with the next."""
MOST_MISSING = 1000
MISSING_FOR = 60.0
"""Seconds in which a number that was passed over may still turn up: its transaction was slower than the next one's."""
LAST_STEP = steps_for(licensed=False)[-1]


class Follower:
    """Counts what happens by reading each event once, in the order of their keys."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: int | None = None
        self._missing: dict[int, float] = {}

    def catch_up(self) -> None:
        """Counts what has happened since the last call; the first call only remembers where the events end."""
        with self._lock:
            if self._last is None:
                self._last = Event.objects.aggregate(last=Max("pk"))["last"] or 0
                return
            now = time.monotonic()
            for pk, kind, step, seconds, resume_from in self._unread():
                self._pass(pk, now)
                _count(Kind(kind), step, seconds, bool(resume_from))
            self._missing = {pk: since for pk, since in self._missing.items() if now - since < MISSING_FOR}

    def _unread(self) -> Iterator[tuple[int, str, str | None, float | None, str | None]]:
        unread = Event.objects.filter(Q(pk__gt=self._last) | Q(pk__in=list(self._missing))).order_by("pk")
        return iter(unread.values_list("pk", "kind", "data__step", "data__seconds", "data__resume_from")[:MOST_EVENTS])

    def _pass(self, pk: int, now: float) -> None:
        """Moves the cursor on to the key; those between are missing, and asked for again."""
        assert self._last is not None
        if self._missing.pop(pk, None) is None:
            between = range(self._last + 1, pk)[-MOST_MISSING:]
            self._missing |= dict.fromkeys(between, now)
            self._last = pk


def _count(kind: Kind, step: str | None, seconds: float | None, goes_on: bool) -> None:
    if kind is Kind.STEP_STARTED:
        ATTEMPTS.labels(step).inc()
    elif kind is Kind.TAKEN_OVER:
        LEASE_LOSSES.inc()
    elif kind in (Kind.STEP_SUCCEEDED, Kind.STEP_FAILED):
        outcome = "succeeded" if kind is Kind.STEP_SUCCEEDED else "retried" if goes_on else "failed"
        if seconds is not None:
            STEP_SECONDS.labels(step, outcome).observe(seconds)
    if status := _end(kind, step, goes_on):
        ENDED.labels(status.value).inc()


def _end(kind: Kind, step: str | None, goes_on: bool) -> Status | None:
    """How an install has ended by such an event; None when it has not."""
    if kind is Kind.STEP_SUCCEEDED and step == LAST_STEP:
        return Status.SUCCEEDED
    if kind is Kind.FORCE_RESET or (kind is Kind.STEP_FAILED and not goes_on):
        return Status.FAILED
    return Status.CANCELLED if kind is Kind.CANCELLED else None


class Standing(Collector):
    """How things stand now, asked of the database: five queries."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            found = list(self._ask(timezone.now()))
        except DatabaseError:
            DATABASE.set(0)
            return
        DATABASE.set(1)
        yield from found

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is asked only to be registered."""
        return []

    def _ask(self, now: datetime) -> Iterator[GaugeMetricFamily]:
        yield from _installs()
        yield from _queue(now)
        yield from _workers(now)
        yield from _deliveries(now)


def _installs() -> Iterator[GaugeMetricFamily]:
    live = Install.objects.filter(status__in=LIVE).order_by()
    counts = live.aggregate(
        in_line=Count("pk", Q(status=Status.QUEUED, admitted_at=None)),
        **{status.value: Count("pk", Q(status=status)) for status in LIVE},
    )
    family = GaugeMetricFamily("landfall_installs", "Installs that have not ended, by status.", labels=["status"])
    for status in LIVE:
        family.add_metric([status.value], counts[status.value])
    yield family
    yield _gauge("landfall_installs_in_line", "Installs that wait for a place under a limit.", counts["in_line"])


def _queue(now: datetime) -> Iterator[GaugeMetricFamily]:
    due = queue.due(now).order_by().aggregate(count=Count("pk"), oldest=Min("wake_at"))
    yield _gauge("landfall_queue_due", "Installs that somebody should look at now, and nobody does.", due["count"])
    yield _gauge("landfall_queue_oldest_seconds", "How long the oldest of them has been due.", _age(due["oldest"], now))


def _workers(now: datetime) -> Iterator[GaugeMetricFamily]:
    alive = Q(seen_at__range=(now - GONE_AFTER, now + GONE_AFTER))
    found = WorkerProcess.objects.order_by().aggregate(
        alive=Count("pk", alive), gone=Count("pk", ~alive), slots=Sum("slots", filter=alive)
    )
    family = GaugeMetricFamily("landfall_workers", "Worker processes; gone: not stopped in order.", labels=["state"])
    family.add_metric(["alive"], found["alive"])
    family.add_metric(["gone"], found["gone"])
    yield family
    yield _gauge("landfall_worker_slots", "Installs that the living workers can drive at once.", found["slots"] or 0)


def _deliveries(now: datetime) -> Iterator[GaugeMetricFamily]:
    # those of a webhook that is switched off wait for nothing
    waiting = Delivery.objects.filter(next_at__isnull=False, webhook__active=True).order_by()
    pending = waiting.aggregate(count=Count("pk"), oldest=Min("created_at"))
    given_up = Delivery.objects.filter(given_up_at__isnull=False).count()
    family = GaugeMetricFamily("landfall_deliveries", "Webhook deliveries that did not arrive (yet).", labels=["state"])
    family.add_metric(["pending"], pending["count"])
    family.add_metric(["given-up"], given_up)
    yield family
    age = _age(pending["oldest"], now)
    yield _gauge("landfall_deliveries_oldest_seconds", "How old the oldest of those that wait is.", age)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _age(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0) if since else 0.0


registry.register(Standing())
follower = Follower()


def scrape(accept: str) -> tuple[bytes, str]:
    """Everything, in the format that the scraper prefers, and that format's content type. Six queries."""
    try:
        follower.catch_up()
    except DatabaseError:
        DATABASE.set(0)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type

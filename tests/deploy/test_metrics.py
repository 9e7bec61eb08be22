"""What Prometheus reads: that it can read it, that it is true, what it costs, and who may."""

import ipaddress
import re
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from deploy import journal, metrics
from deploy.events import Kind
from deploy.heartbeat import Heartbeat
from deploy.metrics import Follower
from deploy.models import Event, Install
from deploy.webhooks.models import Delivery
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy.histories import FAILURE, command, feed, installed, running
from tests.deploy.test_consumers import Page, of, watch
from tests.deploy.test_webhooks import make_webhook, something
from tests.pages import browser

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _a_process_that_has_just_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is rolled back gives the keys of its events back, as no database does in earnest."""
    monkeypatch.setattr(metrics, "follower", Follower())


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(client: Client | None = None) -> Samples:
    """Every sample by its name and labels, read with Prometheus' own parser."""
    response = (client or Client()).get("/metrics")
    assert response.status_code == 200
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def gained(before: Samples, name: str, **labels: str) -> float:
    """How much a counter has grown since then."""
    return value(scrape(), name, **labels) - value(before, name, **labels)


def append(install: Install, kind: Kind, **data: Any) -> None:
    journal.append(install, kind, data)


def begun(step: str = "wipe") -> Install:
    """An install with two steps, in the first of them."""
    install = make_install()
    append(install, Kind.PLANNED, steps=[step, "verify"])
    append(install, Kind.STEP_STARTED, step=step, attempt=1)
    return install


def test_installs_are_counted_by_status() -> None:
    running("copy")
    running("wipe")
    make_install()
    installed()
    samples = scrape()
    found = {status: value(samples, "landfall_installs", status=status) for status in ("running", "queued", "held")}
    assert found == {"running": 2, "queued": 1, "held": 0}


def test_the_queue_tells_its_length_and_the_age_of_the_oldest() -> None:
    now = timezone.now()
    first, second, asleep, held = (make_install() for _ in range(4))
    Install.objects.filter(pk=first.pk).update(wake_at=now - timedelta(seconds=90), admitted_at=now)
    Install.objects.filter(pk=second.pk).update(wake_at=now - timedelta(seconds=30), admitted_at=now)
    Install.objects.filter(pk=asleep.pk).update(wake_at=now + timedelta(minutes=5), admitted_at=now)
    lease = {"lease_token": uuid.uuid4(), "lease_until": now + timedelta(seconds=20), "lease_worker": "w"}
    Install.objects.filter(pk=held.pk).update(wake_at=now, admitted_at=now, **lease)
    samples = scrape()
    assert value(samples, "landfall_queue_due") == 2
    assert 89 < value(samples, "landfall_queue_oldest_seconds") < 95
    Install.objects.filter(pk=second.pk).update(admitted_at=None)
    samples = scrape()
    assert value(samples, "landfall_queue_due") == 1
    assert value(samples, "landfall_installs_in_line") == 1


def test_what_a_step_took_is_counted_by_step_and_outcome() -> None:
    before = scrape()
    install = begun()
    again = {"resume_from": "wipe", "retry_at": timezone.now().isoformat()}
    failure = FAILURE.to_json()
    append(install, Kind.STEP_FAILED, step="wipe", attempt=1, failure=failure, seconds=4.0, **again)
    append(install, Kind.STEP_STARTED, step="wipe", attempt=2)
    append(install, Kind.STEP_SUCCEEDED, step="wipe", attempt=2, seconds=7.0)
    append(install, Kind.STEP_STARTED, step="verify", attempt=1)
    append(install, Kind.STEP_FAILED, step="verify", attempt=1, failure=failure, seconds=70.5)
    assert gained(before, "landfall_step_seconds_sum", step="wipe", outcome="succeeded") == 7
    assert gained(before, "landfall_step_seconds_bucket", step="wipe", outcome="succeeded", le="5.0") == 0
    assert gained(before, "landfall_step_seconds_bucket", step="wipe", outcome="succeeded", le="10.0") == 1
    assert gained(before, "landfall_step_seconds_count", step="wipe", outcome="retried") == 1
    assert gained(before, "landfall_step_seconds_sum", step="verify", outcome="failed") == 70.5
    assert gained(before, "landfall_step_attempts_total", step="wipe") == 2
    assert gained(before, "landfall_installs_ended_total", status="failed") == 1


def test_ends_of_every_kind_are_counted() -> None:
    before = scrape()
    good = begun("copy")
    append(good, Kind.STEP_SUCCEEDED, step="copy", attempt=1, seconds=1.0)
    append(good, Kind.STEP_STARTED, step="verify", attempt=1)
    append(good, Kind.STEP_SUCCEEDED, step="verify", attempt=1, seconds=1.0)
    stopped = make_install()
    append(stopped, Kind.CANCEL_REQUESTED)
    append(stopped, Kind.CANCELLED)
    reset = make_install()
    append(reset, Kind.FORCE_RESET, by="otto", reason="hangs", failure=FAILURE.to_json())
    for status in ("succeeded", "cancelled", "failed"):
        assert gained(before, "landfall_installs_ended_total", status=status) == 1, status


def test_a_lost_lease_is_counted() -> None:
    before = scrape()
    append(begun(), Kind.TAKEN_OVER, **{"from": "ctl-1-42", "by": "ctl-2-7"})
    assert gained(before, "landfall_lease_losses_total") == 1
    assert gained(before, "landfall_lease_losses_total") == 1  # once, however often it is read


def test_every_event_is_counted_once_by_each_process() -> None:
    """What happened before the first scrape is none of a process's business: Prometheus takes its counts as a start."""
    append(begun(), Kind.TAKEN_OVER)
    early, late = Follower(), Follower()
    start = value(scrape(), "landfall_lease_losses_total")
    early.catch_up()
    append(begun(), Kind.TAKEN_OVER)
    late.catch_up()
    early.catch_up()
    late.catch_up()
    early.catch_up()
    samples = {sample.name: sample.value for family in metrics.LEASE_LOSSES.collect() for sample in family.samples}
    assert samples["landfall_lease_losses_total"] == start + 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_an_event_whose_transaction_ends_after_that_of_a_later_one_is_not_missed() -> None:
    """PostgreSQL gives numbers at the INSERT and shows rows at the COMMIT: the two orders differ."""
    slow, fast = begun(), begun()
    before = scrape()
    inserted, go_on = threading.Event(), threading.Event()

    def write_slowly() -> None:
        from django.db import transaction

        try:
            with transaction.atomic():
                append(slow, Kind.TAKEN_OVER)
                inserted.set()
                go_on.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=write_slowly)
    thread.start()
    inserted.wait(10)
    append(fast, Kind.TAKEN_OVER)
    assert gained(before, "landfall_lease_losses_total") == 1
    go_on.set()
    thread.join()
    assert gained(before, "landfall_lease_losses_total") == 2


def test_a_number_that_never_comes_is_not_asked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    install = begun()
    follower = Follower()
    follower.catch_up()
    last = follower._last
    assert last
    # as after a rollback: a number was given to nobody
    row = Event.objects.filter(install=install).latest("pk")
    Event.objects.create(
        pk=last + 5, install=install, seq=99, kind=Kind.TAKEN_OVER, at=row.at, data={}, digest=row.digest
    )
    follower.catch_up()
    assert set(follower._missing) == {last + 1, last + 2, last + 3, last + 4}
    monkeypatch.setattr(metrics, "MISSING_FOR", 0.0)
    follower.catch_up()
    assert not follower._missing


def test_workers_and_their_slots() -> None:
    now = timezone.now()
    Heartbeat("ctl-1-1", slots=20).beat(0, now)
    Heartbeat("ctl-2-1", slots=10).beat(0, now)
    Heartbeat("ctl-3-1", slots=5).beat(0, now - timedelta(minutes=2))
    samples = scrape()
    assert value(samples, "landfall_workers", state="alive") == 2
    assert value(samples, "landfall_workers", state="gone") == 1
    assert value(samples, "landfall_worker_slots") == 30


def test_deliveries_that_wait_and_those_that_were_given_up() -> None:
    webhook = make_webhook(make_project())
    something(webhook)
    lost, done = something(webhook), something(webhook)
    Delivery.objects.filter(pk=lost.pk).update(next_at=None, given_up_at=timezone.now())
    Delivery.objects.filter(pk=done.pk).update(next_at=None, delivered_at=timezone.now())
    samples = scrape()
    assert value(samples, "landfall_deliveries", state="pending") == 1
    assert value(samples, "landfall_deliveries", state="given-up") == 1


def test_requests_are_measured_by_the_name_of_their_view() -> None:
    client = browser(make_user())
    before = scrape()
    server = make_server()
    client.get("/")
    client.get(f"/servers/{server.name}/")
    client.get("/no/such/page")
    assert gained(before, "landfall_http_request_seconds_count", view="servers", method="GET", status="200") == 1
    assert gained(before, "landfall_http_request_seconds_count", view="server", method="GET", status="404") == 1
    assert gained(before, "landfall_http_request_seconds_count", view="none", method="GET", status="404") == 1
    assert server.name not in Client().get("/metrics").content.decode()


@pytest.mark.django_db(transaction=True)
async def test_the_way_of_a_log_line_to_its_watcher_is_measured_from_when_he_came() -> None:
    install, _ = await sync_to_async(running)("copy")
    await sync_to_async(feed)(install, command(1, "old", ["from before"]))
    user = await sync_to_async(make_user)(projects=[await sync_to_async(lambda: install.project)()])
    before = await sync_to_async(scrape)()
    socket = watch(user, of(install))
    await socket.connect()
    page = Page(socket)
    await page.until(lambda page: "from before" in page.lines)
    # gained, because a test before this one may have left a connection that nobody has closed
    assert await sync_to_async(gained)(before, "landfall_watchers", kind="InstallWatcher") == 1
    assert await sync_to_async(gained)(before, "landfall_log_latency_seconds_count") == 0
    await sync_to_async(feed)(install, command(2, "new", ["just written"]))
    await page.until(lambda page: "just written" in page.lines)
    assert await sync_to_async(gained)(before, "landfall_log_latency_seconds_count") == 1
    assert await sync_to_async(gained)(before, "landfall_log_latency_seconds_sum") < 5
    await socket.disconnect()
    assert await sync_to_async(gained)(before, "landfall_watchers", kind="InstallWatcher") == 0


def test_both_formats_can_be_read_by_prometheus_own_parsers() -> None:
    installed()
    plain = Client().get("/metrics")
    assert plain["Content-Type"].startswith("text/plain; version=")
    assert list(text_string_to_metric_families(plain.content.decode()))
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    open_metrics = Client().get("/metrics", headers=accept)
    assert open_metrics["Content-Type"].startswith("application/openmetrics-text")
    assert list(openmetrics_parser.text_string_to_metric_families(open_metrics.content.decode()))


def scrape_queries() -> list[str]:
    scrape()
    with CaptureQueriesContext(connection) as found:
        scrape()
    return [query["sql"] for query in found]


def test_a_scrape_costs_the_same_few_queries_whatever_has_happened() -> None:
    few = len(scrape_queries())
    for _ in range(5):
        installed()
        running("copy")
    assert len(scrape_queries()) == few <= 7


def test_no_query_of_a_scrape_reads_a_table_that_only_grows() -> None:
    """Each of them finds its rows by an index, so that a past of a million installs costs what one of ten does."""
    installed()
    grows = re.compile(r"deploy_(event|install|delivery|logchunk)\b")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    for sql in scrape_queries():
        if grows.search(sql):
            with connection.cursor() as cursor:
                cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + sql)
                plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
            assert not re.search(r"SCAN deploy_\w+$|Seq Scan", plan, re.MULTILINE), f"{sql}\n{plan}"


# --- who may read them


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.8.8.8"])
def test_this_machine_may_read_them(address: str) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "", "nonsense"])
def test_for_others_there_is_nothing(address: str) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 404


def test_a_network_that_is_named_may_read_them(settings: Settings) -> None:
    settings.LANDFALL_METRICS_FROM = (ipaddress.ip_network("10.9.0.0/16"),)
    assert Client(REMOTE_ADDR="10.9.1.1").get("/metrics").status_code == 200
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics").status_code == 404


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_what_comes_through_a_proxy_is_not_this_machine(header: str) -> None:
    """A proxy on the same machine makes everybody look like it, and anybody can write 127.0.0.1 into the header."""
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics", headers={header: "127.0.0.1"}).status_code == 404


def test_who_has_the_token_may_read_them_from_anywhere(settings: Settings) -> None:
    settings.LANDFALL_METRICS_TOKEN = "a long token"
    far = Client(REMOTE_ADDR="192.0.2.1")
    assert far.get("/metrics", headers={"authorization": "Bearer a long token"}).status_code == 200
    assert far.get("/metrics", headers={"authorization": "Bearer a wrong token"}).status_code == 404
    assert far.get("/metrics", headers={"authorization": "Bearer ключ"}).status_code == 404
    assert far.get("/metrics").status_code == 404


def test_without_a_token_an_empty_one_opens_nothing() -> None:
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics", headers={"authorization": "Bearer "}).status_code == 404

"""Alive and ready: what load balancers and supervisors are told, also while the database is away or hangs."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from deploy.health import Readiness
from deploy.heartbeat import GONE_AFTER, Heartbeat, WorkerProcess
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def test_a_process_is_alive_whatever_the_database_does() -> None:
    """pytest-django lets no test reach the database that does not say so."""
    response = Client().get("/healthz")
    assert (response.status_code, response.content) == (200, b"alive\n")
    assert response["Cache-Control"] == "no-store"


@pytest.mark.django_db(transaction=True)
def test_it_is_ready_when_the_database_answers_and_is_migrated() -> None:
    response = Client().get("/readyz")
    assert response.status_code == 200
    assert "up to date" in response.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_whoever_asks_by_an_ip_address_is_answered(path: str, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["landfall.example"]
    assert Client().get(path, headers={"host": "10.1.2.3:8600"}).status_code == 200
    assert Client().get("/login/", headers={"host": "10.1.2.3:8600"}).status_code == 400
    assert Client().post(path).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_it_is_not_ready_before_the_tables_are_up_to_date() -> None:
    readiness, recorder = Readiness(), MigrationRecorder(connection)
    [newest] = MigrationLoader(connection).graph.leaf_nodes("deploy")
    recorder.record_unapplied(*newest)
    try:
        report = readiness.report()
        assert not report.ready
        assert "manage.py migrate" in report.words
    finally:
        recorder.record_applied(*newest)
    assert readiness.report().ready


@contextmanager
def serving(database: str, folder: Path) -> Iterator[str]:
    """A server process on this database; its URL once it listens."""
    port = free_port()
    environment = os.environ | {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "config.settings"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--no-worker", f"--port={port}"],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def ask(url: str) -> tuple[int, str, float]:
    """Status, words, and how many seconds it took."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode(), time.monotonic() - began
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), time.monotonic() - began


def test_a_database_that_hangs_makes_it_not_ready_in_time_and_leaves_it_alive(tmp_path: Path) -> None:
    """A port that takes connections and never says a word, as a database does whose machine is frozen."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        database = f"postgres://landfall@127.0.0.1:{silent.getsockname()[1]}/landfall"
        with serving(database, tmp_path) as url:
            assert ask(f"{url}/healthz")[:2] == (200, "alive\n")
            for _ in range(3):
                status, words, seconds = ask(f"{url}/readyz")
                assert (status, seconds < 4) == (503, True), (words, seconds)
                assert "database" in words
            assert ask(f"{url}/healthz")[2] < 1


def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/nowhere/landfall.sqlite3", tmp_path) as url:
        status, words, _ = ask(f"{url}/readyz")
        assert (status, words) == (503, "The database does not answer: OperationalError.\n")
        assert ask(f"{url}/metrics")[1].count("landfall_database_up 0.0") == 1


# --- workers


@pytest.mark.django_db
def test_a_worker_shows_that_it_lives_and_takes_its_row_along_when_it_stops() -> None:
    now = timezone.now()
    heartbeat = Heartbeat("ctl-1-42", slots=20)
    heartbeat.beat(3, now)
    heartbeat.beat(4, now + timedelta(seconds=5), stopping=True)
    row = WorkerProcess.objects.get()
    assert (row.name, row.slots, row.held, row.pid, row.stopping) == ("ctl-1-42", 20, 4, os.getpid(), True)
    assert (row.started_at, row.seen_at) == (now, now + timedelta(seconds=5))
    assert not row.is_gone(now + timedelta(seconds=20))
    assert row.is_gone(now + timedelta(seconds=5) + GONE_AFTER + timedelta(seconds=1))
    heartbeat.stop()
    assert not WorkerProcess.objects.exists()


@pytest.mark.django_db
def test_a_heartbeat_costs_one_query_and_writes_its_row_again_when_it_is_lost() -> None:
    heartbeat = Heartbeat("ctl-1-42", slots=20)
    heartbeat.beat(0, timezone.now())
    with CaptureQueriesContext(connection) as queries:
        heartbeat.beat(1, timezone.now())
    assert len(queries) == 1
    WorkerProcess.objects.all().delete()
    heartbeat.beat(2, timezone.now())
    assert WorkerProcess.objects.get().held == 2


@pytest.mark.django_db
def test_one_that_died_is_shown_for_a_day_or_until_its_successor_has_its_name() -> None:
    now = timezone.now()
    for name in ("ctl-1-42", "ctl-2-7"):
        Heartbeat(name, slots=1).beat(0, now - timedelta(hours=1))
    Heartbeat("ctl-3-9", slots=1).beat(0, now - timedelta(hours=25))
    Heartbeat("ctl-1-42", slots=1).beat(0, now)
    assert [row.name for row in WorkerProcess.objects.all()] == ["ctl-1-42", "ctl-2-7"]


@pytest.mark.django_db
def test_a_supervisor_learns_by_a_command_whether_the_worker_on_this_host_lives() -> None:
    with pytest.raises(CommandError, match="No worker"):
        call_command("alive")
    heartbeat = Heartbeat("ctl-1-42", slots=1)
    heartbeat.beat(0, timezone.now() - timedelta(minutes=1))
    with pytest.raises(CommandError, match="No worker"):
        call_command("alive")
    heartbeat.beat(0, timezone.now())
    call_command("alive")

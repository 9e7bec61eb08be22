"""The workers' page: which processes live, who holds what since when, and who may see it."""

import re
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Role
from deploy.heartbeat import Heartbeat
from deploy.models import Install
from tests.builders import make_server, make_user
from tests.deploy.histories import running
from tests.pages import browser, forbidden_parts, queries, text

pytestmark = pytest.mark.django_db


def page() -> str:
    """The page as ops get it, its tags taken out."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text(browser(make_user(Role.OPS)), "/workers/")))


def held(worker: str, *, since: float = 60, lease: float = 15, step: str = "copy", name: str = "") -> Install:
    """An install in a worker's hands, for so many seconds; its lease runs for so many more."""
    now = timezone.now()
    install, _ = running(step, server=make_server(name=name) if name else None)
    Install.objects.filter(pk=install.pk).update(
        lease_worker=worker, lease_token=uuid.uuid4(), lease_since=now - timedelta(seconds=since),
        lease_until=now + timedelta(seconds=lease), step_started_at=now - timedelta(seconds=since + 10),
    )  # fmt: skip
    return install


def alive(name: str, slots: int = 20, ago: float = 1) -> None:
    Heartbeat(name, slots).beat(0, timezone.now() - timedelta(seconds=ago))


def test_it_says_who_lives_with_how_many_slots_and_how_many_are_used() -> None:
    alive("ctl-1-42")
    alive("ctl-2-7", slots=10)
    held("ctl-1-42")
    held("ctl-1-42")
    words = page()
    assert "At work 2" in words
    assert "In hand 2 of 30 slots" in words
    assert re.search(r"ctl-1-42 .*? at work .*? 2 of 20", words)
    assert re.search(r"ctl-2-7 .*? at work .*? 0 of 10", words)


def test_it_says_who_holds_what_in_which_step_since_when() -> None:
    alive("ctl-1-42")
    held("ctl-1-42", since=200, step="bootable", name="web-14")
    words = page()
    assert re.search(r"web-14 Project \d+ Make it bootable 3:3\d ctl-1-42 3:2\d runs out in 0:1\d", words)
    assert "Leases run out 0" in words


def test_a_worker_that_is_silent_is_gone_and_stands_first() -> None:
    alive("ctl-1-42")
    alive("ctl-2-7", ago=130)
    words = page()
    assert "Gone 1" in words
    assert words.index("ctl-2-7") < words.index("ctl-1-42")
    assert re.search(r"ctl-2-7 .*? gone 2:1\d ago", words)


def test_a_lease_that_has_run_out_is_marked_and_stands_first() -> None:
    alive("ctl-1-42")
    held("ctl-1-42", name="web-1")
    held("ctl-2-7", lease=-30, name="web-2")
    words = page()
    assert "Leases run out 1" in words
    assert words.index("web-2") < words.index("web-1")
    assert re.search(r"web-2 .*? ctl-2-7 gone .*? ran out 0:3\d ago", words)


def test_a_worker_that_is_being_stopped_says_so() -> None:
    Heartbeat("ctl-1-42", 20).beat(1, timezone.now(), stopping=True)
    assert "stopping" in page()


def test_where_nothing_runs_it_says_what_to_do() -> None:
    words = page()
    assert "No worker has shown itself" in words
    assert "manage.py worker" in words
    assert "Nobody holds anything" in words


def test_htmx_gets_the_tables_alone_and_asks_again() -> None:
    client = browser(make_user(Role.OPS))
    whole = client.get("/workers/").content.decode()
    part = client.get("/workers/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" in whole
    assert "<html" not in part
    for html in (whole, part):
        assert 'hx-get="/workers/" hx-trigger="every 2s"' in html


def test_ops_and_admins_see_it_and_for_others_it_is_not_there() -> None:
    for role in (Role.OPS, Role.ADMIN):
        assert browser(make_user(role)).get("/workers/").status_code == 200
        assert 'href="/workers/"' in text(browser(make_user(role)), "/board/")
    assert browser(make_user()).get("/workers/").status_code == 404
    assert browser().get("/workers/").status_code == 302
    assert browser(make_user(Role.OPS)).post("/workers/").status_code == 405


def test_the_number_of_queries_is_constant() -> None:
    client = browser(make_user(Role.OPS))
    alive("ctl-1-42")
    held("ctl-1-42")
    few = queries(client, "/workers/")
    for number in range(4):
        alive(f"ctl-{number}-1")
        held(f"ctl-{number}-1")
    assert queries(client, "/workers/") == few <= 5


def test_the_content_security_policy_has_nothing_to_refuse() -> None:
    alive("ctl-1-42")
    held("ctl-1-42")
    assert forbidden_parts(text(browser(make_user(Role.OPS)), "/workers/")) == []

"""Web and workers as processes of their own: woken by hints, stopped with grace, patient with a database."""

import json
import signal
import time
from collections.abc import Callable

import pytest

from lab.simulation import Remote
from tests.builders import PASSWORD
from tests.packaging.browser import HTML, Visitor
from tests.packaging.conftest import Hosts

pytestmark = pytest.mark.daemons

WITHIN_SECONDS = 20
"""In which a process is gone that was told to end, on a machine with much else to do."""


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_hints_alone_carry_an_install_through_two_processes_and_its_log_to_the_page(hosts: Hosts) -> None:
    hosts.set(LANDFALL_POLL="300")  # whoever misses a hint waits longer than this test
    hosts.web()
    hosts.worker(4)
    hosts.simulation("--servers", "1")
    wait_for(lambda: "slots" in hosts.said("worker"))
    (install,) = hosts.request(0, 1)
    visitor = Visitor(hosts.port)
    visitor.log_in("otto", PASSWORD)
    lines = 0
    with visitor.websocket(f"/ws/installs/{install}/?after=0&seq=0") as page:
        while message := page.hear():
            for entry in message.get("log", []):
                lines += entry["html"].count("log-text")
    assert hosts.status(install) == "succeeded"
    assert lines > 50


def begun_to_copy(hosts: Hosts, install: str) -> bool:
    found = hosts.query("SELECT step FROM deploy_install WHERE uuid = %s AND status = 'running'", install)
    return found == [("copy",)]


def copies(remote: Remote) -> int:
    """How often the first server has begun to copy."""
    return sum(job["step"] == "copy" for job in remote.records()[0]["jobs"])


def test_a_worker_that_is_told_to_end_hands_over_what_it_drives(hosts: Hosts) -> None:
    hosts.web()
    first = hosts.worker(4, "first")
    remote = hosts.simulation("--servers", "1", "--slower", "6")
    (install,) = hosts.request(0, 1)
    wait_for(lambda: begun_to_copy(hosts, install))
    second = hosts.worker(4, "second")
    wait_for(lambda: "slots" in hosts.said("second"))
    first.send_signal(signal.SIGTERM)
    assert first.wait(WITHIN_SECONDS) == 0
    wait_for(lambda: hosts.query("SELECT 1 FROM deploy_install WHERE lease_worker LIKE %s", f"%-{second.pid}"))
    wait_for(lambda: hosts.status(install) == "succeeded")
    kinds = hosts.kinds(install)
    assert "taken_over" not in kinds
    assert "Traceback" not in hosts.said("first")
    assert copies(remote) == 1


def test_web_and_worker_in_one_process_end_as_gracefully(hosts: Hosts) -> None:
    both = hosts.web("--slots", "4")
    hosts.simulation("--servers", "1", "--slower", "6")
    (install,) = hosts.request(0, 1)
    wait_for(lambda: begun_to_copy(hosts, install))
    both.send_signal(signal.SIGTERM)
    assert both.wait(WITHIN_SECONDS) == 0
    assert hosts.query("SELECT lease_token FROM deploy_install") == [(None,)]
    hosts.web("--slots", "4")
    wait_for(lambda: hosts.status(install) == "succeeded")
    assert "taken_over" not in hosts.kinds(install)


def test_a_second_web_process_at_the_same_port_says_so_and_fails(hosts: Hosts) -> None:
    hosts.web()
    second = hosts.spawn("second", "manage.py", "serve", "--no-worker", "--port", str(hosts.port))
    assert second.wait(30) == 1
    assert "cannot be listened on" in hosts.said("second")


def test_while_the_database_is_away_everybody_is_told_to_come_back_and_nothing_is_lost(hosts: Hosts) -> None:
    hosts.web()
    worker = hosts.worker(4)
    remote = hosts.simulation("--servers", "1", "--slower", "3")
    (install,) = hosts.request(0, 1)
    visitor = Visitor(hosts.port)
    visitor.log_in("otto", PASSWORD)
    wait_for(lambda: begun_to_copy(hosts, install))
    address = f"/ws/installs/{install}/?after=0&seq=0"
    watching = visitor.websocket(address)
    assert watching.hear()
    hosts.cluster.stop()
    try:
        while watching.hear():
            pass
        with pytest.raises((AssertionError, OSError)):  # refused, or not answered in daphne's 5 s: the page tries again
            visitor.websocket(address)
        answer, page = visitor.ask("GET", "/", headers=HTML)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert b"The database is away" in page
        for method, path in (("POST", "/machine/ready"), ("POST", "/machine/phone-home"), ("GET", "/machine/key"),
                             ("GET", "/boot/52:54:fe:00:00:00")):  # fmt: skip
            answer, sentence = visitor.ask(method, path, b"{}", {"Authorization": "Bearer x"})
            assert (answer.status, answer.headers["Content-Type"]) == (503, "text/plain; charset=utf-8"), path
            assert answer.headers["Retry-After"] == "5"
            assert b"ask again" in sentence
    finally:
        hosts.cluster.start()
    wait_for(lambda: visitor.ask("GET", "/")[0].status == 200)
    with visitor.websocket(address) as watching:
        assert watching.hear()
    wait_for(lambda: hosts.status(install) == "succeeded")
    assert worker.poll() is None
    assert "Traceback" not in hosts.said("web")
    assert "Traceback" not in hosts.said("worker")
    assert copies(remote) == 1


def test_a_call_that_found_no_database_is_taken_when_it_comes_again(hosts: Hosts) -> None:
    hosts.web()
    caller = Visitor(hosts.port)
    headers = {"Authorization": f"Bearer {hosts.rescue_token()}", "Content-Type": "application/json"}
    body = json.dumps({"host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKp"], "boot_id": "b", "facts": {}})

    def call() -> int:
        return caller.ask("POST", "/machine/ready", body.encode(), headers)[0].status

    hosts.cluster.stop()
    try:
        assert call() == 503
        time.sleep(10)
        assert call() == 503
    finally:
        hosts.cluster.start()
    time.sleep(3)  # the pool's longest pause
    assert call() == 204
    assert call() == 410
    assert hosts.query("SELECT count(*) FROM deploy_event WHERE kind = 'rescue_ready'") == [(1,)]

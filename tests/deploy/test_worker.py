"""A worker in earnest: claims what is due, waits without holding anything, lets go when it is told to."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Role
from accounts.secret import Secret
from deploy import actions, journal, queue, steps
from deploy import worker as workers
from deploy.control import Line, StepControl
from deploy.events import Kind, Status
from deploy.leased import Leased
from deploy.models import Install
from deploy.worker import Worker
from metadata import tokens
from metadata.models import Boot, Purpose
from metadata.signals import machine_called
from tests.builders import make_install, make_server, make_user
from tests.deploy.histories import running
from tests.servers.bad_bmc import PASSWORD, USER
from tests.servers.bad_bmc import running as running_bmc

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(slots=4, name="the worker")

    def run_and_close() -> None:
        worker.run()
        connection.close()

    thread = threading.Thread(target=run_and_close)
    thread.start()
    yield worker
    worker.stop()
    thread.join()


def by_hand() -> Install:
    """An install of a server without a BMC: nobody is switched off by a test."""
    return make_install(make_server(power_driver="manual"))


def waiting(install: Install) -> bool:
    install.refresh_from_db()
    return install.status == Status.WAITING and install.lease_token is None


def test_an_install_waits_for_its_rescue_system_and_holds_nothing(worker: Worker) -> None:
    install = by_hand()
    wait_for(lambda: waiting(install))
    state = install.state()
    assert state.step == "rescue"
    assert "by hand" in state.of("rescue").waiting_for
    boot = Boot.objects.get(server=install.server)
    assert (boot.target, boot.install) == ("rescue", install.uuid)
    assert boot.public_key == install.public_key
    assert boot.public_key.startswith("ssh-ed25519 ")


def test_the_call_of_the_rescue_system_ends_the_wait_at_once(worker: Worker) -> None:
    install = by_hand()
    wait_for(lambda: waiting(install))
    payload = {"host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKp"], "boot_id": "b", "facts": {}}
    machine_called.send(None, install=install.uuid, server=install.server, call="ready", payload=payload)
    wait_for(lambda: install.state().is_done("rescue"))
    assert "facts" not in install.events.get(kind=Kind.RESCUE_READY).data


def test_a_rescue_system_that_never_calls_fails_with_blame_hardware_and_a_fix(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(steps.STEPS["rescue"], timeout=timedelta(seconds=8), retries=0)
    monkeypatch.setitem(steps.STEPS, "rescue", impatient)
    with running_bmc() as bmc:
        account = {"bmc_url": f"http://127.0.0.1:{bmc.port}", "bmc_system": "1", "bmc_user": USER}
        install = make_install(make_server(**account, bmc_password=Secret(PASSWORD)))
        wait_for(lambda: not Install.objects.get(pk=install.pk).is_live, 60)
    failure = Install.objects.get(pk=install.pk).last_failure
    assert failure
    assert (failure.code, failure.blame.value) == ("rescue-silent", "hardware")
    assert "console" in failure.fix
    restarts = install.events.filter(kind=Kind.POWER_CYCLING).order_by("seq")
    assert [bool(event.data.get("back")) for event in restarts] == [False, False, True]
    assert Boot.objects.get(server=install.server).target == "disk"


def test_a_worker_that_is_behind_with_what_it_has_takes_no_more_until_it_has_caught_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_look = threading.Event()
    may_look.set()
    look = queue.notices

    def slowly(leases: Iterable[queue.Lease]) -> dict[UUID, queue.Notice]:
        may_look.wait(60)
        return look(leases)

    monkeypatch.setattr(queue, "notices", slowly)
    monkeypatch.setattr(workers, "BEHIND", workers.LOOK_EVERY + 0.5)
    with running_bmc(hangs=10) as bmc:
        make_install(make_server(bmc_url=f"http://127.0.0.1:{bmc.port}"))
        wait_for(lambda: Install.objects.exclude(lease_token=None).exists())
        may_look.clear()
        time.sleep(workers.BEHIND + workers.LOOK_EVERY)
        late = by_hand()
        time.sleep(2 * workers.POLL)
        late.refresh_from_db()
        assert late.status == Status.QUEUED and late.lease_token is None
        may_look.set()
        wait_for(lambda: waiting(late))
        bmc.hangs = 0


def test_a_rescue_system_that_calls_for_an_install_that_has_ended_changes_nothing(worker: Worker) -> None:
    install = by_hand()
    wait_for(lambda: waiting(install))
    Install.objects.filter(pk=install.pk).update(status=Status.CANCELLED)
    before = install.events.count()
    payload = {"host_keys": [], "boot_id": "b"}
    machine_called.send(None, install=install.uuid, server=install.server, call="ready", payload=payload)
    assert install.events.count() == before


def test_a_new_system_that_calls_when_its_install_was_given_up_is_found_by_a_retry() -> None:
    """It calls once: with its token used up, and its unit gone, nobody else would ever hear of it."""
    install, _ = running("phone-home")
    journal.append(install, Kind.CANCEL_REQUESTED, {"by": "carla"})
    journal.append(install, Kind.CANCELLED, {"left": "somewhere"})
    payload = {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "new"}
    machine_called.send(None, install=install.uuid, server=install.server, call="phone-home", payload=payload)
    install.refresh_from_db()
    assert install.status == Status.CANCELLED and not queue.due(timezone.now()).exists()
    actions.retry(install, make_user(Role.OPS))
    home = install.state().phone_home
    assert home and home.boot_id == "new"


def test_however_long_an_install_was_held_its_new_system_can_call() -> None:
    install, _ = running("bootable")
    token = tokens.mint(install.uuid, install.server, Purpose.PHONE_HOME, timedelta(seconds=-1)).reveal()
    with pytest.raises(tokens.TokenSpent):
        tokens.look(token, Purpose.PHONE_HOME)
    claimed = queue.claim("w", timezone.now())
    assert claimed
    leased = Leased(*claimed, threading.Event())
    StepControl(leased, Line(leased), steps.STEPS["reboot"]).boot_from_disk()
    assert tokens.look(token, Purpose.PHONE_HOME)


def test_a_bmc_that_does_not_answer_is_blamed_on_the_provider(worker: Worker) -> None:
    install = make_install(make_server(bmc_url="http://127.0.0.1:1"))
    wait_for(lambda: Install.objects.get(pk=install.pk).attempt >= 1 and bool(install.state().of("rescue").failure))
    failure = install.state().of("rescue").failure
    assert failure
    assert (failure.code, failure.blame.value) == ("bmc-unreachable", "provider")
    assert "of the BMC" not in str([event.data for event in install.history()])


def test_the_tokens_of_an_install_open_nothing_after_a_success(worker: Worker) -> None:
    install = by_hand()
    wait_for(lambda: waiting(install))
    token = tokens.mint(install.uuid, install.server, Purpose.FETCH, timedelta(hours=1)).reveal()
    assert tokens.look(token, Purpose.FETCH)
    tokens.expire(install.uuid)
    with pytest.raises(tokens.TokenSpent):
        tokens.look(token, Purpose.FETCH)


@pytest.mark.sqlite
def test_a_worker_process_ends_cleanly_when_it_is_told_to() -> None:
    """As systemd would: SIGTERM, and it is gone within seconds, its installs given back."""
    install = by_hand()
    database = f"sqlite:///{connection.settings_dict['NAME']}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker", "--slots", "2"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "config.settings"},
    )
    try:
        wait_for(lambda: waiting(install), 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()

"""An install that is ended by force, or taken over, while a worker is in the middle of it: that has no say any more.

The server may have another install by then, or somebody who is logged in, who are not to be disturbed.
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.secret import Secret
from deploy import actions, jobs, journal, queue
from deploy.commands import Command, run
from deploy.driver import Driver
from deploy.events import Kind
from deploy.leased import Cancelled
from deploy.models import Install
from deploy.queue import Lease, LeaseLost
from deploy.step import Context, Control, Done, Outcome, Perform, Step
from metadata import boot, tokens
from metadata.models import Boot, Purpose, Token
from servers.power import Target
from servers.power.redfish import Redfish
from tests.builders import make_install, make_server, make_user
from tests.deploy.test_driver import in_background, install_in_rescue, wait_for
from tests.metadata.inventory import make_rescue
from tests.servers.bad_bmc import PASSWORD, USER
from tests.servers.bad_bmc import running as running_bmc
from tests.sshd import Sshd, as_root

pytestmark = [
    pytest.mark.django_db(transaction=True),
    as_root,
]


def echo(ctx: Context) -> Iterator[Command]:
    yield run("echo", "here")


def a_step(perform: Perform, *tokens: str, commands: Callable[[Context], Iterator[Command]] = echo) -> Step:
    time = timedelta(seconds=3)
    return Step("rescue", "Rescue", time, 0, "rescue", False, perform, commands, tokens=frozenset(tokens))


def in_rescue(sshd: Sshd) -> tuple[Install, Lease]:
    """An install in a worker's hands, whose rescue system is the sshd and has called."""
    install_in_rescue(sshd, a_step(run_a_job))
    claimed = queue.claim("worker", timezone.now())
    assert claimed
    return claimed


def jobs_of(install: Install) -> Path:
    return Path(jobs.ROOT) / str(install.uuid)


def ended_by_force(install: Install) -> None:
    """By ops, who install the server anew at once: it is to come into the new install's rescue system."""
    actions.force_reset(install, make_user("ops"), "it hangs")
    boot.direct_to_rescue(install.server, make_install(install.server).uuid, "the new one's key", timedelta(hours=1))


def boot_into_rescue(control: Control) -> Outcome:
    control.boot_into_rescue()
    return Done()


def boot_from_disk(control: Control) -> Outcome:
    control.boot_from_disk()
    return Done()


def send_back(control: Control) -> Outcome:
    raise Cancelled


def run_a_job(control: Control) -> Outcome:
    control.run_job()
    return Done()


@pytest.mark.parametrize("act", [boot_into_rescue, boot_from_disk, send_back, run_a_job])
def test_a_worker_whose_install_was_ended_by_force_directs_no_server_and_hands_out_no_token(
    act: Perform, sshd: Sshd
) -> None:
    install, lease = in_rescue(sshd)
    tokens.mint(install.uuid, install.server, Purpose.PHONE_HOME, timedelta(hours=1))

    def perform(control: Control) -> Outcome:
        ended_by_force(install)
        return act(control)

    with pytest.raises(LeaseLost):
        Driver(install, lease, threading.Event(), {"rescue": a_step(perform, "phone-home")}).drive()
    assert Boot.objects.get(server=install.server).public_key == "the new one's key"
    assert not Token.objects.filter(install=install.uuid, expires_at__gt=timezone.now()).exists()


def test_a_worker_whose_install_was_ended_by_force_begins_no_job(sshd: Sshd) -> None:
    install, lease = in_rescue(sshd)

    def perform(control: Control) -> Outcome:
        ended_by_force(install)
        return run_a_job(control)

    with pytest.raises(LeaseLost):
        Driver(install, lease, threading.Event(), {"rescue": a_step(perform)}).drive()
    assert not jobs_of(install).exists()


def test_a_worker_that_was_frozen_until_the_time_was_over_does_not_end_the_job_that_another_one_follows(
    sshd: Sshd,
) -> None:
    install, lease = in_rescue(sshd)

    def slow(ctx: Context) -> Iterator[Command]:
        yield run("sleep", "6")

    def taken_over(_: Lease) -> None:
        """The last look was before: since then another one drives it."""
        if (jobs_of(install) / "rescue-1" / "pid").exists():
            queue.claim("another", timezone.now() + 1.1 * queue.LEASE_TIME)

    step = a_step(run_a_job, commands=slow)
    with pytest.raises(LeaseLost):
        Driver(install, lease, threading.Event(), {"rescue": step}, look=taken_over).drive()
    assert Install.objects.get().lease_worker == "another"
    status = jobs_of(install) / "rescue-1" / "status"
    wait_for(status.exists)
    assert status.read_text() == "0\n"


def power_cycle(control: Control) -> Outcome:
    control.power_cycle(Target.DISK)
    return Done()


@pytest.mark.parametrize("word", ["boot_from", "reset"])
def test_a_worker_that_was_frozen_before_a_word_to_the_bmc_does_not_say_it_when_it_goes_on(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bmc() as bmc:
        account = {"bmc_url": f"http://127.0.0.1:{bmc.port}", "bmc_system": "1", "bmc_user": USER}
        install = make_install(make_server(disks=1, bmc_password=Secret(PASSWORD), **account))
        journal.append(install, Kind.PLANNED, {"steps": ["rescue"]})
        claimed = queue.claim("worker", timezone.now())
        assert claimed
        at_once = getattr(Redfish, word)

        def after_a_while(driver: Redfish, *arguments: Any, **named: Any) -> None:
            assert queue.claim("another", timezone.now() + 1.1 * queue.LEASE_TIME)
            bmc.asked.clear()
            at_once(driver, *arguments, **named)

        monkeypatch.setattr(Redfish, word, after_a_while)
        with pytest.raises(LeaseLost):
            Driver(*claimed, threading.Event(), {"rescue": a_step(power_cycle)}).drive()
        assert bmc.asked
        assert bmc.writes() == []


@pytest.mark.parametrize("first", ["the end", "the question"])
def test_a_server_that_asks_what_to_start_while_its_install_is_ended_is_given_no_key_to_it(
    first: str, settings: Settings, tmp_path: Path
) -> None:
    settings.LANDFALL_RESCUE_DIR = make_rescue(tmp_path / "rescue")
    install = make_install()
    mac = install.server.nics.get().mac
    boot.direct_to_rescue(install.server, install.uuid, "key", timedelta(hours=1))
    ops = make_user("ops")
    told: list[str] = []

    def end() -> None:
        actions.force_reset(install, ops, "it hangs")

    def ask() -> None:
        told.append(str(boot.script_for(mac)))

    now, meanwhile = (end, ask) if first == "the end" else (ask, end)
    with transaction.atomic():
        now()
        other = in_background(meanwhile)
        time.sleep(0.5)
    other.join()
    assert ["landfall.token" in script for script in told] == [first == "the question"]
    assert Install.objects.get().status == "failed"
    assert not Token.objects.filter(install=install.uuid, expires_at__gt=timezone.now()).exists()

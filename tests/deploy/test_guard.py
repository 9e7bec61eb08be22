"""The guard over a new system that does not phone home: when it is given up, and what is fetched of it before."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from deploy import journal, queue
from deploy.commands import Command, run
from deploy.driver import Driver
from deploy.events import Kind, State, Status
from deploy.models import Install
from deploy.step import Context
from deploy.steps import STEPS
from deploy.steps.finish import FOR_HOME, FOR_ONE_MORE_CALL, FOR_RESCUE, PHONE_HOME
from servers.power import power_of
from tests.builders import make_server
from tests.deploy.histories import Past, running
from tests.sshd import Sshd, as_root

pytestmark = pytest.mark.django_db(transaction=True)

SAID = "Landfall did not take the call (000), next try in 2 s"


def waiting(hours: float, sshd: Sshd | None = None) -> tuple[Install, Past]:
    """An install whose new system was started so many hours ago, when nobody but it began to wait; and its clock."""
    began = timezone.now() - timedelta(hours=hours + 1)
    server = make_server(disks=1, address="127.0.0.1", ssh_port=sshd.port if sshd else 1, power_driver="manual")
    keys = {"private_key": sshd.private_key, "public_key": sshd.public_key} if sshd else {}
    install, past = running("phone-home", began, server=server, **keys)
    past.now = timezone.now() - timedelta(hours=hours)
    wait_for(past, FOR_HOME)
    return install, past


def wait_for(past: Past, reason: str) -> None:
    past.event(Kind.STEP_WAITING, step="phone-home", attempt=1, reason=reason, next="", until=past.now.isoformat())


def read_nothing(ctx: Context) -> Iterator[Command]:
    """In place of the commands that would look at this machine's disks."""
    # Whatever this machine has of that name: the cause is looked for in what a command called journalctl printed.
    yield run("eval", f"journalctl() {{ echo 'May 01 12:00:00 oak landfall-phone-home[450]: {SAID}'; }}")
    yield run("journalctl", "--unit=landfall-phone-home")


def drive(install: Install) -> State:
    """The state after a worker has driven the install as far as it goes."""
    steps = {**STEPS, "phone-home": replace(PHONE_HOME, commands=read_nothing)}
    claimed = queue.claim("worker", timezone.now())
    assert claimed
    Driver(*claimed, threading.Event(), steps).drive()
    return Install.objects.get(pk=install.pk).state()


def test_a_system_that_waited_while_landfall_was_away_is_not_restarted_before_it_could_call() -> None:
    install, _ = waiting(hours=9)
    state = drive(install)
    assert (state.status, state.of("phone-home").waiting_for) == (Status.WAITING, FOR_ONE_MORE_CALL)
    assert state.cycling == ()
    journal.append(install, Kind.PHONED_HOME, {"host_keys": [], "boot_id": "b2"})
    assert drive(install).is_done("phone-home")


def test_a_system_that_does_not_call_once_more_is_booted_into_rescue() -> None:
    install, past = waiting(hours=9)
    past.wait(9 * 3600 - 180)
    wait_for(past, FOR_ONE_MORE_CALL)
    state = drive(install)
    assert state.status is Status.WAITING
    assert state.of("phone-home").waiting_for.startswith(FOR_RESCUE)
    assert len(state.cycled) == 1


def test_somebody_is_asked_to_do_it_where_there_is_no_bmc() -> None:
    install, past = waiting(hours=9)
    past.wait(9 * 3600 - 180)
    wait_for(past, FOR_ONE_MORE_CALL)
    assert power_of(install.server).needs_hands in drive(install).of("phone-home").waiting_for


def guarded(minutes: float, sshd: Sshd | None = None) -> Install:
    """An install whose server was told so many minutes ago to start the rescue system, for its logs to be read."""
    install, past = waiting(hours=9, sshd=sshd)
    past.now = timezone.now() - timedelta(minutes=minutes)
    for kind in (Kind.POWER_CYCLING, Kind.POWER_CYCLED):
        past.event(kind, target="network", persistent=False, step="phone-home")
    wait_for(past, f"{FOR_RESCUE}. {power_of(install.server).needs_hands}")
    return install


def test_the_rescue_system_has_its_time_however_late_the_guard_came() -> None:
    assert drive(guarded(minutes=8)).status is Status.WAITING


def test_a_rescue_system_that_never_comes_is_given_up() -> None:
    state = drive(guarded(minutes=11))
    assert state.failure and state.status is Status.FAILED
    assert (state.failure.code, "never called" in state.failure.message) == ("phone-home-missing", True)


@as_root
def test_what_the_system_left_behind_is_read_into_the_log_and_gives_the_cause(sshd: Sshd) -> None:
    install = guarded(minutes=1, sshd=sshd)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    state = drive(install)
    assert state.failure and state.status is Status.FAILED
    assert state.failure.code == "phone-home-unreachable"
    assert any(SAID in chunk.text for chunk in install.log.filter(step="phone-home"))
    assert not [event for event in install.history() if event.kind is Kind.STEP_QUIET]

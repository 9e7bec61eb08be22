"""A clock that jumps: what was noted before it means nothing any more, and yet nobody is driven twice, or forgotten."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from deploy import journal, queue
from deploy.driver import FIRST_PAUSE, Driver
from deploy.events import Kind, State, Status
from deploy.models import Install, LogChunk
from deploy.queue import LEASE_TIME, LONGEST_SLEEP, LeaseLost
from deploy.step import Control, Done, Outcome, WaitUntil, failed
from deploy.steps import STEPS, finish
from tests.builders import make_install, make_server
from tests.deploy.situations import prove, tame
from tests.deploy.test_install_page import login
from tests.pages import text

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
JUMPS = (timedelta(days=-400), timedelta(days=-1), -HOUR, timedelta(minutes=-10), HOUR, timedelta(days=400))


@dataclass(slots=True)
class Clock:
    """This machine's clock, as Landfall reads it; it goes on by itself."""

    real: Callable[[], datetime]
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.real() + self.ahead

    def jump(self, by: timedelta) -> None:
        self.ahead += by


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(timezone.now)
    monkeypatch.setattr(timezone, "now", clock.now)
    return clock


def drive(install: Install, **performs: Any) -> State:
    """The state after a worker has driven the install as far as it goes; it must be due."""
    claimed = queue.claim("worker", timezone.now())
    assert claimed, "it is not due"
    Driver(*claimed, threading.Event(), tame(**performs)).drive()
    return prove(install)


def waits(control: Control) -> Outcome:
    return WaitUntil(control.deadline, "the machine", "give up")


def breaks(control: Control) -> Outcome:
    raise failed("command-failed")


# --- leases


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_a_worker_that_lives_keeps_its_installs_wherever_the_clock_jumps(jump: timedelta, clock: Clock) -> None:
    make_install()
    claimed = queue.claim("first", timezone.now())
    assert claimed
    clock.jump(jump)
    assert queue.renew([claimed[1]], timezone.now()) == 1
    assert queue.claim("second", timezone.now()) is None
    clock.jump(LEASE_TIME * 1.1)
    assert queue.claim("second", timezone.now())


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_an_install_whose_worker_has_died_is_free_as_soon_as_ever_wherever_the_clock_jumps(
    jump: timedelta, clock: Clock
) -> None:
    make_install()
    assert queue.claim("first", timezone.now())
    clock.jump(jump)
    clock.jump(LEASE_TIME * 3.1)
    taken = queue.claim("second", timezone.now())
    assert taken
    assert taken[1].taken_from == "first"


def test_who_loses_an_install_to_a_jump_of_the_clock_writes_nothing_more_of_it(clock: Clock) -> None:
    install = make_install()
    first = queue.claim("first", timezone.now())
    assert first
    clock.jump(HOUR)
    second = queue.claim("second", timezone.now())
    assert second
    with pytest.raises(LeaseLost):
        journal.append(install, Kind.PLANNED, {"steps": ["copy"]}, lease=first[1])
    assert queue.renew([first[1]], timezone.now()) == 0
    assert not queue.release(first[1], None, 1)
    assert journal.append(install, Kind.PLANNED, {"steps": ["copy"]}, lease=second[1]).steps == ("copy",)


# --- alarms and back-off


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_a_waiting_install_is_looked_at_within_minutes_wherever_the_clock_jumps(jump: timedelta, clock: Clock) -> None:
    install = make_install()
    assert drive(install, rescue=waits).status is Status.WAITING
    clock.jump(jump)
    clock.jump(2 * LONGEST_SLEEP)
    assert queue.due(timezone.now()).exists()
    assert drive(install).status is Status.SUCCEEDED


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_the_next_attempt_is_made_within_minutes_wherever_the_clock_jumps(jump: timedelta, clock: Clock) -> None:
    install = make_install()
    assert drive(install, inspect=breaks).status is Status.WAITING
    assert not queue.due(timezone.now()).exists()
    clock.jump(jump)
    clock.jump(2 * LONGEST_SLEEP)
    state = drive(install)
    assert (state.status, state.of("inspect").attempt) == (Status.SUCCEEDED, 2)


def test_the_pause_before_an_attempt_is_what_it_was_after_a_jump_that_came_before_it(clock: Clock) -> None:
    install = make_install()
    clock.jump(-HOUR)
    Install.objects.update(wake_at=timezone.now())
    began = timezone.now()
    drive(install, inspect=breaks)
    wake_at = Install.objects.get(pk=install.pk).wake_at
    assert wake_at
    assert FIRST_PAUSE <= wake_at - began < FIRST_PAUSE + timedelta(minutes=1)


# --- deadlines


@pytest.mark.parametrize("jump", [HOUR, timedelta(days=400)], ids=str)
def test_what_came_while_the_clock_jumped_ahead_is_not_too_late(jump: timedelta, clock: Clock) -> None:
    def until_it_calls(control: Control) -> Outcome:
        return Done() if control.state.rescue else WaitUntil(control.deadline, "the machine")

    install = make_install()
    drive(install, rescue=until_it_calls)
    clock.jump(jump)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [], "boot_id": "b"})
    state = drive(install, rescue=until_it_calls)
    assert (state.status, state.of("rescue").attempt) == (Status.SUCCEEDED, 1)


def test_a_new_system_is_waited_for_once_more_before_a_jump_ahead_has_it_restarted(clock: Clock) -> None:
    install = make_install(make_server(power_driver="manual"))
    drive(install, phone_home=finish.phone_home)
    clock.jump(timedelta(days=1))
    state = drive(install, phone_home=finish.phone_home)
    assert (state.of("phone-home").waiting_for, state.cycling) == (finish.FOR_ONE_MORE_CALL, ())
    journal.append(install, Kind.PHONED_HOME, {"host_keys": [], "boot_id": "b"})
    assert drive(install, phone_home=finish.phone_home).status is Status.SUCCEEDED


@pytest.mark.parametrize("jump", [-HOUR, timedelta(days=-1), timedelta(days=-400)], ids=str)
def test_a_machine_that_never_calls_is_given_up_in_time_though_the_clock_was_set_back(
    jump: timedelta, clock: Clock
) -> None:
    """Once more its whole time at most, and not until the clock has come to where it was."""
    step = STEPS["rescue"]
    install = make_install()
    drive(install, rescue=waits)
    clock.jump(jump)
    for _ in range(3):
        clock.jump(step.timeout / 2 + timedelta(minutes=1))
        state = drive(install, rescue=waits)
        if state.of("rescue").failure:
            break
    assert state.of("rescue").failure
    assert state.of("rescue").failure.code == step.on_timeout


def test_a_guard_that_waits_while_the_clock_is_set_back_does_not_wait_until_it_has_come_there_again(
    clock: Clock,
) -> None:
    install = make_install(make_server(power_driver="manual"))
    drive(install, phone_home=finish.phone_home)
    clock.jump(timedelta(days=-1))
    reasons = []
    for _ in range(8):
        clock.jump(timedelta(minutes=11))
        state = drive(install, phone_home=finish.phone_home)
        reasons.append(state.of("phone-home").waiting_for)
        if not state.status.is_live:
            break
    assert finish.FOR_ONE_MORE_CALL in reasons
    assert state.failure
    assert (state.status, state.failure.code) == (Status.FAILED, "phone-home-missing")


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_the_rescue_step_restarts_a_silent_server_no_oftener_than_once_wherever_the_clock_jumps(
    jump: timedelta, clock: Clock
) -> None:
    """Once into rescue and once more at half time: by hand here, so that nobody is switched off."""
    install = make_install(make_server(power_driver="manual"))
    drive(install, rescue=STEPS["rescue"].perform)
    clock.jump(jump)
    clock.jump(2 * LONGEST_SLEEP)
    state = drive(install, rescue=STEPS["rescue"].perform)
    assert len(state.cycling) == 1


def test_the_seconds_of_a_step_are_none_rather_than_less_when_the_clock_was_set_back_in_it(clock: Clock) -> None:
    def back(control: Control) -> Outcome:
        clock.jump(-HOUR)
        return Done()

    install = make_install()
    drive(install, inspect=back)
    (told,) = [
        event.data for event in install.history()
        if event.kind is Kind.STEP_SUCCEEDED and event.data["step"] == "inspect"
    ]  # fmt: skip
    assert told["seconds"] == 0
    assert LogChunk.objects.count() == 0


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_the_page_of_an_install_is_shown_wherever_the_clock_jumps(jump: timedelta, clock: Clock) -> None:
    install = make_install()
    drive(install, rescue=waits)
    clock.jump(jump)
    page = text(login(), install.get_absolute_url())
    assert install.server.name in page

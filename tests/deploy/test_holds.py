"""Held before a step, released, cancelled meanwhile: with a real driver, by steps that are done at once."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from deploy import actions, queue
from deploy.driver import FIRST_PAUSE, Driver
from deploy.events import Kind, Status
from deploy.models import Install
from deploy.step import Control, Done, Outcome, WaitUntil, failed
from tests.builders import make_user
from tests.deploy.situations import ALL_STEPS, Course, licensed_install, prove, tame

pytestmark = pytest.mark.django_db


@pytest.fixture
def ops() -> User:
    return make_user("ops")


def drive(install: Install, later: timedelta = timedelta(0), **performs: Any) -> Install:
    """The install after a worker has driven it once, now or later; it must be due."""
    claimed = queue.claim("worker", timezone.now() + later)
    assert claimed, "it is not due"
    Driver(*claimed, threading.Event(), tame(**performs)).drive()
    prove(install)
    return Install.objects.get(pk=install.pk)


def is_due(install: Install) -> bool:
    return queue.due(timezone.now()).filter(pk=install.pk).exists()


def breaks(control: Control) -> Outcome:
    raise failed("command-failed")


@pytest.mark.parametrize("step", ALL_STEPS)
def test_a_held_install_stops_before_that_step_and_goes_on_from_there(step: str, ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, step)
    held = drive(install)
    state = held.state()
    assert (held.status, held.hold_before, state.next_step()) == (Status.HELD, step, step)
    assert all(state.is_done(name) for name in ALL_STEPS[: ALL_STEPS.index(step)])
    assert not state.of(step).attempt
    assert held.lease_token is None
    assert not is_due(held)
    actions.release(held, ops)
    assert Install.objects.get(pk=install.pk).status == Status.QUEUED
    done = drive(install)
    assert (done.status, done.hold_before) == (Status.SUCCEEDED, "")
    assert [event.data["attempt"] for event in done.history() if event.kind is Kind.STEP_STARTED] == [1] * 13


def test_a_hold_says_who_asked_for_it_and_who_took_it_back(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    actions.release(install, ops)
    asked, taken_back = install.history()[-2:]
    assert (asked.kind, asked.data) == (Kind.HOLD_REQUESTED, {"by": ops.username, "before": "wipe"})
    assert (taken_back.kind, taken_back.data) == (Kind.RELEASED, {"by": ops.username})
    assert drive(install).status == Status.SUCCEEDED


def test_a_hold_that_is_asked_for_again_moves_to_the_other_step(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    actions.hold(install, ops, "copy")
    assert drive(install).state().next_step() == "copy"


def test_a_hold_that_comes_while_a_step_runs_stops_before_the_next_one(ops: User) -> None:
    install = licensed_install()

    def meanwhile(control: Control) -> Outcome:
        actions.hold(install, ops, "wipe")
        return Done()

    held = drive(install, plan=meanwhile)
    assert (held.status, held.step, held.hold_before) == (Status.HELD, "plan", "wipe")


def test_a_hold_that_comes_just_before_the_step_would_begin_wins(ops: User) -> None:
    """Between the driver's look and its event."""
    install = licensed_install()
    claimed = queue.claim("worker", timezone.now())
    assert claimed
    driver = Driver(*claimed, threading.Event(), tame())
    actions.hold(install, ops, ALL_STEPS[0])
    driver.drive()
    assert Install.objects.get(pk=install.pk).status == Status.HELD
    assert not prove(install).of(ALL_STEPS[0]).attempt


def test_what_backs_off_is_held_before_its_next_attempt(ops: User) -> None:
    install = licensed_install()
    waits = drive(install, copy=breaks, inspect=breaks)
    assert (waits.status, waits.step) == (Status.WAITING, "inspect")
    actions.hold(install, ops, "inspect")
    held = drive(install, FIRST_PAUSE)
    assert (held.status, held.hold_before) == (Status.HELD, "inspect")
    actions.release(install, ops)
    done = drive(install)
    assert done.status == Status.SUCCEEDED
    assert done.state().of("inspect").attempt == 2


@pytest.mark.parametrize("ask", ["hold", "hold and release"])
def test_a_hold_before_a_later_step_does_not_cut_the_pause_between_two_attempts_short(ask: str, ops: User) -> None:
    install = licensed_install()
    retry_at = drive(install, inspect=breaks).wake_at
    assert retry_at
    assert retry_at > timezone.now()
    actions.hold(install, ops, "wipe")
    if ask == "hold and release":
        actions.release(install, ops)
    assert Install.objects.get(pk=install.pk).wake_at == retry_at


def test_what_waits_for_the_machine_is_held_once_it_has_called(ops: User) -> None:
    install = licensed_install()

    def until_it_calls(control: Control) -> Outcome:
        return Done() if control.state.rescue else WaitUntil(control.deadline, "the machine")

    drive(install, rescue=until_it_calls)
    actions.hold(install, ops, "inspect")
    Course(install).event(Kind.RESCUE_READY, host_keys=["k"], boot_id="b")
    assert drive(install, rescue=until_it_calls).status == Status.HELD


def test_a_call_that_comes_while_it_is_held_is_kept_and_lets_nothing_go_on(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    held = drive(install)
    Course(held).event(Kind.RESCUE_READY, host_keys=["k"], boot_id="another")
    again = drive(install) if is_due(install) else held
    assert again.status == Status.HELD
    assert [event.kind for event in install.history()].count(Kind.HELD) == 1
    rescue = prove(install).rescue
    assert rescue
    assert rescue.boot_id == "another"


def test_a_cancel_of_what_is_held_needs_no_release(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    drive(install)
    actions.cancel(install, ops)
    cancelled = drive(install)
    assert (cancelled.status, cancelled.hold_before) == (Status.CANCELLED, "")
    assert cancelled.history()[-1].data["left"] == "as it was"


def test_what_was_held_and_reset_by_force_is_not_held_any_more_when_it_is_tried_again(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    drive(install)
    actions.force_reset(install, ops, "it is needed elsewhere")
    actions.retry(install, ops)
    assert drive(install).status == Status.SUCCEEDED


def test_what_failed_before_it_came_to_be_held_is_not_to_be_held_any_more(ops: User) -> None:
    install = licensed_install()
    actions.hold(install, ops, "copy")

    def breaks_for_good(control: Control) -> Outcome:
        raise failed("wrong-machine", final=True)

    gone = drive(install, inspect=breaks_for_good)
    assert (gone.status, gone.hold_before) == (Status.FAILED, "")


def test_a_held_install_holds_no_place_and_stands_in_line_again_once_released(ops: User, settings: Any) -> None:
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    held = drive(install)
    settings.LANDFALL_LIMIT = 1
    actions.release(held, ops)
    row = Install.objects.get(pk=install.pk)
    assert row.admitted_at is None
    assert row.queued_at
    assert held.queued_at
    assert row.queued_at > held.queued_at
    assert not is_due(row)


def test_a_hold_asked_for_and_taken_back_in_line_costs_no_place(ops: User, settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    install = licensed_install()
    actions.hold(install, ops, "wipe")
    actions.release(install, ops)
    row = Install.objects.get(pk=install.pk)
    assert row.queued_at == install.queued_at


@pytest.mark.parametrize("back", [False, True], ids=["in line", "let in"])
def test_a_hold_taken_back_costs_nobody_the_place_that_it_has(ops: User, settings: Any, back: bool) -> None:
    install = licensed_install()  # let in at once: there is no limit
    settings.LANDFALL_LIMIT = 1
    if back:
        drive(install, inspect=lambda control: WaitUntil(control.now + timedelta(minutes=1), "the machine"))
    actions.hold(install, ops, "wipe")
    actions.release(install, ops)
    row = Install.objects.get(pk=install.pk)
    assert row.admitted_at == install.admitted_at

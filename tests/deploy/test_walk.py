"""All states x all actions: each is possible, or refused with a sentence; and every state has a way out."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from deploy import actions, limits, queue
from deploy.actions import InstallRequest, Refused
from deploy.driver import Driver
from deploy.events import Kind, State, Status, StepState
from deploy.models import Install
from metadata import tokens
from metadata.models import Purpose
from metadata.signals import machine_called
from servers.storage.layout import default_layout
from tests.builders import make_image, make_key, make_user
from tests.deploy.situations import (
    ALL_STEPS,
    Row,
    Situation,
    all_of,
    ended_situations,
    every_situation,
    live_situations,
    prove,
    tame,
)  # fmt: skip

pytestmark = pytest.mark.django_db

Action = Callable[[Install, User], object]


class Outcome(Enum):
    """What may come of an action."""

    SAME = "possible, and the status stays"
    QUEUED = "possible, and it stands in line"
    FAILED = "possible, and it has ended"
    ANOTHER = "possible, and a new install is queued"
    IGNORED = "taken, and nothing changes"
    LATER = "possible where the step has not begun, else refused"
    NO = "refused"


SAME, QUEUED, FAILED, ANOTHER, IGNORED, LATER, NO = Outcome

_COLUMNS = ("cancel", "retry", "restart", "hold", "release", "force-reset", "another", "ready", "phone-home")
_TABLE = {
    Row.IN_LINE: (SAME, NO, NO, LATER, NO, FAILED, NO, SAME, SAME),
    Row.ADMITTED: (SAME, NO, NO, LATER, NO, FAILED, NO, SAME, SAME),
    Row.RUNNING: (SAME, NO, NO, LATER, NO, FAILED, NO, SAME, SAME),
    Row.WAITING: (SAME, NO, NO, LATER, NO, FAILED, NO, SAME, SAME),
    Row.BACKING_OFF: (SAME, NO, NO, LATER, NO, FAILED, NO, SAME, SAME),
    Row.HOLD_REQUESTED: (SAME, NO, NO, LATER, SAME, FAILED, NO, SAME, SAME),
    Row.HELD: (SAME, NO, NO, NO, QUEUED, FAILED, NO, SAME, SAME),
    Row.CANCEL_REQUESTED: (NO, NO, NO, NO, NO, FAILED, NO, SAME, SAME),
    Row.HELD_AND_CANCEL_REQUESTED: (NO, NO, NO, NO, QUEUED, FAILED, NO, SAME, SAME),
    Row.SUCCEEDED: (NO, NO, NO, NO, NO, NO, ANOTHER, IGNORED, IGNORED),
    Row.FAILED: (NO, QUEUED, QUEUED, NO, NO, NO, ANOTHER, IGNORED, SAME),
    Row.CANCELLED: (NO, QUEUED, QUEUED, NO, NO, NO, ANOTHER, IGNORED, SAME),
    Row.RESET: (NO, QUEUED, QUEUED, NO, NO, NO, ANOTHER, IGNORED, SAME),
    Row.WORN_OUT: (NO, NO, NO, NO, NO, NO, ANOTHER, IGNORED, SAME),
}


def call(name: str, **payload: Any) -> Action:
    """A machine calls."""
    payload |= {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "b"}
    return lambda install, by: machine_called.send(
        None, install=install.uuid, server=install.server, call=name, payload=payload
    )


def request_another(install: Install, by: User) -> Install:
    server = install.server
    key = make_key(server.project)
    return actions.request_install(
        InstallRequest(server, make_image(), default_layout(server.facts()), "web.example.net", (key,)), by
    )


def hold_before(step: str) -> Action:
    return lambda install, by: actions.hold(install, by, step)


ACTIONS: dict[str, tuple[Action, ...]] = {
    "cancel": (actions.cancel,),
    "retry": (actions.retry,),
    "restart": (lambda install, by: actions.retry(install, by, from_start=True),),
    "hold": tuple(hold_before(step) for step in ALL_STEPS),
    "release": (actions.release,),
    "force-reset": (lambda install, by: actions.force_reset(install, by, "it hangs"),),
    "another": (request_another,),
    "ready": (call("ready", facts={}),),
    "phone-home": (call("phone-home", kernel="6.1"),),
}


def tried(action: Action, install: Install, by: User) -> Refused | None:
    """What the action is refused with; None when it was possible."""
    try:
        with transaction.atomic():
            action(install, by)
    except Refused as refusal:
        return refusal
    return None


def is_sentence(text: str) -> bool:
    return len(text.split()) > 2 and not text.startswith(" ") and text.endswith(".") and "  " not in text


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside has not happened."""
    point = transaction.savepoint()
    yield
    transaction.savepoint_rollback(point)


def later(state: State, step: str) -> Outcome:
    """What comes of a request to hold before the step."""
    progress = state.of(step)
    return NO if progress.is_open or progress.state is StepState.DONE else SAME


def check(install: Install, action: Action, outcome: Outcome, by: User, before: object) -> None:
    """Does it, and compares what came of it with the outcome that is expected."""
    refusal = tried(action, install, by)
    if outcome is NO:
        assert refusal, "it was possible"
        assert is_sentence(refusal.message), refusal.message
        assert is_sentence(refusal.fix), refusal.fix
        assert refusal.status in (400, 409)
    else:
        assert refusal is None, refusal
    if outcome in (NO, IGNORED, ANOTHER):
        assert all_of(install) == before
        assert Install.objects.exclude(pk=install.pk).filter(server=install.server).count() == (outcome is ANOTHER)
    else:
        after, row = prove(install), Install.objects.get(pk=install.pk)
        assert row.last_seq == install.last_seq + 1
        assert after.status == {SAME: install.status, QUEUED: Status.QUEUED, FAILED: Status.FAILED}[outcome]


@pytest.mark.parametrize("situation", list(every_situation()), ids=str)
def test_every_action_is_possible_or_refused_with_a_sentence(situation: Situation, settings: Any) -> None:
    settings.LANDFALL_LIMIT = int(situation.row is Row.IN_LINE)
    install, by = situation.bring_about(), make_user("ops")
    state, before = prove(install), all_of(install)
    for name, outcome in zip(_COLUMNS, _TABLE[situation.row], strict=True):
        for number, action in enumerate(ACTIONS[name]):
            with undone():
                try:
                    expected = later(state, ALL_STEPS[number]) if outcome is LATER else outcome
                    check(install, action, expected, by, before)
                except AssertionError as error:
                    raise AssertionError(f"{name} {number} when {situation}: {error}") from error


def test_the_table_knows_every_situation_and_every_action() -> None:
    assert set(_TABLE) == set(Row) == {situation.row for situation in every_situation()}
    assert set(ACTIONS) == set(_COLUMNS)
    assert len(ACTIONS["hold"]) == 13


# --- ways out


def drive_on(install: Install) -> Status:
    """The status after a worker has driven it as far as it goes, by steps that are done at once."""
    while True:
        limits.admit(timezone.now())
        Install.objects.filter(pk=install.pk, status=Status.WAITING).update(wake_at=timezone.now())
        claimed = queue.claim("another worker", timezone.now())
        if claimed is None:
            return Status(Install.objects.get(pk=install.pk).status)
        assert claimed[0].pk == install.pk
        Driver(*claimed, threading.Event(), tame()).drive()
        prove(install)


SPECIAL = ("", "rescue", "wipe", "reboot", "phone-home", "verify")
"""The first step, two that cannot be cancelled, one that is tried again from another, the last."""
LIVE = [each for each in live_situations() if each.step in SPECIAL]


@pytest.mark.parametrize("situation", LIVE, ids=str)
def test_whatever_is_live_has_ways_out(situation: Situation, settings: Any) -> None:
    settings.LANDFALL_LIMIT = int(situation.row is Row.IN_LINE)
    install, by = situation.bring_about(), make_user("ops")
    with undone():
        assert drive_on(install) is _BY_ITSELF.get(situation.row, Status.SUCCEEDED)
        if situation.row in (Row.HELD, Row.HOLD_REQUESTED):
            actions.release(install, by)
            assert drive_on(install) is Status.SUCCEEDED
    with undone():
        if not install.cancel_requested:
            actions.cancel(install, by)
        assert drive_on(install) is Status.CANCELLED
    actions.force_reset(install, by, "it hangs")
    assert drive_on(install) is Status.FAILED


_BY_ITSELF = {
    Row.HOLD_REQUESTED: Status.HELD,
    Row.HELD: Status.HELD,
    Row.CANCEL_REQUESTED: Status.CANCELLED,
    Row.HELD_AND_CANCEL_REQUESTED: Status.CANCELLED,
}
"""Where an install comes to when nobody asks for anything, its steps being done at once; else it succeeds."""


@pytest.mark.parametrize("situation", list(ended_situations()), ids=str)
def test_whatever_has_ended_makes_way_for_a_retry_or_a_new_install(situation: Situation) -> None:
    install, by = situation.bring_about(), make_user("ops")
    with undone():
        assert request_another(install, by).status == Status.QUEUED
    if situation.row not in (Row.SUCCEEDED, Row.WORN_OUT):
        actions.retry(install, by)
        assert drive_on(install) is Status.SUCCEEDED


# --- by force


@pytest.mark.parametrize("situation", [each for each in LIVE if each.step in ("", "wipe")], ids=str)
def test_a_forced_end_takes_lease_and_tokens_away_and_says_who_and_why(situation: Situation, settings: Any) -> None:
    settings.LANDFALL_LIMIT = int(situation.row is Row.IN_LINE)
    install, by = situation.bring_about(), make_user("ops")
    token = tokens.mint(install.uuid, install.server, Purpose.PHONE_HOME, queue.LEASE_TIME).reveal()
    actions.force_reset(install, by, "  nothing moves since noon ")
    row, last = Install.objects.get(pk=install.pk), install.history()[-1]
    assert row.last_failure
    assert (row.status, row.last_failure.code) == (Status.FAILED, "force-reset")
    assert (row.lease_token, row.lease_worker, row.lease_since, row.lease_until) == (None, "", None, None)
    assert (last.kind, last.data["by"], last.data["reason"]) == (
        Kind.FORCE_RESET, by.username, "nothing moves since noon",
    )  # fmt: skip
    assert not any(progress.is_open for progress in install.state().progress.values())
    assert install.server.boot.target == "disk"
    with pytest.raises(tokens.TokenSpent):
        tokens.look(token, Purpose.PHONE_HOME)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_a_forced_end_needs_a_reason_of_a_few_words(reason: str) -> None:
    install = Situation(Row.ADMITTED, "", lambda course, step: None).bring_about()
    before = all_of(install)
    with pytest.raises(Refused) as refusal:
        actions.force_reset(install, make_user("ops"), reason)
    assert is_sentence(refusal.value.message)
    assert is_sentence(refusal.value.fix)
    assert all_of(install) == before


def test_a_hold_before_a_step_that_there_is_not_names_those_that_there_are() -> None:
    install = Situation(Row.ADMITTED, "", lambda course, step: None).bring_about()
    with pytest.raises(Refused, match="no step 'dance'") as refusal:
        actions.hold(install, make_user("ops"), "dance")
    assert all(step in refusal.value.fix for step in ALL_STEPS)

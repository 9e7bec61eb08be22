"""The history of an install: what may follow on what, and what it adds up to."""

from dataclasses import replace

import pytest

from deploy.events import (
    GENESIS,
    Blame,
    Event,
    Failure,
    IllegalEvent,
    Kind,
    State,
    Status,
    StepState,
    apply,
    digest,
    fold,
)  # fmt: skip
from tests.deploy.happenings import START, STEPS, both, broken, done, history, requested, started


def test_an_install_whose_steps_are_all_done_has_succeeded() -> None:
    state = fold(requested(*(event for step in STEPS for event in both(step))))
    assert state.status is Status.SUCCEEDED
    assert state.next_step() is None
    assert state.ended_at


def test_a_waiting_step_is_still_open_and_says_what_for() -> None:
    waiting = (Kind.STEP_WAITING, {"step": "rescue", "attempt": 1, "reason": "the server to call"})
    state = fold(requested(started("rescue"), waiting))
    assert (state.status, state.of("rescue").waiting_for) == (Status.WAITING, "the server to call")
    assert fold(requested(started("rescue"), waiting, done("rescue"))).is_done("rescue")


def test_the_result_of_a_step_stays_for_the_later_ones() -> None:
    state = fold(requested(started("rescue"), done("rescue", boot_id="b1"), started("wipe")))
    assert state.result("rescue") == {"boot_id": "b1"}


def test_a_step_that_failed_for_good_ends_the_install() -> None:
    state = fold(requested(started("rescue"), broken("rescue")))
    assert state.status is Status.FAILED
    assert state.failure
    assert state.failure.blame is Blame.PROVIDER


def test_a_step_that_is_tried_again_starts_with_the_next_attempt() -> None:
    state = fold(requested(started("rescue"), broken("rescue", resume_from="rescue")))
    assert state.status is Status.WAITING
    assert state.next_step() == "rescue"
    assert fold(requested(started("rescue"), broken("rescue", resume_from="rescue"), started("rescue", 2)))


def test_a_failure_may_send_the_install_back_to_an_earlier_step() -> None:
    to_copy = (*both("rescue"), *both("wipe"), started("copy"), broken("copy", resume_from="wipe"))
    state = fold(requested(*to_copy))
    assert state.next_step() == "wipe"
    assert state.is_done("rescue")
    assert fold(requested(*to_copy, started("wipe", 2), done("wipe", 2), started("copy", 2))).of("copy").attempt == 2


def test_a_failed_install_goes_on_after_a_retry() -> None:
    state = fold(requested(*both("rescue"), started("wipe"), broken("wipe"), (Kind.RETRIED, {"step": "wipe"})))
    assert (state.status, state.failure, state.next_step()) == (Status.QUEUED, None, "wipe")
    assert state.is_done("rescue")


def test_a_cancel_closes_the_open_attempt() -> None:
    state = fold(requested(started("rescue"), (Kind.CANCEL_REQUESTED, {}), (Kind.CANCELLED, {"left": "as it was"})))
    assert state.status is Status.CANCELLED
    assert state.of("rescue").state is StepState.FAILED


@pytest.mark.parametrize(
    "impossible",
    [
        history((Kind.PLANNED, {"steps": []})),
        history((Kind.REQUESTED, {}), (Kind.REQUESTED, {})),
        requested((Kind.PLANNED, {"steps": ["rescue"]})),
        requested(started("wipe")),
        requested(started("rescue", 2)),
        requested(started("rescue"), started("rescue", 2)),
        requested(done("rescue")),
        requested(started("rescue"), done("rescue", 2)),
        requested((Kind.CANCELLED, {})),
        requested(started("rescue"), broken("rescue"), started("rescue", 2)),
        requested(started("rescue"), broken("rescue"), (Kind.CANCEL_REQUESTED, {})),
        requested(started("rescue"), (Kind.RETRIED, {"step": "rescue"})),
        requested(started("rescue"), broken("rescue"), (Kind.RETRIED, {"step": "dance"})),
    ],
)
def test_what_cannot_have_happened_is_refused(impossible: list[Event]) -> None:
    with pytest.raises(IllegalEvent):
        fold(impossible)


def test_a_number_that_is_missing_is_noticed() -> None:
    with pytest.raises(IllegalEvent):
        apply(State(), Event(2, Kind.REQUESTED, START))


def test_every_change_to_an_event_changes_its_digest() -> None:
    event = Event(1, Kind.REQUESTED, START, {"by": "alice"})
    others = [replace(event, seq=2), replace(event, kind=Kind.PLANNED), replace(event, data={"by": "bob"})]
    digests = {digest(GENESIS, one) for one in (event, *others)} | {digest("f" * 64, event)}
    assert len(digests) == 5


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    one, other = {"a": 1, "b": [{"c": 1, "d": "é"}]}, {"b": [{"d": "é", "c": 1}], "a": 1}
    assert digest(GENESIS, Event(1, Kind.REQUESTED, START, one)) == digest(
        GENESIS, Event(1, Kind.REQUESTED, START, other)
    )


def test_a_failure_survives_its_event() -> None:
    failure = Failure("c", Blame.HARDWARE, "m", "f", "cmd", 5, ("a", "b"))
    assert Failure.from_json(failure.to_json()) == failure

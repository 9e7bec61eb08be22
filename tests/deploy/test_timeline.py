"""A history as a person reads it: attempts and what cuts them off, silence, holds, and idle time."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy import errors, timeline
from deploy.events import Event, Kind, StepState, fold
from deploy.pages.chronicle import chronicle
from deploy.pages.whereabouts import Whereabouts, after_a_cancel, whereabouts
from deploy.timeline import StepRow
from tests.deploy.happenings import START, both, broken, done, history, requested, started

RESET = (Kind.FORCE_RESET, {"by": "otto", "reason": "it hangs", "failure": errors.failure("force-reset").to_json()})
QUIET = (
    Kind.STEP_QUIET,
    {"step": "copy", "attempt": 1, "since": START.isoformat(), "command": "rsync", "reason": "nothing printed"},
)
LOST = "the rescue system does not answer: no route to host"


def restarted(target: str) -> tuple[Kind, dict[str, Any]]:
    return Kind.POWER_CYCLING, {"target": target}


def row(events: list[Event], step: str = "copy", most: int = 3) -> StepRow:
    """The step's row after these events."""
    attempts = timeline.attempts_of(events).get(step, ())
    progress = fold(events).of(step)
    return StepRow(step, "Copy", progress.state, attempts, tries=progress.tries, most=most)


UNTIL_COPY = (*both("rescue"), *both("wipe"), started("copy"))


# --- attempts


def test_a_forced_end_closes_the_open_attempt_with_its_failure() -> None:
    (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, RESET))["copy"]
    assert attempt.state is StepState.FAILED
    assert attempt.ended_at
    assert attempt.failure
    assert attempt.failure.code == "force-reset"


def test_a_forced_end_between_two_attempts_leaves_the_former_as_it_was() -> None:
    (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, broken("copy", resume_from="copy"), RESET))["copy"]
    assert attempt.failure
    assert attempt.failure.code == "command-failed"


def test_a_silence_is_over_when_the_step_talks_or_ends() -> None:
    (silent,) = timeline.attempts_of(requested(*UNTIL_COPY, QUIET))["copy"]
    assert silent.quiet
    assert (silent.quiet.since, silent.quiet.why, silent.quiet.command) == (START, "nothing printed", "rsync")
    talks = (Kind.STEP_TALKS, {"step": "copy", "attempt": 1})
    for end in (talks, done("copy"), broken("copy"), RESET):
        (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, QUIET, end))["copy"]
        assert attempt.quiet is None


def test_the_reason_of_a_silence_and_its_particulars_stand_apart() -> None:
    kind, data = QUIET
    (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, (kind, data | {"reason": LOST})))["copy"]
    assert attempt.quiet
    assert (attempt.quiet.why, attempt.quiet.detail) == ("the rescue system does not answer", "no route to host")


def test_a_step_waits_no_more_when_the_machine_that_it_restarted_has_called() -> None:
    waits = (Kind.STEP_WAITING, {"step": "copy", "attempt": 1, "reason": "the rescue system to call"})
    called = (Kind.RESCUE_READY, {"host_keys": [], "boot_id": "b"})
    (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, restarted("network"), waits, called))["copy"]
    assert attempt.waiting is None
    assert attempt.state is StepState.RUNNING
    (attempt,) = timeline.attempts_of(requested(*UNTIL_COPY, restarted("disk"), waits, called))["copy"]
    assert attempt.waiting


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "attempt 1 of 3"),
        ((broken("copy", resume_from="copy"), started("copy", 2)), "attempt 2 of 3"),
        (
            (broken("copy"), (Kind.RETRIED, {"by": "otto", "step": "copy"}), started("copy", 2)),
            "attempt 2, 1 of 3 since somebody had it tried again",
        ),
    ],
)
def test_an_attempt_is_counted_since_a_person_let_it_go_on(more: Any, words: str) -> None:
    assert row(requested(*UNTIL_COPY, *more)).counted == words


def test_no_number_is_named_that_does_not_limit() -> None:
    again = [step for number in (2, 3, 4) for step in (broken("copy", number - 1, "copy"), started("copy", number))]
    assert row(requested(*UNTIL_COPY, *again)).counted == "attempt 4"


# --- holds


def hold(*more: tuple[Kind, dict[str, Any]]) -> timeline.Hold | None:
    asked = (Kind.HOLD_REQUESTED, {"by": "otto", "before": "copy"})
    return timeline.hold_of(requested(*both("rescue"), *both("wipe"), asked, *more))


def test_a_hold_knows_who_asked_for_it_and_since_when_it_stands() -> None:
    asked, held = hold(), hold((Kind.HELD, {"before": "copy"}))
    assert asked
    assert held
    assert (asked.before, asked.by, asked.since) == ("copy", "otto", None)
    assert held.since
    assert held.since > held.asked_at


def test_a_hold_is_over_when_it_is_released_or_the_install_is() -> None:
    assert hold((Kind.RELEASED, {"by": "otto"})) is None
    assert hold((Kind.HELD, {"before": "copy"}), (Kind.RELEASED, {"by": "otto"})) is None
    assert hold(RESET) is None


# --- time


def at(*moments: tuple[float, Kind, dict[str, Any]]) -> list[Event]:
    """A history at these minutes after its beginning."""
    return [
        Event(seq, kind, START + timedelta(minutes=minutes), data)
        for seq, (minutes, kind, data) in enumerate(moments, 1)
    ]


def minutes(span: timedelta) -> float:
    return span.total_seconds() / 60


def after(number: float) -> datetime:
    return START + timedelta(minutes=number)


IN_LINE_AND_HELD = at(
    (0, Kind.REQUESTED, {}),
    (60, Kind.PLANNED, {"steps": ["rescue", "copy"]}),
    (60, *started("rescue")),
    (62, *done("rescue")),
    (62, Kind.HOLD_REQUESTED, {"by": "otto", "before": "copy"}),
    (62, Kind.HELD, {"before": "copy"}),
    (90, Kind.RELEASED, {"by": "otto"}),
    (100, *started("copy")),
    (103, *done("copy")),
)


def test_neither_the_line_nor_a_hold_counts_as_time_that_an_install_takes() -> None:
    assert minutes(timeline.idle_time(IN_LINE_AND_HELD, after(103))) == 60 + 38
    assert timeline.usual_of([IN_LINE_AND_HELD]).total == 5 * 60


def test_time_on_hold_goes_on_counting_until_now() -> None:
    assert minutes(timeline.idle_time(IN_LINE_AND_HELD[:6], after(70))) == 60 + 8


def test_the_pause_before_another_attempt_counts_but_not_the_wait_for_a_person() -> None:
    tried = at(
        (0, Kind.REQUESTED, {}), (0, Kind.PLANNED, {"steps": ["copy"]}), (0, *started("copy")),
        (5, *broken("copy", resume_from="copy")), (6, *started("copy", 2)), (10, *broken("copy", 2)),
        (50, Kind.RETRIED, {"by": "otto", "step": "copy"}), (51, *started("copy", 3)),
    )  # fmt: skip
    assert minutes(timeline.idle_time(tried, after(60))) == 41


def test_a_clock_that_is_set_back_makes_no_time() -> None:
    events = at((10, Kind.REQUESTED, {}), (0, *started("rescue")))
    assert timeline.idle_time(events, after(0)) == timedelta()


# --- the step to look at


def test_a_held_install_is_looked_at_where_it_goes_on() -> None:
    held = requested(
        *both("rescue"), *both("wipe"), (Kind.HOLD_REQUESTED, {"before": "copy"}), (Kind.HELD, {"before": "copy"})
    )
    assert timeline.current_step(fold(held)) == "copy"
    assert timeline.current_step(fold(requested(*UNTIL_COPY, broken("copy")))) == "copy"


# --- where the server is


BOOTABLE = ("rescue", "wipe", "copy", "bootable", "reboot", "phone-home", "verify")


def course(*happened: tuple[Kind, dict[str, Any]]) -> list[Event]:
    return history((Kind.REQUESTED, {}), (Kind.PLANNED, {"steps": list(BOOTABLE)}), *happened)


INTO_RESCUE = (restarted("network"), *both("rescue"))
ERASED = (*INTO_RESCUE, *both("wipe"))
WRITTEN = (*ERASED, *both("copy"), *both("bootable"))
STARTED = (*WRITTEN, started("reboot"), restarted("disk"))


@pytest.mark.parametrize(
    ("happened", "where"),
    [
        ((), Whereabouts.UNTOUCHED),
        ((started("rescue"),), Whereabouts.UNTOUCHED),
        (INTO_RESCUE, Whereabouts.UNTOUCHED_IN_RESCUE),
        ((*INTO_RESCUE, started("wipe")), Whereabouts.ERASED),
        (ERASED, Whereabouts.ERASED),
        (WRITTEN, Whereabouts.WRITTEN),
        (STARTED, Whereabouts.STARTED),
        ((*STARTED, done("reboot"), started("phone-home"), restarted("network")), Whereabouts.WRITTEN),
        ((*STARTED, done("reboot"), *both("phone-home"), *both("verify")), Whereabouts.INSTALLED),
    ],
)
def test_where_a_server_is_follows_from_what_it_was_started_from_and_what_was_done(
    happened: Any, where: Whereabouts
) -> None:
    events = course(*happened)
    assert whereabouts(fold(events), events) is where


def test_a_cancel_during_the_restart_leaves_it_started() -> None:
    events = course(*WRITTEN, started("reboot"))
    assert whereabouts(fold(events), events) is Whereabouts.WRITTEN
    assert after_a_cancel(fold(events), events) is Whereabouts.STARTED


def test_every_place_is_said_of_the_server_by_its_name() -> None:
    for place in Whereabouts:
        for words in (place.value.now, place.value.cancel, place.value.reset):
            assert "web-14" in words.format("web-14")
        assert "{" not in place.value.short


# --- the whole history in words


EVERYTHING = history(
    (Kind.REQUESTED, {"by": "carla", "server": "web-14", "image": {"name": "Debian 12"}, "passphrase": "made"}),
    (Kind.PASSPHRASE_SHOWN, {"by": "carla"}),
    (Kind.PLANNED, {"steps": ["rescue", "copy"]}),
    started("rescue"),
    restarted("network"),
    (Kind.POWER_CYCLED, {"target": "network"}),
    (Kind.STEP_WAITING, {"step": "rescue", "attempt": 1, "reason": "the server to call from rescue"}),
    (Kind.RESCUE_READY, {"host_keys": [], "boot_id": "b"}),
    (Kind.STEP_SUCCEEDED, {"step": "rescue", "attempt": 1, "seconds": 55.2}),
    (Kind.HOLD_REQUESTED, {"by": "otto", "before": "copy"}),
    (Kind.HELD, {"before": "copy"}),
    (Kind.RELEASED, {"by": "otto"}),
    started("copy"),
    QUIET,
    (Kind.STEP_TALKS, {"step": "copy", "attempt": 1}),
    (Kind.READ_BACK, {"step": "copy", "attempt": 1, "certificate": {"findings": [{"what": "/dev/vda1", "ok": True}]}}),
    (Kind.TAKEN_OVER, {"from": "host-a:1", "by": "host-b:2"}),
    broken("copy", resume_from="copy"),
    started("copy", 2),
    broken("copy", 2),
    (Kind.RETRIED, {"by": "otto", "step": "copy"}),
    (Kind.PHONED_HOME, {"host_keys": [], "boot_id": "c"}),
    (Kind.CANCEL_REQUESTED, {"by": "carla"}),
    (Kind.CANCELLED, {"left": "in the rescue system, its disks erased"}),
    (Kind.RETRIED, {"by": "otto", "step": "rescue"}),
    RESET,
)


def test_every_kind_of_event_has_a_sentence_of_its_own() -> None:
    fold(EVERYTHING)
    assert {event.kind for event in EVERYTHING} == set(Kind)
    lines = chronicle(EVERYTHING)
    assert [line.seq for line in lines] == list(range(1, len(EVERYTHING) + 1))
    assert all(line.words[0].isupper() or line.words.startswith(("carla", "otto")) for line in lines)
    assert all(line.words.endswith(".") for line in lines)


@pytest.mark.parametrize(
    "sentence",
    [
        "carla requested it: Debian 12 on web-14.",
        "The server was restarted, to start from the network.",
        "Rescue was done after 0:55.",
        "otto asked to hold it before Copy the image.",
        "Held before Copy the image.",
        "otto released it.",
        "The disks were read back: all 1 things are as planned.",
        "Worker host-b:2 took over from host-a:1, which was not heard of any more.",
        "Copy the image failed: It broke. Another attempt follows, from Copy the image.",
        "Copy the image began, attempt 2.",
        "otto had it tried again, from Copy the image.",
        "carla asked to cancel it.",
        "Cancelled; the server was left in the rescue system, its disks erased.",
        "otto ended it by force: it hangs.",
    ],
)
def test_the_history_says_who_did_what_and_what_came_of_it(sentence: str) -> None:
    assert sentence in [line.words for line in chronicle(EVERYTHING)]

"""An install under random commands, legal and illegal: what is stored could have happened, and nothing is lost.

A hypothesis state machine over the real database, and writers that race. The judge of what could have happened knows
nothing of `deploy.events`' rules: it looks at the stored rows alone.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from deploy import errors, journal, queue
from deploy.events import IllegalEvent, Kind, State
from deploy.models import Install
from deploy.queue import Lease, LeaseLost
from tests.builders import make_install
from tests.deploy.situations import all_of, prove

STEPS = ("rescue", "wipe", "copy", "verify")
FAILURE = errors.failure("command-failed").to_json()

Command = tuple[Kind, Mapping[str, Any]]


# --- random commands


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
steps = st.sampled_from([*STEPS, "dance", ""])
attempts = st.integers(0, 4)
of_attempt = st.fixed_dictionaries({"step": steps, "attempt": attempts})


def told(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"step": steps, "attempt": attempts, **more})


calls = st.fixed_dictionaries({"host_keys": st.lists(texts, max_size=2), "boot_id": texts, "kernel": texts})
DATA: Mapping[Kind, st.SearchStrategy[dict[str, Any]]] = {
    Kind.REQUESTED: st.fixed_dictionaries({"by": texts}),
    Kind.PLANNED: st.fixed_dictionaries({"steps": st.just(list(STEPS))}),
    Kind.STEP_STARTED: of_attempt,
    Kind.STEP_WAITING: told(reason=texts, next=texts),
    Kind.STEP_SUCCEEDED: told(result=st.dictionaries(texts, texts, max_size=2), seconds=st.floats(0, 1e6)),
    Kind.STEP_FAILED: told(failure=st.just(FAILURE), resume_from=steps, seconds=st.floats(0, 1e6)),
    Kind.POWER_CYCLING: st.fixed_dictionaries({"target": texts}),
    Kind.POWER_CYCLED: st.fixed_dictionaries({"target": texts}),
    Kind.RESCUE_READY: calls,
    Kind.PHONED_HOME: calls,
    Kind.STEP_QUIET: told(since=st.just("2026-05-01T12:00:00+00:00"), command=texts, reason=texts),
    Kind.STEP_TALKS: of_attempt,
    Kind.READ_BACK: told(certificate=st.just({"schema": 1, "ok": True, "findings": []})),
    Kind.PASSPHRASE_SHOWN: st.fixed_dictionaries({"by": texts}),
    Kind.CANCEL_REQUESTED: st.fixed_dictionaries({"by": texts}),
    Kind.CANCELLED: st.fixed_dictionaries({"left": texts}),
    Kind.HOLD_REQUESTED: st.fixed_dictionaries({"by": texts, "before": steps}),
    Kind.HELD: st.fixed_dictionaries({"before": steps}),
    Kind.RELEASED: st.fixed_dictionaries({"by": texts}),
    Kind.FORCE_RESET: st.fixed_dictionaries({"by": texts, "reason": texts, "failure": st.just(FAILURE)}),
    Kind.RETRIED: st.fixed_dictionaries({"by": texts, "step": steps}),
    Kind.TAKEN_OVER: st.fixed_dictionaries({"from": texts, "by": texts}),
}
any_command = st.sampled_from(list(Kind)).flatmap(lambda kind: st.tuples(st.just(kind), DATA[kind]))


def next_commands(state: State) -> list[Command]:
    """What would bring the install on, or nearly: random commands alone would not come far."""
    step = state.next_step() or ""
    number = state.of(step).attempt
    attempt = {"step": step, "attempt": number}
    if not state.status.is_live:
        return [(Kind.RETRIED, {"step": name}) for name in STEPS]
    if not state.steps:
        return [(Kind.PLANNED, {"steps": list(STEPS)}), (Kind.CANCEL_REQUESTED, {})]
    if state.of(step).is_open:
        return [
            (Kind.STEP_SUCCEEDED, attempt | {"result": {"boot_id": "b"}, "seconds": 0.1}),
            (Kind.STEP_FAILED, attempt | {"failure": FAILURE}),
            *((Kind.STEP_FAILED, attempt | {"failure": FAILURE, "resume_from": name}) for name in STEPS),
            (Kind.STEP_WAITING, attempt | {"reason": "the machine"}),
            (Kind.STEP_QUIET, attempt | {"since": "2026-05-01T12:00:00+00:00"}),
            (Kind.STEP_TALKS, attempt),
            (Kind.READ_BACK, attempt | {"certificate": {}}),
        ]
    if state.cancel_requested:
        return [(Kind.CANCELLED, {"left": "as it was"})]
    if state.hold_before == step:
        return [(Kind.HELD, {"before": step}), (Kind.RELEASED, {})]
    later = STEPS[STEPS.index(step) :]
    begun = (Kind.STEP_STARTED, {"step": step, "attempt": number + 1})
    return [begun, begun, begun, *((Kind.HOLD_REQUESTED, {"before": name}) for name in later)]


# --- the judge


ENDED = {"succeeded", "failed", "cancelled"}
AFTER_THE_END = {Kind.RETRIED, Kind.POWER_CYCLED, Kind.RESCUE_READY, Kind.PHONED_HOME}
"""A retry, and what machines and BMCs still say."""


class Judge:
    """Reads a stored history from its beginning, and says what could not have happened."""

    def __init__(self) -> None:
        self.open = self.held = self.cancel = False
        self.hold = ""
        self.step = ""
        self.ended = ""
        self.attempts = dict.fromkeys(STEPS, 0)
        self.done: set[str] = set()

    def read(self, seq: int, kind: Kind, data: Mapping[str, Any]) -> None:
        assert (seq == 1) == (kind is Kind.REQUESTED)
        if self.ended:
            assert kind in AFTER_THE_END, f"{kind} after the end"
        getattr(self, f"_{kind.value}", lambda data: None)(data)

    def _mine(self, data: Mapping[str, Any]) -> None:
        assert self.open, "no attempt was open"
        assert (data["step"], data["attempt"]) == (self.step, self.attempts[self.step]), "it is of another attempt"

    def _step_started(self, data: Mapping[str, Any]) -> None:
        step = data["step"]
        assert not (self.open or self.held or self.cancel or self.hold == step)
        assert set(STEPS[: STEPS.index(step)]) <= self.done, "a step before it is not done"
        assert step not in self.done
        self.attempts[step] += 1
        assert data["attempt"] == self.attempts[step]
        self.step, self.open = step, True

    def _step_succeeded(self, data: Mapping[str, Any]) -> None:
        self._mine(data)
        self.open = False
        self.done.add(self.step)
        if self.done == set(STEPS):
            self.ended = "succeeded"

    def _step_failed(self, data: Mapping[str, Any]) -> None:
        self._mine(data)
        self.open = False
        if data.get("resume_from"):
            self._back_to(data["resume_from"])
        else:
            self.ended = "failed"

    def _step_waiting(self, data: Mapping[str, Any]) -> None:
        self._mine(data)

    _step_quiet = _step_talks = _step_waiting

    def _back_to(self, step: str) -> None:
        assert set(STEPS[: STEPS.index(step)]) <= self.done, "it would skip a step"
        self.done -= set(STEPS[STEPS.index(step) :])

    def _cancel_requested(self, data: Mapping[str, Any]) -> None:
        self.cancel = True

    def _cancelled(self, data: Mapping[str, Any]) -> None:
        assert self.cancel, "nobody asked for it"
        self.open, self.held, self.ended = False, False, "cancelled"

    def _hold_requested(self, data: Mapping[str, Any]) -> None:
        step = data["before"]
        assert not (self.held or self.cancel)
        assert step not in self.done
        assert not (self.open and step == self.step)
        self.hold = step

    def _held(self, data: Mapping[str, Any]) -> None:
        assert self.hold
        assert not self.open
        assert self.hold == next(step for step in STEPS if step not in self.done)
        self.held = True

    def _released(self, data: Mapping[str, Any]) -> None:
        assert self.hold, "it was neither held nor to be held"
        self.held, self.hold = False, ""

    def _force_reset(self, data: Mapping[str, Any]) -> None:
        self.open, self.held, self.ended = False, False, "failed"

    def _retried(self, data: Mapping[str, Any]) -> None:
        assert self.ended in ("failed", "cancelled")
        self.ended, self.cancel, self.held, self.hold = "", False, False, ""
        if any(self.attempts.values()):
            self._back_to(data["step"])


def judge(install: Install) -> None:
    """Reads what is stored; the row has to end as the judge says."""
    one = Judge()
    rows = list(install.events.order_by("seq").values_list("seq", "kind", "data"))
    for seq, kind, data in rows:
        try:
            one.read(seq, Kind(kind), data)
        except AssertionError as error:
            raise AssertionError(f"event {seq} ({kind}, {data}) was stored: {error}") from error
    row = Install.objects.get(pk=install.pk)
    assert row.status in ({one.ended} if one.ended else {"queued", "running", "waiting", "held"})
    assert (row.status == "held") == one.held
    # What the row still says of a request that came to nothing concerns nobody once it has ended.
    if not one.ended:
        assert (row.cancel_requested, row.hold_before) == (one.cancel, one.hold)


# --- the machine


REFUSALS = (IllegalEvent, LeaseLost)


class Life(RuleBasedStateMachine):
    """One install, its holders, and whoever writes into its history."""

    @initialize()
    def begin(self) -> None:
        self.point = transaction.atomic()
        self.point.__enter__()
        self.install = make_install()
        self.lease: Lease | None = None
        self.lost: list[Lease] = []
        self.stale = self.install.state()
        self.stored = 1
        self.now = timezone.now()

    def teardown(self) -> None:
        if hasattr(self, "point"):
            transaction.set_rollback(True)
            self.point.__exit__(None, None, None)

    # who holds it

    @rule(late=st.booleans())
    def claim(self, late: bool) -> None:
        """A worker takes it, another one's when that one has been silent for long."""
        self.now += queue.LEASE_TIME * 1.5 if late else timedelta(0)
        Install.objects.filter(pk=self.install.pk).update(wake_at=self.now)
        row = Install.objects.get(pk=self.install.pk)
        claimed = queue.claim("w", self.now)
        assert bool(claimed) == (row.is_live and (late or not self.lease))
        if claimed:
            self.lost += [self.lease] if self.lease else []
            self.lease = claimed[1]

    @precondition(lambda self: self.lease)
    @rule()
    def give_back(self) -> None:
        assert self.lease
        assert queue.release(self.lease, None, self.stored)
        self.lost.append(self.lease)
        self.lease = None

    # who writes

    @rule(command=any_command, data=st.data())
    def anybody_writes_anything(self, command: Command, data: st.DataObject) -> None:
        self.write(command, data)

    @rule(data=st.data())
    def somebody_writes_what_may_follow(self, data: st.DataObject) -> None:
        self.write(data.draw(st.sampled_from(next_commands(self.install.state()))), data)

    @rule(command=any_command)
    def something_is_missing_in_it(self, command: Command) -> None:
        """An event without its data is a defect of ours: it must not be stored."""
        kind, data = command
        before = all_of(self.install)
        if data:
            with pytest.raises((KeyError, *REFUSALS)), transaction.atomic():
                journal.append(self.install, kind, {"nothing": 1})
                raise KeyError  # some events need no data
            assert all_of(self.install) == before

    @rule()
    def somebody_remembers(self) -> None:
        """From now on `stale` is what this writer believes."""
        self.stale = self.install.state()

    def write(self, command: Command, data: st.DataObject) -> None:
        kind, said = command
        forged = Lease(self.install.pk, uuid4(), "forger", timezone.now(), timezone.now() + queue.LEASE_TIME)
        lease = data.draw(st.sampled_from([None, self.lease, self.lease, *self.lost[-1:], forged]), label="lease")
        known = data.draw(st.sampled_from([None, self.stale, self.install.state()]), label="known")
        right = lease is None or lease == self.lease
        before = all_of(self.install)
        try:
            state = journal.append(self.install, kind, said, lease=lease, known=known)
        except REFUSALS as refusal:
            assert right or isinstance(refusal, LeaseLost)
            assert all_of(self.install) == before
            return
        assert right, "written under a lease that is lost"
        self.stored += 1
        assert state.seq == self.stored
        assert state == self.install.state()
        if self.lease and not state.status.is_live:
            self.lost.append(self.lease)
            self.lease = None

    # what must always hold

    @invariant()
    def what_is_stored_could_have_happened(self) -> None:
        if hasattr(self, "install"):
            assert prove(self.install).seq == self.stored
            judge(self.install)
            row = Install.objects.get(pk=self.install.pk)
            assert row.lease_token == (self.lease.token if self.lease else None)


@pytest.mark.django_db
def test_whatever_is_commanded_only_what_could_have_happened_is_stored() -> None:
    some = settings(
        max_examples=30, stateful_step_count=40, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    run_state_machine_as_test(Life, settings=some)


# --- races


class Writer(threading.Thread):
    """Writes events of its own as fast as it can; `returned` are the numbers that it was given for them."""

    def __init__(self, install: Install, name: str, times: int, lease: Lease | None = None) -> None:
        super().__init__(name=name)
        self.install, self.times, self.lease = install, times, lease
        self.returned: dict[int, int] = {}
        self.refused = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            known = self.install.state() if self.lease else None
            for number in range(self.times):
                known = self.write(number, known)
        except BaseException as error:
            self.error = error
        finally:
            connection.close()

    def write(self, number: int, known: State | None) -> State | None:
        kind, data = self.command(number, known)
        try:
            state = journal.append(
                self.install, kind, {**data, "mark": f"{self.name} {number}"}, lease=self.lease, known=known
            )
        except IllegalEvent:
            self.refused += 1
            return self.install.state() if self.lease else None
        self.returned[number] = state.seq
        return state if self.lease else None

    def command(self, number: int, known: State | None) -> Command:
        return Kind.PHONED_HOME, {"boot_id": "b"}


class DriverLike(Writer):
    """Works its way through the steps from what it remembers of the history, and never comes to the end."""

    def command(self, number: int, known: State | None) -> Command:
        assert known
        kind, data = next_commands(known)[0]
        if (kind, data.get("step")) == (Kind.STEP_SUCCEEDED, "copy"):
            return Kind.STEP_FAILED, {**data, "failure": FAILURE, "resume_from": "rescue"}
        return kind, data


class PersonLike(Writer):
    """Asks for holds and takes them back: what it asks for makes what the other does illegal."""

    def command(self, number: int, known: State | None) -> Command:
        return (Kind.HOLD_REQUESTED, {"before": "wipe"}) if number % 2 == 0 else (Kind.RELEASED, {})


class Scripted(Writer):
    """Writes what it was given to write, one after the other."""

    def __init__(self, install: Install, name: str, script: Sequence[Command]) -> None:
        super().__init__(install, name, len(script))
        self.script = script

    def command(self, number: int, known: State | None) -> Command:
        return self.script[number]


ANYBODYS = st.sampled_from([
    *((Kind.HOLD_REQUESTED, {"before": step}) for step in STEPS[:3]),
    (Kind.RELEASED, {}), (Kind.CANCEL_REQUESTED, {}), (Kind.FORCE_RESET, {"failure": FAILURE}),
    (Kind.RETRIED, {"step": STEPS[0]}), (Kind.RESCUE_READY, {"boot_id": "a"}), (Kind.PHONED_HOME, {"boot_id": "b"}),
])  # fmt: skip
"""What people and machines may want at any time, whatever a worker is doing."""


@pytest.mark.django_db(transaction=True)
@settings(max_examples=20, deadline=None, database=None)
@given(st.lists(ANYBODYS, max_size=10), st.lists(ANYBODYS, max_size=10))
def test_whatever_two_writers_want_at_once_all_that_was_taken_is_stored_once_and_what_could_not_follow_is_not(
    one: Sequence[Command], other: Sequence[Command]
) -> None:
    install = make_install()
    journal.append(install, Kind.PLANNED, {"steps": list(STEPS), "mark": "planned"})
    writers = [Scripted(install, "one", one), Scripted(install, "other", other)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.error is None, writer.error
        assert len(writer.returned) + writer.refused == writer.times
    state = prove(install)
    judge(install)
    stored = {event.data["mark"]: event.seq for event in install.history()[2:]}
    assert len(stored) == state.seq - 2, "one event is there twice"
    assert stored == {f"{writer.name} {number}": seq for writer in writers for number, seq in writer.returned.items()}


@pytest.mark.django_db(transaction=True)
def test_of_two_writers_that_race_neither_loses_an_event_and_neither_writes_one_twice() -> None:
    install = make_install()
    claimed = queue.claim("w", timezone.now())
    assert claimed
    writers: list[Writer] = [
        DriverLike(install, "driver", 30, claimed[1]),
        PersonLike(install, "person", 40),
        Writer(install, "machine", 30),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.error is None, writer.error
    state = prove(install)
    judge(install)
    marked = {event.data["mark"]: event.seq for event in install.history()[1:]}
    assert len(marked) == state.seq - 1, "one event is there twice"
    given = {f"{writer.name} {number}": seq for writer in writers for number, seq in writer.returned.items()}
    assert given == marked
    assert [len(writer.returned) + writer.refused for writer in writers] == [30, 40, 30]
    assert len(writers[2].returned) == 30


@pytest.mark.django_db(transaction=True)
def test_of_two_drivers_that_race_for_one_install_one_writes_and_the_other_learns_it() -> None:
    """A worker that was taken for dead goes on at full speed while another one takes over."""
    install = make_install()
    now = timezone.now()
    first = queue.claim("first", now)
    assert first
    old = DriverLike(install, "old", 200, first[1])
    old.start()
    # a claim passes over a row that is being written: it is tried again, as a worker does
    late = now + queue.LEASE_TIME * 1.1
    second = next(claimed for _ in range(10_000) if (claimed := queue.claim("second", late)))
    after = journal.append(install, Kind.TAKEN_OVER, {"from": "first", "by": "second"}, lease=second[1])
    old.join(60)
    assert isinstance(old.error, LeaseLost)
    assert prove(install) == after
    assert max(old.returned.values(), default=1) < after.seq

"""The history of an install as values: events, and the state that they add up to.

Pure: no database, no clock. `fold(events)` is the truth about an install; the columns of its row are a copy of it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from typing import Any

Data = Mapping[str, Any]

GENESIS = "0" * 64
"""The digest before the first event."""
MOST_FAILED_ATTEMPTS = 20
"""So often an install may fail in any of its steps; then it is given up, and a person starts a new one."""


class Status(StrEnum):
    """Where an install stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker is at work on a step
    WAITING = "waiting"  # waits for the machine, or for the next attempt; nobody holds it
    HELD = "held"  # stopped by ops before a step, until it is released
    SUCCEEDED = "succeeded"  # somebody can log in
    FAILED = "failed"  # a step failed for good
    CANCELLED = "cancelled"  # stopped on request

    @property
    def is_live(self) -> bool:
        """Whether something can still happen by itself."""
        return self not in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


LIVE = tuple(status for status in Status if status.is_live)


class Blame(StrEnum):
    """Whose a failure is, and so who can mend it."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    HARDWARE = "hardware"


class Kind(StrEnum):
    """What can happen in the life of an install."""

    REQUESTED = "requested"  # somebody confirmed the review: inputs, approved plan
    PLANNED = "planned"  # the list of steps, chosen once
    STEP_STARTED = "step_started"  # an attempt at a step began
    STEP_WAITING = "step_waiting"  # the step waits for something, until a deadline
    STEP_SUCCEEDED = "step_succeeded"
    STEP_FAILED = "step_failed"  # with `resume_from` a new attempt follows, else it was the last
    # About to switch the server: written before, so that nobody does it twice. With `failure`: it is sent back to its
    # own disks, and then the install fails for it.
    POWER_CYCLING = "power_cycling"
    POWER_CYCLED = "power_cycled"
    RESCUE_READY = "rescue_ready"  # the rescue system called
    PHONED_HOME = "phoned_home"  # the installed system called
    STEP_QUIET = "step_quiet"  # its command has printed nothing for long
    STEP_TALKS = "step_talks"  # and now prints again
    READ_BACK = "read_back"  # what is on the disks was compared with the plan, before the new system was started
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"  # at a safe point, after it was requested
    HOLD_REQUESTED = "hold_requested"  # to be stopped before a step
    HELD = "held"  # stopped before that step
    RELEASED = "released"  # may go on, or need not stop any more
    FORCE_RESET = "force_reset"  # ended by ops whatever it was doing, without asking whoever drives it
    RETRIED = "retried"  # a failed or cancelled install goes on from a step
    TAKEN_OVER = "taken_over"  # another worker went on where one vanished
    PASSPHRASE_SHOWN = "passphrase_shown"  # somebody was shown the passphrase of the disks, for the only time


@dataclass(frozen=True, slots=True)
class Event:
    """One immutable row of an install's history; `seq` counts from 1."""

    seq: int
    kind: Kind
    at: datetime
    data: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step failed, in words for the one who has to mend it."""

    code: str
    blame: Blame
    message: str
    fix: str
    command: str = ""
    exit_status: int | None = None
    tail: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The failure as it stands in an event."""
        return {
            "code": self.code,
            "blame": self.blame.value,
            "message": self.message,
            "fix": self.fix,
            "command": self.command,
            "exit_status": self.exit_status,
            "tail": list(self.tail),
        }

    @classmethod
    def from_json(cls, data: Data) -> "Failure":
        """The failure out of an event."""
        return cls(**{**data, "blame": Blame(data["blame"]), "tail": tuple(data["tail"])})


class StepState(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepProgress:
    """What became of one step so far."""

    state: StepState = StepState.PENDING
    attempt: int = 0
    tries: int = 0
    """Attempts since a person last let the install go on: these are what a step's retries limit."""
    started_seq: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waiting_for: str = ""
    waiting_since: datetime | None = None
    quiet_since: datetime | None = None
    quiet_why: str = ""
    result: Data = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def is_open(self) -> bool:
        """Whether an attempt is under way."""
        return self.state in (StepState.RUNNING, StepState.WAITING)


@dataclass(frozen=True, slots=True)
class Call:
    """What a machine said when it called: the rescue system, or the installed one."""

    at: datetime
    host_keys: tuple[str, ...]
    boot_id: str
    seq: int
    data: Data


@dataclass(frozen=True, slots=True)
class State:
    """What a history adds up to.

    `certificate` is what was read back of the disks. `cycling` and `cycled` are the numbers of the events that tell
    of power cycles; `failed_attempts` counts over all steps; `digest` is the last link of the chain.
    """

    status: Status = Status.QUEUED
    steps: tuple[str, ...] = ()
    progress: Mapping[str, StepProgress] = field(default_factory=dict)
    step: str = ""
    rescue: Call | None = None
    phone_home: Call | None = None
    cancel_requested: bool = False
    hold_before: str = ""
    certificate: Data = field(default_factory=dict)
    failed_attempts: int = 0
    cycling: tuple[int, ...] = ()
    cycled: tuple[int, ...] = ()
    takeovers: int = 0
    """How many workers have vanished in a row without a step having begun or ended."""
    giving_up: Failure | None = None
    """The open attempt was the last one, and has failed for this; the server is being sent back to its disks first."""
    failure: Failure | None = None
    passphrase: str = ""
    """Of encrypted disks: `made` by us or `given` with the request; empty where nothing is encrypted."""
    passphrase_shown: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seq: int = 0
    digest: str = GENESIS

    def of(self, step: str) -> StepProgress:
        """What became of a step so far."""
        return self.progress.get(step, StepProgress())

    def result(self, step: str) -> Data:
        """What a finished step found out; empty before that."""
        return self.of(step).result

    @property
    def passphrase_is_known(self) -> bool:
        """Whether somebody has the passphrase of the disks, so that we need not keep it for their sake."""
        return self.passphrase != "made" or self.passphrase_shown

    def next_step(self) -> str | None:
        """The first step that is not done; None when all are."""
        return next((step for step in self.steps if self.of(step).state is not StepState.DONE), None)

    def is_done(self, step: str) -> bool:
        """Whether a step has succeeded."""
        return self.of(step).state is StepState.DONE


class IllegalEvent(Exception):
    """An event that cannot follow on this history; `why` is a clause that says what stands against it."""

    def __init__(self, event: Event, why: str) -> None:
        super().__init__(f"event {event.seq} ({event.kind.value}) cannot follow: {why}")
        self.why = why


def canonical(event: Event) -> bytes:
    """The event as bytes that are the same whatever database it was read from."""
    body = {"seq": event.seq, "kind": event.kind.value, "at": event.at.isoformat(), "data": event.data}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(previous: str, event: Event) -> str:
    """The link of the chain: SHA-256 of the predecessor's digest and of the event's canonical JSON."""
    return hashlib.sha256(previous.encode() + canonical(event)).hexdigest()


def fold(events: Iterable[Event]) -> State:
    """The state that a whole history adds up to; `IllegalEvent` when it cannot have happened."""
    return reduce(apply, events, State())


def apply(state: State, event: Event) -> State:
    """The state after one more event."""
    _require(event.seq == state.seq + 1, event, f"it should be number {state.seq + 1}")
    _require(bool(state.seq) == (event.kind is not Kind.REQUESTED), event, "a history begins with its request, once")
    after = _no_later(_RULES[event.kind](state, event), event.at)
    takeovers = 0 if event.kind in _PROGRESS else after.takeovers
    return replace(after, seq=event.seq, digest=digest(state.digest, event), takeovers=takeovers)


_PROGRESS = (Kind.STEP_STARTED, Kind.STEP_SUCCEEDED, Kind.STEP_FAILED, Kind.RETRIED)


def _no_later(state: State, at: datetime) -> State:
    """The state with no beginning of the open attempt later than this event.

    A later one was noted by a clock that has been set back since. Counted from it, the attempt would last until then,
    and its own time besides.
    """
    current = state.of(state.step)
    if not current.is_open or max(current.started_at or at, current.waiting_since or at) <= at:
        return state
    started, waiting = (time and min(time, at) for time in (current.started_at, current.waiting_since))
    return _with(state, state.step, replace(current, started_at=started, waiting_since=waiting))


def _require(condition: bool, event: Event, why: str) -> None:
    if not condition:
        raise IllegalEvent(event, why)


def _requested(state: State, event: Event) -> State:
    return replace(state, started_at=event.at, passphrase=event.data.get("passphrase", ""))


def _planned(state: State, event: Event) -> State:
    _require_live(state, event)
    _require(not state.steps, event, "the steps are chosen once")
    return replace(state, steps=tuple(event.data["steps"]))


def _step_started(state: State, event: Event) -> State:
    name, attempt = event.data["step"], event.data["attempt"]
    before = state.of(name)
    _require_live(state, event)
    _require(name == state.next_step(), event, f"the next step is {state.next_step()}")
    _require(before.state in (StepState.PENDING, StepState.FAILED), event, "an attempt is still open")
    _require(attempt == before.attempt + 1, event, f"the next attempt is {before.attempt + 1}")
    _require(not state.cancel_requested, event, "it is being cancelled")
    _require(state.status is not Status.HELD and state.hold_before != name, event, "it is to be held before it")
    started = StepProgress(StepState.RUNNING, attempt, before.tries + 1, started_seq=event.seq, started_at=event.at)
    return _with(replace(state, status=Status.RUNNING, step=name), name, started)


def _step_waiting(state: State, event: Event) -> State:
    name, open_ = _open_attempt(state, event)
    waiting = replace(open_, state=StepState.WAITING, waiting_for=event.data["reason"], waiting_since=event.at)
    return _with(replace(state, status=Status.WAITING), name, waiting)


def _step_succeeded(state: State, event: Event) -> State:
    name, open_ = _open_attempt(state, event)
    done = replace(_closed(open_, event, StepState.DONE), result=event.data.get("result") or {})
    state = _with(replace(state, status=Status.RUNNING), name, done)
    if state.next_step() is None:
        return replace(state, status=Status.SUCCEEDED, ended_at=event.at)
    return state


def _step_failed(state: State, event: Event) -> State:
    name, open_ = _open_attempt(state, event)
    failure = Failure.from_json(event.data["failure"])
    state = _with(state, name, _ended(open_, event, failure))
    state = replace(state, failed_attempts=state.failed_attempts + 1, giving_up=None)
    if resume_from := event.data.get("resume_from"):
        _require_reached(state, resume_from, event)
        return replace(_rewound(state, resume_from), status=Status.WAITING)
    return replace(state, status=Status.FAILED, failure=failure, hold_before="", ended_at=event.at)


def _power_cycling(state: State, event: Event) -> State:
    _require_live(state, event)
    failure = event.data.get("failure")
    giving_up = Failure.from_json(failure) if failure else None
    return replace(state, cycling=(*state.cycling, event.seq), giving_up=giving_up)


def _power_cycled(state: State, event: Event) -> State:
    return replace(state, cycled=(*state.cycled, event.seq))


def _rescue_ready(state: State, event: Event) -> State:
    return replace(state, rescue=_call(event))


def _phoned_home(state: State, event: Event) -> State:
    return replace(state, phone_home=_call(event))


def _cancel_requested(state: State, event: Event) -> State:
    _require_live(state, event)
    return replace(state, cancel_requested=True)


def _cancelled(state: State, event: Event) -> State:
    _require(state.cancel_requested, event, "nobody asked for it")
    _require_live(state, event)
    return replace(_cut_off(state, event), status=Status.CANCELLED, hold_before="", ended_at=event.at)


def _hold_requested(state: State, event: Event) -> State:
    step = event.data["before"]
    _require_live(state, event)
    _require(state.status is not Status.HELD, event, f"it is held before {state.hold_before} already")
    _require(not state.cancel_requested, event, "it is being cancelled")
    _require(not state.steps or step in state.steps, event, f"the install has no step {step}")
    progress = state.of(step)
    _require(not progress.is_open and progress.state is not StepState.DONE, event, f"the step {step} has begun")
    return replace(state, hold_before=step)


def _held(state: State, event: Event) -> State:
    _require_live(state, event)
    _require(bool(state.hold_before) and state.hold_before == state.next_step(), event, "nobody asked for it")
    _require(not state.of(state.hold_before).is_open, event, "the step has begun")
    return replace(state, status=Status.HELD)


def _released(state: State, event: Event) -> State:
    _require_live(state, event)
    _require(bool(state.hold_before), event, "it is neither held nor to be held")
    status = Status.QUEUED if state.status is Status.HELD else state.status
    return replace(state, hold_before="", status=status)


def _force_reset(state: State, event: Event) -> State:
    _require_live(state, event)
    failure = Failure.from_json(event.data["failure"])
    state = _cut_off(state, event, failure)
    return replace(state, status=Status.FAILED, failure=failure, hold_before="", ended_at=event.at)


def _retried(state: State, event: Event) -> State:
    _require(state.status in (Status.FAILED, Status.CANCELLED), event, f"the install is {state.status.value}")
    # an install that ended before its steps were chosen begins anew, from whatever comes first
    if state.steps:
        _require_reached(state, event.data["step"], event)
        state = _rewound(state, event.data["step"])
    fresh = {name: replace(progress, tries=0) for name, progress in state.progress.items()}
    return replace(
        state, progress=fresh, status=Status.QUEUED, failure=None, ended_at=None, cancel_requested=False, hold_before=""
    )


def _taken_over(state: State, event: Event) -> State:
    _require_live(state, event)
    return replace(state, takeovers=state.takeovers + 1)


def _passphrase_shown(state: State, event: Event) -> State:
    _require(bool(state.passphrase), event, "nothing on its disks is encrypted")
    _require(not state.passphrase_shown, event, "the passphrase was shown already, and is shown once")
    return replace(state, passphrase_shown=True)


def _step_quiet(state: State, event: Event) -> State:
    name, open_ = _open_attempt(state, event)
    since = datetime.fromisoformat(event.data["since"])
    return _with(state, name, replace(open_, quiet_since=since, quiet_why=event.data.get("reason", "")))


def _step_talks(state: State, event: Event) -> State:
    name, open_ = _open_attempt(state, event)
    return _with(state, name, replace(open_, quiet_since=None, quiet_why=""))


def _read_back(state: State, event: Event) -> State:
    _open_attempt(state, event)
    return replace(state, certificate=event.data["certificate"])


_RULES = {
    Kind.REQUESTED: _requested,
    Kind.PLANNED: _planned,
    Kind.STEP_STARTED: _step_started,
    Kind.STEP_WAITING: _step_waiting,
    Kind.STEP_SUCCEEDED: _step_succeeded,
    Kind.STEP_FAILED: _step_failed,
    Kind.POWER_CYCLING: _power_cycling,
    Kind.POWER_CYCLED: _power_cycled,
    Kind.RESCUE_READY: _rescue_ready,
    Kind.PHONED_HOME: _phoned_home,
    Kind.CANCEL_REQUESTED: _cancel_requested,
    Kind.CANCELLED: _cancelled,
    Kind.HOLD_REQUESTED: _hold_requested,
    Kind.HELD: _held,
    Kind.RELEASED: _released,
    Kind.FORCE_RESET: _force_reset,
    Kind.STEP_QUIET: _step_quiet,
    Kind.STEP_TALKS: _step_talks,
    Kind.READ_BACK: _read_back,
    Kind.RETRIED: _retried,
    Kind.TAKEN_OVER: _taken_over,
    Kind.PASSPHRASE_SHOWN: _passphrase_shown,
}


def _require_live(state: State, event: Event) -> None:
    _require(state.status.is_live, event, f"the install has ended, it is {state.status.value}")


def _require_reached(state: State, step: str, event: Event) -> None:
    _require(step in state.steps, event, f"the install has no step {step}")
    before = state.steps[: state.steps.index(step)]
    _require(all(state.is_done(name) for name in before), event, f"the steps before {step} are not done")


def _open_attempt(state: State, event: Event) -> tuple[str, StepProgress]:
    name = event.data["step"]
    progress = state.of(name)
    _require_live(state, event)
    _require(progress.is_open, event, f"no attempt at {name} is open")
    _require(event.data["attempt"] == progress.attempt, event, f"the open attempt is {progress.attempt}")
    return name, progress


def _closed(attempt: StepProgress, event: Event, state: StepState) -> StepProgress:
    return replace(
        attempt, state=state, ended_at=event.at, waiting_for="", waiting_since=None, quiet_since=None, quiet_why=""
    )


def _ended(attempt: StepProgress, event: Event, failure: Failure | None = None) -> StepProgress:
    return replace(_closed(attempt, event, StepState.FAILED), failure=failure)


def _cut_off(state: State, event: Event, failure: Failure | None = None) -> State:
    """The state without an open attempt: the one that there was has ended without success."""
    current = state.of(state.step)
    state = replace(state, giving_up=None)
    return _with(state, state.step, _ended(current, event, failure)) if current.is_open else state


def _with(state: State, name: str, progress: StepProgress) -> State:
    return replace(state, progress={**state.progress, name: progress})


def _rewound(state: State, step: str) -> State:
    """The same state with `step` and all after it to be done again; attempts count on."""
    again: Sequence[str] = state.steps[state.steps.index(step) :]
    progress = dict(state.progress)
    for name in again:
        if name in progress and progress[name].state is not StepState.FAILED:
            progress[name] = StepProgress(attempt=progress[name].attempt, tries=progress[name].tries)
    return replace(state, progress=progress, step=step)


def _call(event: Event) -> Call:
    data = event.data
    return Call(event.at, tuple(data.get("host_keys", ())), data.get("boot_id", ""), event.seq, data)

"""The history of an install as a person reads it: steps with their attempts, times, and what is usual. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from .events import Event, Failure, Kind, State, Status, StepState


@dataclass(frozen=True, slots=True)
class Usual:
    """How long things usually take, in seconds: each step, and the whole; None when nothing is known yet."""

    steps: Mapping[str, float] = field(default_factory=dict)
    total: float | None = None


NOTHING_USUAL = Usual()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a step waits for, since when, when somebody looks again, and what happens then if nothing has come."""

    reason: str
    since: datetime
    look_at: datetime | None = None
    next: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a step."""

    number: int
    state: StepState
    started_at: datetime
    ended_at: datetime | None = None
    waiting: Waiting | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step on the timeline: where it stands, and every attempt at it."""

    name: str
    title: str
    state: StepState
    attempts: tuple[Attempt, ...] = ()
    tries: int = 1
    limit: timedelta | None = None
    usual: float | None = None
    stopped: bool = False

    @property
    def latest(self) -> Attempt | None:
        """The open attempt, or the last one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def look(self) -> str:
        """The state that it is shown as: a step that was cut off by a cancel has not failed."""
        return "cancelled" if self.stopped else self.state.value

    @property
    def is_open(self) -> bool:
        """Whether it is at work or waits."""
        return self.state in (StepState.RUNNING, StepState.WAITING)


def attempts_of(history: Iterable[Event]) -> dict[str, tuple[Attempt, ...]]:
    """Every attempt at every step that was started, in order; an attempt that was cut off by a cancel has failed."""
    found: dict[str, list[Attempt]] = defaultdict(list)
    current = ""
    for event in history:
        if event.kind is Kind.STEP_STARTED:
            current = event.data["step"]
            found[current].append(Attempt(event.data["attempt"], StepState.RUNNING, event.at))
        elif event.kind in _CHANGES:
            attempts = found[event.data["step"]]
            attempts[-1] = _CHANGES[event.kind](attempts[-1], event)
        elif event.kind is Kind.CANCELLED and current and found[current][-1].ended_at is None:
            found[current][-1] = replace(found[current][-1], state=StepState.FAILED, ended_at=event.at, waiting=None)
    return {step: tuple(attempts) for step, attempts in found.items()}


def _waits(attempt: Attempt, event: Event) -> Attempt:
    """The attempt as it waits; when it waits on for the same thing, it does so since the first time."""
    data = event.data
    before = attempt.waiting
    since = before.since if before and before.reason == data["reason"] else event.at
    look_at = datetime.fromisoformat(data["until"]) if data.get("until") else None
    waiting = Waiting(data["reason"], since, look_at, data.get("next", ""))
    return replace(attempt, state=StepState.WAITING, waiting=waiting)


def _succeeds(attempt: Attempt, event: Event) -> Attempt:
    return replace(attempt, state=StepState.DONE, ended_at=event.at, waiting=None)


def _fails(attempt: Attempt, event: Event) -> Attempt:
    failure = Failure.from_json(event.data["failure"])
    retry_at = datetime.fromisoformat(event.data["retry_at"]) if event.data.get("retry_at") else None
    return replace(attempt, state=StepState.FAILED, ended_at=event.at, waiting=None, failure=failure, retry_at=retry_at)


_CHANGES = {Kind.STEP_WAITING: _waits, Kind.STEP_SUCCEEDED: _succeeds, Kind.STEP_FAILED: _fails}


def usual_of(histories: Sequence[Sequence[Event]]) -> Usual:
    """The medians over some installs that succeeded: of each step's successful attempt, and from request to login."""
    took: dict[str, list[float]] = defaultdict(list)
    for history in histories:
        for step, attempts in attempts_of(history).items():
            if (seconds := attempts[-1].seconds) is not None:
                took[step].append(seconds)
    totals = [(history[-1].at - history[0].at).total_seconds() for history in histories if history]
    return Usual({step: median(those) for step, those in took.items()}, median(totals) if totals else None)


def past_no_return(state: State) -> bool:
    """Whether the disks may have been touched: a cancel now leaves the server in rescue, without its system."""
    return state.of("wipe").state is not StepState.PENDING or state.of("wipe").attempt > 0


def current_step(state: State) -> str:
    """The step to look at: the open one, the failed one, else the one that is next; the last one at the end."""
    if state.status is Status.SUCCEEDED:
        return state.steps[-1]
    return state.step or state.next_step() or ""

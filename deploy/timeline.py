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
class Quiet:
    """Since when a step has been silent, and why: a command that prints nothing, or nobody who answers."""

    since: datetime
    why: str
    detail: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a step. Where another one follows, `resume_from` is the step with which it begins."""

    number: int
    state: StepState
    started_at: datetime
    ended_at: datetime | None = None
    waiting: Waiting | None = None
    quiet: Quiet | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None
    resume_from: str = ""

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
    tries: int = 0
    """Attempts since a person last let the install go on: only these are limited, by `most`."""
    most: int = 1
    limit: timedelta | None = None
    usual: float | None = None
    stopped: bool = False

    @property
    def latest(self) -> Attempt | None:
        """The open attempt, or the last one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def given_up_at(self) -> datetime | None:
        """When the open attempt is out of time."""
        latest = self.latest
        return latest.started_at + self.limit if latest and self.limit and not latest.ended_at else None

    @property
    def counted(self) -> str:
        """Which attempt it is, of how many: `attempt 2 of 3`."""
        if not self.latest:
            return ""
        words = f"attempt {self.latest.number}"
        if not 0 < self.tries <= self.most:
            return words  # a rescue system that is lost before the wipe is booted again as often as it takes
        if self.tries == self.latest.number:
            return f"{words} of {self.most}"
        return f"{words}, {self.tries} of {self.most} since somebody had it tried again"

    @property
    def look(self) -> str:
        """The state that it is shown as: a step that was cut off by a cancel has not failed."""
        return "cancelled" if self.stopped else self.state.value

    @property
    def is_open(self) -> bool:
        """Whether it is at work or waits."""
        return self.state in (StepState.RUNNING, StepState.WAITING)


def attempts_of(history: Iterable[Event]) -> dict[str, tuple[Attempt, ...]]:
    """Every attempt at every step that was started, in order; an attempt that was cut off has failed."""
    found: dict[str, list[Attempt]] = defaultdict(list)
    current, boots = "", ""
    for event in history:
        step = event.data.get("step", current) if event.kind in _CHANGES else current
        if event.kind is Kind.STEP_STARTED:
            current = event.data["step"]
            found[current].append(Attempt(event.data["attempt"], StepState.RUNNING, event.at))
        elif event.kind is Kind.POWER_CYCLING:
            boots = event.data.get("target", "")
        elif change := _CHANGES.get(event.kind) or _BESIDE.get((event.kind, boots)):
            attempts = found[step]
            if attempts and not attempts[-1].ended_at:
                attempts[-1] = change(attempts[-1], event)
    return {step: tuple(attempts) for step, attempts in found.items() if attempts}


def _waits(attempt: Attempt, event: Event) -> Attempt:
    """The attempt as it waits; when it waits on for the same thing, it does so since the first time."""
    data = event.data
    before = attempt.waiting
    since = before.since if before and before.reason == data["reason"] else event.at
    look_at = datetime.fromisoformat(data["until"]) if data.get("until") else None
    waiting = Waiting(data["reason"], since, look_at, data.get("next", ""))
    return replace(attempt, state=StepState.WAITING, waiting=waiting)


def _quietens(attempt: Attempt, event: Event) -> Attempt:
    why, _, detail = event.data.get("reason", "nothing printed").partition(": ")
    since = datetime.fromisoformat(event.data["since"])
    return replace(attempt, quiet=Quiet(since, why, detail, event.data.get("command", "")))


def _talks(attempt: Attempt, event: Event) -> Attempt:
    return replace(attempt, quiet=None)


def _ends(attempt: Attempt, event: Event, state: StepState) -> Attempt:
    return replace(attempt, state=state, ended_at=event.at, waiting=None, quiet=None)


def _succeeds(attempt: Attempt, event: Event) -> Attempt:
    return _ends(attempt, event, StepState.DONE)


def _fails(attempt: Attempt, event: Event) -> Attempt:
    retry_at = datetime.fromisoformat(event.data["retry_at"]) if event.data.get("retry_at") else None
    return replace(
        _ends(attempt, event, StepState.FAILED), failure=Failure.from_json(event.data["failure"]),
        retry_at=retry_at, resume_from=event.data.get("resume_from", ""),
    )  # fmt: skip


def _called(attempt: Attempt, event: Event) -> Attempt:
    """What it was restarted for has come: it waits no more, and goes on with it."""
    return replace(attempt, state=StepState.RUNNING, waiting=None)


def _cut_off(attempt: Attempt, event: Event) -> Attempt:
    failure = Failure.from_json(event.data["failure"]) if "failure" in event.data else None
    return replace(_ends(attempt, event, StepState.FAILED), failure=failure)


_CUTS = (Kind.CANCELLED, Kind.FORCE_RESET)
_CHANGES = {
    Kind.STEP_WAITING: _waits,
    Kind.STEP_QUIET: _quietens,
    Kind.STEP_TALKS: _talks,
    Kind.STEP_SUCCEEDED: _succeeds,
    Kind.STEP_FAILED: _fails,
    **dict.fromkeys(_CUTS, _cut_off),
}
_BESIDE = {(Kind.RESCUE_READY, "network"): _called, (Kind.PHONED_HOME, "disk"): _called}
"""A machine's call, when the server was last started from where such a call comes."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish to hold an install before a step; `since` when it stands there, None while it is on its way."""

    before: str
    by: str
    asked_at: datetime
    since: datetime | None = None


def hold_of(history: Iterable[Event]) -> Hold | None:
    """The hold that is in force at the end of a history."""
    hold = None
    for event in history:
        if event.kind is Kind.HOLD_REQUESTED:
            hold = Hold(event.data["before"], event.data.get("by", ""), event.at)
        elif event.kind is Kind.HELD and hold:
            hold = replace(hold, since=event.at)
        elif event.kind in (Kind.RELEASED, Kind.RETRIED, *_CUTS):
            hold = None
    return hold


def idle_time(history: Iterable[Event], until: datetime) -> timedelta:
    """How long nothing was done nor waited for: the install stood in line, was held, or had ended before a retry."""
    total, since = timedelta(), None
    for event in history:
        if since is None and _rests(event):
            since = event.at
        elif since is not None and event.kind is Kind.STEP_STARTED:
            total, since = total + _span(since, event.at), None
    return total + (_span(since, until) if since else timedelta())


def _rests(event: Event) -> bool:
    if event.kind is Kind.STEP_FAILED:
        return not event.data.get("resume_from")
    return event.kind in (Kind.REQUESTED, Kind.HELD, *_CUTS)


def _span(since: datetime, until: datetime) -> timedelta:
    """The time between; none when the clock was set back meanwhile."""
    return max(until - since, timedelta())


def usual_of(histories: Sequence[Sequence[Event]]) -> Usual:
    """The medians over some installs that succeeded: of each step's successful attempt, and of the whole.

    The whole is what lies between request and login, without the time in line or on hold.
    """
    took: dict[str, list[float]] = defaultdict(list)
    for history in histories:
        for step, attempts in attempts_of(history).items():
            if (seconds := attempts[-1].seconds) is not None:
                took[step].append(seconds)
    totals = [_worked(history).total_seconds() for history in histories if history]
    return Usual({step: median(those) for step, those in took.items()}, median(totals) if totals else None)


def _worked(history: Sequence[Event]) -> timedelta:
    end = history[-1].at
    return _span(history[0].at, end) - idle_time(history, end)


def past_no_return(state: State) -> bool:
    """Whether the disks may have been touched: a cancel now leaves the server in rescue, without its system."""
    return state.of("wipe").state is not StepState.PENDING or state.of("wipe").attempt > 0


def current_step(state: State) -> str:
    """The step to look at: the open one, the failed one, else the one that is next; the last one at the end."""
    if state.status is Status.SUCCEEDED:
        return state.steps[-1]
    goes_on = state.status.is_live and state.is_done(state.step)
    return (state.next_step() if goes_on or not state.step else state.step) or ""

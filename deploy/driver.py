"""One worker's work on one install: from where its history stands to the next wait, the end, or a failure.

The driver decides nothing by memory: it folds the history, does the next thing, and appends what happened. So it does
not matter who drove the install before, or how that ended.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.utils import timezone

from images.flavours import EFI_LOADER
from metadata import boot
from servers.power import PowerCode, PowerError, Target, power_of

from . import errors, live, queue
from .bound import bound
from .context import steps_of
from .control import Line, StepControl, patient
from .events import MOST_FAILED_ATTEMPTS, Failure, IllegalEvent, Kind, State, Status, StepProgress, StepState
from .journal import Happening
from .leased import Cancelled, Leased, Look, Stopping
from .logbook import Pen
from .models import Install
from .queue import Lease, LeaseLost
from .step import Outcome, Step, StepFailed, WaitUntil, failed
from .steps import POINT_OF_NO_RETURN, STEPS

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(minutes=1)
"""How long an install sleeps at most: nothing depends on it, it mends a wake-up that was lost."""
FIRST_PAUSE = timedelta(seconds=5)
"""Before the second attempt at a step; doubles with every further one."""
LONGEST_PAUSE = timedelta(minutes=5)

MOST_TAKEOVERS = 20
"""So many workers in a row may vanish in one attempt. What ends every one of them would go on to end those to come."""

CLOCKS_DIFFER = timedelta(seconds=10)
"""So much the clocks of two hosts may differ."""


class Driver:
    """Drives one leased install; `stopping` makes it let go at the next moment at which nothing is lost."""

    def __init__(
        self,
        install: Install,
        lease: Lease,
        stopping: threading.Event,
        steps: Mapping[str, Step] = STEPS,
        look: Look | None = None,
        pen: Pen | None = None,
    ) -> None:
        self.install = install
        self.lease = lease
        self.steps = steps
        self._leased = Leased(install, lease, stopping, look, pen)
        self._line = Line(self._leased)

    @property
    def state(self) -> State:
        """The history as far as this worker knows it."""
        return self._leased.state

    def drive(self) -> None:
        """Goes on until the install waits, has ended, or the worker is stopped; then the lease is given back."""
        try:
            if self.lease.taken_from:
                self._take_over()
            wake_at = self._advance()
        except Stopping:
            wake_at = timezone.now()
        finally:
            self._line.hang_up()
        sleeps = queue.release(self.lease, wake_at, self.state.seq)
        if not sleeps or (wake_at and wake_at <= timezone.now()):
            live.nudge(self.install.uuid, self.install.project_id)

    def _take_over(self) -> None:
        self._leased.append(Kind.TAKEN_OVER, {"from": self.lease.taken_from, "by": self.lease.worker})
        if self.state.takeovers < MOST_TAKEOVERS:
            return
        said = f"{MOST_TAKEOVERS} workers in a row have vanished or broken while they were at this."
        failure = errors.failure("internal-error", said)
        reset = {"by": "Landfall", "reason": said, "failure": failure.to_json()}
        self._leased.append(Kind.FORCE_RESET, reset)

    def _advance(self) -> datetime | None:
        """When to look again, once there is nothing more to do now; None when only an event can change that."""
        if not self.state.steps and self.state.status.is_live:
            self._leased.append(Kind.PLANNED, {"steps": list(steps_of(self.install.image))})
        while self.state.status.is_live:
            self._leased.check_stop()
            seen = self.state.seq
            try:
                wake_at = self._next()
            except IllegalEvent:
                # Somebody's request came between our look and our event: with it in the history, look again.
                if self._leased.refresh().seq == seen:
                    raise
            else:
                if wake_at or self.state.status is Status.HELD:
                    return wake_at
        return None

    def _next(self) -> datetime | None:
        """Does what comes next, one step at most; when to look again, or None to go on at once."""
        step = self.steps[str(self.state.next_step())]
        is_open = self.state.of(step.name).is_open
        if self.state.giving_up:
            self._give_up(step, self.state.giving_up)
            return None
        if self.state.cancel_requested and (step.cancellable or not is_open):
            self._cancel()
            return None
        if self.state.hold_before == step.name and not is_open:
            if self.state.status is not Status.HELD:
                self._leased.append(Kind.HELD, {"before": step.name})
            return None
        try:
            if not is_open:
                self._leased.append(
                    Kind.STEP_STARTED, {"step": step.name, "attempt": self.state.of(step.name).attempt + 1}
                )
            seen = self.state.seq
            with bound(step=step.name, attempt=self.state.of(step.name).attempt):
                outcome = self._perform(step)
        except Cancelled:
            self._leased.refresh()
            self._cancel()
            return None
        except StepFailed as error:
            return self._fail(step, error)
        if isinstance(outcome, WaitUntil):
            wake_at = self._wait(step, outcome)
            # Beside an event of ours the machine may have called, and would not wake us any more: look once again.
            return wake_at if self.state.seq == seen else None
        result = self._ended(step) | {"result": outcome.result}
        self._leased.append(Kind.STEP_SUCCEEDED, result, then=self._start_of_next(step))
        return None

    def _start_of_next(self, step: Step) -> Happening | None:
        """The event that begins the step behind this one: written with this one's end, it costs next to nothing."""
        left = [name for name in self.state.steps if name != step.name and not self.state.is_done(name)]
        if not left or self._leased.stopping.is_set():
            return None
        return Kind.STEP_STARTED, {"step": left[0], "attempt": self.state.of(left[0]).attempt + 1}

    def _perform(self, step: Step) -> Outcome:
        control = StepControl(self._leased, self._line, step)
        try:
            outcome = step.perform(control)
            # What came while nobody was there to look is not too late; only to wait on there is no time left.
            if isinstance(outcome, WaitUntil) and not control.may_wait_for(outcome.reason):
                raise StepFailed(step.timed_out(patient(control.timeout)))
            return outcome
        except PowerError as error:
            # Trying a wrong password again locks the account of many a BMC.
            final = error.code == PowerCode.REFUSED.value
            raise failed(error.code, error.message, fix=error.fix, final=final) from error
        except (StepFailed, Cancelled, Stopping, LeaseLost, IllegalEvent, DatabaseError):
            raise
        except Exception as error:
            log.exception("%s: step %s broke", self.install, step.name)
            said = f"Landfall itself failed in this step: {type(error).__name__}."
            raise failed("internal-error", said) from error

    def _wait(self, step: Step, outcome: WaitUntil) -> datetime:
        progress = self.state.of(step.name)
        if progress.state is not StepState.WAITING or progress.waiting_for != outcome.reason or _is_ahead(progress):
            data = {"step": step.name, "attempt": progress.attempt, "reason": outcome.reason, "next": outcome.next}
            self._leased.append(Kind.STEP_WAITING, data | {"until": outcome.look_at.isoformat()})
        self._leased.store_log()
        return min(outcome.look_at, timezone.now() + LONGEST_WAIT)

    def _fail(self, step: Step, error: StepFailed) -> datetime | None:
        """Another attempt after a pause that grows, as long as there are any left; else the end."""
        tries = self.state.of(step.name).tries
        resume_from = resume_after(self.state, step, error)
        if resume_from is None:
            failure = error.failure
            if self.state.failed_attempts + 1 >= MOST_FAILED_ATTEMPTS:
                failure = _worn_out(failure)
            self._give_up(step, failure)
            return None
        retry_at: datetime = timezone.now() + min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE)
        again = {"resume_from": resume_from, "retry_at": retry_at.isoformat()}
        self._leased.append(Kind.STEP_FAILED, self._ended(step) | {"failure": error.failure.to_json()} | again)
        return retry_at

    def _give_up(self, step: Step, failure: Failure) -> None:
        """The end. A server that nothing was done to runs again before that: nobody would look after it later."""
        untouched = not self.state.of(POINT_OF_NO_RETURN).attempt
        left = {"left": self._send_back(failure)} if untouched else {}
        self._leased.append(Kind.STEP_FAILED, self._ended(step) | {"failure": failure.to_json()} | left)

    def _ended(self, step: Step) -> dict[str, Any]:
        """What the event that ends an attempt says of it; `seconds` are counted from its start."""
        progress = self.state.of(step.name)
        took = timezone.now() - (progress.started_at or timezone.now())
        # a clock that was set back meanwhile would make it negative
        seconds = round(max(took.total_seconds(), 0), 3)
        return {"step": step.name, "attempt": progress.attempt, "seconds": seconds}

    def _cancel(self) -> None:
        """Before the wipe the server is sent back to what it had; after it, it is left where it is."""
        untouched = not self.state.of(POINT_OF_NO_RETURN).attempt
        self._leased.append(Kind.CANCELLED, {"left": self._send_back() if untouched else left_behind(self.state)})

    def _send_back(self, failure: Failure | None = None) -> str:
        """The server, untouched so far, starts from its own disks again; how it was left.

        Told before it is done, as every restart: a worker that finds the word of one that has died does the same.
        """
        with self._leased.fenced():
            boot.direct_to_disk(self.install.server, EFI_LOADER)
        if not self.state.cycling:
            return "as it was"
        where = {"target": Target.DISK.value, "persistent": False, "step": self.state.step, "back": True}
        why = {"failure": failure.to_json()} if failure else {}
        try:
            power = power_of(self.install.server, self._leased.renew)
            if power.needs_hands:
                return "in the rescue system, its disks untouched, until somebody switches it off and on"
            self._leased.append(Kind.POWER_CYCLING, where | why)
            power.boot_from(Target.DISK)
            power.reset()
        except PowerError as error:
            return f"unchanged, but not restarted: {error}"
        self._leased.append(Kind.POWER_CYCLED, where)
        return "as it was, and restarted from its own disks"


def _is_ahead(progress: StepProgress) -> bool:
    """Whether the clock was set back since the attempt began: it has to be noted, else no deadline comes nearer."""
    latest = timezone.now() + CLOCKS_DIFFER
    return any(time and time > latest for time in (progress.started_at, progress.waiting_since))


def resume_after(state: State, step: Step, error: StepFailed) -> str | None:
    """From which step an attempt that has failed is followed by another one; None when it was the last.

    A rescue system that was lost is booted again: before the wipe always, as nothing was lost with it; after it as
    long as the step has attempts left. No install fails more than `MOST_FAILED_ATTEMPTS` times.
    """
    lost = error.failure.code == "rescue-lost"
    untouched = not state.of(POINT_OF_NO_RETURN).attempt
    if error.final or state.failed_attempts + 1 >= MOST_FAILED_ATTEMPTS:
        return None
    if state.of(step.name).tries > step.retries and not (lost and untouched):
        return None
    return state.steps[0] if lost else step.retry_from or step.after_crash


def left_behind(state: State) -> str:
    """Where a cancel after the wipe leaves the server, and in what state."""
    if not state.is_done("reboot"):
        return "in the rescue system, its disks erased"
    if any(seq > state.of("phone-home").started_seq for seq in state.cycling):
        return "in the rescue system, with the new system on its disks"
    return "started from its disks, the new system on them not verified"


def _worn_out(failure: Failure) -> Failure:
    return replace(
        failure,
        fix=f"{failure.fix} This install has failed {MOST_FAILED_ATTEMPTS} times and is not tried again: start a new "
        "one when the cause is mended.",
    )

"""An install followed in a terminal: one line a step, a bar for the copy, the time that it takes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TextIO

from django.utils import timezone

from . import logs
from .events import State, Status, StepProgress, StepState
from .models import Install, LogChunk
from .steps import STEPS

_MARKS = {
    StepState.PENDING: "○",
    StepState.RUNNING: "●",
    StepState.WAITING: "◌",
    StepState.DONE: "✓",
    StepState.FAILED: "✗",
}
_BAR = 30


def clock(span: timedelta) -> str:
    """A span of time as people read it: 0:51, 4:12, 1:02:03."""
    minutes, seconds = divmod(max(0, int(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def bar(percent: float) -> str:
    """A bar of fixed width, filled to `percent`."""
    full = round(_BAR * min(percent, 100) / 100)
    return "█" * full + "░" * (_BAR - full)


@dataclass(slots=True)
class Follower:
    """Prints what happens to an install until it has ended."""

    install: Install
    out: TextIO
    interval: float = 1.0
    quarters: set[tuple[str, int]] = field(default_factory=set)

    def follow(self) -> Status:
        """How the install ended."""
        printed: set[tuple[str, int]] = set()
        while True:
            state = self.install.state()
            self._clear()
            for line in self._finished(state, printed):
                self.out.write(line + "\n")
            if not state.status.is_live:
                self._end(state)
                return state.status
            self.out.write(self._current(state) if self.out.isatty() else self._quarter(state))
            self.out.flush()
            time.sleep(self.interval)

    def _clear(self) -> None:
        if self.out.isatty():
            self.out.write("\r\x1b[2K")

    def _finished(self, state: State, printed: set[tuple[str, int]]) -> Iterator[str]:
        """A line for each attempt that has ended since the last look."""
        for name in state.steps:
            progress = state.of(name)
            if progress.ended_at and (name, progress.attempt) not in printed:
                printed.add((name, progress.attempt))
                yield self._line(name, progress, progress.ended_at)
                if progress.failure:
                    yield f"    {progress.failure.message} {progress.failure.fix}"
                    yield from (f"    | {line}" for line in progress.failure.tail)

    def _line(self, name: str, progress: StepProgress, until: datetime) -> str:
        took = clock(until - (progress.started_at or until))
        tried = f"  attempt {progress.attempt}" if progress.attempt > 1 else ""
        return f"{_MARKS[progress.state]} {STEPS[name].title:<20} {took:>7}{tried}"

    def _current(self, state: State) -> str:
        now = timezone.now()
        if not state.step:
            return "○ waiting for a worker"
        progress = state.of(state.step)
        line = self._line(state.step, progress, now)
        if progress.waiting_for:
            return f"{line}  waiting for {progress.waiting_for}"
        moved = self._progress(state.step, progress.attempt)
        return f"{line}  {bar(moved.percent or 0)} {moved.percent or 0:3.0f} % {moved.rate}" if moved else line

    def _quarter(self, state: State) -> str:
        """The bar at every quarter of the way, for an output whose lines cannot be drawn over."""
        moved = self._progress(state.step, state.of(state.step).attempt) if state.step else None
        if not moved or (moved.percent or 0) < 25:
            return ""
        # A file that is fetched before it is copied has a way of its own, and reports no rate.
        quarter = (f"{state.step} {'copied' if moved.rate else 'fetched'}", int((moved.percent or 0) // 25))
        if quarter in self.quarters:
            return ""
        self.quarters.add(quarter)
        return f"  {bar(moved.percent or 0)} {moved.percent or 0:3.0f} % {moved.rate}\n"

    def _progress(self, step: str, attempt: int) -> logs.Line | None:
        last = LogChunk.objects.filter(install=self.install, step=step, attempt=attempt).order_by("-offset").first()
        lines = logs.parse(last.text) if last else []
        return lines[-1] if lines and lines[-1].kind is logs.LineKind.PROGRESS else None

    def _end(self, state: State) -> None:
        took = clock((state.ended_at or timezone.now()) - (state.started_at or timezone.now()))
        if state.status is Status.SUCCEEDED:
            access = state.result("verify")
            port = "" if access["port"] == 22 else f" -p {access['port']}"
            self.out.write(f"\nYou can log in, after {took}:  ssh{port} {access['ssh']}\n")
            self.out.write(f"host key {access['verified']}, as it was phoned home\n")
        else:
            self.out.write(f"\nThe install has {state.status.value} after {took}.\n")

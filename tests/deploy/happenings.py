"""Histories of installs as values, for the tests of the pure part."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from deploy.events import Event, Kind

STEPS = ("rescue", "wipe", "copy", "verify")
START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def history(*happened: tuple[Kind, dict[str, Any]]) -> list[Event]:
    """The events, numbered and a second apart."""
    return [Event(seq, kind, START + timedelta(seconds=seq), data) for seq, (kind, data) in zip(count(1), happened)]


def requested(*more: tuple[Kind, dict[str, Any]]) -> list[Event]:
    """A history that begins as every one does, and goes on with `more`."""
    return history((Kind.REQUESTED, {}), (Kind.PLANNED, {"steps": list(STEPS)}), *more)


def started(step: str, attempt: int = 1) -> tuple[Kind, dict[str, Any]]:
    return Kind.STEP_STARTED, {"step": step, "attempt": attempt}


def done(step: str, attempt: int = 1, **result: Any) -> tuple[Kind, dict[str, Any]]:
    return Kind.STEP_SUCCEEDED, {"step": step, "attempt": attempt, "result": result}


def broken(step: str, attempt: int = 1, resume_from: str = "") -> tuple[Kind, dict[str, Any]]:
    failure = {
        "code": "command-failed", "blame": "provider", "message": "It broke.", "fix": "Mend it.", "command": "false",
        "exit_status": 1, "tail": ["last words"],
    }  # fmt: skip
    data = {"step": step, "attempt": attempt, "failure": failure}
    return Kind.STEP_FAILED, data | ({"resume_from": resume_from} if resume_from else {})


def both(step: str, attempt: int = 1) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """A step begun and done."""
    yield started(step, attempt)
    yield done(step, attempt)

"""What a webhook is told, as the bytes that are signed and sent. Pure: values in, text out.

The shape (`type`, `timestamp`, `data`) is the one that the Standard Webhooks specification recommends. Nothing in it
opens anything: no token, no key, no line of a log.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..events import State
from ..timeline import past_no_return

PING = "ping"


@dataclass(frozen=True, slots=True)
class About:
    """Which install it was, in the words that its owner knows."""

    install: str
    url: str
    project: str
    server: str
    hostname: str
    image: str
    requested_by: str | None


def kind_of(state: State) -> str:
    """`install.succeeded`, `install.failed` or `install.cancelled`."""
    return f"install.{state.status.value}"


def of_install(about: About, state: State) -> str:
    """The body for an install that has ended."""
    assert state.started_at
    assert state.ended_at
    data = asdict(about) | {
        "status": state.status.value,
        "started_at": _time(state.started_at),
        "ended_at": _time(state.ended_at),
        "seconds": round((state.ended_at - state.started_at).total_seconds(), 3),
        "disks_touched": past_no_return(state),
        "login": _login(state),
        "failure": _failure(state),
    }
    return _body(kind_of(state), state.ended_at, data)


def of_ping(project: str, by: str, at: datetime) -> str:
    """The body of a test: somebody wants to see it arrive."""
    return _body(PING, at, {"project": project, "sent_by": by})


def _login(state: State) -> Mapping[str, Any] | None:
    """How to log in, as it was verified; None unless it was."""
    verified = state.result("verify")
    if not verified.get("ssh"):
        return None
    return {key: verified.get(key) for key in ("ssh", "port", "host_keys")}


def _failure(state: State) -> Mapping[str, Any] | None:
    """What failed and how to mend it; without the command and its output, which the install's page shows."""
    if state.failure is None:
        return None
    failure = state.failure
    return {
        "step": state.step,
        "code": failure.code,
        "blame": failure.blame.value,
        "message": failure.message,
        "fix": failure.fix,
    }


def _body(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    return json.dumps({"type": kind, "timestamp": _time(at), "data": data}, separators=(",", ":"))


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")

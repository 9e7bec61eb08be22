"""The history of an install in words: a line for every event, oldest first."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from accounts.templatetags.landfall import duration
from deploy.certificate import Certificate
from deploy.events import Data, Event, Kind
from deploy.steps import STEPS


@dataclass(frozen=True, slots=True)
class Line:
    """One event as a person reads it."""

    seq: int
    at: datetime
    words: str
    tone: str
    icon: str

    @property
    def id(self) -> str:
        """Its element's id."""
        return f"event-{self.seq}"


def chronicle(history: Iterable[Event]) -> list[Line]:
    """The events in words."""
    return [_line(event) for event in history]


def _line(event: Event) -> Line:
    words, tone, icon = _WORDS[event.kind]
    return Line(event.seq, event.at, words(event.data), tone, icon)


def _step(data: Data, key: str = "step") -> str:
    name = data.get(key, "")
    return STEPS[name].title if name in STEPS else str(name) or "a step"


def _by(data: Data) -> str:
    return data.get("by") or "Somebody"


def _attempt(data: Data) -> str:
    return f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""


def _took(data: Data) -> str:
    return f" after {duration(data['seconds'])}" if "seconds" in data else ""


def _requested(data: Data) -> str:
    image = data.get("image", {}).get("name", "")
    return f"{_by(data)} requested it: {image} on {data.get('server', '')}." if image else "Requested."


def _planned(data: Data) -> str:
    return f"Its {len(data['steps'])} steps were chosen."


def _started(data: Data) -> str:
    return f"{_step(data)} began{_attempt(data)}."


def _waiting(data: Data) -> str:
    return f"{_step(data)} waits for {data['reason'].rstrip('.')}."


def _succeeded(data: Data) -> str:
    return f"{_step(data)} was done{_took(data)}."


def _failed(data: Data) -> str:
    said = f"{_step(data)} failed{_took(data)}: {_sentence(data['failure']['message'])}"
    if data.get("resume_from"):
        return f"{said} Another attempt follows, from {_step(data, 'resume_from')}."
    return f"{said} The server was left {_sentence(data['left'])}" if data.get("left") else said


def _restarting(data: Data) -> str:
    return f"The server is restarted now{_from(data)}."


def _restarted(data: Data) -> str:
    return f"The server was restarted{_from(data)}."


def _from(data: Data) -> str:
    target = data.get("target", "")
    return f", to start from the {target}" if target else ""


def _quiet(data: Data) -> str:
    reason = data.get("reason", "nothing printed")
    since = datetime.fromisoformat(data["since"])
    return f"{_step(data)}: {reason}, since {since:%H:%M:%S}."


def _read_back(data: Data) -> str:
    certificate = Certificate.from_json(data["certificate"])
    if certificate.ok:
        return f"The disks were read back: all {len(certificate.findings)} things are as planned."
    return (
        f"The disks were read back: {len(certificate.wrong)} of {len(certificate.findings)} things are not as planned."
    )


def _cancelled(data: Data) -> str:
    left = data.get("left", "")
    return f"Cancelled; the server was left {_sentence(left)}" if left else "Cancelled."


def _reset(data: Data) -> str:
    return f"{_by(data)} ended it by force: {_sentence(data.get('reason', 'no reason given'))}"


def _retried(data: Data) -> str:
    return f"{_by(data)} had it tried again, from {_step(data)}."


def _taken_over(data: Data) -> str:
    return f"Worker {data.get('by', '?')} took over from {data.get('from', '?')}, which was not heard of any more."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _always(words: str) -> Callable[[Data], str]:
    return lambda data: words


_WORDS: Mapping[Kind, tuple[Callable[[Data], str], str, str]] = {
    Kind.REQUESTED: (_requested, "idle", "queue"),
    Kind.PLANNED: (_planned, "idle", "queue"),
    Kind.STEP_STARTED: (_started, "run", "running"),
    Kind.STEP_WAITING: (_waiting, "warn", "clock"),
    Kind.STEP_SUCCEEDED: (_succeeded, "ok", "check"),
    Kind.STEP_FAILED: (_failed, "bad", "failed"),
    Kind.POWER_CYCLING: (_restarting, "idle", "again"),
    Kind.POWER_CYCLED: (_restarted, "idle", "again"),
    Kind.RESCUE_READY: (_always("The rescue system called."), "idle", "server"),
    Kind.PHONED_HOME: (_always("The new system phoned home."), "idle", "server"),
    Kind.STEP_QUIET: (_quiet, "warn", "clock"),
    Kind.READ_BACK: (_read_back, "idle", "check"),
    Kind.STEP_TALKS: (lambda data: f"{_step(data)} is heard of again.", "run", "running"),
    Kind.CANCEL_REQUESTED: (lambda data: f"{_by(data)} asked to cancel it.", "idle", "user"),
    Kind.CANCELLED: (_cancelled, "idle", "stop"),
    Kind.HOLD_REQUESTED: (lambda data: f"{_by(data)} asked to hold it before {_step(data, 'before')}.", "idle", "user"),
    Kind.HELD: (lambda data: f"Held before {_step(data, 'before')}.", "warn", "pause"),
    Kind.RELEASED: (lambda data: f"{_by(data)} released it.", "idle", "user"),
    Kind.FORCE_RESET: (_reset, "bad", "failed"),
    Kind.RETRIED: (_retried, "idle", "user"),
    Kind.TAKEN_OVER: (_taken_over, "warn", "people"),
    Kind.PASSPHRASE_SHOWN: (lambda data: f"{_by(data)} was shown the passphrase of the disks.", "idle", "lock"),
}
"""For every kind of event: its sentence, the tone and the icon of its line."""

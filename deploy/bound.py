"""What a log line is about (install, step, attempt, worker, request), and log lines as JSON.

`with bound(install=...)` holds for everything that is logged inside it, whoever logs it. Contexts belong to a thread or
a task: each of them binds its own.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_fields: ContextVar[Mapping[str, Any]] = ContextVar("bound", default={})  # noqa: B039  # it is never changed in place


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Binds the fields to what is logged inside, over those that are bound already."""
    before = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(before)


def fields() -> Mapping[str, Any]:
    """What is bound now."""
    return _fields.get()


class Line(logging.Formatter):
    """A line for people, with what is bound at its end: `... wiped [install=4f3a… step=wipe attempt=1]`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as logging calls it
        about = " ".join(f"{name}={value}" for name, value in fields().items())
        line = super().formatMessage(record)
        return f"{line} [{about}]" if about else line


class Json(logging.Formatter):
    """A line for programs: one JSON object, whatever is in the message, with what is bound as fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            "thread": record.threadName,
            **fields(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps(entry, default=str)

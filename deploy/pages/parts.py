"""The parts of the install page that change while one looks, as HTML.

The page and the websocket render the same templates: what is live equals what a reload gives.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string

from deploy import logs
from deploy.reading import Chunk, last_progress
from deploy.timeline import StepRow

from . import chronicle
from .view import InstallView

_TICKING = re.compile(r'(<time [^>]*data-(?:since|until)="[^"]*">)[^<]*')


@dataclass(frozen=True, slots=True)
class Part:
    """An element by its id. With `into` it is appended there once, and then left alone; else it is replaced."""

    id: str
    html: str
    into: str = ""

    @property
    def settled(self) -> str:
        """The HTML without the times that the browser lets tick by itself: those are no news."""
        return _TICKING.sub(r"\1", self.html)

    def to_json(self) -> dict[str, str]:
        """The part as the browser takes it."""
        return {"id": self.id, "html": self.html, "into": self.into}


def parts_of(view: InstallView, since: int = 0) -> list[Part]:
    """Everything on the page that can have changed after event `since`, logs apart."""
    return [
        _part("install-status", "deploy/_install_status.html", view=view),
        _part("install-outcome", "deploy/_install_outcome.html", view=view),
        *_question_parts(view),
        *(part for row in view.rows for part in _step_parts(view, row)),
        *(
            _part(line.id, "deploy/_event.html", into="history-lines", line=line)
            for line in chronicle.chronicle(view.history[since:])
        ),
        _part("history-count", "deploy/_history_count.html", view=view),
    ]


def _question_parts(view: InstallView) -> Iterator[Part]:
    """What the dialogs say: a customer's page has but one of them."""
    yield _part("cancel-words", "deploy/_cancel_words.html", view=view)
    if view.for_ops:
        yield _part("hold-words", "deploy/_hold_words.html", view=view)
        yield _part("reset-words", "deploy/_reset_words.html", view=view)


def _step_parts(view: InstallView, row: StepRow) -> Iterator[Part]:
    yield _part(f"row-{row.name}", "deploy/_step_row.html", view=view, row=row)
    yield _part(f"head-{row.name}", "deploy/_step_head.html", view=view, row=row)
    for attempt in row.attempts:
        about: dict[str, Any] = {"view": view, "row": row, "attempt": attempt}
        name = f"{row.name}-{attempt.number}"
        yield _part(f"attempt-{name}", "deploy/_attempt.html", into=f"attempts-{row.name}", **about)
        yield _part(f"tried-{name}", "deploy/_attempt_summary.html", **about)


def _part(id: str, template: str, into: str = "", **context: Any) -> Part:
    return Part(id, render_to_string(template, context), into)


def snapshot(view: InstallView, since: int = 0) -> dict[str, Any]:
    """The message that brings a page up to date that has shown the history up to event `since`."""
    return {
        "parts": [part.to_json() for part in parts_of(view, since)],
        "current": view.current,
        "seq": view.state.seq,
        "live": view.is_live,
        "title": f"{view.install.hostname}: {view.status.value} · Landfall",
    }


def log_message(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """The message with new lines, in their order, and with how far the running command is."""
    chunks = list(chunks)
    return {
        "log": [
            {"id": chunk.id, "log": f"log-{chunk.step}-{chunk.attempt}", "html": chunk_html(chunk)} for chunk in chunks
        ],
        "progress": [part.to_json() for part in _progress_parts(chunks)],
    }


def _progress_parts(chunks: list[Chunk]) -> Iterator[Part]:
    for step in dict.fromkeys(chunk.step for chunk in chunks):
        of_step = [chunk for chunk in chunks if chunk.step == step]
        if any(line.kind in _MOVING for chunk in of_step for line in chunk.lines):
            yield _part(f"progress-{step}", "deploy/_progress.html", step=step, progress=last_progress(of_step))


_MOVING = (logs.LineKind.PROGRESS, logs.LineKind.EXIT, logs.LineKind.COMMAND)


def chunk_html(chunk: Chunk) -> str:
    """A chunk's lines as they stand in the log."""
    return render_to_string("deploy/_chunk.html", {"chunk": chunk})

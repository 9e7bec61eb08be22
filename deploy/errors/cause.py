"""Why a new system never phoned home, from what it left behind: pure, the log of `deploy.steps.aftermath` in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .. import logs
from ..events import Failure
from .catalogue import failure
from .entry import Entry, Trace
from .new_system import CLOUD_INIT, NEVER_STARTED, SILENT, UNIT_GONE, UNKNOWN
from .recognise import quoted

MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class Section:
    """A command of the aftermath and what it printed."""

    command: str
    lines: tuple[str, ...]


def likely_cause(log_text: str) -> Failure:
    """The most likely reason for a silent system, with the lines that say so; `phone-home-missing` when none does."""
    sections = list(_sections(log_text))
    for entry in SILENT.entries:
        if lines := _evidence(entry, sections):
            said = entry.meaning if lines == NOTHING else f"{entry.meaning} {quoted(lines[-1])}"
            return failure(entry.code, said, tail=() if lines == NOTHING else lines[-MOST_LINES:])
    return failure(UNKNOWN.code)


NOTHING = ("",)
"""Evidence that is the lack of any."""


def _sections(log_text: str) -> Iterator[Section]:
    command, lines = "", list[str]()
    for line in logs.parse(log_text):
        if line.kind is logs.LineKind.COMMAND:
            yield Section(command, tuple(lines))
            command, lines = line.text, []
        elif line.kind is logs.LineKind.OUTPUT:
            lines.append(line.text)
    yield Section(command, tuple(lines))


def _evidence(entry: Entry, sections: list[Section]) -> tuple[str, ...]:
    """The lines that tell of this cause; empty when none do."""
    if entry is NEVER_STARTED:
        return () if _has_run(sections) or not _was_read(sections) else NOTHING
    if entry is CLOUD_INIT:
        return _unfinished(sections)
    if entry is UNIT_GONE:
        return NOTHING if _has_run(sections) and not _in_journal(sections, _UNIT_RAN) else ()
    return tuple(line for trace in entry.traces for line in _shown(trace, sections))


def _shown(trace: Trace, sections: Iterable[Section]) -> Iterator[str]:
    of_it = (section for section in sections if trace.fits(section.command, None))
    return (line for section in of_it for line in section.lines if trace.in_line(line))


_UNIT_RAN = "landfall-phone-home"
_JOURNAL_LINE = r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ "
_CLOUD_INIT_BEGAN = r"cloud-init\[\d+\]: Cloud-init v\. |Starting cloud-(?:init|config|final)"
_CLOUD_INIT_ENDED = r"Cloud-init v\. \S+ finished at|Reached target cloud-init\.target"


def _was_read(sections: list[Section]) -> bool:
    """Whether the new system's file systems were there to look at."""
    return any(section.command.startswith("journalctl") and section.lines for section in sections)


def _has_run(sections: list[Section]) -> bool:
    return _in_journal(sections, _JOURNAL_LINE)


def _in_journal(sections: list[Section], pattern: str) -> bool:
    return any(_shown(Trace(pattern, of=r"^journalctl|/var/log/messages|/var/log/cloud-init"), sections))


def _unfinished(sections: list[Section]) -> tuple[str, ...]:
    """The last that cloud-init said, when it began and did not end."""
    everything = [line for section in sections for line in section.lines]
    if any(re.search(_CLOUD_INIT_ENDED, line) for line in everything):
        return ()
    return tuple(line for line in everything if re.search(_CLOUD_INIT_BEGAN, line))

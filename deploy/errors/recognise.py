"""What a command that ended badly says: pure, from its text, its exit status and its last lines of output."""

import re
from collections.abc import Iterator, Sequence

from ..events import Failure
from .catalogue import failure
from .commands import CHAPTERS
from .entry import Entry, Trace

LONGEST_QUOTE = 200
"""Characters of a command's own words that a message repeats."""


def recognise(command: str, exit_status: int | None, tail: Sequence[str]) -> Failure | None:
    """The known failure that shows in a command's end, in its own words; None when none does."""
    for entry in (entry for chapter in CHAPTERS for entry in chapter.entries):
        if (line := _shown(entry, command, exit_status, tail)) is not None:
            message, fix = _said(entry, line)
            return failure(entry.code, message, fix=fix, command=command, exit_status=exit_status, tail=tail)
    return None


def of_command(command: str, exit_status: int | None, tail: Sequence[str]) -> Failure:
    """Why a command failed; where that is not known, this says so, and gives the command's last words."""
    if known := recognise(command, exit_status, tail):
        return known
    ended = "was ended" if exit_status is None else f"ended with exit status {exit_status}"
    last = next((line for line in reversed(tail) if line.strip()), "")
    said = f" {quoted(last)}" if last else " It printed nothing."
    return failure(
        "command-failed", f"A command {ended}, and Landfall does not know this failure.{said}",
        command=command, exit_status=exit_status, tail=tail,
    )  # fmt: skip


def _said(entry: Entry, line: str) -> tuple[str, str]:
    """The message of a failure that this line tells; and what to do, where the program knows it better than we do."""
    for trace in entry.traces:
        if (found := re.search(trace.words, line)) and "fix" in found.groupdict():
            return f"{entry.meaning} {found['why']}", found["fix"]
    return (f"{entry.meaning} {quoted(line)}" if line else entry.meaning), ""


def quoted(line: str) -> str:
    """A line of output inside a message."""
    # curl draws its progress on the line that the error then goes on with
    line = " ".join(re.sub(r"^[-#=O\s\d.%]+(?=curl: )", "", line).split())
    return f"It says: {line[:LONGEST_QUOTE]}{'…' if len(line) > LONGEST_QUOTE else ''}"


def _shown(entry: Entry, command: str, exit_status: int | None, tail: Sequence[str]) -> str | None:
    """The line that tells of this failure, the last one of several; empty when the status alone tells it."""
    lines = (
        line for trace in entry.traces if trace.fits(command, exit_status) for line in _lines(trace, tail)
    )  # fmt: skip
    return next(lines, None)


def _lines(trace: Trace, tail: Sequence[str]) -> Iterator[str]:
    if not trace.words:
        yield ""
    yield from (line for line in reversed(tail) if trace.words and trace.in_line(line))

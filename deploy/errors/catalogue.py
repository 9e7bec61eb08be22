"""Every failure that there is: its code, whose it is, what it means, and what to do about it.

`docs/errors.md` is this table. A code is for programs and never changes its meaning; sentences are for people. Where
a step knows more than the table (a name, a number), it says so in its own words instead of the meaning.
"""

from collections.abc import Iterable, Sequence

from ..events import Failure
from . import commands, new_system, own
from .entry import Chapter, Entry

CHAPTERS = (*own.CHAPTERS, *commands.CHAPTERS, *new_system.CHAPTERS)


def _by_code(chapters: Iterable[Chapter]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for entry in (entry for chapter in chapters for entry in chapter.entries):
        if entry.code in entries:
            raise ValueError(f"The catalogue has {entry.code} twice.")
        entries[entry.code] = entry
    return entries


CATALOGUE = _by_code(CHAPTERS)
"""Every entry by its code."""


def failure(
    code: str,
    message: str = "",
    *,
    fix: str = "",
    command: str = "",
    exit_status: int | None = None,
    tail: Sequence[str] = (),
) -> Failure:
    """The failure with this code; the catalogue's words where none are given. KeyError for a code that it lacks."""
    entry = CATALOGUE[code]
    return Failure(
        code, entry.blame, message or entry.meaning, fix or entry.fix, command, exit_status, tuple(tail)
    )  # fmt: skip

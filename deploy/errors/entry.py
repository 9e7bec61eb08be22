"""The shape of the catalogue: failures, how they show, and the headings that they stand under."""

import re
from dataclasses import dataclass

from ..events import Blame


@dataclass(frozen=True, slots=True)
class Trace:
    """One way in which a failure shows; all that is given must hold.

    `words` is a regular expression that is looked for in each line of output; without it any output will do.
    `says` names the program that prints them, and where that was seen or read. `of` is a regular expression for the
    command as people see it; `statuses` are the exit statuses that it may have ended with. Where `words` has groups
    named `why` and `fix`, the program itself says what is wrong and what to do, in whole sentences.
    """

    words: str = ""
    says: str = ""
    of: str = ""
    statuses: frozenset[int] = frozenset()

    def in_line(self, line: str) -> bool:
        """Whether a line of output says so."""
        return re.search(self.words, line) is not None

    def fits(self, command: str, exit_status: int | None) -> bool:
        """Whether it can come from this command, ended so."""
        return (not self.statuses or exit_status in self.statuses) and re.search(self.of, command) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One failure as the catalogue knows it: `meaning` is one sentence, `fix` says what to do next.

    `traces` tell it, each of them alone; `details` tell nothing alone, and more about it where it shows. With `final`
    it would be the same again, and the engine does not try again by itself.
    """

    code: str
    blame: Blame
    meaning: str
    fix: str
    traces: tuple[Trace, ...] = ()
    details: tuple[Trace, ...] = ()
    final: bool = False


@dataclass(frozen=True, slots=True)
class Chapter:
    """Failures that belong together, under one heading. Where two of them show, the one that stands first is meant."""

    title: str
    about: str
    entries: tuple[Entry, ...]

"""What the doctor finds, as values. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"  # what is recorded cannot be believed
    ERROR = "error"  # something does not go on, or stays open, that should not
    WARNING = "warning"  # somebody should look


class Code(StrEnum):
    """What can be found."""

    HISTORY_MISSING = "history-missing"  # an install without events, and without an archive
    HISTORY_IMPOSSIBLE = "history-impossible"  # events that cannot have followed on each other
    CHAIN_BROKEN = "chain-broken"  # an event, or the row, carries a digest that is not its own
    HISTORY_CUT = "history-cut"  # the row knows of more events than there are
    ROW_DIFFERS = "row-differs"  # a column of the row is not what the history adds up to
    LOG_BROKEN = "log-broken"  # bytes or lines of a log are missing or there twice
    UNPROTECTED = "unprotected"  # the database would let history be changed
    LEASE_STALE = "lease-stale"  # held by somebody who is gone
    LEASE_TOO_LONG = "lease-too-long"  # held for longer than any lease can be
    NEVER_WOKEN = "never-woken"  # live, and nobody will ever look
    OVERDUE = "overdue"  # should have been looked at long ago
    TOKEN_ORPHANED = "token-orphaned"  # opens something for an install that is over
    BOOT_STRAY = "boot-stray"  # a server would start into the rescue system of an install that is over
    KEY_KEPT = "key-kept"  # a private key that nobody needs any more
    ARCHIVE_MISSING = "archive-missing"  # the file that histories were moved into is not where it was
    ARCHIVE_BROKEN = "archive-broken"  # it is there, and not what was signed
    ARCHIVE_UNFINISHED = "archive-unfinished"  # what is in it was not all deleted here
    ARCHIVE_UNCLEAN = "archive-unclean"  # an archived install has events or logs here
    POWER_DIFFERS = "power-differs"  # a server is off that should be on
    BMC_SILENT = "bmc-silent"  # nobody can tell whether a server is on


SEVERITY = {
    Code.HISTORY_MISSING: Severity.CRITICAL,
    Code.HISTORY_IMPOSSIBLE: Severity.CRITICAL,
    Code.CHAIN_BROKEN: Severity.CRITICAL,
    Code.HISTORY_CUT: Severity.CRITICAL,
    Code.UNPROTECTED: Severity.CRITICAL,
    Code.ARCHIVE_MISSING: Severity.CRITICAL,
    Code.ARCHIVE_BROKEN: Severity.CRITICAL,
    Code.ARCHIVE_UNCLEAN: Severity.ERROR,
    Code.ROW_DIFFERS: Severity.ERROR,
    Code.LOG_BROKEN: Severity.ERROR,
    Code.LEASE_STALE: Severity.ERROR,
    Code.LEASE_TOO_LONG: Severity.ERROR,
    Code.NEVER_WOKEN: Severity.ERROR,
    Code.TOKEN_ORPHANED: Severity.ERROR,
    Code.BOOT_STRAY: Severity.ERROR,
    Code.KEY_KEPT: Severity.ERROR,
    Code.OVERDUE: Severity.WARNING,
    Code.ARCHIVE_UNFINISHED: Severity.WARNING,
    Code.POWER_DIFFERS: Severity.WARNING,
    Code.BMC_SILENT: Severity.WARNING,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what, with which install or server, and what to do about it."""

    code: Code
    what: str
    fix: str
    install: UUID | None = None
    server: str = ""
    mendable: bool = False
    """Whether `doctor --mend` can put it right."""

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.code]

    def to_json(self) -> dict[str, Any]:
        """The finding as programs read it."""
        return {
            "severity": self.severity.value,
            "code": self.code.value,
            "what": self.what,
            "fix": self.fix,
            "install": str(self.install) if self.install else None,
            "server": self.server or None,
            "mendable": self.mendable,
        }

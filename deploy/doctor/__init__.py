"""The doctor: is everything that is recorded true, and does everything that should go on go on?

`examine()` is what tests call after they have done their worst; `manage.py doctor` is the same for people.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from uuid import UUID

from django.utils import timezone

from . import archives, histories, leases, leftovers, power, tables
from .finding import Code, Finding, Severity

__all__ = ["Code", "Finding", "Report", "Severity", "examine", "look", "mend"]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, the worst first, and how many of what were looked at."""

    findings: tuple[Finding, ...]
    counts: Counter[str] = field(default_factory=Counter)


def look(*, with_power: bool, with_archives: bool = False) -> Report:
    """The whole examination.

    With power every BMC is asked, which may take half a minute for each twenty of them; with archives every byte of
    them is read and proved.
    """
    counts: Counter[str] = Counter()
    now = timezone.now()
    found = chain(
        tables.examine(),
        histories.examine(counts),
        archives.examine(counts, whole=with_archives),
        leases.examine(now),
        leftovers.examine(now),
        power.examine(counts) if with_power else (),
    )
    order = list(Severity)
    return Report(tuple(sorted(found, key=lambda finding: order.index(finding.severity))), counts)


def examine(power: bool = False) -> list[Finding]:
    """What is not as it should be, the worst first; empty when all is well."""
    return list(look(with_power=power).findings)


def mend(finding: Finding) -> bool:
    """Whether what was found is put right now. History is never changed: what copies it, opens or wakes is."""
    if finding.code is Code.UNPROTECTED:
        return tables.protect()
    return finding.install is not None and _mend(finding.code, finding.install, finding.server)


def _mend(code: Code, install: UUID, server: str) -> bool:
    """Each of them looks again before it writes: what was found may be over by now."""
    now = timezone.now()
    match code:
        case Code.ROW_DIFFERS:
            return histories.write_row_anew(install)
        case Code.LEASE_STALE | Code.LEASE_TOO_LONG:
            return leases.take_away(install, now)
        case Code.NEVER_WOKEN:
            return leases.wake(install, now)
        case Code.TOKEN_ORPHANED:
            return leftovers.expire_tokens(install)
        case Code.BOOT_STRAY:
            return leftovers.boot_from_disk(install, server)
        case Code.KEY_KEPT:
            return leftovers.forget_key(install, now)
    return False

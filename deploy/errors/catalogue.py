"""Every failure that there is: its code, whose it is, what it means, and what to do about it.

`docs/errors.md` is this table. A code is for programs and never changes its meaning; sentences are for people. Where
a step knows more than the table (a name, a number), it says so in its own words instead of the meaning.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from servers.power.driver import PowerCode

from ..events import Blame


@dataclass(frozen=True, slots=True)
class Entry:
    """One failure as the catalogue knows it: `meaning` is one sentence, `fix` says what to do next."""

    code: str
    blame: Blame
    meaning: str
    fix: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """Failures that belong together, under one heading of the page."""

    title: str
    entries: tuple[Entry, ...]


MACHINE = Chapter(
    "The machine and its BMC",
    (
        Entry(
            PowerCode.UNREACHABLE.value,
            Blame.PROVIDER,
            "Nothing answers at the BMC's address, or not in time, or not with a certificate that is trusted.",
            "Check the BMC's address and port, its cable, and the firewall between it and Landfall; then try again.",
        ),
        Entry(
            PowerCode.REFUSED.value,
            Blame.PROVIDER,
            "The BMC refuses the user or the password.",
            "Correct user and password in the inventory; the user needs the right to control power and boot. Landfall "
            "does not try again by itself: many BMCs lock an account after a few wrong passwords.",
        ),
        Entry(
            PowerCode.ERROR.value,
            Blame.PROVIDER,
            "The BMC answers, and does not do what it is asked.",
            "Look at the BMC's own log, reset the BMC if it hangs, update its firmware; then try again.",
        ),
        Entry(
            "rescue-silent",
            Blame.HARDWARE,
            "The rescue system never called.",
            "Look at the server's console: does it boot from the network, get an address, and reach Landfall? "
            "Mend that, then try again; nothing on its disks was changed by this attempt.",
        ),
        Entry(
            "rescue-lost",
            Blame.HARDWARE,
            "The rescue system was restarted or lost power in the middle of a step.",
            "Look for a power failure or a hardware error in the BMC's event log. While attempts are left, the server "
            "is booted into rescue again by itself.",
        ),
        Entry(
            "wrong-machine",
            Blame.PROVIDER,
            "The machine that called is not the one in the inventory.",
            "Correct the serial number and the MAC addresses in the inventory, or the cabling; nothing was changed.",
        ),
        Entry(
            "facts-unreadable",
            Blame.PROVIDER,
            "What the rescue system said of the machine cannot be read.",
            "Rebuild the rescue system (python -m rescue), then try again.",
        ),
    ),
)

PLAN = Chapter(
    "The plan",
    (
        Entry(
            "plan-impossible",
            Blame.CUSTOMER,
            "The disk layout that was asked for cannot be had on this machine.",
            "Choose another layout, or another server; nothing was changed.",
        ),
        Entry(
            "disks-changed",
            Blame.HARDWARE,
            "The server's disks are not those for which the plan was approved; nothing was changed.",
            "Compare them on the server's page, which shows them as they were seen just now; then confirm again.",
        ),
    ),
)

ENGINE = Chapter(
    "The engine",
    (
        Entry(
            "force-reset",
            Blame.PROVIDER,
            "Ops ended this install by force; what the server was doing at that moment was not waited for.",
            "Read the reason that was given. Then try again from the start: the state of the disks is not known.",
        ),
        Entry(
            "step-timeout",
            Blame.PROVIDER,
            "A step was not done in its time.",
            "Look at the last lines of its log, then try again.",
        ),
        Entry(
            "job-lost",
            Blame.HARDWARE,
            "A step's job vanished from the rescue system before it could say how it ended.",
            "The server may be out of memory, or somebody ended the job there. Look at its console, then try again.",
        ),
        Entry(
            "internal-error",
            Blame.PROVIDER,
            "Landfall itself failed in this step.",
            "The worker's log has the details. Try again, and report it when it happens again.",
        ),
    ),
)

COMMANDS = Chapter(
    "Commands on the rescue system",
    (
        Entry(
            "command-failed",
            Blame.PROVIDER,
            "A command failed in a way that Landfall does not know.",
            "Read its last lines: they are the command's own words. Mend what they name, then try again.",
        ),
    ),
)

NEW_SYSTEM = Chapter(
    "The new system",
    (
        Entry(
            "phone-home-missing",
            Blame.PROVIDER,
            "The new system never phoned home.",
            "Look at the server's console: does it start from its disk, get an address, and reach Landfall's machine "
            "URL? Then try again, or reinstall with another image.",
        ),
        Entry(
            "phone-home-late",
            Blame.PROVIDER,
            "The new system phoned home when its time was up, and the server was being restarted to read its logs.",
            "It is started from its disk once more by itself. If that happens often, look into the step's log for what "
            "takes so long.",
        ),
        Entry(
            "host-key-mismatch",
            Blame.PROVIDER,
            "At the server's address another machine answers than the one that phoned home.",
            "Correct the address in the inventory, or find out who else uses it. Do not log in there.",
        ),
        Entry(
            "ssh-silent",
            Blame.PROVIDER,
            "The new system has phoned home, but SSH does not answer at the server's address.",
            "Compare the address in the inventory with the system's own, and look at its firewall; then try again.",
        ),
    ),
)

CHAPTERS = (MACHINE, PLAN, ENGINE, COMMANDS, NEW_SYSTEM)


def _by_code(chapters: Iterable[Chapter]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for entry in (entry for chapter in chapters for entry in chapter.entries):
        if entry.code in entries:
            raise ValueError(f"The catalogue has {entry.code} twice.")
        entries[entry.code] = entry
    return entries


CATALOGUE = _by_code(CHAPTERS)
"""Every entry by its code."""

"""Where an install leaves its server, in words: as it stands, when it is cancelled, and when it is ended by force."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from deploy.events import Event, Kind, State, Status
from deploy.timeline import past_no_return


@dataclass(frozen=True, slots=True)
class Words:
    """One place in words, `{}` being the server: in a table, as it is now, after a cancel, after a forced end."""

    short: str
    now: str
    cancel: str
    reset: str


class Whereabouts(Enum):
    """Where a server is in the course of its install, and what is on its disks."""

    UNTOUCHED = Words(
        "Nothing was touched: it keeps the system that it has.",
        "{} runs what it had: nothing on its disks was touched.",
        "Nothing on the disks of {} has been touched yet. It keeps the system that it has.",
        "Nothing on the disks of {} has been touched. It keeps the system that it has.",
    )
    UNTOUCHED_IN_RESCUE = Words(
        "Nothing on its disks was touched; it was restarted into the rescue system.",
        "{} was restarted into the rescue system; nothing on its disks was touched.",
        "Nothing on the disks of {} has been touched yet. It keeps the system that it has, and is restarted into it.",
        "Nothing on the disks of {} has been touched. It stays in the rescue system until somebody restarts it; then "
        "it starts the system that it has.",
    )
    ERASED = Words(
        "No operating system: its disks are erased or half written; it stays in the rescue system.",
        "{} is in the rescue system, without an operating system: its disks are erased or half written.",
        "{} will be left without an operating system. Its disks are erased or half written. It stays in the rescue "
        "system until somebody reinstalls it or goes on with this install.",
        "{} will be left without an operating system, in the rescue system, its disks erased or half written. The "
        "command that runs there now is not waited for: it may change the disks for some seconds yet.",
    )
    WRITTEN = Words(
        "In the rescue system, with the new system on its disks, not verified.",
        "{} is in the rescue system, with the new system on its disks. Nobody has verified that system.",
        "{} stays in the rescue system, with the new system on its disks. Nobody has verified that system.",
        "{} stays in the rescue system, with the new system on its disks. Nobody has verified that system, and what "
        "runs there now is not waited for.",
    )
    STARTED = Words(
        "Started from its disks; the new system on them is not verified.",
        "{} was started from its disks. The new system on them has not been verified.",
        "{} stays as it is, started from its disks. The new system on them may work, but it has not been verified, and "
        "there are no host keys to compare.",
        "{} stays as it is, started from its disks. The new system on them may work, but it has not been verified, and "
        "there are no host keys to compare.",
    )
    INSTALLED = Words(
        "Installed, and verified.",
        "{} runs the system that was installed.",
        "{} keeps the system that was installed.",
        "{} keeps the system that was installed.",
    )


def whereabouts(state: State, history: Iterable[Event]) -> Whereabouts:
    """Where the server is, as far as the history tells: what it was last started from, and which steps were done."""
    booted = ""
    for event in history:
        # a server that is sent back to what it had is there once that is done: its BMC may refuse
        if event.kind is (Kind.POWER_CYCLED if event.data.get("back") else Kind.POWER_CYCLING):
            booted = event.data.get("target", "network")
    if state.status is Status.SUCCEEDED:
        return Whereabouts.INSTALLED
    if not past_no_return(state):
        return Whereabouts.UNTOUCHED_IN_RESCUE if booted == "network" else Whereabouts.UNTOUCHED
    if booted == "disk" or (not booted and state.is_done("reboot")):
        return Whereabouts.STARTED
    return Whereabouts.WRITTEN if state.is_done("bootable") else Whereabouts.ERASED


def after_a_cancel(state: State, history: Iterable[Event]) -> Whereabouts:
    """Where a cancel leaves the server now: a restart that has begun is finished first."""
    return Whereabouts.STARTED if state.of("reboot").is_open else whereabouts(state, history)

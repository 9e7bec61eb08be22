"""Why a new system never phoned home, from what it left behind: pure, the log of `deploy.steps.aftermath` in."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .. import logs
from ..events import Failure
from . import new_system
from .catalogue import failure
from .entry import Entry, Trace
from .recognise import quoted

MOST_LINES = 20
"""Lines of evidence that a failure carries, the last ones."""


@dataclass(frozen=True, slots=True)
class Section:
    """A command of the aftermath, what it printed, and how it ended."""

    command: str
    lines: tuple[str, ...]
    status: int | None

    def has(self, pattern: str) -> tuple[str, ...]:
        """Its lines in which the regular expression is found."""
        return tuple(line for line in self.lines if re.search(pattern, line))


def likely_cause(log_text: str) -> Failure:
    """The most likely reason for a silent system, with the lines that say so; `phone-home-missing` when none does."""
    aftermath = Aftermath(tuple(_sections(log_text)))
    for entry in new_system.SILENT.entries:
        if (evidence := aftermath.evidence_of(entry)) is not None:
            last = re.sub(_LOG_LINE, "", evidence[-1]) if evidence else ""
            said = f"{entry.meaning} {quoted(last)}" if last else entry.meaning
            return failure(entry.code, said, tail=evidence[-MOST_LINES:])
    return failure(new_system.UNKNOWN.code)


def _sections(log_text: str) -> Iterator[Section]:
    command, lines, status = "", list[str](), None
    for line in logs.parse(log_text):
        if line.kind is logs.LineKind.COMMAND:
            yield Section(command, tuple(lines), status)
            command, lines, status = line.text, [], None
        elif line.kind is logs.LineKind.OUTPUT:
            lines.append(line.text)
        elif line.kind is logs.LineKind.EXIT:
            status = line.status
    yield Section(command, tuple(lines), status)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a silent system left behind."""

    sections: tuple[Section, ...]

    def evidence_of(self, entry: Entry) -> tuple[str, ...] | None:
        """The lines that tell of this cause, none where the lack of any does; None when it does not show."""
        deduce = {
            new_system.UNREADABLE.code: self._not_mounted,
            new_system.NO_ROOT.code: self._no_root,
            new_system.NEVER_STARTED.code: self._never_started,
            new_system.CLOUD_INIT.code: self._cloud_init_at_work,
            new_system.UNIT_GONE.code: self._no_unit,
        }
        if entry is new_system.NO_NETWORK and self._has_address():
            # A second network card without a cable makes the same complaints.
            return None
        # A service that fails at every start says so in the same words with other times and process numbers.
        lines = {_timeless(line): line for trace in entry.traces for line in self._shown(trace)}
        if lines:
            more = {_timeless(line): line for trace in entry.details for line in self._shown(trace)}
            return tuple((lines | more).values())
        return deduce[entry.code]() if entry.code in deduce else None

    def _shown(self, trace: Trace) -> Iterator[str]:
        return (line for section in self._of(trace.of) for line in section.lines if trace.in_line(line))

    def _of(self, command: str) -> Iterable[Section]:
        return (section for section in self.sections if re.search(command, section.command))

    def _has_run(self) -> bool:
        return any(section.has(_LOG_LINE) for section in self._of(new_system.LOGS))

    def _has_address(self) -> bool:
        return any(section.has(_ADDRESS) for section in self._of(new_system.LOGS))

    def _not_mounted(self) -> tuple[str, ...] | None:
        failed = [section for section in self._of("^mount ") if section.status]
        return tuple(line for section in failed for line in section.lines) if failed else None

    def _never_started(self) -> tuple[str, ...] | None:
        looked = any(self._of("^journalctl"))
        return self._nothing_to_start() if looked and not self._has_run() else None

    def _nothing_to_start(self) -> tuple[str, ...]:
        """What is missing for a start, as far as the disk shows it."""
        return (
            *self._unless(r" grub-entries ", r"^\s*(?:linux|linuxefi|linux16)\s", "GRUB's menu names no kernel."),
            *self._unless(r" initramfs ", r": [1-9]\d* bytes$", "There is no initramfs in /boot."),
        )

    def _unless(self, command: str, pattern: str, otherwise: str) -> Iterator[str]:
        sections = list(self._of(command))
        if sections and not any(section.has(pattern) for section in sections):
            yield otherwise

    def _no_root(self) -> tuple[str, ...] | None:
        """A boot menu that names a file system which no disk has: the initramfs waits for it, and leaves no log."""
        present = " ".join(line for section in self._of("^lsblk") for line in section.lines).lower()
        if self._has_run() or not present:
            return None
        menu = [line.strip() for section in self._of(" grub-entries ") for line in section.lines]
        lost = [line for line in menu if (root := _ROOT.search(line)) and root[1].lower() not in present]
        return tuple(lost) or None

    def _cloud_init_at_work(self) -> tuple[str, ...] | None:
        """The last that cloud-init said, when it began and did not end."""
        said = [line for section in self._of(new_system.LOGS) for line in section.has("cloud-init|cloud-config")]
        began = _lines_with(_CLOUD_INIT_BEGAN, said)
        return tuple(began) if began and not _lines_with(_CLOUD_INIT_ENDED, said) else None

    def _no_unit(self) -> tuple[str, ...] | None:
        ran = any(section.has("landfall-phone-home") for section in self._of(new_system.LOGS))
        return () if self._has_run() and not ran else None


_LOG_LINE = r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ "
_ADDRESS = (
    r"DHCPv4 address \S+ .*acquired from|bound to \d+\.\d+|dhcp4 \(\S+\): state changed \S+ -> bound"
    r"|ci-info: \| +(?!lo )\S+ +\| +True +\| +\d+\.\d+\.\d+\.\d+ "
)
_ROOT = re.compile(r"\broot=UUID=([0-9A-Fa-f-]+)")
_CLOUD_INIT_BEGAN = r"Cloud-init v\. \S+ running|Starting cloud-(?:init|config|final)"
_CLOUD_INIT_ENDED = r"Cloud-init v\. \S+ finished at|Finished cloud-final|Reached target cloud-init\.target"


def _timeless(line: str) -> str:
    return re.sub(r"\[\d+\]", "", re.sub(_LOG_LINE, "", line))


def _lines_with(pattern: str, lines: Sequence[str]) -> list[str]:
    return [line for line in lines if re.search(pattern, line)]

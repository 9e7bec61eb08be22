"""A step's log on its way into the database: whole lines, in batches, each byte once."""

from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from . import journal, live, logs
from .models import Install, LogChunk
from .queue import Lease

LONGEST_LINE = 64 * 1024
"""Bytes after which a line is stored although it has not ended: a program may print gigabytes without a line break."""


@dataclass(slots=True)
class Logbook:
    """Where the log of one attempt is written; `offset` is the first byte of the job's log not stored yet."""

    install: Install
    lease: Lease
    step: str
    attempt: int
    offset: int = 0
    next_line: int = 1
    last_at: datetime | None = None
    _rest: bytes = field(default=b"")

    @classmethod
    def open(cls, install: Install, lease: Lease, step: str, attempt: int) -> "Logbook":
        """The logbook of an attempt, to be continued where the last worker stopped."""
        last = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("-offset").first()
        if last is None:
            return cls(install, lease, step, attempt)
        next_line = last.first_line + logs.count(last.text)
        return cls(install, lease, step, attempt, last.offset + last.size, next_line, last.at)

    @property
    def read_from(self) -> int:
        """From which byte of the job's log to go on reading."""
        return self.offset + len(self._rest)

    def take(self, data: bytes) -> None:
        """Stores the whole lines of what came, and keeps the beginning of the next one for later."""
        self._rest += data
        end = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        if end == 0 and len(self._rest) > LONGEST_LINE:
            end = len(self._rest)
        if end:
            self._store(self._rest[:end])

    def reconnected(self) -> None:
        """Forgets what was read and not stored: it will be read again."""
        self._rest = b""

    def finish(self) -> None:
        """Stores a last line that has no end."""
        if self._rest:
            self._store(self._rest)

    def note(self, text: str) -> None:
        """Stores a line of Landfall's own; for steps that run no job."""
        self._store(f"{logs.NOTE_MARK}{text}\n".encode())

    def _store(self, data: bytes) -> None:
        # PostgreSQL's text holds no NUL; programs print bytes that are no UTF-8.
        text = logs.condensed(data.decode(errors="replace").replace("\0", "\ufffd"))
        with transaction.atomic():
            row = Install.objects.select_for_update().only("lease_token", "lease_worker").get(pk=self.install.pk)
            journal.require_lease(row, self.lease)
            LogChunk.objects.create(
                install=self.install, step=self.step, attempt=self.attempt, offset=self.offset, size=len(data),
                first_line=self.next_line, text=text, at=timezone.now(),
            )  # fmt: skip
        self.offset += len(data)
        self.next_line += logs.count(text)
        self._rest = self._rest[len(data) :]
        live.nudge(self.install.uuid, self.install.project_id, due=False)

    def tail(self, lines: int = 20) -> tuple[str, tuple[str, ...], int | None]:
        """The last command of the log, its last lines and its exit status: what a failure shows."""
        chunks = LogChunk.objects.filter(install=self.install, step=self.step, attempt=self.attempt)
        recent = [chunk.text for chunk in chunks.order_by("-offset")[:50]]
        parsed = logs.parse("".join(reversed(recent)))
        begun = [number for number, line in enumerate(parsed) if line.kind is logs.LineKind.COMMAND]
        command = parsed[begun[-1]].text if begun else _last_command(chunks)
        # What the commands before it printed does not say why this one failed.
        parsed = parsed[begun[-1] :] if begun else parsed
        exits = [line.status for line in parsed if line.kind is logs.LineKind.EXIT]
        output = [line.text for line in parsed if line.kind in (logs.LineKind.OUTPUT, logs.LineKind.NOTE)]
        return command, tuple(output[-lines:]), exits[-1] if exits else None


def _last_command(chunks: QuerySet[LogChunk]) -> str:
    """The command that has been printing for so long that its beginning lies far back."""
    chunk = chunks.filter(text__contains=logs.COMMAND_MARK).order_by("-offset").first()
    lines = logs.parse(chunk.text) if chunk else []
    return next((line.text for line in reversed(lines) if line.kind is logs.LineKind.COMMAND), "")

"""A step's log on its way into the database: whole lines, in batches, each byte once."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from . import live, logs, rows
from .models import Install, LogChunk
from .queue import Lease, LeaseLost

LONGEST_LINE = 64 * 1024
"""Bytes after which a line is stored although it has not ended: a program may print gigabytes without a line break."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of an attempt's log that become one row, written only while the lease holds."""

    install: int
    lease: UUID
    step: str
    attempt: int
    offset: int
    size: int
    first_line: int
    lines: int
    text: str
    at: datetime

    def row(self) -> rows.Row:
        """The row that it becomes."""
        return {
            "install_id": self.install, "step": self.step, "attempt": self.attempt, "offset": self.offset,
            "size": self.size, "first_line": self.first_line, "text": self.text, "at": self.at,
        }  # fmt: skip


@dataclass(slots=True)
class Logbook:
    """The log of one attempt; `offset` is the first byte of the job's log not stored yet.

    One thread follows the job and takes in what it prints, another one may store what was taken in.
    """

    install: Install
    lease: Lease
    step: str
    attempt: int
    offset: int = 0
    next_line: int = 1
    last_at: datetime | None = None
    _rest: bytes = field(default=b"")
    _ended: bool = False
    _trouble: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

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

    @property
    def waiting(self) -> int:
        """How many bytes were taken in and are not stored yet."""
        return len(self._rest)

    def take(self, data: bytes) -> None:
        """Takes in what the job has printed; raises what kept that before it from being stored."""
        if self._trouble:
            raise self._trouble
        with self._lock:
            self._rest += data

    def note(self, text: str) -> None:
        """Takes in a line of Landfall's own; for steps that run no job."""
        self.take(f"{logs.NOTE_MARK}{text}\n".encode())

    def end(self) -> None:
        """Nothing more comes: a last line that has no end is one all the same."""
        self._ended = True

    def cut(self) -> Piece | None:
        """What there is to store now, in whole lines; None when there is nothing."""
        with self._lock:
            data = self._rest
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if self._ended or (end == 0 and len(data) > LONGEST_LINE):
            end = len(data)
        if not end:
            return None
        # PostgreSQL's text holds no NUL; programs print bytes that are no UTF-8.
        text = logs.condensed(data[:end].decode(errors="replace").replace("\0", "\ufffd"))
        return Piece(
            self.install.pk, self.lease.token, self.step, self.attempt, self.offset, end, self.next_line,
            logs.count(text), text, timezone.now(),
        )  # fmt: skip

    def stored(self, piece: Piece) -> None:
        """The piece is in the database for good."""
        with self._lock:
            self._rest = self._rest[piece.size :]
            self.offset += piece.size
        self.next_line += piece.lines
        self.last_at = piece.at

    def broke(self, why: Exception) -> None:
        """Nothing more can be stored: whoever follows the job learns it as soon as he has more."""
        self._trouble = why

    def check(self) -> None:
        """Raises what kept the last lines from being stored."""
        if self._trouble:
            raise self._trouble

    def tail(self, lines: int = 20) -> tuple[str, tuple[str, ...], int | None]:
        """The last command of the stored log, its last lines and its exit status: what a failure shows."""
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


class Pen(Protocol):
    """Who stores what logbooks take in while a job is followed: at once, or together with those of others."""

    def follow(self, book: Logbook) -> None:
        """From now on the book's whole lines are stored as they come."""

    def wrote(self, book: Logbook) -> None:
        """The book, which is followed, has taken in more."""

    def leave(self, book: Logbook) -> None:
        """Nothing more of the book is stored once this has returned; what is left belongs to the caller."""


class AtOnce:
    """A `Pen` that stores whatever comes in a transaction of its own."""

    def follow(self, book: Logbook) -> None:
        pass

    def wrote(self, book: Logbook) -> None:
        store_now(book)

    def leave(self, book: Logbook) -> None:
        pass


def store(books: Iterable[Logbook]) -> int:
    """Stores what there is in the books, all in one transaction; how many of them have to be stored another time.

    These are the ones whose install somebody keeps locked: they must not keep the others waiting. A book whose lease
    is lost is told so. Costs two statements, however many books there are.
    """
    cut = [(book, piece) for book in books if (piece := book.cut())]
    if not cut:
        return 0
    with transaction.atomic():
        unlocked = Install.objects.select_for_update(skip_locked=True, no_key=True).order_by()
        holders = dict(unlocked.filter(pk__in={piece.install for _, piece in cut}).values_list("pk", "lease_token"))
        held = [(book, piece) for book, piece in cut if holders.get(piece.install) == piece.lease]
        insert([piece for _, piece in held])
    for book, piece in held:
        book.stored(piece)
        live.nudge_readers(book.install.uuid)
    for book, piece in cut:
        if piece.install in holders and holders[piece.install] != piece.lease:
            book.broke(LeaseLost(f"the lease of install {piece.install} is lost"))
    return sum(piece.install not in holders for _, piece in cut)


def store_now(book: Logbook) -> None:
    """Stores what there is in the book, however long its install is locked; `LeaseLost` when the lease is."""
    while store([book]):
        time.sleep(0.05)
    book.check()


def insert(pieces: Sequence[Piece]) -> None:
    """Writes the rows; whoever calls it has seen in the same transaction that their leases hold."""
    rows.insert(LogChunk, [piece.row() for piece in pieces])

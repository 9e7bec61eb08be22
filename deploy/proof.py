"""What a stored history and a stored log prove: pure, whatever they were read from.

Nothing that is stored is believed: the chain of digests is computed again, the events are folded again, and the pieces
of a log are laid end to end again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from .events import GENESIS, Event, IllegalEvent, Kind, State, apply, digest


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it lies in the database or in an archive."""

    seq: int
    kind: str
    at: datetime
    data: Mapping[str, Any]
    digest: str

    def event(self) -> Event:
        """The event that it says it is; ValueError when there is no such kind."""
        return Event(self.seq, Kind(self.kind), self.at, self.data)


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of an attempt to prove a history. `digests` are those that stand beside its events."""

    digests: tuple[str, ...] = ()
    broken: tuple[int, ...] = ()
    """The numbers of the events whose digest is not that of their content and their predecessor's digest."""
    impossible: str = ""
    """Why the events cannot have happened in this order; empty when they can."""
    state: State | None = None
    """What they add up to; None when they are impossible."""

    @property
    def holds(self) -> bool:
        """Whether every event follows on the one before, and carries its digest."""
        return not self.broken and not self.impossible

    @property
    def seq(self) -> int:
        """How many events there are."""
        return len(self.digests)

    @property
    def digest(self) -> str:
        """The digest beside the last event."""
        return self.digests[-1] if self.digests else GENESIS


def prove(history: Iterable[Stored]) -> Proof:
    """Whether the events carry the right digests, and what they add up to."""
    state: State | None = State()
    impossible, before = "", GENESIS
    digests: list[str] = []
    broken: list[int] = []
    for stored in history:
        if state:
            state, impossible = _after(state, stored)
        # Folding has computed the digest already, as long as all before it were right.
        right = state.digest if state and not broken else _digest(before, stored)
        if right != stored.digest:
            broken.append(stored.seq)
        before = stored.digest
        digests.append(before)
    return Proof(tuple(digests), tuple(broken), impossible, state)


def _after(state: State, stored: Stored) -> tuple[State | None, str]:
    """The state after the event, or None and why it cannot be."""
    try:
        return apply(state, stored.event()), ""
    except IllegalEvent as error:
        return None, str(error)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return None, f"event {stored.seq} ({stored.kind}) cannot be read: {type(error).__name__}: {error}"


def _digest(before: str, stored: Stored) -> str:
    try:
        return digest(before, stored.event())
    except ValueError:
        return ""


# --- logs


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a step's log without its text: where it stands in the job's log, and how many lines it has."""

    step: str
    attempt: int
    offset: int
    size: int
    first_line: int
    lines: int


def faults(pieces: Iterable[Piece]) -> Iterator[str]:
    """What is wrong with a log that comes in the order of steps, attempts, offsets: each attempt's first fault."""
    for (step, attempt), log in groupby(pieces, key=lambda piece: (piece.step, piece.attempt)):
        offset, line, told = 0, 1, False
        for piece in log:
            if not told and (why := _fault(piece, offset, line)):
                yield f"The log of {step}, attempt {attempt}, {why}."
                told = True
            offset, line = piece.offset + piece.size, piece.first_line + piece.lines


def _fault(piece: Piece, offset: int, line: int) -> str:
    if piece.offset > offset:
        return f"lacks the bytes from {offset} to {piece.offset}"
    if piece.offset < offset:
        return f"has the bytes from {piece.offset} to {min(offset, piece.offset + piece.size)} twice"
    if piece.first_line != line:
        return f"goes on with line {piece.first_line} at byte {offset}, where line {line} should be"
    return ""

"""Whether the log that Landfall has stored is the one that a simulated server has written: each byte once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deploy import logs


@dataclass(frozen=True, slots=True)
class Piece:
    """A row of the stored log: which bytes of the job's log it stands for, and what it says."""

    offset: int
    size: int
    text: str


@dataclass(frozen=True, slots=True)
class LogProof:
    """How a stored log differs from the written one, in lines; all zero but `lines` when it does not."""

    lines: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0

    def __add__(self, other: LogProof) -> LogProof:
        return LogProof(
            self.lines + other.lines, self.lost + other.lost, self.doubled + other.doubled, self.wrong + other.wrong
        )

    @property
    def holds(self) -> bool:
        """Whether no line was lost, doubled or changed."""
        return not (self.lost or self.doubled or self.wrong)


def compare(written: bytes, stored: Iterable[Piece], *, complete: bool = True) -> LogProof:
    """What became of a job's log; where the job was lost with its server, the end may be missing (not `complete`).

    Behind the job's last byte there may be lines of Landfall's own, and nothing else. Progress that was overtaken at
    once is left out when a log is stored (`deploy.logs.condensed`), so it is not missed here.
    """
    end = lost = doubled = wrong = 0
    for piece in sorted(stored, key=lambda piece: piece.offset):
        if piece.offset >= len(written):
            wrong += not piece.text.startswith(logs.NOTE_MARK)
            continue
        lost += _lines(written[end : piece.offset])
        doubled += _lines(written[piece.offset : end])
        meant = written[piece.offset : piece.offset + piece.size]
        wrong += piece.text != logs.condensed(meant.decode(errors="replace").replace("\0", "\ufffd"))
        end = max(end, piece.offset + piece.size)
    if complete:
        lost += _lines(written[end:])
    return LogProof(_lines(written), lost, doubled, wrong)


def _lines(data: bytes) -> int:
    """How many lines, a part of one counted as one."""
    return logs.count(data.decode(errors="replace"))

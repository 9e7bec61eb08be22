"""Histories and logs as they lie in the database, for those who prove them or move them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from . import logs
from .models import Event, LogChunk
from .proof import Piece, Stored


def histories(installs: Sequence[int]) -> Iterator[tuple[int, Iterator[Stored]]]:
    """The key of each of the installs that has events, with them: one query."""
    rows = Event.objects.filter(install_id__in=installs).order_by("install_id", "seq")
    columns = rows.values_list("install_id", "seq", "kind", "at", "data", "digest").iterator(chunk_size=500)
    for pk, group in groupby(columns, key=lambda row: row[0]):
        yield pk, (Stored(*row[1:]) for row in group)


def pieces(installs: Sequence[int]) -> Iterator[tuple[int, Iterator[Piece]]]:
    """The key of each of the installs that has a log, with its pieces in their order: one query."""
    columns = ("install_id", "step", "attempt", "offset", "size", "first_line", "text")
    rows = _log(installs).values_list(*columns).iterator(chunk_size=200)
    for pk, group in groupby(rows, key=lambda row: row[0]):
        yield pk, map(_piece, group)


def _piece(row: tuple[Any, ...]) -> Piece:
    _, step, attempt, offset, size, first_line, text = row
    return Piece(step, attempt, offset, size, first_line, logs.count(text))


def log_of(install: int) -> Iterator[dict[str, Any]]:
    """The pieces of an install's logs with their text, as they go into an archive."""
    columns = ("step", "attempt", "offset", "size", "first_line", "text", "at")
    for row in _log([install]).values(*columns).iterator(chunk_size=200):
        yield {**row, "at": row["at"].isoformat()}


def _log(installs: Sequence[int]) -> Any:
    return LogChunk.objects.filter(install_id__in=installs).order_by("install_id", "step", "attempt", "offset")

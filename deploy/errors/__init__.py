"""Failures: one catalogue of all that there are, and what tells them by their traces.

Pure. `failure` makes one of the catalogue; `of_command` makes one of a command that ended badly.
"""

from collections.abc import Sequence

from ..events import Failure
from .catalogue import CATALOGUE, CHAPTERS, Chapter, Entry

__all__ = ["CATALOGUE", "CHAPTERS", "Chapter", "Entry", "failure", "of_command"]


def failure(
    code: str,
    message: str = "",
    *,
    fix: str = "",
    command: str = "",
    exit_status: int | None = None,
    tail: Sequence[str] = (),
) -> Failure:
    """The failure with this code; the catalogue's words where none are given. KeyError for a code that it lacks."""
    entry = CATALOGUE[code]
    return Failure(
        code, entry.blame, message or entry.meaning, fix or entry.fix, command, exit_status, tuple(tail)
    )  # fmt: skip


def of_command(command: str, exit_status: int | None, tail: Sequence[str]) -> Failure:
    """Why a command failed, as far as its output tells."""
    ended = "was ended" if exit_status is None else f"ended with exit status {exit_status}"
    return failure(
        "command-failed", f"A command {ended}, in a way that Landfall does not know.",
        command=command, exit_status=exit_status, tail=tail,
    )  # fmt: skip

"""Failures: one catalogue of all that there are, and what tells them by their traces.

Pure. `failure` makes one of the catalogue. `of_command` tells why a command failed, `likely_cause` why a new system
never phoned home. `python -m deploy.errors > docs/errors.md` writes the page.
"""

from .catalogue import CATALOGUE, CHAPTERS, failure
from .cause import likely_cause
from .entry import Chapter, Entry, Trace
from .recognise import of_command, recognise

__all__ = [
    "CATALOGUE",
    "CHAPTERS",
    "Chapter",
    "Entry",
    "Trace",
    "failure",
    "likely_cause",
    "of_command",
    "recognise",
]

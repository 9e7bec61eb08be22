"""Imports from an address, in the background: asked for on a page that follows them, fetched by a thread of `serve`.

The row is the queue: whoever claims it renews a lease with every sign of progress, and when a process dies another one
begins anew. A file that is found waits in the store until it is described, or thrown away. A path is no matter of this
module: it is read at once, as it is on the machine that serves the page.
"""

import logging
import threading
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import DatabaseError
from django.utils import timezone

from accounts.secret import Secret

from . import chores
from .chores import NOBODY, Chore
from .found import Found, fetch
from .inspection import LIMITS
from .models import Import, ImportState
from .refusal import ImageRefused
from .store import public_source

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""So long after its last sign of life an importer is taken for dead."""
TELL_EVERY: Final = 1.0
"""Seconds between two notes of how far a file has come."""
GRACE: Final = 5.0
"""Seconds that a process waits for its importer when it ends: looking inside cannot be broken off."""


class Stopped(Exception):
    """The import is no longer ours: it was taken back, or this process is to end."""


def ask(url: str, checksum: str, by: str) -> Import:
    """The import of a file, queued; `checksum` is sha256:… or sha512:…."""
    return Import.objects.create(
        url=Secret(url),
        shown_url=public_source(url)[:1000],
        checksum=checksum,
        requested_by=by,
        requested_at=timezone.now(),
    )


def take_back(row: Import) -> None:
    """Forgets an import, whoever is at it: who is learns it from the row that is not there any more."""
    Import.objects.filter(pk=row.pk).delete()


def settled(found: Found) -> None:
    """Forgets the imports that brought this file: it is in the catalogue, or thrown away."""
    Import.objects.filter(state=ImportState.FOUND, found__sha256=found.sha256).delete()


def claim(worker: str, now: datetime) -> Import | None:
    """One that waits, or whose importer has died, now this worker's; None when there is none."""
    return chores.claim(Import.objects.all(), worker, now, LEASE)


class Importer(Chore):
    """The thread that imports, one file after the other, until it is stopped; what it had not finished waits again."""

    title = "imports"
    grace = GRACE

    def work_once(self) -> bool:
        """Whether there was an import to do; it is done then, or failed, or let go."""
        row = claim(self.name, timezone.now())
        if row is None:
            return False
        mine = _Claimed(row, self.name, self.stopping)
        try:
            found = fetch(
                row.url.reveal() if row.url else "", row.checksum, progress=mine.progress, looking=mine.looking
            )
        except Stopped:
            mine.write(state=ImportState.QUEUED, done=0, **NOBODY)
        except ImageRefused as refused:
            mine.end(ImportState.REFUSED, message=str(refused))
        except DatabaseError:
            raise
        except Exception:
            log.exception("import %s broke", row.pk)
            mine.end(ImportState.REFUSED, message="It could not be looked into; the cause is in Landfall's own log.")
        else:
            mine.end(ImportState.FOUND, found=asdict(found))
        return True


class _Claimed:
    """An import in our hands: written by nobody else as long as the lease is ours."""

    def __init__(self, row: Import, worker: str, stopping: threading.Event) -> None:
        self._row = row
        self._worker = worker
        self._stopping = stopping
        self._told = 0.0

    def progress(self, done: int, total: int | None) -> None:
        """Notes now and then how far the file is; Stopped when it is not ours any more."""
        if self._stopping.is_set():
            raise Stopped
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            if not self.write(done=done, total=total or 0, lease_until=timezone.now() + LEASE):
                raise Stopped

    def looking(self, size: int) -> None:
        """Notes that the file is here and is looked into, which says nothing until it is over."""
        longest = timedelta(seconds=LIMITS.seconds + 2 * (size // LIMITS.rate))
        until = timezone.now() + longest + LEASE
        if not self.write(done=size, total=size, message="Looking inside", lease_until=until):
            raise Stopped

    def end(self, state: ImportState, **columns: Any) -> None:
        """Ends it; the address, which may hold a password, is forgotten."""
        said = {"message": "", **columns}
        self.write(state=state, url=Secret(""), ended_at=timezone.now(), **said, **NOBODY)

    def write(self, **columns: Any) -> bool:
        """Whether the row was still ours to write."""
        ours = Import.objects.filter(pk=self._row.pk, state=ImportState.RUNNING, lease_worker=self._worker)
        return bool(ours.update(**columns))

"""What a web process does in the background, row by row of a table that is the queue too: importing, publishing.

Whoever claims a row holds a lease on it; when the process dies, the lease runs out and another one begins anew.
"""

import logging
import os
import socket
import threading
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Model, Q, QuerySet

log = logging.getLogger(__name__)

NOBODY: Final[dict[str, Any]] = {"lease_worker": "", "lease_until": None}
"""The columns of a row that nobody holds."""

Row = TypeVar("Row", bound=Model)


def claim(rows: QuerySet[Row], worker: str, now: datetime, lease: timedelta) -> Row | None:
    """The oldest of the rows that waits, or whose worker has died, now this worker's; None when there is none.

    The model has `state` (queued, running, ...), `requested_at`, `lease_worker` and `lease_until`.
    """
    waiting = Q(state="queued") | Q(state="running", lease_until__lt=now)
    for row in rows.filter(waiting).order_by("requested_at"):
        mine = {"state": "running", "lease_worker": worker, "lease_until": now + lease}
        # the loser of a race learns it from the row count
        if rows.filter(waiting, pk=row.pk).update(**mine):
            row.refresh_from_db()
            return row
    return None


class Chore:
    """A thread that does one row after the other until it is stopped."""

    title: ClassVar[str]
    """What it does, for its thread and its log: imports, publishing."""
    poll: ClassVar[float] = 1.0
    """Seconds between two looks at what waits."""
    grace: ClassVar[float | None] = None
    """Seconds that a process waits for it when it ends; None: as long as it takes."""

    def __init__(self, name: str = "") -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=self.title, daemon=True)

    def start(self) -> None:
        """Begins, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Begins nothing more; returns once what is under way was let go, or after `grace`: its lease runs out then."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(self.grace)

    def run(self) -> None:
        """Works until `stop`; a database that is away is waited for."""
        while not self.stopping.is_set():
            try:
                if not self.work_once():
                    self.stopping.wait(self.poll)
            except DatabaseError as error:
                log.warning("%s: waiting for the database: %s", self.title, error)
                close_old_connections()
                self.stopping.wait(self.poll)
            # nothing is held between two looks: the pool of a web process is for its pages
            connection.close()

    def work_once(self) -> bool:
        """Whether to look again at once: something was done."""
        raise NotImplementedError

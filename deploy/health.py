"""Whether this process is alive, and whether it can work: what load balancers and supervisors ask."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

PATIENCE = 2.0
"""Seconds in which the database has to answer: who asks will not wait for longer."""


@dataclass(frozen=True, slots=True)
class Report:
    """Whether requests can be served, and in words why not."""

    ready: bool
    words: str


class Readiness:
    """Asks the database in a thread of its own, so that one that hangs is answered for in time, by one thread alone."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._lock = threading.Lock()
        self._asked: Future[Report] | None = None
        self._migrated = False

    def report(self) -> Report:
        """How it stands, within the patience."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
            asked = self._asked
        try:
            return asked.result(self._patience)
        except NotInTime:
            return Report(False, f"The database has not answered for {self._patience:g} seconds.")

    def _ask(self) -> Report:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            missing = self._not_migrated()
        except DatabaseError as error:
            return Report(False, f"The database does not answer: {type(error).__name__}.")
        finally:
            connection.close()
        if missing:
            return Report(False, f"{missing} migrations are not applied: run manage.py migrate.")
        return Report(True, "The database answers, and its tables are up to date.")

    def _not_migrated(self) -> int:
        """How many migrations are missing. Once there was none there is none: asking takes a look at every file."""
        if self._migrated:
            return 0
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        self._migrated = not missing
        return missing


readiness = Readiness()

import gc
import signal
import threading
from queue import SimpleQueue
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deploy.worker import Worker

BROKEN = -1
POOL_PATIENCE = 60.0
"""Seconds that a driver waits for its turn at the database; a request answers 503 much sooner."""


def wait_for_connections() -> None:
    """Has this process wait in line for a connection of the pool: what lets go of an install stalls it for a lease."""
    if pool := settings.DATABASES["default"]["OPTIONS"].get("pool"):
        pool["timeout"] = POOL_PATIENCE


class Command(BaseCommand):
    help = "Drives installs. Any number of workers may run, on any hosts, against one PostgreSQL database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--slots", type=int, default=settings.LANDFALL_SLOTS, help="installs driven at once")

    def handle(self, *args: Any, slots: int, **options: Any) -> None:
        wait_for_connections()
        gc.freeze()  # as in `serve`
        worker = Worker(slots)
        # A signal's handler interrupts whatever the main thread is at, locks in its hands: so that one does nothing
        # but wait, and a SimpleQueue is the one thing that may be touched then.
        told: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.put(number))

        def work() -> None:
            try:
                worker.run()
            finally:
                told.put(BROKEN)

        thread = threading.Thread(target=work, name="worker")
        thread.start()
        why = told.get()
        worker.stop()
        thread.join()
        if why == BROKEN:
            raise CommandError("The worker broke; the cause is in the log. Its installs are taken over by others.")

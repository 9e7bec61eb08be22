"""The worker: claims installs that are due, and drives as many at once as it has slots."""

import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from . import live, queue
from .driver import Driver
from .queue import LEASE_TIME, Lease, LeaseLost

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the queue when no hint comes: what another process writes is seen this late at most."""
RENEW_EVERY = LEASE_TIME / 4


class Worker:
    """Drives installs in threads until it is stopped; what it had in hand, another worker goes on with."""

    def __init__(self, slots: int, name: str = "") -> None:
        self.slots = slots
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = threading.Event()
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        """Works until `stop`; returns once every install is given back."""
        log.info("worker %s with %s slots", self.name, self.slots)
        keeper = threading.Thread(target=self._keep_leases, name="leases", daemon=True)
        keeper.start()
        with ThreadPoolExecutor(self.slots, thread_name_prefix="install") as pool:
            while not self._stopping.is_set():
                live.work.clear()
                if not self._claim_one(pool):
                    live.work.wait(POLL)
        keeper.join()

    def stop(self) -> None:
        """Asks every driver to let go; running jobs on rescue systems go on by themselves."""
        self._stopping.set()
        live.work.set()

    def _claim_one(self, pool: ThreadPoolExecutor) -> bool:
        """Whether there was an install to take; a database that is away is waited for."""
        if len(self._held) >= self.slots:
            return False
        try:
            claimed = queue.claim(self.name, timezone.now())
        except DatabaseError as error:
            log.warning("the database does not answer, waiting for it: %s", error)
            close_old_connections()
            return False
        if claimed is None:
            return False
        install, lease = claimed
        with self._lock:
            self._held[install.pk] = lease
        pool.submit(self._drive, Driver(install, lease, self._stopping))
        return True

    def _drive(self, driver: Driver) -> None:
        try:
            driver.drive()
        except LeaseLost as error:
            log.warning("%s", error)
        except Exception:
            # The lease runs out, and the install is driven again from where its history stands.
            log.exception("%s: dropped", driver.install)
        finally:
            with self._lock:
                self._held.pop(driver.install.pk, None)
            connection.close()
            live.work.set()

    def _keep_leases(self) -> None:
        """Renews all leases with one UPDATE, until the worker has let go of the last."""
        while not self._stopping.wait(RENEW_EVERY.total_seconds()) or self._held:
            with self._lock:
                leases = list(self._held.values())
            try:
                queue.renew(leases, timezone.now())
            except DatabaseError as error:
                log.warning("leases could not be renewed: %s", error)
                close_old_connections()
            if self._stopping.is_set():
                self._stopping.wait(timedelta(milliseconds=200).total_seconds())
        connection.close()

"""The worker: claims installs that are due, and drives as many at once as it has slots."""

import contextlib
import logging
import math
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from . import limits, live, queue
from .bound import bound
from .driver import Driver
from .heartbeat import Heartbeat
from .models import Install
from .queue import LEASE_TIME, Lease, LeaseLost, Notice
from .scribe import Scribe
from .webhooks.sender import Sender

log = logging.getLogger(__name__)

POLL: float = settings.LANDFALL_POLL
"""Seconds between two looks at the queue when no hint comes: what another process writes is seen this late at most."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the installs that are being driven: one query for all of them."""
REST, LONGEST_REST = 0.001, 0.5
"""Seconds between two claims for each install that is held, and at most."""
MOST_AT_ONCE = 50
"""Installs that are claimed together."""
RENEW_EVERY = LEASE_TIME.total_seconds() / 4
BEHIND = LEASE_TIME.total_seconds() / 5
"""Seconds since the last look at its installs after which a worker takes no more: one that is ever later loses them."""


class Worker:
    """Drives installs in threads until it is stopped; what it had in hand, another worker goes on with."""

    def __init__(self, slots: int, name: str = "") -> None:
        self.slots = slots
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = threading.Event()
        self._held: dict[UUID, Lease] = {}
        self._seen: dict[UUID, Notice | None] = {}
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        self._heartbeat = Heartbeat(self.name, slots)
        self._scribe = Scribe()

    def run(self) -> None:
        """Works until `stop`; returns once every install is given back."""
        log.info("worker %s with %s slots", self.name, self.slots)
        keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
        keeper.start()
        sender = Sender()
        sender.start()
        with ThreadPoolExecutor(self.slots, thread_name_prefix="install") as pool:
            while not self._stopping.is_set():
                live.work.clear()
                if not self._claim(pool):
                    live.work.wait(POLL)
                    # who holds a thousand is hinted at all the time: what comes in a moment is claimed together
                    self._stopping.wait(min(len(self._held) * REST, LONGEST_REST))
            sender.stop()
        self._scribe.stop()
        keeper.join()

    def stop(self) -> None:
        """Asks every driver to let go; running jobs on rescue systems go on by themselves."""
        self._stopping.set()
        live.work.set()

    def look(self, lease: Lease) -> Notice | None:
        """How the lease's install stood at the last look; None before the first. `LeaseLost` when it is lost."""
        with self._lock:
            if lease.token not in self._seen:
                return None
            notice = self._seen[lease.token]
        if notice is None:
            raise LeaseLost(f"the lease of install {lease.install} is lost")
        return notice

    def _claim(self, pool: ThreadPoolExecutor) -> bool:
        """Whether there may be more to take at once; a database that is away is waited for, and so is who is behind."""
        with self._lock:
            held = set(self._held)
        free = self.slots - len(held)
        if free <= 0 or (held and time.monotonic() - self._looked > BEHIND):
            return False
        try:
            now = timezone.now()
            limits.admit(now)
            claimed = queue.claim_all(self.name, now, min(free, MOST_AT_ONCE), held)
        except DatabaseError as error:
            log.warning("the database does not answer, waiting for it: %s", error)
            close_old_connections()
            return False
        for install, lease in claimed:
            with self._lock:
                self._held[lease.token] = lease
            pool.submit(self._drive, install, lease)
        return len(claimed) == MOST_AT_ONCE

    def _drive(self, install: Install, lease: Lease) -> None:
        with bound(install=str(install.uuid), worker=self.name):
            self._drive_bound(install, lease)

    def _drive_bound(self, install: Install, lease: Lease) -> None:
        try:
            Driver(install, lease, self._stopping, look=self.look, pen=self._scribe).drive()
        except LeaseLost as error:
            log.warning("%s", error)
        except DatabaseError as error:
            # The lease runs out, and the install is driven again from where its history stands.
            log.warning("%s: let go, as the database does not answer: %s", install, error)
        except Exception:
            log.exception("%s: dropped", install)
        finally:
            with self._lock:
                was_full = len(self._held) >= self.slots
                self._held.pop(lease.token, None)
                self._seen.pop(lease.token, None)
            connection.close()
            if was_full:
                live.work.set()

    def _keep(self) -> None:
        """Looks at all the installs in hand, renews their leases, and shows that it lives, until the last is let go."""
        renewed = -math.inf
        while not self._stopping.wait(LOOK_EVERY) or self._held:
            with self._lock:
                leases = list(self._held.values())
            try:
                if time.monotonic() - renewed > RENEW_EVERY:
                    renewed = time.monotonic()
                    queue.renew(leases, timezone.now())
                    self._heartbeat.beat(len(leases), timezone.now(), stopping=self._stopping.is_set())
                self._notice(leases, queue.notices(leases))
                self._looked = time.monotonic()
            except DatabaseError as error:
                log.warning("leases could not be renewed: %s", error)
                close_old_connections()
            if self._stopping.is_set():
                time.sleep(0.2)
        with contextlib.suppress(DatabaseError):
            self._heartbeat.stop()
        connection.close()

    def _notice(self, leases: list[Lease], found: dict[UUID, Notice]) -> None:
        with self._lock:
            for lease in leases:
                if lease.token in self._held:
                    self._seen[lease.token] = found.get(lease.token)

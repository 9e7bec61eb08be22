"""The thread that sends what is due to webhooks. Every worker process has one; they share the work without knowing."""

import logging
import ssl
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from . import outbox, signing
from .outbox import Claim
from .post import Limits, Outcome, post

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Deliveries on their way at once, each to another webhook: one that hangs takes one place, for ten seconds."""
POLL = 1.0
"""Seconds between two looks at what is due."""
FORGET_EVERY = 3600.0


class Sender:
    """Sends until it is stopped; what it had not finished then, somebody else sends again."""

    def __init__(self, tls: ssl.SSLContext | None = None, limits: Limits | None = None) -> None:
        self._tls = tls or ssl.create_default_context()
        self._limits = limits or Limits()
        self._stopping = threading.Event()
        self._under_way: dict[Future[Outcome], Claim] = {}
        self._thread = threading.Thread(target=self.run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begins, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Begins nothing more; returns once what is under way is stored, or has been cut off."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Works until `stop`. This thread alone has a connection to the database; those that send have none."""
        forgot = -FORGET_EVERY
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopping.is_set() or self._under_way:
                try:
                    if time.monotonic() - forgot >= FORGET_EVERY:
                        forgot = time.monotonic()
                        outbox.forget(timezone.now())
                    self._look(pool)
                except DatabaseError as error:
                    log.warning("webhooks wait for the database: %s", error)
                    close_old_connections()
                    time.sleep(POLL)
        connection.close()

    def _look(self, pool: ThreadPoolExecutor) -> None:
        """Takes what is due, waits a little, and stores what has come of what was sent."""
        if not self._stopping.is_set():
            busy = [claim.webhook for claim in self._under_way.values()]
            for claim in outbox.claim(timezone.now(), AT_ONCE - len(busy), busy):
                self._under_way[pool.submit(self._send, claim)] = claim
        if not self._under_way:
            self._stopping.wait(POLL)
            return
        done, _ = wait(self._under_way, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            self._store(self._under_way[future], future.result())
            del self._under_way[future]

    def _send(self, claim: Claim) -> Outcome:
        try:
            return self._post(claim)
        except Exception as error:
            # a secret that cannot be opened, above all: it must not stop what goes to others
            log.exception("delivery %s could not be sent", claim.message)
            return Outcome(error=f"Landfall itself failed to send it: {type(error).__name__}.")

    def _post(self, claim: Claim) -> Outcome:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Landfall/{settings.LANDFALL_VERSION}",
            **signing.headers(claim.message, claim.body, claim.keys, timezone.now()),
        }
        return post(claim.url, headers, claim.body.encode(), self._tls, self._limits)

    def _store(self, claim: Claim, outcome: Outcome) -> None:
        if outbox.record(claim, outcome, timezone.now()):
            log.info("delivery %s, attempt %s: %s", claim.message, claim.attempt, outcome.error or outcome.status)

"""An install in a worker's hands: what may be written of it, and what has been asked for meanwhile."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from . import journal, queue
from .events import Kind, State
from .logbook import AtOnce, Logbook, Pen, store_now
from .models import Install
from .queue import Lease, LeaseLost, Notice

Look = Callable[[Lease], Notice | None]
"""How the lease's install stood at the last look; None before the first. `LeaseLost` when the lease is lost."""


class Stopping(Exception):
    """The worker is being stopped: let go, another one goes on."""


class Cancelled(Exception):
    """Somebody asked for it, and now is a safe moment."""


class Leased:
    """One install, driven under one lease. `state` is its history as far as this worker knows it."""

    def __init__(
        self,
        install: Install,
        lease: Lease,
        stopping: threading.Event,
        look: Look | None = None,
        pen: Pen | None = None,
    ) -> None:
        self.install = install
        self.lease = lease
        self.stopping = stopping
        self.state = install.state()
        self._look = look or look_now
        self._pen = pen or AtOnce()
        self._book: Logbook | None = None
        self._followed = False

    def append(self, kind: Kind, data: Mapping[str, Any], *, then: journal.Happening | None = None) -> State:
        """The state after the event, and after `then` where that can follow. `LeaseLost` when somebody else drives it.

        What was taken into the log before is stored with it, in the same transaction.
        """
        book = None if self._followed else self._book
        piece = book.cut() if book else None
        before = self.state.seq
        self.state = journal.append(self.install, kind, data, lease=self.lease, known=self.state, log=piece, then=then)
        if book and piece:
            book.stored(piece)
        attempt = self.state.of(self.state.step)
        if attempt.is_open and attempt.started_seq > before:
            # Begun by ourselves just now: nobody needs to be asked whether there is something in its log.
            self._book = Logbook(self.install, self.lease, self.state.step, attempt.attempt)
        return self.state

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A transaction for what is written elsewhere than in the history: only by who drives the install.

        `LeaseLost` when that is somebody else, or nobody any more. Meanwhile nobody takes it over, or ends it by force.
        """
        with transaction.atomic():
            row = Install.objects.select_for_update().only("lease_token", "lease_worker").get(pk=self.install.pk)
            journal.require_lease(row, self.lease)
            yield

    def renew(self) -> None:
        """The lease holds for its whole time from now on; `LeaseLost` when it is lost. One statement.

        For what cannot be rolled back: a word to a BMC, a job that is begun or ended. Nobody takes the install over
        meanwhile; only one that is ended by force just then is not seen.
        """
        queue.prolong(self.lease, timezone.now())
        let_go_of_database()

    def open_book(self, step: str, attempt: int) -> Logbook:
        """The logbook of the attempt that is under way, to be continued where it ends."""
        if not (self._book and (self._book.step, self._book.attempt) == (step, attempt)):
            self.store_log()
            self._book = Logbook.open(self.install, self.lease, step, attempt)
        return self._book

    def store_log(self) -> None:
        """Stores what was taken into the log and waits for the next event."""
        if self._book and not self._followed:
            store_now(self._book)

    @contextmanager
    def writing(self, book: Logbook) -> Iterator[Pen]:
        """The pen for this book: what is taken in meanwhile is stored as it comes. Its end goes with the next event."""
        self._pen.follow(book)
        self._followed = True
        try:
            yield self._pen
        finally:
            self._pen.leave(book)
            self._followed = False

    def refresh(self) -> State:
        """The state as it stands in the database."""
        self.state = self.install.state()
        return self.state

    def check_stop(self) -> None:
        """Raises `Stopping` when the worker is to stop."""
        if self.stopping.is_set():
            raise Stopping

    def cancel_requested(self) -> bool:
        """Whether somebody had asked to cancel at the last look. `LeaseLost` when it was lost by then."""
        notice = self._look(self.lease)
        return self.state.cancel_requested or bool(notice and notice.cancel_requested)

    def has_grown(self) -> bool:
        """Whether others had written into the history at the last look."""
        notice = self._look(self.lease)
        return bool(notice and notice.seq > self.state.seq)

    def was_reset(self) -> bool:
        """Whether the install has ended although this worker had it in hand: by force."""
        return not Install.objects.only("status").get(pk=self.install.pk).is_live


def look_now(lease: Lease) -> Notice:
    """How the lease's install stands; one query. `LeaseLost` when the lease is lost."""
    notice = queue.notices([lease]).get(lease.token)
    if notice is None:
        raise LeaseLost(f"the lease of install {lease.install} is lost")
    return notice


def let_go_of_database() -> None:
    """Gives this thread's connection back to the pool: whoever waits for a machine holds none."""
    if "pool" in connection.settings_dict["OPTIONS"] and not connection.in_atomic_block:
        connection.close()

"""The scribe: one thread of a worker that stores the logs of all the jobs that the worker follows.

A transaction for every piece of every log would be most of what an install costs. So the scribe stores whatever has
come from all of them in one, and takes a rest that grows with their number: a single log is stored a hundred times a
second if need be, a thousand logs are stored once a second.
"""

import logging
import threading

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from .leased import let_go_of_database
from .logbook import Logbook, store

log = logging.getLogger(__name__)

REST, LONGEST_REST = 0.01, 1.0
"""Seconds between two looks for each log that is followed, and at most: no reader waits longer for a line."""

MOST_WAITING = 2**20
"""Bytes of a log that wait to be stored; whoever reads it from the rescue system waits as well then."""

MOST_AT_ONCE = 200
"""Logs that are stored in one transaction: it keeps their installs locked."""


class Scribe:
    """A `Pen` for many books at once. Its thread is started by the first, and ended by `stop`."""

    def __init__(self) -> None:
        self._books: dict[int, Logbook] = {}
        self._at: frozenset[int] = frozenset()
        """The books that are being stored now."""
        self._turn = threading.Condition()
        self._more = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, book: Logbook) -> None:
        with self._turn:
            self._books[id(book)] = book
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)
                self._thread.start()

    def wrote(self, book: Logbook) -> None:
        self._more.set()
        with self._turn:
            while book.waiting > MOST_WAITING:
                book.check()
                self._turn.wait(LONGEST_REST)

    def leave(self, book: Logbook) -> None:
        with self._turn:
            self._books.pop(id(book), None)
            self._turn.wait_for(lambda: id(book) not in self._at)

    def stop(self) -> None:
        """Ends the thread; whatever is followed still is stored no more."""
        self._stopped.set()
        self._more.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._more.wait()
            self._more.clear()
            with self._turn:
                books = list(self._books.values())
            for first in range(0, len(books), MOST_AT_ONCE):
                self._store(books[first : first + MOST_AT_ONCE])
            if not self._more.is_set():
                let_go_of_database()
            self._stopped.wait(min(len(books) * REST, LONGEST_REST))
        connection.close()

    def _store(self, books: list[Logbook]) -> None:
        with self._turn:
            # who has left meanwhile stores the rest of the book himself
            books = [book for book in books if id(book) in self._books]
            self._at = frozenset(map(id, books))
        try:
            if _stored(books):
                self._more.set()
        finally:
            with self._turn:
                self._at = frozenset()
                self._turn.notify_all()


def _stored(books: list[Logbook]) -> int:
    """Stores what is in the books; how many have to be tried again. What goes wrong is told to whom it concerns."""
    try:
        return store(books)
    except Exception as error:
        connection.close()
        if len(books) > 1 and not isinstance(error, OperationalError | InterfaceError):
            # One of them has something that the database does not take: the others are stored without it.
            return sum(_stored([book]) for book in books)
        # Nobody knows whether it was committed: they let go, and whoever is next looks what is stored.
        log.warning("the log of %s jobs could not be stored: %s", len(books), error)
        for book in books:
            book.broke(error if isinstance(error, DatabaseError) else DatabaseError(str(error)))
        return 0

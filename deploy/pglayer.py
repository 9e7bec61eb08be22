"""A channel layer over PostgreSQL: a hint to a group reaches its members in every process that uses the database.

LISTEN and NOTIFY carry it, no table does: nothing is stored, so nothing has to be cleaned up. It is made for hints:
what is sent again before it has gone out goes out once, and what cannot go out is dropped in the end. Whoever waits for
a hint looks by himself now and then, too.
"""

import asyncio
import json
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
from channels.layers import InMemoryChannelLayer
from django.db import connections

WIRE = "landfall_hints"
"""PostgreSQL's name of the channel that all processes listen on."""

LONGEST = 7999
"""Bytes that PostgreSQL takes in one NOTIFY."""

MOST_PENDING = 10_000
"""Hints that are kept while the database is away; more are dropped."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two attempts to reach a database that is away: doubled each time."""

QUIET = 30.0
"""Seconds of silence after which the connection is tried: one that a firewall has dropped says nothing by itself."""

LOOK: dict[str, Any] = {"type": "more"}
"""What everybody is told when hints may have been missed."""

_log = logging.getLogger(__name__)


class Line:
    """A thread with one connection, which says what it is given and hears what is said by anybody, itself included.

    It is started by the first use, and again by the first use after a fork. `heard` gets every note; `rejoined` is
    called whenever it listens anew: until then notes may have been missed.
    """

    def __init__(self, heard: Callable[[str], None], rejoined: Callable[[], None]) -> None:
        self._heard, self._rejoined = heard, rejoined
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """The parent's thread, connection and pending notes stay the parent's."""
        self._lock = threading.Lock()
        self._pending: dict[str, None] = {}
        self._saying: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """From now on it listens."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._bell, self._ear = socket.socketpair()
                self._ear.setblocking(False)
                self._bell.setblocking(False)
                self._closed.clear()
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()

    def say(self, notes: Iterable[str]) -> None:
        """Tells every process that listens; in one letter, where they fit into one. Never waits."""
        self.start()
        with self._lock:
            for note in notes:
                if len(self._pending) < MOST_PENDING:
                    self._pending[note] = None
        self._ring()

    @property
    def has_pending(self) -> bool:
        """Whether there is something that was not said yet."""
        return bool(self._pending or self._saying)

    def close(self) -> None:
        """Hangs up; the next use dials again."""
        with self._lock:
            thread = self._thread
            self._closed.set()
        if thread:
            self._ring()
            thread.join()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            self._bell.send(b"!")

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed.is_set():
            try:
                with psycopg.connect(**_where()) as connection:
                    connection.execute(f"LISTEN {WIRE}")
                    _log.log(logging.INFO if pause > FIRST_PAUSE else logging.DEBUG, "hints travel")
                    pause = FIRST_PAUSE
                    self._rejoined()
                    self._talk(connection)
            except psycopg.Error as error:
                self._take_back()
                why = (str(error).splitlines() or [type(error).__name__])[0]
                _log.log(logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG, "hints do not travel: %s", why)
                self._closed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _talk(self, connection: psycopg.Connection) -> None:
        with selectors.DefaultSelector() as waiting:  # select() knows no file past the 1024th; a worker has more
            waiting.register(connection, selectors.EVENT_READ)
            waiting.register(self._ear, selectors.EVENT_READ)
            while not self._closed.is_set():
                if not waiting.select(QUIET):
                    connection.execute("SELECT 1")
                self._hush()
                self._say_pending(connection)
                for note in connection.notifies(timeout=0):
                    self._heard(note.payload)

    def _say_pending(self, connection: psycopg.Connection) -> None:
        """Takes what is pending before it says it: what is said again meanwhile is news of something later."""
        with self._lock:
            self._saying, self._pending = self._pending, {}
        for letter, written in letters(list(self._saying)):
            connection.execute("SELECT pg_notify(%s, %s)", (WIRE, letter))
            for note in written:
                del self._saying[note]

    def _take_back(self) -> None:
        """What was taken and could not be said is pending again."""
        with self._lock:
            self._pending, self._saying = self._saying | self._pending, {}

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass


def letters(notes: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The JSON notes as few JSON lists as PostgreSQL takes, each with what is in it."""
    batch: list[str] = []
    size = 2
    for note in notes:
        length = len(note.encode()) + 1
        if batch and size + length > LONGEST:
            yield f"[{','.join(batch)}]", tuple(batch)
            batch, size = [], 2
        batch.append(note)
        size += length
    if batch:
        yield f"[{','.join(batch)}]", tuple(batch)


def _where() -> dict[str, Any]:
    """How Django connects to the database, for a connection of our own."""
    parameters: dict[str, Any] = connections["default"].get_connection_params()
    for of_django in ("cursor_factory", "context"):
        parameters.pop(of_django, None)
    return parameters | {"autocommit": True, "application_name": "landfall hints"}


class PostgresChannelLayer(InMemoryChannelLayer):  # type: ignore[misc]
    """Groups whose members may be in any process; a message to a single channel stays in its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._calls: dict[str, Callable[[], object]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._line = Line(self._heard, self._rejoined)

    def call(self, group: str, function: Callable[[], object]) -> None:
        """Calls the function, in a thread of the layer's, whenever a hint for the group comes from anywhere."""
        self.require_valid_group_name(group)
        self._calls[group] = function
        self._line.start()

    async def group_add(self, group: str, channel: str) -> None:
        """The channel hears from now on, on the loop that runs here."""
        await super().group_add(group, channel)
        self._loop = asyncio.get_running_loop()
        self._line.start()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Tells every member of the group, in every process."""
        self.tell([group], message)

    def tell(self, groups: Iterable[str], message: dict[str, Any]) -> None:
        """`group_send` to several, from any thread. Never waits for the database."""
        self._line.say([self._note(group, message) for group in groups])

    def _note(self, group: str, message: dict[str, Any]) -> str:
        self.require_valid_group_name(group)
        note = json.dumps([group, message], separators=(",", ":"))
        if len(note.encode()) + 2 > LONGEST:
            raise ValueError("A hint is short: what there is to say is in the database.")
        return note

    @property
    def has_more_to_say(self) -> bool:
        """Whether a hint is still on its way out."""
        return self._line.has_pending

    def hang_up(self) -> None:
        """Ends the thread and its connection; the next use begins anew."""
        self._line.close()

    def _heard(self, letter: str) -> None:
        try:
            for group, message in json.loads(letter):
                self._deliver(group, message)
        except (ValueError, TypeError):
            _log.warning("a hint that none of us has written: %.80r", letter)

    def _rejoined(self) -> None:
        """Whoever waits looks once: a hint may have passed meanwhile."""
        for group in {*self._calls, *list(self.groups)}:
            self._deliver(group, LOOK)

    def _deliver(self, group: str, message: dict[str, Any]) -> None:
        if call := self._calls.get(group):
            call()
        loop = self._loop
        if loop and group in self.groups:
            with suppress(RuntimeError):  # the loop is closed, its members are gone
                loop.call_soon_threadsafe(self._hand_out, group, message)

    def _hand_out(self, group: str, message: dict[str, Any]) -> None:
        task = asyncio.create_task(super().group_send(group, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

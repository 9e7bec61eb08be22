"""Hints that there is more to read, from whoever wrote it to whoever watches.

A hint carries no text: the rows are the log. A lost hint costs a watcher a second (it polls as well) and no line. On
SQLite hints stay in the process; on PostgreSQL the channel layer carries them to every other.
"""

import asyncio
import atexit
import logging
import os
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

from .pglayer import LOOK, PostgresChannelLayer

BOARD = "board"
"""The group of those who watch every install."""

WORK = "work"
"""The group of the workers."""

PACE = 0.1
"""Seconds between two hints to the same watchers: a chatty log becomes ten hints a second, whatever it prints."""

PARTING = 0.5
"""Seconds that a process which ends waits for its last hint to go out."""

_log = logging.getLogger(__name__)


class Work(threading.Event):
    """Set when something may be due, so that a worker looks at once; by other processes too, once it was waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        layer = get_channel_layer()
        if isinstance(layer, PostgresChannelLayer):
            layer.call(WORK, self.set)
        return super().wait(timeout)


work = Work()


def group(install: UUID) -> str:
    """The group of those who watch an install."""
    return f"install.{install}"


def project_group(project: int) -> str:
    """The group of those who watch a project's servers."""
    return f"project.{project}"


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Watchers of this process are told on this loop from now on: that of the web server, once somebody watches."""
    _crier.loop = loop


def nudge(install: UUID, project: int, *, due: bool = True) -> None:
    """Tells the watchers of an install that there is more to read; and all workers, when it may be due.

    Never blocks, never fails. Hints that follow each other closely become one.
    """
    if due:
        work.set()
    _crier.tell(group(install), project_group(project), BOARD, *([WORK] if due else []))


def nudge_readers(install: UUID) -> None:
    """Tells those who watch this install that there is more of its log; nobody else shows it."""
    _crier.tell(group(install))


def flush() -> None:
    """Waits until the hints have gone out to the other processes, half a second at most."""
    layer = get_channel_layer()
    end = time.monotonic() + PARTING
    while isinstance(layer, PostgresChannelLayer) and (_crier.is_busy or layer.has_more_to_say):
        if time.monotonic() > end:
            break
        time.sleep(0.01)


class _Crier:
    """A thread that tells groups what it was asked to, each at most once in `PACE` seconds."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child of this process starts a thread of its own."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._pending: dict[str, None] = {}
        self._telling = False
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is something that was not told yet."""
        return bool(self._pending) or self._telling

    def tell(self, *groups: str) -> None:
        with self._lock:
            self._pending.update(dict.fromkeys(groups))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
        self._asked.set()

    def _run(self) -> None:
        while self._asked.wait():
            self._asked.clear()
            with self._lock:
                groups, self._pending, self._telling = list(self._pending), {}, True
            try:
                self._send(groups)
            except Exception:
                _log.warning("hints were dropped", exc_info=True)
            self._telling = False
            time.sleep(PACE)

    def _send(self, groups: list[str]) -> None:
        layer = get_channel_layer()
        if isinstance(layer, PostgresChannelLayer):
            layer.tell(groups, LOOK)
        elif self.loop:
            with suppress(RuntimeError):  # the loop is closed, and nobody watches
                # From a thread `async_to_sync` would take 0.9 to 2.5 s a hint, this takes 0.5 ms (measured).
                self.loop.call_soon_threadsafe(self._begin, layer, groups)

    def _begin(self, layer: Any, groups: list[str]) -> None:
        self._task = asyncio.ensure_future(_send_all(layer, groups))  # a loop keeps no hold of its tasks


async def _send_all(layer: Any, groups: list[str]) -> None:
    for name in groups:
        await layer.group_send(name, LOOK)


_crier = _Crier()
# A command that ends at once says first what it has done.
atexit.register(flush)

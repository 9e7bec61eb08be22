"""The websockets: they tell a page what is new in the rows.

A hint through the channel layer wakes a watcher; what it sends it reads from the database, from a cursor. It reads once
a second as well, so a lost hint costs a second and no line. A page that comes back names the last chunk that it has.
"""

import asyncio
import json
import logging
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import QueryDict
from django.urls import path
from django.utils import timezone

from accounts.access import projects_of
from accounts.models import User
from deploy import live, metrics, reading
from deploy.limits import Place
from deploy.pages import board, line, parts
from deploy.pages.view import view_of

NOT_FOUND = 4404
"""Closes a connection to something that this person may not see, as a 404 does: the page does not try again."""

BROKEN, TRY_AGAIN = 4500, 4503
"""Closes a connection that we broke, and one for which there is no database at the moment: the page connects again.

A server may send codes from 3000 on; at RFC 6455's own 1011 and 1013 autobahn refuses to close the connection at all.
"""

POLL: float = settings.LANDFALL_POLL
"""Seconds between two looks without a hint."""

PACE = 0.1
"""Seconds between two looks at least, however many hints come: a busy log is sent in batches."""

AT_ONCE = 0.0

Message = dict[str, Any]
Update = tuple[list[Message], float | None]
"""What is new, and how many seconds to wait for a hint before the next look; None when nothing more can come."""

_log = logging.getLogger(__name__)


class Watcher(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A connection that sends what is new until there can be nothing more, or the browser leaves."""

    hinted_by: tuple[str, ...] = ()
    pace = PACE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hint = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def find(self) -> bool:
        """Whether there is something to watch that this person may see; remembers it, and who hints at it."""
        raise NotImplementedError

    def news(self) -> Update:
        """What is new since the last call."""
        raise NotImplementedError

    async def connect(self) -> None:
        # Accepted before it is refused: a browser cannot see the code of a handshake that failed.
        await self.accept()
        if not await database_sync_to_async(self.find)():
            await self.close(NOT_FOUND)
            return
        live.use_loop(asyncio.get_running_loop())
        for group in self.hinted_by:
            await self.channel_layer.group_add(group, self.channel_name)
        self.task = asyncio.create_task(self.follow())
        metrics.WATCHERS.labels(type(self).__name__).inc()

    async def disconnect(self, code: int) -> None:
        for group in self.hinted_by:
            await self.channel_layer.group_discard(group, self.channel_name)
        if self.task:
            self.task.cancel()
            metrics.WATCHERS.labels(type(self).__name__).dec()

    async def more(self, message: Message) -> None:
        """A hint: there is more to read."""
        self.hint.set()

    async def follow(self) -> None:
        """Reads and sends, until it is over."""
        try:
            while (patience := await self._look()) is not None:
                await asyncio.sleep(self.pace)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.hint.wait(), patience)
        except (OperationalError, InterfaceError) as error:
            # The page connects again, and begins where it stopped.
            _log.warning("a watcher broke off, as the database does not answer: %s", error)
            await self.close(TRY_AGAIN)
        except Exception:
            _log.exception("a watcher broke off")
            await self.close(BROKEN)
        else:
            await self.close(1000)

    async def _look(self) -> float | None:
        self.hint.clear()
        update: Update = await database_sync_to_async(self.news)()
        messages, patience = update
        for message in messages:
            await self.send(json.dumps(message | {"now": timezone.now().timestamp()}))
        self.told()
        return patience

    def told(self) -> None:
        """What was new is on its way to the browser."""

    def word(self, name: str) -> str:
        """A word in the query of the socket's address; empty when there is none."""
        query: bytes = self.scope["query_string"]
        return parse_qs(query.decode("ascii", "replace")).get(name, [""])[0]

    def number(self, name: str) -> int:
        """A number in the query of the socket's address; 0 when there is none."""
        value = self.word(name)
        return int(value) if value.isdecimal() and len(value) <= 18 else 0


class InstallWatcher(Watcher):
    """Sends new lines of an install's log, and its snapshot whenever its history has grown."""

    def find(self) -> bool:
        uuid: UUID = self.scope["url_route"]["kwargs"]["uuid"]
        self.hinted_by = (live.group(uuid),)
        self.after, self.seq = self.number("after"), self.number("seq")
        self.place: Place | None = None
        self.visible = reading.installs_of(self.scope["user"]).filter(uuid=uuid)
        self.pk = self.visible.values_list("pk", flat=True).first() or 0
        self.since, self.fresh = timezone.now(), list[datetime]()
        return bool(self.pk)

    def news(self) -> Update:
        """The lines are read first, the row behind them: so it knows every attempt that the lines are of."""
        chunks = reading.chunks_after(self.pk, self.after)
        install = self.visible.all().first()
        if install is None:
            return [], None
        messages: list[Message] = []
        place = line.place_of(install)  # others leave the line: no event of this install tells of it
        if install.last_seq != self.seq or place != self.place:
            messages.append(parts.snapshot(view_of(install, for_ops=self.scope["user"].is_ops), self.seq))
            self.seq, self.place = install.last_seq, place
        if chunks:
            self.after = chunks[-1].id
            self.fresh = [chunk.at for chunk in chunks if chunk.at > self.since]
            messages.append(parts.log_message(chunks) | {"after": self.after})
        if len(chunks) == reading.MOST_CHUNKS:
            return messages, AT_ONCE
        if install.is_live:
            return messages, POLL
        # The last lines are stored before the event that ends it: nothing comes behind an end without new lines.
        return messages, AT_ONCE if chunks else None

    def told(self) -> None:
        """Measures how long the new lines were under way; those from before the connection are no measure."""
        now = timezone.now()
        for at in self.fresh:
            metrics.LOG_LATENCY.observe((now - at).total_seconds())
        self.fresh = []


class BoardWatcher(Watcher):
    """Sends the rows of the board that have changed, and their order; the filter is that of the page's address."""

    hinted_by = (live.BOARD,)
    pace = 0.5

    def find(self) -> bool:
        self.wanted = board.Filter.of(QueryDict(self.scope["query_string"]))
        self.sent: dict[str, str] = {}
        return isinstance(self.scope["user"], User) and self.scope["user"].is_ops

    def news(self) -> Update:
        found, order = board.board_parts(self.scope["user"], self.wanted)
        changed = [part for part in found if self.sent.get(part.id) != part.settled]
        gone = self.sent.keys() - {part.id for part in found}
        self.sent = {part.id: part.settled for part in found}
        if not changed and not gone:
            return [], POLL
        return [{"parts": [part.to_json() for part in changed], "order": order}], POLL


class ServersWatcher(Watcher):
    """Says that something has changed with the servers that this person sees: the page then reads itself again.

    The page says what it has seen: what came between its making and this connection, the first or a later one, counts.
    """

    pace = 1.0

    def find(self) -> bool:
        user = self.scope["user"]
        if not isinstance(user, User):
            return False
        self.seen = self.word("seen")
        self.hinted_by = (
            (live.BOARD,)
            if user.is_ops
            else tuple(live.project_group(project) for project in projects_of(user).values_list("pk", flat=True))
        )
        return True

    def news(self) -> Update:
        before, self.seen = self.seen, reading.seen_by(self.scope["user"])
        return [{"changed": True}] if self.seen != before else [], 2 * POLL


websocket_urls = [
    path("ws/installs/<uuid:uuid>/", InstallWatcher.as_asgi()),
    path("ws/board/", BoardWatcher.as_asgi()),
    path("ws/servers/", ServersWatcher.as_asgi()),
]

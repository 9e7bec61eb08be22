"""What people and machines are told while the database is away: a 503, a sentence, and when to come back."""

import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.views.defaults import server_error

RETRY_AFTER = 5
"""Seconds after which it is worth to ask again."""

SENTENCE = "The database does not answer. Installs that run go on; ask again in a few seconds.\n"


TRY_AGAIN = 4503
"""The same for a websocket; it must be one of the codes that a server may choose."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class DatabaseAway:
    """Middleware: a view that needed the database and did not get it is a 503, without a traceback."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return answer(request) if is_away(exception) else None


class Sockets:
    """ASGI middleware: a websocket for which nobody can be looked up is closed, and its page tries again."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            await self.application(scope, receive, send)
        except (OperationalError, InterfaceError) as error:
            _log.warning("a websocket is closed, as the database does not answer: %s", error)
            await send({"type": "websocket.close", "code": TRY_AGAIN})


def broken(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500: the database may also go away between the view and the end of the request."""
    error = sys.exc_info()[1]
    return answer(request) if isinstance(error, Exception) and is_away(error) else server_error(request)


def is_away(error: Exception) -> bool:
    """Whether this is the database's state of the moment, and not our mistake."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    # SQLite says 'no such table' by the same class: that does not mend itself.
    return connection.vendor != "sqlite" or "locked" in str(error) or "unable to open" in str(error)


def answer(request: HttpRequest) -> HttpResponse:
    """For a browser a page, for everything else the sentence: somebody reads it on a console."""
    headers = {"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"}
    if "text/html" in request.headers.get("Accept", ""):
        # What was sent by a form is not to be sent again behind somebody's back.
        words = {"seconds": RETRY_AFTER, "static": settings.STATIC_URL, "again": request.method == "GET"}
        page = render_to_string("503.html", words)
        return HttpResponse(page, status=503, headers=headers)
    return HttpResponse(SENTENCE, "text/plain; charset=utf-8", status=503, headers=headers)

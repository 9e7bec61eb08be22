"""What the tests of pages share: who looks, what a page must not hold, and what it costs."""

from html.parser import HTMLParser
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User


def browser(user: User | None = None) -> Client:
    """Somebody's browser; nobody's without a user."""
    client = Client(headers={"accept": "text/html"})
    if user:
        client.force_login(user)
    return client


def text(client: Client, url: str, status: int = 200) -> str:
    """The page, which must have this status."""
    response = client.get(url)
    assert response.status_code == status, f"{url}: {response.status_code}"
    return response.content.decode()


def queries(client: Client, url: str) -> int:
    """How many queries the page makes."""
    text(client, url)
    with CaptureQueriesContext(connection) as captured:
        text(client, url)
    return len(captured)


def forbidden_parts(html: str) -> list[str]:
    """What the content security policy would refuse: inline scripts, styles, handlers, foreign addresses."""
    parser = _Forbidden()
    parser.feed(html)
    return parser.found


class _Forbidden(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        inline = tag == "style" or (tag == "script" and "src" not in given)
        handlers = [name for name in given if name == "style" or name.startswith(("on", "hx-on"))]
        address = str(given.get("src") or (given.get("href") if tag in ("link", "use") else "") or "/")
        foreign = not address.startswith("/") or address.startswith("//")
        scripted = str(given.get("href", "")).startswith("javascript:")
        if inline or handlers or foreign or scripted:
            self.found.append(f"<{tag} {given}>")

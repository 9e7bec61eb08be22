"""The websockets: who may watch, and that what is sent adds up to the rows, whatever is lost on the way."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from html import unescape
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache

from accounts.models import User
from deploy import consumers, live
from deploy.consumers import websocket_urls
from deploy.events import Kind
from deploy.models import Install
from deploy.reading import seen_by
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy.histories import Past, command, feed, running, shown_lines

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = re.compile(r'<span class="log-text">(.*?)</span>', re.DOTALL)


def watch(user: User | AnonymousUser, address: str) -> WebsocketCommunicator:
    """A browser's side of a websocket."""
    socket = WebsocketCommunicator(URLRouter(websocket_urls), address)
    socket.scope["user"] = user
    return socket


def of(install: Install, after: int = 0, seq: int = 0) -> str:
    """The address that a page about the install connects to."""
    return f"/ws/installs/{install.uuid}/?after={after}&seq={seq}"


class Page:
    """What a page knows after it has heard some messages."""

    def __init__(self, socket: WebsocketCommunicator) -> None:
        self.socket = socket
        self.lines: list[str] = []
        self.chunks: list[int] = []
        self.parts: dict[str, str] = {}
        self.after = 0
        self.live = True
        self.heard: list[dict[str, Any]] = []

    async def hear(self, timeout: float = 5) -> dict[str, Any]:
        """The next message, taken in."""
        message: dict[str, Any] = json.loads(await self.socket.receive_from(timeout))
        self.heard.append(message)
        for entry in message.get("log", ()):
            self.chunks.append(entry["id"])
            self.lines += [unescape(text) for text in TEXT.findall(entry["html"])]
        for part in (*message.get("parts", ()), *message.get("progress", ())):
            self.parts[part["id"]] = part["html"]
        self.after = message.get("after", self.after)
        self.live = message.get("live", self.live)
        return message

    async def until(self, known: Callable[["Page"], bool]) -> None:
        """Hears until the page knows something; a test's timeout ends it otherwise."""
        while not known(self):
            await self.hear()


@pytest.fixture
async def customer() -> User:
    project = await sync_to_async(make_project)()
    return await sync_to_async(make_user)(projects=[project])


@pytest.fixture
async def install(customer: User) -> Install:
    return await sync_to_async(lambda: running("copy", server=make_server(customer.projects.get(), disks=2))[0])()


@pytest.fixture
async def page(customer: User, install: Install) -> AsyncIterator[Page]:
    socket = watch(customer, of(install))
    await socket.connect()
    yield Page(socket)
    await socket.disconnect()


async def test_what_is_fed_while_somebody_watches_arrives_in_order(page: Page, install: Install) -> None:
    for number in range(20):
        await sync_to_async(feed)(install, f"line {number}\n")
    await page.until(lambda page: len(page.lines) == 20)
    assert page.lines == await sync_to_async(shown_lines)(install)
    assert page.chunks == sorted(set(page.chunks))


async def test_lost_hints_cost_no_line(page: Page, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    await page.hear()
    monkeypatch.setattr(live, "nudge", lambda *_: None)
    await sync_to_async(feed)(install, "nobody told\n")
    await page.until(lambda page: page.lines == ["nobody told"])


async def test_a_burst_of_hints_becomes_few_messages(page: Page, install: Install) -> None:
    await page.hear()
    began = time.monotonic()
    for number in range(300):
        await sync_to_async(feed)(install, f"line {number}\n")
    await page.until(lambda page: len(page.lines) == 300)
    assert len(page.heard) < min(300, (time.monotonic() - began) / consumers.PACE + 3)
    assert page.lines == await sync_to_async(shown_lines)(install)


async def test_a_page_that_comes_back_gets_what_it_missed_and_nothing_twice(
    customer: User, install: Install, page: Page
) -> None:
    await sync_to_async(feed)(install, "seen\n")
    await page.until(lambda page: page.lines == ["seen"])
    await page.socket.disconnect()
    await sync_to_async(feed)(install, "missed 1\nmissed 2\n")
    back = Page(watch(customer, of(install, after=page.after)))
    await back.socket.connect()
    await back.until(lambda page: len(page.lines) >= 2)
    assert page.lines + back.lines == await sync_to_async(shown_lines)(install)
    await back.socket.disconnect()


async def test_far_behind_is_caught_up_in_batches(customer: User, install: Install) -> None:
    def feed_many() -> None:
        for number in range(450):
            feed(install, f"line {number}\n")

    await sync_to_async(feed_many)()
    page = Page(watch(customer, of(install)))
    await page.socket.connect()
    await page.until(lambda page: len(page.lines) == 450)
    assert page.lines == await sync_to_async(shown_lines)(install)
    await page.socket.disconnect()


async def test_a_page_that_knows_the_history_gets_no_snapshot_until_it_grows(customer: User, install: Install) -> None:
    page = Page(watch(customer, of(install, seq=install.last_seq)))
    await page.socket.connect()
    assert await page.socket.receive_nothing(0.4)
    await sync_to_async(Past(install).finish)("copy")
    await page.until(lambda page: "row-copy" in page.parts)
    assert "is-done" in page.parts["row-copy"]
    await page.socket.disconnect()


async def test_progress_moves_the_bar_and_adds_no_line(page: Page, install: Install) -> None:
    await sync_to_async(feed)(install, "  1,234,567  42%  101.00MB/s    0:00:19\r")
    await page.until(lambda page: "progress-copy" in page.parts)
    assert 'value="42.0"' in page.parts["progress-copy"]
    assert "0:19 left" in page.parts["progress-copy"]
    assert page.lines == []


async def test_a_new_attempt_comes_with_a_place_for_its_log(page: Page, install: Install) -> None:
    def again() -> None:
        past = Past(install)
        past.fail("copy", resume_from="copy")
        past.start("copy")
        feed(install, command(1, "rsync", ["once more"]), attempt=2)

    await sync_to_async(again)()
    await page.until(lambda page: "once more" in page.lines)
    shells = [part for message in page.heard for part in message.get("parts", ()) if part["id"] == "attempt-copy-2"]
    assert shells[0]["into"] == "attempts-copy"
    assert 'id="log-copy-2"' in shells[0]["html"]


async def test_the_end_brings_the_last_lines_and_closes_the_connection(page: Page, install: Install) -> None:
    def end() -> None:
        feed(install, "the last line\n")
        Past(install).fail("copy")

    await sync_to_async(end)()
    await page.until(lambda page: not page.live and bool(page.lines))
    assert page.lines == ["the last line"]
    assert "No space left on device" in page.parts["head-copy"]
    assert (await page.socket.receive_output(5)) == {"type": "websocket.close", "code": 1000}


async def test_an_install_that_has_ended_closes_at_once(customer: User, install: Install) -> None:
    await sync_to_async(Past(install).fail)("copy")
    socket = watch(customer, of(install))
    await socket.connect()
    page = Page(socket)
    assert (await page.hear())["live"] is False
    assert (await socket.receive_output(5))["code"] == 1000


async def test_a_page_that_reads_to_the_end_of_a_log_waits_for_no_more(
    customer: User, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "POLL", 600)
    monkeypatch.setattr(live, "nudge", lambda *_: None)
    await sync_to_async(feed)(install, "the last line\n")
    await sync_to_async(Past(install).fail)("copy")
    page = Page(watch(customer, of(install)))
    await page.socket.connect()
    await page.until(lambda page: not page.live and bool(page.lines))
    assert (await page.socket.receive_output(5))["code"] == 1000


@pytest.mark.parametrize("odd", ["after=-1", "after=x", "after=99999999999999999999", "seq=%00", "after=%F0%9F%98%80"])
async def test_an_odd_cursor_is_taken_for_the_beginning(customer: User, install: Install, odd: str) -> None:
    await sync_to_async(feed)(install, "a line\n")
    page = Page(watch(customer, f"/ws/installs/{install.uuid}/?{odd}"))
    await page.socket.connect()
    await page.until(lambda page: page.lines == ["a line"])
    await page.socket.disconnect()


async def closed_with(user: User | AnonymousUser, address: str) -> int:
    """The code with which a connection is closed."""
    socket = watch(user, address)
    await socket.connect()
    code: int = (await socket.receive_output(5))["code"]
    return code


async def test_a_foreign_install_looks_like_none(install: Install) -> None:
    stranger = await sync_to_async(lambda: make_user(projects=[make_project()]))()
    assert await closed_with(stranger, of(install)) == consumers.NOT_FOUND
    assert await closed_with(AnonymousUser(), of(install)) == consumers.NOT_FOUND
    assert await closed_with(stranger, "/ws/installs/00000000-0000-0000-0000-000000000000/") == consumers.NOT_FOUND


async def test_ops_watch_every_install(install: Install) -> None:
    page = Page(watch(await sync_to_async(make_user)("ops"), of(install)))
    await page.socket.connect()
    await page.until(lambda page: "install-status" in page.parts)
    await page.socket.disconnect()


async def test_only_ops_are_sent_what_only_ops_can_do(customer: User, install: Install, page: Page) -> None:
    ops = Page(watch(await sync_to_async(make_user)("ops"), of(install)))
    await ops.socket.connect()
    await sync_to_async(Past(install).event)(Kind.HOLD_REQUESTED, by="otto", before="reboot")
    for one in (page, ops):
        await one.until(lambda page: "To be held before" in page.parts.get("install-outcome", ""))
    assert "/release/" in ops.parts["install-outcome"]
    assert {"hold-words", "reset-words"} <= ops.parts.keys()
    assert "/release/" not in "".join(page.parts.values())
    assert "/reset/" not in "".join(page.parts.values())
    assert not {"hold-words", "reset-words"} & page.parts.keys()
    await ops.socket.disconnect()


async def test_of_the_history_only_new_lines_are_sent(customer: User, install: Install) -> None:
    page = Page(watch(customer, of(install, seq=install.last_seq)))
    await page.socket.connect()
    await sync_to_async(Past(install).event)(Kind.TAKEN_OVER, **{"from": "host-a:1", "by": "host-b:2"})
    await page.until(lambda page: "history-count" in page.parts)
    lines = [name for name in page.parts if name.startswith("event-")]
    assert lines == [f"event-{install.last_seq + 1}"]
    assert "Worker host-b:2 took over from host-a:1" in page.parts[lines[0]]
    await page.socket.disconnect()


async def test_a_line_that_moves_is_noticed_although_nothing_happens_to_the_install(
    customer: User, install: Install, settings: Any
) -> None:
    settings.LANDFALL_LIMIT = 1
    cache.clear()

    def queue() -> list[Install]:
        return [make_install(make_server(customer.projects.get(), disks=2)) for _ in range(2)]

    first, second = await sync_to_async(queue)()
    page = Page(watch(customer, of(second, seq=second.last_seq)))
    await page.socket.connect()
    await page.until(lambda page: "2nd in line" in page.parts.get("install-outcome", ""))
    await sync_to_async(Past(first).event)(Kind.CANCEL_REQUESTED, by="carla")
    await sync_to_async(Past(first).event)(Kind.CANCELLED, left="as it was")
    await page.until(lambda page: "1st in line" in page.parts["install-outcome"])
    await page.socket.disconnect()


async def test_who_leaves_the_project_hears_nothing_more(customer: User, install: Install, page: Page) -> None:
    await page.hear()
    await sync_to_async(customer.memberships.all().delete)()
    await sync_to_async(feed)(install, "not for everybody\n")
    assert (await page.socket.receive_output(5))["type"] == "websocket.close"


async def test_what_a_program_prints_is_text_and_nothing_else(page: Page, install: Install) -> None:
    nasty = "<script>alert(1)</script>\x1b[31mred\x1b[0m \x1b]0;title\x07&amp;\x00 'quoted\"\n"
    await sync_to_async(feed)(install, nasty)
    await page.until(lambda page: bool(page.lines))
    html = page.heard[-1]["log"][0]["html"]
    assert "<script" not in html
    assert "\x1b" not in html
    assert page.lines == ["<script>alert(1)</script>red &amp;\ufffd 'quoted\""]


async def test_the_board_sends_the_rows_that_change_and_their_order(install: Install) -> None:
    page = Page(watch(await sync_to_async(make_user)("ops"), "/ws/board/"))
    await page.socket.connect()
    row = f"install-{install.uuid}"
    await page.until(lambda page: row in page.parts)
    await sync_to_async(Past(install).fail)("copy")
    await page.until(lambda page: "is-bad" in page.parts[row])
    assert page.heard[-1]["order"] == [row]
    await page.socket.disconnect()


async def test_a_board_on_which_nothing_happens_is_sent_nothing_however_its_clocks_tick(install: Install) -> None:
    page = Page(watch(await sync_to_async(make_user)("ops"), "/ws/board/"))
    await page.socket.connect()
    await page.until(lambda page: f"install-{install.uuid}" in page.parts)
    assert await page.socket.receive_nothing(3)
    await page.socket.disconnect()


async def test_the_board_keeps_the_filter_of_its_page(install: Install) -> None:
    page = Page(watch(await sync_to_async(make_user)("ops"), "/ws/board/?status=failed"))
    await page.socket.connect()
    await page.until(lambda page: "board-numbers" in page.parts)
    assert page.heard[-1]["order"] == []
    await page.socket.disconnect()


async def test_customers_have_no_board(customer: User) -> None:
    assert await closed_with(customer, "/ws/board/") == consumers.NOT_FOUND


async def test_the_list_of_servers_hears_of_its_own_installs(customer: User, install: Install) -> None:
    page = Page(watch(customer, f"/ws/servers/?seen={await sync_to_async(seen_by)(customer)}"))
    await page.socket.connect()
    assert await page.socket.receive_nothing(0.3)
    await sync_to_async(Past(install).event)(Kind.CANCEL_REQUESTED, by="x")
    assert (await page.hear())["changed"] is True
    await page.socket.disconnect()


async def test_the_list_of_servers_hears_of_what_happened_before_it_was_connected(
    customer: User, install: Install
) -> None:
    seen = await sync_to_async(seen_by)(customer)
    await sync_to_async(Past(install).event)(Kind.CANCEL_REQUESTED, by="x")
    page = Page(watch(customer, f"/ws/servers/?seen={seen}"))
    await page.socket.connect()
    assert (await page.hear())["changed"] is True
    assert await page.socket.receive_nothing(0.3)
    await page.socket.disconnect()

"""Files to machines: ranges by Django's test client, memory and pace by the real server and a real connection."""

import asyncio
import hashlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from images.models import Image, Publication, PublicationState
from metadata.models import Purpose
from metadata.ranges import NotSatisfiable, Span, parse_range
from metadata.sending import PIECE
from tests.metadata.inventory import bearer, make_image, make_install, make_rescue, make_server, make_token

MEBIBYTE = 1024 * 1024
CONTENT = random.Random(7).randbytes(2 * PIECE + 1000)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-99", Span(0, 100)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=900-", Span(900, 100)),
        ("bytes=900-5000", Span(900, 100)),
        ("bytes=-100", Span(900, 100)),
        ("bytes=-5000", Span(0, 1000)),
        ("BYTES = 1 - 2", Span(1, 2)),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=x-5", None),
        ("items=0-1", None),
        ("bytes=٣-5", None),
    ],
)
def test_the_span_that_a_header_asks_for(header: str, expected: Span | None) -> None:
    assert parse_range(header, 1000) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=1000-", 1000), ("bytes=5000-6000", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)]
)
def test_bytes_that_are_not_there_are_not_satisfiable(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, size)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 1000))
def test_a_span_lies_inside_the_file(first: int, last: int, size: int) -> None:
    try:
        span = parse_range(f"bytes={first}-{last}", size)
    except NotSatisfiable:
        assert first >= size
    else:
        assert span is None or (span.start == first and span.length > 0 and span.start + span.length <= size)


def body(answer: Any) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return asyncio.run(collect())


@dataclass(frozen=True, slots=True)
class Fetch:
    """An image in the catalogue, and a machine that may fetch it."""

    image: Image
    token: str

    def get(self, client: Client, **headers: str) -> Any:
        return client.get(f"/machine/images/{self.image.sha256}", headers={**bearer(self.token), **headers})


@pytest.fixture
def fetch(db: None, settings: Settings) -> Fetch:
    server = make_server()
    return Fetch(
        make_image(settings.LANDFALL_IMAGES_DIR, CONTENT), make_token(server, make_install(server), Purpose.FETCH)
    )


def test_an_image_comes_whole_and_as_often_as_asked(client: Client, fetch: Fetch) -> None:
    for _ in range(2):
        answer = fetch.get(client)
        assert answer.status_code == 200
        assert (answer["Content-Length"], answer["Accept-Ranges"]) == (str(len(CONTENT)), "bytes")
        assert body(answer) == CONTENT


@pytest.mark.parametrize("start", [0, 1, PIECE - 1, PIECE, 2 * PIECE + 999])
def test_an_image_goes_on_where_it_stopped(client: Client, fetch: Fetch, start: int) -> None:
    answer = fetch.get(client, Range=f"bytes={start}-")
    assert answer.status_code == 206
    assert answer["Content-Range"] == f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert body(answer) == CONTENT[start:]


def test_a_range_beyond_the_end_is_416(client: Client, fetch: Fetch) -> None:
    answer = fetch.get(client, Range=f"bytes={len(CONTENT)}-")
    assert (answer.status_code, answer["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")


def test_an_image_needs_a_fetch_token(client: Client, fetch: Fetch) -> None:
    server = make_server(mac="52:54:00:00:00:02")
    install = make_install(server)
    rescue = make_token(server, install, Purpose.RESCUE)
    expired = make_token(server, install, Purpose.FETCH, lifetime=-timedelta(seconds=1))
    assert client.get(f"/machine/images/{fetch.image.sha256}").status_code == 404
    assert Fetch(fetch.image, rescue).get(client).status_code == 404
    assert Fetch(fetch.image, expired).get(client).status_code == 410


def test_a_customers_own_image_is_for_the_own_servers(client: Client, fetch: Fetch, settings: Settings) -> None:
    server = make_server(mac="52:54:00:00:00:02")
    own = make_image(settings.LANDFALL_IMAGES_DIR, b"own image", project=server.project)
    assert Fetch(own, fetch.token).get(client).status_code == 404
    token = make_token(server, make_install(server), Purpose.FETCH)
    assert body(Fetch(own, token).get(client)) == b"own image"


def test_an_image_that_is_not_in_the_catalogue_or_not_on_disk_is_404(
    client: Client, fetch: Fetch, settings: Settings
) -> None:
    assert client.get(f"/machine/images/{'0' * 64}", headers=bearer(fetch.token)).status_code == 404
    (settings.LANDFALL_IMAGES_DIR / fetch.image.path).unlink()
    answer = fetch.get(client)
    assert (answer.status_code, answer.content) == (404, b"The file is missing on Landfall's side.\n")


@dataclass(frozen=True, slots=True)
class Running:
    """The real server, in a process of its own."""

    pid: int
    port: int
    folder: Path

    def memory(self) -> int:
        """Resident bytes."""
        (line,) = [
            line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmRSS")
        ]
        return int(line.split()[1]) * 1024

    def open_files(self) -> list[str]:
        return [str(link.readlink()) for link in Path(f"/proc/{self.pid}/fd").iterdir() if link.is_symlink()]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/boot/files/{name}"

    def ask(self, name: str) -> socket.socket:
        """A connection that has asked for a file and read nothing yet."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(f"GET /boot/files/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return connection


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    folder = make_rescue(tmp_path / "rescue", {"small": CONTENT, "large": b""})
    with (folder / "large").open("wb") as large:
        large.truncate(200 * MEBIBYTE)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "tests.metadata.paced_server", str(folder), str(port)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port))
        yield Running(process.pid, port, folder)
    finally:
        process.terminate()
        process.wait(timeout=20)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def wait_until(happened: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_machine_that_reads_slowly_costs_no_memory_and_still_gets_all(running: Running) -> None:
    urllib.request.urlopen(running.url("small")).read()
    before = running.memory()
    with closing(running.ask("large")) as connection:
        received = 0
        for _ in range(10):
            time.sleep(0.1)
            received += len(connection.recv(1000))
        assert running.memory() - before < 30 * MEBIBYTE
        while piece := connection.recv(MEBIBYTE):
            received += len(piece)
    assert received > 200 * MEBIBYTE
    assert running.memory() - before < 30 * MEBIBYTE


def test_many_machines_each_get_the_file_as_it_is(running: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda _: urllib.request.urlopen(running.url("small")).read(), range(24)))
    assert all(content == CONTENT for content in contents)


def test_when_a_machine_hangs_up_the_file_is_closed_and_the_next_one_is_served(running: Running) -> None:
    connection = running.ask("large")
    connection.recv(1000)
    wait_until(lambda: str(running.folder / "large") in running.open_files())
    connection.close()
    wait_until(lambda: str(running.folder / "large") not in running.open_files())
    assert urllib.request.urlopen(running.url("small")).read() == CONTENT


def test_the_stream_of_a_published_image_comes_in_ranges_too(client: Client, fetch: Fetch, settings: Settings) -> None:
    stream = b"the tree" * 1000
    sha256 = hashlib.sha256(stream).hexdigest()
    (settings.LANDFALL_IMAGES_DIR / sha256).write_bytes(stream)
    made = Publication.objects.create(image=fetch.image, requested_at=timezone.now(), sha256=sha256, size=len(stream))
    headers = {**bearer(fetch.token), "Range": "bytes=4000-"}
    assert client.get(f"/machine/images/{sha256}", headers=headers).status_code == 404, "it is not published yet"
    Publication.objects.filter(pk=made.pk).update(state=PublicationState.DONE)
    answer = client.get(f"/machine/images/{sha256}", headers=headers)
    assert (answer.status_code, body(answer)) == (206, stream[4000:])
    assert client.get(f"/machine/images/{sha256}").status_code == 404, "and not without a token"

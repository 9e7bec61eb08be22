"""HTTP, as little as the simulation needs: a thousand clients and one server on one event loop, no library."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

LONGEST_BODY = 1 << 22


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


Handler = Callable[[Request], Awaitable[Answer]]


async def fetch(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    source: str = "",
    timeout: float = 30,
) -> Answer:
    """The answer to one GET, or POST where there is a body; OSError (TimeoutError is one) when there is none."""
    async with asyncio.timeout(timeout):
        return await _fetch(url, body, headers or {}, (source, 0) if source else None)


async def _fetch(url: str, body: bytes | None, headers: Mapping[str, str], local: tuple[str, int] | None) -> Answer:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, local_addr=local)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": parts.netloc, **headers}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        # 1.0: the answer ends where the connection does
        lines = [f"{'GET' if body is None else 'POST'} {path or '/'} HTTP/1.0", *(f"{k}: {v}" for k, v in sent.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        head, _, content = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *_ = head.split(b"\r\n", 1)
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionResetError("hung up before an answer")
    return Answer(int(words[1]), content)


async def serve(handle: Handler, host: str, port: int) -> asyncio.Server:
    """A server that answers by `handle`; connections are kept open between requests."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                answer = await handle(request)
                writer.write(_written(answer))
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return await asyncio.start_server(connected, host, port, backlog=1024)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the client has hung up."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = min(int(headers.get("content-length", "0")), LONGEST_BODY)
    return Request(method, path, headers, await reader.readexactly(size) if size else b"")


def _written(answer: Answer) -> bytes:
    headers = {"Content-Type": "application/json", **(answer.headers or {}), "Content-Length": str(len(answer.body))}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body

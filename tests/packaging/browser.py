"""What a browser does, without one: logs in, loads pages, keeps a websocket open."""

import base64
import json
import os
import re
import socket
import struct
import time
from http.client import HTTPConnection, HTTPResponse
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

HTML = {"Accept": "text/html"}


class Visitor:
    """Somebody with cookies. `host` is the name that is asked for, wherever the socket leads."""

    scheme = "http"

    def __init__(self, port: int, host: str = "") -> None:
        self.port, self.host = port, host or f"127.0.0.1:{port}"
        self.cookies: dict[str, str] = {}

    def connect(self) -> HTTPConnection:
        """A connection for one request."""
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def dial(self) -> socket.socket:
        """A connection for a websocket."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        """The answer, and what is in it."""
        connection = self.connect()
        try:
            connection.request(method, path, body, {"Host": self.host, **self._cookie(), **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        for header in answer.headers.get_all("Set-Cookie") or []:
            self.cookies.update({name: crumb.value for name, crumb in SimpleCookie(header).items()})
        return answer, content

    def log_in(self, name: str, password: str) -> None:
        """Logs in as a person does, by the form."""
        _, page = self.ask("GET", "/login/", headers=HTML)
        found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert found, page
        form = {"csrfmiddlewaretoken": found[1].decode(), "username": name, "password": password}
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Referer": f"{self.scheme}://{self.host}/login/",
        }
        answer, page = self.ask("POST", "/login/", urlencode(form).encode(), headers)
        assert answer.status == 302, (answer.status, page)

    def websocket(self, path: str, origin: str = "") -> "WebSocket":
        """The websocket at this path."""
        headers = {"Host": self.host, "Origin": origin or f"{self.scheme}://{self.host}", **self._cookie()}
        return WebSocket(self.dial(), path, headers)

    def _cookie(self) -> dict[str, str]:
        crumbs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": crumbs} if crumbs else {}


class WebSocket:
    """The browser's side of RFC 6455, as far as Landfall's pages need it: text comes, nothing but pongs is sent."""

    def __init__(self, line: socket.socket, path: str, headers: dict[str, str]) -> None:
        self._socket = line
        self._file = self._socket.makefile("rb")
        lines = {
            **headers, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        status = self._file.readline()
        assert b" 101 " in status, status
        while self._file.readline().strip():
            pass

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()

    def hear(self, timeout: float = 30) -> dict[str, Any] | None:
        """The next message; None when the server has closed the connection. Pings are none, and give no more time."""
        end = time.monotonic() + timeout
        while True:
            self._socket.settimeout(max(end - time.monotonic(), 0.01))
            first, length = self._file.read(2)
            length &= 127
            if length > 125:
                length = int.from_bytes(self._file.read(2 if length == 126 else 8))
            content = self._file.read(length)
            match first & 15:
                case 1:
                    return dict(json.loads(content))
                case 8:
                    return None
                case 9:
                    self._pong(content)

    def _pong(self, content: bytes) -> None:
        # masked with zeros: a mask there must be, what it is does not matter
        self._socket.sendall(struct.pack("!BB4x", 0x8A, 0x80 | len(content)) + content)

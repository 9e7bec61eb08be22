"""A small controller for the lab's own tests: the machine protocol over real HTTP, no database."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Controller:
    """Answers one token; every machine gets the rescue system, until `rescue` is switched off."""

    def __init__(self, rescue_dir: Path, public_key: str, token: str = "a-token-of-one-boot") -> None:
        self.rescue_dir, self.public_key, self.token = rescue_dir, public_key, token
        self.rescue = True
        self.calls: list[tuple[float, str, int]] = []
        self.ready: list[dict[str, Any]] = []
        self.told = threading.Event()
        controller = self

        class Handler(_Handler):
            owner = controller

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url_for_machines(self) -> str:
        return f"http://10.0.2.2:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def script(self) -> str:
        args = json.loads((self.rescue_dir / "manifest.json").read_text())["kernel_args"]
        call_home = f"landfall.url={self.url_for_machines} landfall.token={self.token}"
        files = f"{self.url_for_machines}/boot/files"
        return f"#!ipxe\nkernel {files}/vmlinuz {args} {call_home}\ninitrd {files}/initrd.img\nboot\n"

    def waited(self, path: str) -> float:
        """When the first call of this path came (monotonic clock)."""
        return next(at for at, called, _ in self.calls if called == path)


class _Handler(BaseHTTPRequestHandler):
    owner: Controller
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/boot/files/"):
            self._answer(200, (self.owner.rescue_dir / self.path.rpartition("/")[2]).read_bytes())
        elif self.path.startswith("/boot/"):
            self._answer(200 if self.owner.rescue else 404, self.owner.script().encode() if self.owner.rescue else b"")
        elif self.path == "/machine/key" and self._known():
            self._answer(200, self.owner.public_key.encode())
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/machine/ready" and self._known():
            self._answer(204, b"")
            self.owner.ready.append(json.loads(body))
            self.owner.told.set()
        else:
            self._answer(404, b"")

    def _known(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {self.owner.token}"

    def _answer(self, status: int, body: bytes) -> None:
        self.owner.calls.append((time.monotonic(), self.path, status))
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass

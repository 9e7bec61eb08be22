"""A small web server for tests that fetch something, on the loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Site(ThreadingHTTPServer):
    """Serves `files` to who sends the headers that it `wants`; a text is an address to go to instead.

    `lie` is added to every Content-Length.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes | str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.wants: dict[str, str] = {}
        self.lie = 0
        self.tells_length = True
        self.silent_after: int | None = None
        self.closing = Event()
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path.partition("?")[0])
        if any(self.headers.get(name) != value for name, value in self.server.wants.items()):
            self.send_error(403)
        elif content is None:
            self.send_error(404)
        elif isinstance(content, str):
            self.send_response(302)
            self.send_header("Location", content)
            self.end_headers()
        else:
            self._send(content)

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(content) + self.server.lie))
        self.end_headers()
        self.wfile.write(content[: self.server.silent_after])
        if self.server.silent_after is not None:
            self.server.closing.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def site(files: dict[str, bytes | str]) -> Iterator[Site]:
    """The server, running."""
    with Site(files) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()

"""A receiver of webhooks: a real HTTP or HTTPS server on loopback that keeps what it gets and answers as it is told."""

import datetime
import http.server
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def late(seconds: float) -> Answer:
    """A good answer that comes after this time."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        status(200)(handler)

    return answer


def trickling(pause: float = 0.1) -> Answer:
    """An answer of which a byte comes now and then, for ever."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(600):
            handler.wfile.write(b"a")
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    """A good status, and a body without end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * 65536)


@dataclass
class Receiver:
    """The server; `answers` are given in turn, the last one from then on."""

    url: str
    answers: list[Answer] = field(default_factory=lambda: [status(204)])
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    def wait_for(self, count: int, seconds: float = 20) -> None:
        """Until so many requests have come."""
        end = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < end, f"{len(self.received)} came of {count}"
            time.sleep(0.02)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        self.receiver.connections += 1
        if self.tls:
            assert isinstance(request, ssl.SSLSocket) or hasattr(request, "recv")
            request = self.tls.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves, or trusts no certificate, is what some tests want."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        number = len(receiver.received)
        receiver.received.append(Received(self.path, headers, body))
        receiver.answers[min(number, len(receiver.answers) - 1)](self)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextmanager
def running(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[Receiver]:
    """A server on a free port, gone at the end; its URL says localhost where it speaks TLS, as its certificate does."""
    server = _Server((host, port), _Handler)
    name = "localhost" if tls else host
    server.receiver = Receiver(f"http{'s' if tls else ''}://{name}:{server.server_port}/hook")
    server.tls = tls
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- certificates


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the tests: whoever trusts `file` trusts what it has signed."""

    file: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def server(self, name: str = "localhost") -> ssl.SSLContext:
        """For a server of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name)] if not name[0].isdigit() else [x509.IPAddress(ipaddress.ip_address(name))]
        built = _builder(name, self._certificate.subject, key).add_extension(x509.SubjectAlternativeName(names), False)
        pem = self.file.with_name(f"{name}.pem")
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def client(self) -> ssl.SSLContext:
        """For somebody who trusts it, and checks as anybody should."""
        return ssl.create_default_context(cafile=str(self.file))


def authority(folder: Path) -> Authority:
    """A fresh one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    built = _builder("tests", subject, key).add_extension(x509.BasicConstraints(True, None), True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = built.add_extension(usage, True).sign(key, hashes.SHA256())
    file = folder / "authority.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(file, certificate, key)


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )

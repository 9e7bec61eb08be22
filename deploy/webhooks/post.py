"""One attempt at a delivery, over one connection to an address that was checked: no redirects, no proxy, no waiting."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from .targets import IP, Target, TargetRefused, addresses, parse

MOST_READ = 64 * 1024
"""Bytes of an answer's body that are read at most."""
EXCERPT = 200
"""Characters of it that are kept."""
LONGEST_WORDS = 290


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an attempt may take: to connect, and from there on, however slowly the answer trickles."""

    connect: float = 5.0
    total: float = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has come of an attempt: `error` is a sentence for the webhook's owner, empty when it was taken."""

    status: int | None = None
    error: str = ""
    answer: str = ""
    retry_after: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the receiver has taken it."""
        return not self.error

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more deliveries, ever."""
        return self.status == http.client.GONE


def post(url: str, headers: Mapping[str, str], body: bytes, tls: ssl.SSLContext, limits: Limits) -> Outcome:
    """Sends the body. Never raises for what the other side does; takes no longer than resolver and limits do."""
    try:
        target = parse(url)
        found = addresses(target)
    except TargetRefused as refused:
        return Outcome(error=str(refused))
    try:
        connection = _connect(found, target.port, limits.connect)
    except OSError as error:
        return Outcome(error=_words(f"No connection to {target.host}", error))
    connection.settimeout(limits.total)
    with connection, _cut_off(connection, limits.total) as was_cut_off:
        try:
            with _asked(connection, target, headers, body, tls) as response:
                # a connection that is cut off in the middle of the headers looks like their end
                if was_cut_off.is_set():
                    raise TimeoutError
                return _outcome(response, target)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if was_cut_off.is_set() or isinstance(error, TimeoutError):
                return Outcome(error=f"{target.host} did not answer within {limits.total:g} seconds.")
            if isinstance(error, ssl.SSLCertVerificationError):
                return Outcome(error=_words("Its certificate is not trusted", error.verify_message))
            return Outcome(error=_words(f"{target.host} gave no proper answer", error))


def _connect(found: tuple[IP, ...], port: int, seconds: float) -> socket.socket:
    """A connection to the first of the addresses that takes one; all of them share the time."""
    deadline = time.monotonic() + seconds
    failure: OSError = TimeoutError("timed out")
    for address in found:
        if (left := deadline - time.monotonic()) <= 0:
            break
        try:
            return socket.create_connection((str(address), port), timeout=left)
        except OSError as error:
            failure = error
    raise failure


@contextmanager
def _cut_off(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Shuts the connection after the time: a timeout of the socket would begin anew with every byte that trickles."""
    was_cut_off = threading.Event()
    # TLS takes the socket object over; its number stays good for shutting down what lies below.
    below = socket.socket(fileno=socket.dup(connection.fileno()))

    def cut() -> None:
        was_cut_off.set()
        with suppress(OSError):  # the other side was faster
            below.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield was_cut_off
    finally:
        timer.cancel()
        timer.join()
        below.close()


@contextmanager
def _asked(
    connection: socket.socket, target: Target, headers: Mapping[str, str], body: bytes, tls: ssl.SSLContext
) -> Iterator[http.client.HTTPResponse]:
    """The answer to the request, its body not read yet."""
    if target.is_encrypted:
        connection = tls.wrap_socket(connection, server_hostname=target.host)
    with closing(http.client.HTTPConnection(target.host, target.port)) as client:
        client.default_port = 443 if target.is_encrypted else 80  # Host leaves it out
        client.sock = connection
        client.request("POST", target.path, body, dict(headers))
        yield client.getresponse()


def _outcome(response: http.client.HTTPResponse, target: Target) -> Outcome:
    status, answer = response.status, _excerpt(response)
    if 200 <= status < 300:
        return Outcome(status, answer=answer)
    if 300 <= status < 400:
        where = _printable(response.headers.get("Location", ""), 120)
        to = f" to {where}" if where else ""
        return Outcome(status, f"It redirects ({status}){to}, which is not followed: enter the final address.", answer)
    said = _printable(f"{target.host} answered {status} {response.reason}", LONGEST_WORDS)
    return Outcome(status, f"{said}.", answer, _retry_after(response))


def _retry_after(response: http.client.HTTPResponse) -> float:
    """Seconds that the receiver asks for; 0 when it does not, or names a date."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 0.0


def _excerpt(response: http.client.HTTPResponse) -> str:
    """How the body begins; what the status says holds even if the body never comes to an end."""
    try:
        data = response.read(MOST_READ)
    except (OSError, http.client.HTTPException):
        return ""
    return _printable(data[: EXCERPT * 4].decode(errors="replace"), EXCERPT)


def _printable(text: str, most: int) -> str:
    """The text in one line, without what a database or a terminal does not take."""
    return "".join(char if char.isprintable() else " " for char in text).strip()[:most]


def _words(what: str, error: object) -> str:
    """The sentence for an error of the network: what failed, and the cause as the system names it."""
    cause = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return _printable(f"{what}: {cause}", LONGEST_WORDS - 1) + "."

"""SSH to the rescue system, the only place that knows paramiko.

The far end is known beforehand: the host key that the rescue system told us when it called, and no other.
"""

import base64
import contextlib
import hashlib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from accounts.secret import Secret

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connection, and again for the SSH handshake: an emulated machine needs 1 to 2."""

SILENT_PEER = 30.0
"""Seconds after which a peer that confirms nothing is taken for gone; the keep-alive below asks every 15."""


class Unreachable(Exception):
    """Nobody answers, or the connection broke: to be tried again."""


class WrongHostKey(Exception):
    """Somebody answers, but not the system that called us."""


class Refused(Exception):
    """The right system answers and does not take our key."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What became of a short command."""

    status: int
    output: bytes
    errors: bytes


class Stream(Protocol):
    """The output of a long command as it comes."""

    def read(self, timeout: float) -> bytes | None:
        """What came within `timeout` seconds: empty when nothing did, None at the end. `Unreachable` when it broke."""

    def status(self) -> int:
        """The exit status, once `read` has given None."""

    def close(self) -> None:
        """Stops listening; the command may go on."""


class Connection(Protocol):
    """A way to run commands on the rescue system."""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> Completed:
        """What a short shell command did. `Unreachable` when the connection broke or it took too long.

        A command that is given `stdin` reads all of it; one that is given none reads none.
        """

    def stream(self, command: str) -> Stream:
        """A long shell command, begun."""

    def close(self) -> None:
        """Hangs up."""


class _Transport(paramiko.Transport):  # type: ignore[misc]  # paramiko has no types
    # paramiko wakes this often, per connection, to see whether it should end: its 0.1 s is most of its idle cost.
    _active_check_timeout = 5


class SSH:
    """A `Connection` over SSH."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> Completed:
        with _breaks_are_unreachable():
            channel = self._transport.open_session(timeout=CONNECT_TIMEOUT)
            with contextlib.closing(channel):
                channel.settimeout(timeout)
                channel.exec_command(command)
                if stdin:
                    # Only where the command waits for it: the end of our input may cross with a quick command's end,
                    # and sshd breaks a connection that speaks of a channel that is closed.
                    channel.sendall(stdin)
                    channel.shutdown_write()
                output = b"".join(iter(lambda: channel.recv(65536), b""))
                errors = b"".join(iter(lambda: channel.recv_stderr(65536), b""))
                return Completed(_exit_status(channel), output, errors)

    def stream(self, command: str) -> Stream:
        with _breaks_are_unreachable():
            channel = self._transport.open_session(timeout=CONNECT_TIMEOUT)
            channel.exec_command(command)
            return _ChannelStream(channel, self._transport)

    def close(self) -> None:
        self._transport.close()


class _ChannelStream:
    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport) -> None:
        self._channel = channel
        self._transport = transport

    def read(self, timeout: float) -> bytes | None:
        self._channel.settimeout(timeout)
        try:
            data: bytes = self._channel.recv(65536)
        except TimeoutError:
            if not self._transport.is_active():
                raise Unreachable("the connection broke") from None
            return b""
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Unreachable(f"the connection broke: {error}") from error
        if not data:
            # A connection that breaks ends the stream too, but without an exit status.
            self.status()
        return data or None

    def status(self) -> int:
        return _exit_status(self._channel)

    def close(self) -> None:
        # Closing tells the far end; one that has just gone need not hear it.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


def _exit_status(channel: paramiko.Channel) -> int:
    if not channel.status_event.wait(CONNECT_TIMEOUT) or channel.exit_status < 0:
        raise Unreachable("the connection broke before the command had ended")
    return int(channel.exit_status)


@contextlib.contextmanager
def _breaks_are_unreachable() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise Unreachable(str(error) or "the connection broke") from error


def connect(address: str, port: int, private_key: Secret, host_keys: tuple[str, ...], *, user: str = "root") -> SSH:
    """A connection to the system that has one of these host keys ('ssh-ed25519 AAAA...').

    `Unreachable`, `WrongHostKey` and `Refused` say why there is none. Costs two threads and 0.1 MB while it is open.
    """
    transport = _handshake(address, port)
    try:
        if _line(transport.get_remote_server_key()) not in {" ".join(key.split()[:2]) for key in host_keys}:
            raise WrongHostKey(f"{address} port {port} answers with a host key that the rescue system did not tell us")
        transport.auth_publickey(user, _private_key(private_key))
        # Routers forget a connection that is silent; a step may print nothing for minutes.
        transport.set_keepalive(15)
        return SSH(transport)
    except paramiko.AuthenticationException as error:
        transport.close()
        raise Refused(f"{address} port {port} refuses the key of this install") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        transport.close()
        raise Unreachable(f"{address} port {port}: {error}") from error
    except WrongHostKey:
        transport.close()
        raise


def host_key(address: str, port: int) -> str:
    """The host key that answers there now, as 'ssh-ed25519 AAAA...'; `Unreachable` when nobody does."""
    transport = _handshake(address, port)
    try:
        # a system that is just starting or ending may hang up as soon as keys are agreed upon
        with _breaks_are_unreachable():
            return _line(transport.get_remote_server_key())
    finally:
        transport.close()


def _handshake(address: str, port: int) -> _Transport:
    try:
        raw = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT)
        # Without it the small packets of a login wait for each other: 89 ms instead of 8.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A machine that lost power says no goodbye: what it does not confirm in time breaks the connection.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_PEER * 1000))
        transport = _Transport(raw)
    except OSError as error:
        raise Unreachable(f"{address} port {port}: {error}") from error
    transport.banner_timeout = CONNECT_TIMEOUT * 2
    wanted = transport.get_security_options()
    # Both of ours and every supported distribution make ed25519 keys; asking for one kind makes the answer comparable.
    wanted.key_types = ["ssh-ed25519"]
    # The other ciphers need a MAC for each packet, which paramiko compares byte by byte: half of what reading costs.
    wanted.ciphers = sorted(wanted.ciphers, key=lambda name: "gcm" not in name)
    try:
        transport.start_client(timeout=CONNECT_TIMEOUT * 2)
    except (OSError, EOFError, paramiko.SSHException) as error:
        transport.close()
        raise Unreachable(f"{address} port {port}: {error}") from error
    return transport


def _line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _private_key(private_key: Secret) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(private_key.reveal()))


def fingerprint(line: str) -> str:
    """The fingerprint of a public key line, as `ssh-keygen -l` gives it: SHA256:..."""
    blob = base64.b64decode(line.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def new_key_pair() -> tuple[Secret, str]:
    """A fresh ed25519 key pair: the private half in OpenSSH's format, the public half as one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Secret(private), f"{public} landfall"

"""SSH as a simulated system answers it; the only place that knows asyncssh."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import asyncssh

from .jobs import Asked, Channel, Jobs, understood

# It tells of every command at INFO, and logs that are for others would be full of it.
asyncssh.set_log_level("WARNING")


class HostKey:
    """A fresh ed25519 host key."""

    def __init__(self) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.line = " ".join(self.key.export_public_key().decode().split()[:2])
        """'ssh-ed25519 AAAA...'."""


class Sshd:
    """An SSH server at one address: lets in one key, for the commands of the job protocol; without jobs nobody."""

    def __init__(
        self, address: str, port: int, host_key: HostKey, admitted: str = "", jobs: Jobs | None = None
    ) -> None:
        self._where = (address, port)
        self._options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Server(self),
            server_host_keys=[host_key.key],
            encoding=None,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            compression_algs=["none"],
            login_timeout=60,
        )
        self.admitted = asyncssh.import_public_key(admitted).public_data if admitted else b""
        self.jobs = jobs
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.logins = 0
        self.is_frozen = False
        self._listener: asyncssh.SSHAcceptor | None = None

    async def listen(self) -> None:
        """Answers from now on."""
        if self._listener is None:
            address, port = self._where
            self._listener = await asyncssh.listen(address, port, options=self._options, backlog=16)

    def stop(self) -> None:
        """The port is closed, and every connection cut."""
        if self._listener:
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """Cuts the open connections; new ones are taken."""
        for connection in tuple(self.connections):
            connection.abort()
        self.connections.clear()

    def freeze(self, frozen: bool) -> None:
        """Nothing is read any more, and nothing answered, although connections stay open; or it goes on."""
        self.is_frozen = frozen
        for connection in self.connections:
            self.hold(connection)

    def hold(self, connection: asyncssh.SSHServerConnection) -> None:
        """Stops or continues reading from a connection, as it is now."""
        transport = connection._transport  # asyncssh has no way of its own to stop listening
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            transport.pause_reading() if self.is_frozen else transport.resume_reading()


class _Server(asyncssh.SSHServer):
    def __init__(self, sshd: Sshd) -> None:
        self._sshd = sshd
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._sshd.connections.add(conn)
        if self._sshd.is_frozen:
            self._sshd.hold(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection:
            self._sshd.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return bool(self._sshd.admitted) and key.public_data == self._sshd.admitted

    def auth_completed(self) -> None:
        self._sshd.logins += 1

    def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
        return _Session(self._sshd.jobs) if self._sshd.jobs else False


class _Session(asyncssh.SSHServerSession[bytes]):
    """One command: its standard input gathered where it takes one, then asked of the jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command = ""
        self._stdin = bytearray()
        self._on_eof: Callable[[], None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        question = understood(self._command)
        if question and question.asked is Asked.START:
            self._on_eof = self._ask
        else:
            self._ask()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._stdin += data

    def eof_received(self) -> bool:
        self._end_of_input()
        return True

    def _end_of_input(self) -> None:
        if on_eof := self._on_eof:
            self._on_eof = None
            on_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        # As sshd does it: the command reads the end of what has come, and goes on.
        with contextlib.suppress(OSError):
            self._end_of_input()
        if self._channel:
            self._jobs.forget(_Reply(self._channel))

    def _ask(self) -> None:
        assert self._channel
        self._jobs.ask(self._command, bytes(self._stdin), _Reply(self._channel))


class _Reply:
    """An asyncssh channel as `jobs.Channel`; two replies on one channel are equal."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = channel

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reply) and other._channel is self._channel

    def __hash__(self) -> int:
        return id(self._channel)

    def write(self, data: bytes) -> None:
        self._channel.write(data)

    def write_stderr(self, data: bytes) -> None:
        self._channel.write_stderr(data)

    def exit(self, status: int) -> None:
        self._channel.exit(status)


_: type[Channel] = _Reply

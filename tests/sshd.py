"""A real sshd on loopback, in the part of a rescue system: it takes one key and has one host key."""

import getpass
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from accounts.secret import Secret
from deploy import transport
from tests.ports import free_port

USER = getpass.getuser()
"""An sshd that is not root lets in the one who started it, and nobody else."""
as_root = pytest.mark.skipif(USER != "root", reason="a rescue system is entered as root: run the tests as root")
"""For tests in which the engine itself logs in."""


@dataclass
class Sshd:
    """An sshd with its keys; `restart` makes it another system at the same address."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.private_key, self.public_key = transport.new_key_pair()
        self.new_host_key()
        (self.folder / "authorized_keys").write_text(self.public_key + "\n")

    def new_host_key(self) -> None:
        """From the next start it answers with another host key."""
        (self.folder / "host_key").unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host_key")], check=True)

    @property
    def host_key(self) -> str:
        """Its host key as 'ssh-ed25519 AAAA...'."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def start(self) -> None:
        """Listening when this returns."""
        settings = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxSessions": "50",
            "MaxStartups": "200",
        }
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        Path("/run/sshd").mkdir(exist_ok=True) if USER == "root" else None
        # A group of its own: the sessions it forks are ended with it.
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
            stderr=(self.folder / "sshd.log").open("ab"), start_new_session=True,
        )  # fmt: skip
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """Every connection cut, as by a network that is gone; jobs on the system go on."""
        if self.process:
            for child in _children(self.process.pid):
                _kill(child)
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut_connections(self) -> None:
        """The open connections end; new ones are taken."""
        assert self.process
        for child in _children(self.process.pid):
            _kill(child)

    def connect(self, private_key: Secret | None = None, host_key: str = "") -> transport.SSH:
        """A connection with the right keys, unless others are given."""
        return transport.connect(
            "127.0.0.1", self.port, private_key or self.private_key, (host_key or self.host_key,), user=USER
        )


class Cut:
    """A connection that breaks in the middle of what is sent: sshd gives the command the end of what has come."""

    def __init__(self, whole: transport.SSH) -> None:
        self.whole = whole

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> transport.Completed:
        return self.whole.run(command, stdin[: len(stdin) // 2], timeout)

    def stream(self, command: str) -> transport.Stream:
        return self.whole.stream(command)

    def close(self) -> None:
        self.whole.close()


class HungUp(Cut):
    """A connection that ends once all is sent, as that of a worker does that is killed then: no answer comes."""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> transport.Completed:
        channel = self.whole._transport.open_session()
        channel.exec_command(command)
        channel.sendall(stdin)
        channel.shutdown_write()
        self.whole._transport.sock.shutdown(socket.SHUT_RDWR)
        raise transport.Unreachable


def _children(pid: int) -> list[int]:
    """The session processes of an sshd, without what they run: a cut connection does not end a detached job."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    children = [int(child) for child in found.split()]
    sessions = [grandchild for child in children for grandchild in _sshd_children(child)]
    return [*children, *sessions]


def _sshd_children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid), "sshd"], capture_output=True, text=True, check=False).stdout
    return [int(child) for child in found.split()]


def _kill(pid: int) -> None:
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], capture_output=True, check=False)


@contextmanager
def running() -> Iterator[Sshd]:
    """A running sshd, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="landfall-sshd-") as folder:
        sshd = Sshd(Path(folder))
        sshd.start()
        try:
            yield sshd
        finally:
            sshd.stop()

"""The phone-home script, run for real: in a root of its own, with a real HTTP server and a real listener."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer

from metadata import phonehome
from metadata.calls import read_phone_home
from metadata.models import Purpose
from metadata.signals import machine_called
from tests.metadata.inventory import HOST_KEY, make_install, make_server, make_token

TOKEN = "Zm9vYmFyYmF6-_token"
ALWAYS = ["sh", "cat", "cut", "grep", "head", "mktemp", "rm", "sed", "sleep", "tail", "tr", "uname"]
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason="not here"))
    for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"])
]


@dataclass
class Controller:
    """A web server that answers with `statuses` in turn, the last one for ever, and keeps what came."""

    statuses: list[int] = field(default_factory=lambda: [204])
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    while_answering: Callable[[], None] = lambda: None
    port: int = 0

    @property
    def message(self) -> Any:
        return json.loads(self.calls[-1][2])

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> int:
        self.calls.append((path, headers, body))
        self.while_answering()
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@pytest.fixture
def controller() -> Iterator[Controller]:
    controller = Controller()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(controller.answer(self.path, dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    controller.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield controller
    server.shutdown()
    server.server_close()


@dataclass
class Installed:
    """An installed system under `root`: the unit in place, sshd listening, cloud-init not there."""

    root: Path
    ssh_port: int
    url: str
    client: str = "curl"

    def lay_out(self) -> None:
        """The files as step 9 leaves them, and a PATH with few tools on it."""
        self.write("etc/ssh/ssh_host_ed25519_key.pub", f"{HOST_KEY} root@web1\n")
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.write(phonehome.TOKEN_PATH, TOKEN + "\n").chmod(0o600)
        self.write(phonehome.UNIT_PATH, phonehome.unit())
        wanted = self.path(phonehome.WANTED_PATH)
        wanted.parent.mkdir()
        wanted.symlink_to(phonehome.UNIT_PATH)
        self.write(phonehome.SCRIPT_PATH, phonehome.script(self.url))
        for tool in [*ALWAYS, self.client]:
            link = self.path(f"tools/{tool}")
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(shutil.which(tool, path="/usr/bin:/bin") or f"no {tool} here")
        self.write("cloud-final", "inactive")
        self.tool("tools/systemctl", f"[ $1 = daemon-reload ] || cat {self.root}/cloud-final")

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str) -> Path:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)
        return self.path(name)

    def tool(self, name: str, commands: str) -> None:
        self.write(name, f"#!/bin/sh\n{commands}\n").chmod(0o755)

    def left(self) -> list[str]:
        """What is still there of phone-home."""
        names = (phonehome.UNIT_PATH, phonehome.WANTED_PATH, phonehome.SCRIPT_PATH, phonehome.TOKEN_PATH)
        return [name for name in names if self.path(name).is_symlink() or self.path(name).exists()]

    def start(self, shell: list[str] | None = None, **variables: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.root / "tools"),
            "PHONE_HOME_ROOT": str(self.root),
            "PHONE_HOME_SSH_PORT": str(self.ssh_port),
            "PHONE_HOME_TICK": "0.1",
            "PHONE_HOME_PAUSE": "0",
            **variables,
        }
        name, *arguments = shell or ["dash"]
        command = [shutil.which(name) or name, *arguments, str(self.path(phonehome.SCRIPT_PATH))]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def run(self, shell: list[str] | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(shell, **variables)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.fixture
def ssh() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


@pytest.fixture
def installed(tmp_path: Path, controller: Controller, ssh: socket.socket) -> Installed:
    system = Installed(tmp_path / "root", ssh.getsockname()[1], f"http://127.0.0.1:{controller.port}")
    system.lay_out()
    return system


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> None:
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize("client", ["curl", "wget", "python3", "bash"])
def test_it_calls_with_whatever_the_system_has_and_removes_itself(
    client: str, shell: list[str], tmp_path: Path, controller: Controller, ssh: socket.socket
) -> None:
    system = Installed(tmp_path / "root", ssh.getsockname()[1], f"http://127.0.0.1:{controller.port}", client)
    system.lay_out()
    done = system.run(shell)
    assert (done.returncode, done.stderr) == (0, "")
    ((path, headers, body),) = controller.calls
    assert path == "/machine/phone-home"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "machine_id": "0123456789abcdef0123456789abcdef",
        "host_keys": [HOST_KEY],
        "kernel": os.uname().release,
        "cloud_init": "absent",
        "hostname": os.uname().nodename,
        # this system has neither awk nor findmnt, and says nothing of its mounts
        "degraded_arrays": [],
    }
    assert system.left() == []


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_says_what_is_mounted_and_which_arrays_lack_a_disk(
    shell: list[str], installed: Installed, controller: Controller
) -> None:
    fstab = "# device\nUUID=1-2 / ext4\nUUID=3-4 /boot/efi vfat nofail\nUUID=5-6 none swap\nUUID=7-8 /gone ext4\n"
    installed.write("etc/fstab", fstab)
    known = "case $6 in /) echo 1-2 ;; /boot/efi) echo 3-4 ;; *) exit 1 ;; esac"
    installed.tool("tools/findmnt", known)
    installed.path("tools/awk").symlink_to(shutil.which("awk") or "no awk here")
    installed.write("sys/block/md127/md/degraded", "1\n")
    installed.write("sys/block/md126/md/degraded", "0\n")
    installed.write("sys/block/md125/md/degraded", "1\n")
    installed.write("sys/block/md125/md/sync_action", "recover\n")
    installed.run(shell)
    assert controller.message["mounts"] == {"/": "1-2", "/boot/efi": "3-4"}
    assert controller.message["degraded_arrays"] == ["md127"]
    assert read_phone_home(controller.calls[-1][2])["mounts"] == {"/": "1-2", "/boot/efi": "3-4"}


@pytest.mark.parametrize("client", ["curl", "wget", "python3", "bash"])
def test_every_client_tells_a_refusal_from_a_missing_network(
    client: str, tmp_path: Path, controller: Controller, ssh: socket.socket
) -> None:
    controller.statuses = [503, 429, 410]
    system = Installed(tmp_path / "root", ssh.getsockname()[1], f"http://127.0.0.1:{controller.port}", client)
    system.lay_out()
    done = system.run()
    assert [line.partition(")")[0] for line in done.stdout.splitlines()[:2]] == [
        "Landfall did not take the call (503",
        "Landfall did not take the call (429",
    ]
    assert (done.returncode, system.left()) == (0, [])


@pytest.mark.parametrize("client", ["curl", "wget", "python3", "bash"])
def test_it_calls_again_until_landfall_can_be_reached(client: str, tmp_path: Path, ssh: socket.socket) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    system = Installed(tmp_path / "root", ssh.getsockname()[1], f"http://127.0.0.1:{port}", client)
    system.lay_out()
    process = system.start(PHONE_HOME_PAUSE="1")
    assert process.stdout
    first = process.stdout.readline()
    assert "did not take the call" in first and "next try in 1 s" in first
    assert "next try in 2 s" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    # the journal is what is read when nobody ever took the call
    if client in ("curl", "python3"):
        assert "refused" in said or "Failed to connect" in said
    assert len(system.left()) == 4


@pytest.mark.parametrize("status", [200, 204, 404, 410])
def test_when_there_is_nothing_more_to_say_it_is_gone(
    status: int, installed: Installed, controller: Controller
) -> None:
    controller.statuses = [status]
    assert installed.run().returncode == 0
    assert installed.left() == []


@pytest.mark.parametrize("status", [400, 403, 413])
def test_when_it_is_refused_it_says_so_and_stops(status: int, installed: Installed, controller: Controller) -> None:
    controller.statuses = [status]
    done = installed.run()
    assert done.returncode == 1
    assert str(status) in done.stderr
    assert len(controller.calls) == 1
    assert len(installed.left()) == 4


def test_it_waits_for_cloud_init_and_says_how_it_ended(installed: Installed, controller: Controller) -> None:
    installed.tool("usr/bin/cloud-init", "echo; echo status: error")
    process = installed.start()
    time.sleep(0.5)
    installed.write("cloud-final", "activating")
    time.sleep(0.5)
    assert controller.calls == []
    installed.write("cloud-final", "active")
    finish(process)
    assert controller.message["cloud_init"] == "error"


def test_a_cloud_init_that_finished_before_or_is_switched_off_is_not_waited_for(
    installed: Installed, controller: Controller
) -> None:
    installed.tool("usr/bin/cloud-init", "echo status: disabled")
    installed.write("etc/cloud/cloud-init.disabled", "")
    assert installed.run().returncode == 0
    assert controller.message["cloud_init"] == "disabled"


def test_a_customers_script_that_deletes_cloud_init_does_not_stop_it(
    installed: Installed, controller: Controller
) -> None:
    installed.tool("usr/bin/cloud-init", "echo status: running")
    installed.write("run/cloud-init/enabled", "")
    installed.write("cloud-final", "activating")
    process = installed.start()
    time.sleep(0.5)
    shutil.rmtree(installed.path("run/cloud-init"))
    installed.path("usr/bin/cloud-init").unlink()
    time.sleep(0.5)
    assert controller.calls == []  # the script itself is still running
    installed.write("cloud-final", "inactive")
    finish(process)
    assert controller.message["cloud_init"] == "absent"
    assert installed.left() == []


def test_a_cloud_init_that_never_ends_is_reported_as_running(installed: Installed, controller: Controller) -> None:
    installed.tool("usr/bin/cloud-init", "echo status: running")
    installed.write("cloud-final", "activating")
    assert installed.run(PHONE_HOME_LOOKS="3").returncode == 0
    assert controller.message["cloud_init"] == "running"


def test_it_waits_for_sshd_and_its_host_keys(installed: Installed, controller: Controller, ssh: socket.socket) -> None:
    installed.path("etc/ssh/ssh_host_ed25519_key.pub").unlink()
    ssh.close()
    process = installed.start()
    time.sleep(0.4)
    with closing(socket.create_server(("127.0.0.1", installed.ssh_port))):
        time.sleep(0.4)
        assert controller.calls == []
        installed.write("etc/ssh/ssh_host_ed25519_key.pub", HOST_KEY)
        finish(process)
    assert controller.message["host_keys"] == [HOST_KEY]


def test_an_sshd_on_ipv6_alone_counts(installed: Installed, controller: Controller) -> None:
    if not Path("/proc/net/tcp6").exists():
        pytest.skip("no IPv6 here")
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as listener:
        installed.ssh_port = listener.getsockname()[1]
        assert installed.run().returncode == 0
    assert len(controller.calls) == 1


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_whatever_stands_in_the_files_the_message_is_json(
    shell: list[str], installed: Installed, controller: Controller
) -> None:
    installed.path("etc/machine-id").write_bytes(b'-e a"b\\c\\n$(id)`id`%s\x01\x1b[31m\xc3\xa9\xff d\nsecond line\n')
    installed.write("etc/ssh/ssh_host_rsa_key.pub", 'ssh-rsa AAAA"\\B comment "quoted"\n')
    installed.write("etc/ssh/ssh_host_dsa_key.pub", "")
    assert installed.run(shell).returncode == 0
    assert controller.message["machine_id"] == '-e a"b\\c\\n$(id)`id`%s[31m d'
    assert controller.message["host_keys"] == [HOST_KEY, 'ssh-rsa AAAA"\\B']


@pytest.mark.parametrize("client", ["curl", "wget", "python3", "bash"])
def test_the_token_is_on_no_command_line_and_in_no_environment(
    client: str, tmp_path: Path, controller: Controller, ssh: socket.socket
) -> None:
    seen: list[bytes] = []

    def look_around() -> None:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen.append((process / name).read_bytes())
                except OSError:
                    continue

    controller.while_answering = look_around
    system = Installed(tmp_path / "root", ssh.getsockname()[1], f"http://127.0.0.1:{controller.port}", client)
    system.lay_out()
    done = system.run()
    assert done.returncode == 0
    assert any(str(system.root).encode() in text for text in seen)
    assert not any(TOKEN.encode() in text for text in seen)
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.django_db(transaction=True)
def test_landfall_takes_the_call(live_server: LiveServer, tmp_path: Path, ssh: socket.socket) -> None:
    server = make_server()
    install = make_install(server)
    heard: list[Any] = []

    def listen(payload: dict[str, Any], **_call: Any) -> None:
        heard.append(payload)

    machine_called.connect(listen)
    try:
        system = Installed(tmp_path / "root", ssh.getsockname()[1], live_server.url)
        system.lay_out()
        system.write(phonehome.TOKEN_PATH, make_token(server, install, Purpose.PHONE_HOME))
        done = system.run()
    finally:
        machine_called.disconnect(listen)
    assert done.stdout == "Landfall answered 204: done, removing myself\n"
    assert [payload["host_keys"] for payload in heard] == [[HOST_KEY]]
    assert system.left() == []


def test_the_unit_is_ordered_behind_nothing_of_cloud_init() -> None:
    settings = [line for line in phonehome.unit().splitlines() if "=" in line]
    assert not any("cloud" in line for line in settings)
    assert "Type=simple" in settings
    assert "WantedBy=multi-user.target" in settings
    assert f"ExecStart=/bin/sh {phonehome.SCRIPT_PATH}" in settings


def test_what_the_unit_says_stands_in_the_journal_under_its_own_name() -> None:
    """Its process is a shell: by that name nobody could tell its words from those of any other script."""
    assert f"SyslogIdentifier={phonehome.NAME}" in phonehome.unit().splitlines()


def test_a_url_or_path_with_odd_characters_stays_one_word() -> None:
    text = phonehome.script("http://landfall.example/a b'c", "/etc/a b")
    shown = subprocess.run(
        ["dash", "-c", text.split("# --- waiting")[0] + 'printf "%s|%s" "$URL" "$TOKEN"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "http://landfall.example/a b'c/machine/phone-home|/etc/a b"

"""The rescue service against a real HTTP server: what it does, in which order, and when it gives up."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rescue.inside.service import (
    Controller,
    Refused,
    System,
    consoles,
    one_key,
    open_and_report,
    parse_command_line,
    pauses,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVQ one-install"
TOKEN = "the-token-of-this-boot"


@dataclass
class Answers:
    """A controller that answers each path with the statuses given, the last one for ever."""

    key: list[int] = field(default_factory=lambda: [200])
    ready: list[int] = field(default_factory=lambda: [204])
    key_text: str = KEY + "\n"
    asked: list[tuple[str, str]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def next(self, path: str) -> int:
        statuses = self.key if path == "/machine/key" else self.ready
        return statuses.pop(0) if len(statuses) > 1 else statuses[0]


@pytest.fixture
def answers() -> Iterator[Answers]:
    what = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(what.key_text.encode())

        def do_POST(self) -> None:
            what.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(b"")

        def reply(self, body: bytes) -> None:
            what.asked.append((self.path, self.headers["Authorization"]))
            status = what.next(self.path)
            if status == 0:  # the line drops before an answer
                self.connection.close()
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if status == 200 else b"")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    what.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield what
    server.shutdown()
    server.server_close()


@dataclass
class Spy:
    """A rescue system in a folder, whose console and pauses are recorded."""

    root: Path
    lines: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def system(self) -> System:
        (self.root / "etc/ssh").mkdir(parents=True)
        (self.root / "proc/sys/kernel/random").mkdir(parents=True)
        (self.root / "proc/sys/kernel/random/boot_id").write_text("b00t-1d\n")
        # what starting sshd finds: the key must be there already
        start = ("cp", str(self.root / "root/.ssh/authorized_keys"), str(self.root / "seen-by-sshd"))
        return System(self.root, start_ssh=start, settle=("true",), say=self.lines.append, sleep=self.slept.append)


@pytest.fixture
def spy(tmp_path: Path) -> Spy:
    return Spy(tmp_path)


def call_home(spy: Spy, answers: Answers) -> None:
    open_and_report(spy.system(), Controller(f"http://127.0.0.1:{answers.port}", TOKEN))


def test_ssh_starts_with_the_key_in_place_and_the_controller_learns_host_key_and_facts(
    spy: Spy, answers: Answers
) -> None:
    call_home(spy, answers)
    assert (spy.root / "seen-by-sshd").read_text() == KEY + "\n"
    report = answers.reports[0]
    public = (spy.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    assert public.startswith(report["host_keys"][0])
    assert report["boot_id"] == "b00t-1d"
    assert report["facts"]["schema"] == 1
    assert answers.asked == [("/machine/key", f"Bearer {TOKEN}"), ("/machine/ready", f"Bearer {TOKEN}")]


def test_no_other_key_is_let_in_and_nobody_else_may_read_the_file(spy: Spy, answers: Answers) -> None:
    (spy.root / "root/.ssh").mkdir(parents=True)
    (spy.root / "root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA left-behind\n")
    call_home(spy, answers)
    file = spy.root / "root/.ssh/authorized_keys"
    assert file.read_text() == KEY + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_boot_has_a_host_key_of_its_own(spy: Spy, answers: Answers) -> None:
    system = spy.system()
    controller = Controller(f"http://127.0.0.1:{answers.port}", TOKEN)
    open_and_report(system, controller)
    open_and_report(system, controller)
    first, second = (report["host_keys"] for report in answers.reports)
    assert first != second


@pytest.mark.parametrize("trouble", [[503, 200], [500, 502, 200], [429, 200], [0, 200]])
def test_a_busy_or_broken_controller_is_asked_again(spy: Spy, answers: Answers, trouble: list[int]) -> None:
    answers.key = list(trouble)
    call_home(spy, answers)
    assert len(answers.reports) == 1
    assert spy.slept == [0.5, 1.0][: len(trouble) - 1]


def test_a_report_that_failed_is_sent_again(spy: Spy, answers: Answers) -> None:
    answers.ready = [500, 204]
    call_home(spy, answers)
    assert len(answers.reports) == 2


def test_a_controller_that_cannot_be_reached_is_asked_until_it_can(spy: Spy, answers: Answers) -> None:
    system, port = spy.system(), answers.port
    answers_at = iter([1, 1, port])  # nobody listens on port 1
    controller = Controller("http://127.0.0.1:1", TOKEN)

    def appear(pause: float) -> None:
        spy.slept.append(pause)
        object.__setattr__(controller, "url", f"http://127.0.0.1:{next(answers_at)}")

    open_and_report(System(system.root, system.start_ssh, system.settle, spy.lines.append, appear), controller)
    assert spy.slept == [0.5, 1.0, 2.0]
    assert len(answers.reports) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_ends_it_before_ssh_is_open(spy: Spy, answers: Answers, status: int) -> None:
    answers.key = [status]
    with pytest.raises(Refused, match=str(status)):
        call_home(spy, answers)
    assert len(answers.asked) == 1
    assert not (spy.root / "seen-by-sshd").exists()


@pytest.mark.parametrize("text", ["", "<html>", KEY + "\n" + KEY, 'command="sh" ' + KEY])
def test_an_answer_that_is_not_one_key_lets_nobody_in(spy: Spy, answers: Answers, text: str) -> None:
    answers.key_text = text
    with pytest.raises(Refused, match="not one public key"):
        call_home(spy, answers)
    assert not (spy.root / "root/.ssh/authorized_keys").exists()


def test_the_token_is_never_said(spy: Spy, answers: Answers) -> None:
    answers.key, answers.ready = [503, 200], [429, 500, 204]
    call_home(spy, answers)
    assert len(spy.lines) >= 4
    assert not any(TOKEN in line for line in spy.lines)


def test_the_controller_is_read_from_the_kernels_command_line() -> None:
    text = "quiet landfall.url=https://landfall.example:8443/ console=ttyS0 landfall.token=abc=def\n"
    assert parse_command_line(text) == Controller("https://landfall.example:8443", "abc=def")


@pytest.mark.parametrize("text", ["", "quiet", "landfall.url=http://x", "landfall.token=x landfall.url="])
def test_a_boot_without_controller_names_none(text: str) -> None:
    assert parse_command_line(text) is None


def test_pauses_double_up_to_a_ceiling() -> None:
    waits = pauses()
    assert [next(waits) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]


def test_a_key_is_taken_without_the_space_around_it() -> None:
    assert one_key(f"\n  {KEY}  \r\n") == KEY


def test_messages_go_to_every_console() -> None:
    assert consoles("tty0 ttyS0\n") == [Path("/dev/tty0"), Path("/dev/ttyS0")]

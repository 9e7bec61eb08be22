"""The catalogue of failures: whole, true to the code, and able to tell known failures by their words.

`failures.json` holds outputs of real programs; `from` says which, and whether it was seen or read in their sources.
"""

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy import errors, logs
from deploy.commands import Run, run, script
from deploy.errors import new_system
from deploy.errors.commands import CHAPTERS as OF_COMMANDS
from deploy.errors.page import page
from deploy.events import Blame, Failure
from servers.power import PowerCode
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("failures.json").read_text())


def words_of(output: str) -> list[str]:
    """The lines that a logbook hands on of such an output."""
    lines = logs.parse(output)
    return [line.text for line in lines if line.kind in (logs.LineKind.OUTPUT, logs.LineKind.NOTE)][-20:]


# --- the catalogue as a whole


def literals(function: ast.Call) -> Iterator[str]:
    """The code that a call makes a failure of, where it stands in the call."""
    name = function.func.attr if isinstance(function.func, ast.Attribute) else getattr(function.func, "id", "")
    if name in ("failed", "failure") and function.args and isinstance(function.args[0], ast.Constant):
        yield function.args[0].value
    for keyword in function.keywords:
        if keyword.arg == "on_timeout" and isinstance(keyword.value, ast.Constant):
            yield keyword.value.value


@cache
def codes_in_the_code() -> set[str]:
    found = {code.value for code in PowerCode} | {"step-timeout"}  # the default of a step's on_timeout
    for path in (ROOT / "deploy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found |= set(literals(node))
    return found


def test_there_are_codes_in_the_code() -> None:
    assert {"rescue-lost", "plan-impossible", "rescue-silent", "bmc-refused"} <= codes_in_the_code()


def test_every_code_that_is_used_is_in_the_catalogue() -> None:
    assert codes_in_the_code() <= errors.CATALOGUE.keys()


def test_every_entry_of_the_catalogue_is_used() -> None:
    recognised = {entry.code for chapter in (*OF_COMMANDS, new_system.SILENT) for entry in chapter.entries}
    assert errors.CATALOGUE.keys() - recognised - codes_in_the_code() == set()


def test_a_code_that_the_catalogue_lacks_is_a_defect() -> None:
    with pytest.raises(KeyError):
        errors.failure("no-such-code")


def test_a_failure_has_the_words_of_the_catalogue_unless_others_are_given() -> None:
    plain, better = errors.failure("rescue-silent"), errors.failure("rescue-silent", "oak is silent.", fix="Wake it.")
    assert (plain.blame, plain.message) == (Blame.HARDWARE, "The rescue system never called.")
    assert (better.blame, better.message, better.fix) == (Blame.HARDWARE, "oak is silent.", "Wake it.")


@pytest.mark.parametrize("entry", errors.CATALOGUE.values(), ids=lambda entry: entry.code)
def test_an_entry_is_made_of_whole_sentences_that_a_table_can_hold(entry: errors.Entry) -> None:
    for text in (entry.meaning, entry.fix):
        assert text.endswith(".")
        assert text[0].isupper() or text[0].isdigit()
        assert "|" not in text
    assert entry.code == entry.code.lower().replace("_", "-")


def test_the_committed_page_is_the_catalogue() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == page()


# --- commands


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['code']}: {case['from']}")
def test_a_failure_is_known_by_the_words_of_the_program(case: dict[str, Any]) -> None:
    tail = words_of(case["output"])
    failure = errors.of_command(case["command"], case["status"], tail)
    assert failure.code == case["code"], failure.message
    assert (failure.command, failure.exit_status, failure.tail) == (case["command"], case["status"], tuple(tail))


def test_every_trace_of_the_catalogue_was_tried_on_words_of_its_program() -> None:
    untried = [
        (entry.code, trace.words)
        for chapter in OF_COMMANDS for entry in chapter.entries for trace in entry.traces
        if not any(fits(trace, case) for case in CASES if case["code"] == entry.code)
    ]  # fmt: skip
    assert untried == []


def fits(trace: errors.Trace, case: dict[str, Any]) -> bool:
    said = not trace.words or any(trace.in_line(line) for line in words_of(case["output"]))
    return said and trace.fits(case["command"], case["status"])


def test_a_known_failure_repeats_the_line_that_tells_it() -> None:
    known = errors.of_command("mkfs.ext4 /dev/sda1", 1, ["one", "mkfs.ext4: Input/output error while writing", "two"])
    assert known.message == "A disk cannot be read or written. It says: mkfs.ext4: Input/output error while writing"


def test_an_unknown_failure_says_that_it_is_unknown_and_gives_the_commands_own_words() -> None:
    assert errors.recognise("frobnicate /dev/sda", 3, ["the flux is out of phase"]) is None
    unknown = errors.of_command("frobnicate /dev/sda", 3, ["the flux is out of phase"])
    assert unknown.code == "command-failed"
    assert "Landfall does not know this failure. It says: the flux is out of phase" in unknown.message


def test_a_failing_disk_is_meant_and_not_the_copy_that_fails_with_it() -> None:
    tail = ['rsync: [receiver] write failed on "/x": Input/output error (5)', "rsync error: error in file IO (code 11)"]
    assert errors.of_command("rsync -a /a/ /b/", 11, tail).code == "disk-io-error"


def test_an_image_that_cannot_be_read_is_no_failing_disk() -> None:
    tail = ['rsync: [sender] read errors mapping "/run/landfall/image/root/x": Input/output error (5)']
    assert errors.of_command("rsync -a /a/ /b/", 23, tail).code == "image-unreadable"


# --- real programs


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(int(self.path.rpartition("/")[2]))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def outcome(command: Run, folder: Path) -> Failure:
    """Why the command failed, run as the rescue system runs it, read as the engine reads it."""
    path = f"/usr/sbin:/sbin:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"], input=script([command]).encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
        env={**os.environ, "PATH": path, "RESULT": str(folder / "result")},
    )  # fmt: skip
    lines = logs.parse(done.stdout.decode(errors="replace"))
    title = next(line.text for line in lines if line.kind is logs.LineKind.COMMAND)
    status = next((line.status for line in lines if line.kind is logs.LineKind.EXIT), None)
    return errors.of_command(title, status, words_of(done.stdout.decode(errors="replace")))


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("no-space", run("dd", "if=/dev/zero", "of=/dev/full", "bs=64K", "count=1", "status=none")),
        ("device-missing", run("dd", "if=/dev/null", "of=/dev/no/such/disk", "status=none")),
        ("device-missing", run("mkfs.ext4", "-q", "-F", "/dev/no-such-disk")),
        ("device-missing", run("mkswap", "--force", "/dev/no-such-disk")),
        ("image-differs", run("sha256sum", "--check", "--strict", stdin=f"{'0' * 64}  /dev/null\n")),
        ("name-unresolved", run("curl", "--fail", "http://landfall.invalid/")),
        ("rescue-incomplete", run("no-such-program", "--at-all")),
        ("image-lacks-program", run("chroot", "/", "no-such-program")),
        ("out-of-memory", run("bash", "-c", "kill -9 $$")),
        ("command-ended", run("bash", "-c", "kill $$")),
        ("command-failed", run("bash", "-c", "echo 'never heard of'; exit 3")),
    ],
)
def test_real_programs_fail_in_the_words_that_are_known(code: str, command: Run, tmp_path: Path) -> None:
    if code == "image-lacks-program" and os.geteuid() != 0:
        pytest.skip("chroot is for root")
    assert outcome(command, tmp_path).code == code


def test_real_curl_fails_in_the_words_that_are_known(web: str, tmp_path: Path) -> None:
    def fetch(url: str) -> str:
        return outcome(run("curl", "--fail", "--progress-bar", "--output", "file", url), tmp_path).code

    assert fetch(f"{web}/404") == fetch(f"{web}/410") == "image-refused"
    assert fetch(f"{web}/503") == "image-unreachable"
    assert fetch(f"http://127.0.0.1:{free_port()}/") == "image-unreachable"


# --- whatever is thrown at it


@settings(deadline=None)  # a busy machine is slow, and no failure
@given(st.text(), st.integers() | st.none(), st.lists(st.text()))
def test_any_output_gives_a_failure_of_the_catalogue(command: str, status: int | None, tail: list[str]) -> None:
    assert errors.of_command(command, status, tail).code in errors.CATALOGUE

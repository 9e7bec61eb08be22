"""Commands as values, and the script that they make; the scripts are really run."""

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.secret import Secret
from deploy import logs
from deploy.commands import Command, detail, run, script, shown, write_file
from deploy.logs import LineKind


def ran(*commands: Command, folder: Path | None = None) -> tuple[int, list[logs.Line]]:
    """The exit status and the log of a script that was really run."""
    result = folder / "result" if folder else Path("/dev/null")
    done = subprocess.run(
        ["bash", "-s"], input=script(commands).encode(), capture_output=True, env={"RESULT": str(result)}
    )  # fmt: skip
    return done.returncode, logs.parse((done.stdout + done.stderr).decode(errors="replace"))


def test_a_command_is_framed_by_its_line_and_its_end() -> None:
    status, lines = ran(run("echo", "hello there"))
    assert status == 0
    assert [(line.kind, line.text) for line in lines if line.kind is not LineKind.EMPTY] == [
        (LineKind.COMMAND, "echo 'hello there'"), (LineKind.OUTPUT, "hello there"), (LineKind.EXIT, "done"),
    ]  # fmt: skip


def test_the_first_command_that_fails_ends_the_script_with_its_status() -> None:
    status, lines = ran(run("sh", "-c", "exit 3"), run("echo", "never"))
    assert status == 3
    assert [line.status for line in lines if line.kind is LineKind.EXIT] == [3]
    assert not any("never" in line.text for line in lines)


def test_a_command_that_may_fail_does_not_end_the_script() -> None:
    status, lines = ran(run("false", may_fail=True), run("echo", "still here"))
    assert status == 0
    assert any(line.text == "still here" for line in lines)


def test_a_file_has_its_content_and_mode_whatever_was_there(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    content = bytes(range(256)) * 5
    assert ran(write_file(str(file), b"before", 0o644), write_file(str(file), content, 0o600))[0] == 0
    assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o600


def test_secrets_are_masked_in_what_is_shown_and_clear_in_what_runs(tmp_path: Path) -> None:
    secret = Secret("hush")
    commands = (run("cat", stdin=secret, result=True), write_file(str(tmp_path / "key"), secret, 0o600))
    assert not any("hush" in shown(command) + detail(command) for command in commands)
    status, lines = ran(*commands, folder=tmp_path)
    assert status == 0
    assert not any("hush" in line.text for line in lines)
    assert (tmp_path / "result").read_text() == (tmp_path / "key").read_text() == "hush"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1, max_size=4))
def test_arguments_arrive_as_they_were_given(words: list[str]) -> None:
    wanted = b"".join(word.encode() + b"\0" for word in words)
    done = subprocess.run(["bash", "-s"], input=script([run("printf", "%s\\0", *words)]).encode(), capture_output=True)
    assert wanted in done.stdout


def test_standard_input_never_comes_from_the_script_itself() -> None:
    status, lines = ran(run("cat"), run("echo", "second"))
    assert status == 0
    assert any(line.text == "second" for line in lines)

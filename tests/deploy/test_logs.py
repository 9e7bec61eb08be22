"""Logs as a page shows them: whatever a program prints."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import fetching, logs
from deploy.logs import LineKind, parse


def test_escape_sequences_and_control_characters_are_taken_out() -> None:
    raw = "\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 \x1b[2K\x08over\x00 \u202eevil\n"
    assert [line.text for line in parse(raw)] == ["red bell over evil"]


def test_what_rsync_complains_of_behind_its_progress_is_output() -> None:
    said = 'rsync: [receiver] write failed on "/mnt/a/file1": No space left on device (28)'
    (line,) = parse(f"     47,579,136  15%   15.11MB/s    0:00:17  {said}\n")
    assert (line.kind, line.text) == (LineKind.OUTPUT, said)


def test_progress_of_rsync_is_read() -> None:
    (line,) = parse("    412,345,678  68%  412.00MB/s    0:00:19 (xfr#123, to-chk=1/200)\r")
    assert (line.kind, line.percent, line.rate, line.left) == (LineKind.PROGRESS, 68.0, "412.00MB/s", "0:00:19")


def test_progress_of_a_fetch_is_read_as_the_program_says_it(capfd: pytest.CaptureFixture[str]) -> None:
    transfer = fetching.Transfer(fetching.Wanted(("http://mirror/file",), "sha256:0"), fetching.Sink())
    transfer.done, transfer.total = 50 << 20, 200 << 20
    transfer._began, transfer._next_word = time.monotonic() - 60, 0
    transfer._tell()
    (line,) = parse(capfd.readouterr().err)
    assert (line.kind, line.percent, line.left) == (LineKind.PROGRESS, 25.0, "0:03:00")


def test_progress_of_curl_is_read() -> None:
    (line,) = parse("######################             31.4%\r")
    assert (line.kind, line.percent) == (LineKind.PROGRESS, 31.4)


def test_of_many_reports_of_progress_the_last_is_kept() -> None:
    moved = [f"  1,000  {percent}%    1.00MB/s    0:00:09 (xfr#{percent}, to-chk=1/9)\r" for percent in (1, 2, 3)]
    text = "a\n" + "".join(moved) + "b\n" + moved[0] + "\nend"
    assert logs.condensed(text) == "a\n" + moved[2] + "b\n" + moved[0] + "\nend"


def test_lines_are_numbered_from_where_the_chunk_begins() -> None:
    assert [line.number for line in parse("a\nb\rc\r\n", first_line=40)] == [40, 41, 42]


@pytest.mark.parametrize("forged", ["\x1e> x", "\x1e< 1 2", "\x1e> 1 now ls"])
def test_what_looks_like_a_mark_and_is_none_is_output(forged: str) -> None:
    assert parse(f"{forged}\n")[0].kind is LineKind.OUTPUT


@given(st.text())
def test_whatever_is_printed_becomes_lines_without_control_characters(text: str) -> None:
    lines = parse(text + "\n")
    assert len(lines) == logs.count(text + "\n")
    assert not any(character in line.text for line in lines for character in "\x1b\x00\x07\x1e\n\r")


@given(st.text())
def test_nothing_but_progress_is_left_out(text: str) -> None:
    assert logs.condensed(text) == text

"""A step's log as lines that a page can show: pure, text in, values out.

The log is what the job's commands print, between the marks of `deploy.commands.script`. It may hold anything a program
can print: escape sequences and control characters are taken out here, HTML is escaped by the templates.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class LineKind(StrEnum):
    """What a line of a log is."""

    COMMAND = "command"  # a command begins
    OUTPUT = "output"  # what it prints
    PROGRESS = "progress"  # how far it is
    EXIT = "exit"  # it has ended
    NOTE = "note"  # what Landfall itself says
    EMPTY = "empty"  # nothing to show


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `number` counts from 1 within an attempt; `index` is the command's; `seconds` and `left` are times."""

    number: int
    kind: LineKind
    text: str
    index: int | None = None
    at: float | None = None
    status: int | None = None
    seconds: float | None = None
    percent: float | None = None
    rate: str = ""
    left: str = ""


NOTE_MARK = "\x1e! "
"""Begins a line that Landfall wrote, not a command."""
COMMAND_MARK = "\x1e> "
"""Begins the line that names a command, before it runs."""

_BREAK = re.compile(r"\r\n|\n|\r")
_ENDED = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # DCS and its kin
    r"|\x1b[ -/]*[0-~]"  # the short ones
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COMMAND = re.compile(r"\x1e> (\d+) (\d+\.\d+) (.*)", re.DOTALL)
_EXIT = re.compile(r"\x1e< (\d+) (\d+) (\d+\.\d+)")
# What follows is what rsync complains of: it does not end its line of progress before.
_RSYNC = re.compile(
    r"\s*(?P<size>[\d,.]+[KMGT]?)\s+(?P<percent>\d{1,3})%\s+(?P<rate>[\d.]+[kMG]?B/s)\s+(?P<left>\d+:\d\d:\d\d)"
    r"(?:\s+\(xfr#\d+, \w+-chk=\d+/\d+\))?\s*(?P<rest>.*)"
)
_FETCHED = re.compile(r"\d+ of \d+ MiB, (?P<percent>\d{1,3}) %, (?P<left>\d+:\d\d:\d\d) left")
_CURL = re.compile(r"[#=O -]*\s(?P<percent>\d{1,3}\.\d)%\s*")


def split(text: str) -> list[str]:
    """The lines of a text that ends with a line break; a carriage return ends a line as well."""
    lines = _BREAK.split(text)
    return lines[:-1] if lines and not lines[-1] else lines


def count(text: str) -> int:
    """How many lines `split` gives."""
    return len(split(text))


def condensed(text: str) -> str:
    """The text without those reports of progress that another one follows at once: rsync prints one for every file."""
    lines = _ENDED.findall(text)
    moves = [_line(0, line).kind is LineKind.PROGRESS for line in lines]
    return "".join(
        line for line, moved, more in zip(lines, moves, [*moves, False][1:], strict=True) if not (moved and more)
    )


def parse(text: str, first_line: int = 1) -> list[Line]:
    """The lines of a chunk, numbered from `first_line`."""
    return [_line(number, raw) for number, raw in enumerate(split(text), first_line)]


def plain(text: str) -> str:
    """The text without escape sequences and control characters; tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def _line(number: int, raw: str) -> Line:
    if raw.startswith(NOTE_MARK):
        return Line(number, LineKind.NOTE, plain(raw.removeprefix(NOTE_MARK)))
    if begun := _COMMAND.fullmatch(raw):
        return Line(number, LineKind.COMMAND, plain(begun[3]), index=int(begun[1]), at=float(begun[2]))
    if ended := _EXIT.fullmatch(raw):
        status = int(ended[2])
        words = "done" if status == 0 else f"exit status {status}"
        return Line(number, LineKind.EXIT, words, index=int(ended[1]), status=status, seconds=float(ended[3]))
    if moved := _RSYNC.fullmatch(raw):
        if rest := plain(moved["rest"]).strip():
            return Line(number, LineKind.OUTPUT, rest)
        return Line(
            number, LineKind.PROGRESS, plain(raw).strip(), percent=float(moved["percent"]),
            rate=moved["rate"], left=moved["left"],
        )  # fmt: skip
    if moved := _FETCHED.fullmatch(raw):
        return Line(number, LineKind.PROGRESS, raw, percent=float(moved["percent"]), left=moved["left"])
    if moved := _CURL.fullmatch(raw):
        return Line(number, LineKind.PROGRESS, f"{moved['percent']} %", percent=float(moved["percent"]))
    text = plain(raw)
    return Line(number, LineKind.OUTPUT if text.strip() else LineKind.EMPTY, text)

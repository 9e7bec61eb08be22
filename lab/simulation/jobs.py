"""The job protocol on a simulated rescue system: real folders, and no process for a job.

What a worker may ask is learned from `deploy.jobs` itself, so a question that is new there is answered with an error
here. The answers are ours: `faithful.py` gives those of the real shell text, and a test compares the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from deploy.jobs import LOST, ROOT, Job
from deploy.transport import Completed, Stream

from .plays import Framed, NotOurs, Play, framed

TICK = 0.25
"""Seconds between two looks of a follower at the log, as with the real one's `tail -s`."""
UNKNOWN = 127
_FOLDER = "FOLDER"
_pids = count(1000)


class Asked(Enum):
    """What a worker asks of a job, by the name of the method of `deploy.jobs.Job`."""

    EXISTS = "exists"
    START = "start"
    FOLLOW = "follow"
    RESULT = "result"
    KILL = "kill"


class _Listener:
    """A `deploy.transport.Connection` that writes down what it is asked."""

    def __init__(self) -> None:
        self.command = ""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> Completed:
        self.command = command
        return Completed(0, b"", b"")

    def stream(self, command: str) -> Stream:
        self.command = command
        return _Silence()

    def close(self) -> None:
        """There is nothing to hang up."""


class _Silence:
    def read(self, timeout: float) -> bytes | None:
        return None

    def status(self) -> int:
        return 0

    def close(self) -> None:
        """There is nothing to stop."""


def _vocabulary() -> Mapping[str, Asked]:
    """Every command of the protocol up to the folder it is about."""
    ear = _Listener()
    job = Job(ear, _FOLDER)
    ways = {
        Asked.EXISTS: job.exists,
        Asked.START: lambda: job.start(""),
        Asked.FOLLOW: lambda: job.follow(0),
        Asked.RESULT: job.result,
        Asked.KILL: job.kill,
    }
    heard = {}
    for asked, ask in ways.items():
        ask()
        heard[ear.command.rpartition(_FOLDER)[0]] = asked
    assert len(heard) == len(Asked)
    return heard


VOCABULARY = _vocabulary()


@dataclass(frozen=True, slots=True)
class Question:
    """A command of the protocol: what is asked of which job.

    `number` is the byte at which following begins, or how many bytes a script has that is to be started.
    """

    asked: Asked
    folder: str
    number: int = 0


def understood(command: str) -> Question | None:
    """What the command asks; None when it is not of the protocol."""
    for beginning, asked in VOCABULARY.items():
        if command.startswith(beginning):
            folder, *number = shlex.split(command[len(beginning) :])
            return Question(asked, folder, int(number[0]) if number else 0)
    return None


class Channel(Protocol):
    """Where the answer to a command goes."""

    def write(self, data: bytes) -> None: ...
    def write_stderr(self, data: bytes) -> None: ...
    def exit(self, status: int) -> None: ...


class Machine(Protocol):
    """What the jobs of a machine need of it."""

    thawed: asyncio.Event

    def play(self, command: Framed) -> Play:
        """What the command does this time."""

    def perform(self, command: Framed) -> None:
        """Takes the command's effect on the machine: it was executed just now."""

    def remember(self, record: JobRecord) -> None:
        """Keeps the record of a job that was begun."""

    def complain(self, sentence: str) -> None:
        """Notes something that should not have happened."""


@dataclass(slots=True)
class JobRecord:
    """What became of one job, for whoever wants to prove something about it."""

    install: str
    step: str
    attempt: int
    boot: int
    commands: tuple[Framed, ...] = ()
    starts: int = 1
    """How often a worker asked for it to be started; the first time began it."""
    follows: list[int] = field(default_factory=list)
    """From which bytes on its log was followed."""
    executed: Counter[int] = field(default_factory=Counter)
    """How often each of its commands was executed, by number."""
    log: bytearray = field(default_factory=bytearray)
    status: int | None = None
    killed: bool = False
    began_at: float = field(default_factory=time.time)
    ended_at: float | None = None

    @classmethod
    def of(cls, folder: str, boot: int, commands: tuple[Framed, ...]) -> JobRecord:
        """The record of a job in this folder of `deploy.jobs.ROOT`."""
        install, _, attempt = folder.removeprefix(f"{ROOT}/").partition("/")
        step, _, number = attempt.rpartition("-")
        return cls(install, step, int(number) if number.isdigit() else 0, boot, commands)

    def to_json(self) -> dict[str, Any]:
        """The record without its log."""
        return {
            "install": self.install, "step": self.step, "attempt": self.attempt, "boot": self.boot,
            "starts": self.starts, "follows": self.follows, "titles": [command.title for command in self.commands],
            "executed": {str(number): times for number, times in sorted(self.executed.items())},
            "bytes": len(self.log), "status": self.status, "killed": self.killed,
            "began_at": self.began_at, "ended_at": self.ended_at,
        }  # fmt: skip


class Jobs(Protocol):
    """The job folders of one boot of a rescue system."""

    def ask(self, command: str, stdin: bytes, channel: Channel) -> None:
        """Answers a command on the channel, now or in the course of time."""

    def forget(self, channel: Channel) -> None:
        """The channel is gone; jobs go on."""

    def lose(self) -> None:
        """The power is gone: so is every job, with its folder."""


class ScriptedJobs:
    """Jobs that are tasks of this process, in folders like the real ones below `root`."""

    def __init__(self, root: Path, machine: Machine, boot: int) -> None:
        self._root, self._machine, self._boot = root, machine, boot
        self._jobs: dict[str, _Job] = {}

    def ask(self, command: str, stdin: bytes, channel: Channel) -> None:
        question = understood(command)
        if question is None:
            self._machine.complain(f"was asked for a command that the simulation does not know: {command[:200]}")
            channel.write_stderr(b"the simulation does not know this command\n")
            channel.exit(UNKNOWN)
            return
        folder = self._root / question.folder.lstrip("/")
        match question.asked:
            case Asked.EXISTS:
                channel.exit(0 if folder.exists() else 1)
            case Asked.START:
                whole = len(stdin) == question.number
                if whole:
                    self._start(question.folder, folder, stdin)
                channel.exit(0 if whole else 1)
            case Asked.FOLLOW:
                self._follow(question, folder, channel)
            case Asked.RESULT:
                with contextlib.suppress(FileNotFoundError):
                    channel.write((folder / "result").read_bytes()[: 1 << 20])
                channel.exit(0)
            case Asked.KILL:
                if question.folder in self._jobs:
                    self._jobs[question.folder].kill()
                channel.exit(0)

    def forget(self, channel: Channel) -> None:
        for job in self._jobs.values():
            with contextlib.suppress(ValueError):
                job.followers.remove(channel)

    def lose(self) -> None:
        for job in self._jobs.values():
            job.vanish()
        shutil.rmtree(self._root, ignore_errors=True)

    def _start(self, name: str, folder: Path, stdin: bytes) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if job := self._jobs.get(name):
                job.record.starts += 1
            return
        (folder / "script").write_bytes(stdin)
        (folder / "log").touch()
        (folder / "pid").write_text(f"{next(_pids)}\n")
        try:
            commands = framed(stdin.decode())
        except NotOurs as error:
            self._machine.complain(f"{name}: {error}")
            commands = ()
        for other in self._jobs.values():
            if other.folder.parent == folder.parent:
                other.kill()
        job = self._jobs[name] = _Job(folder, self._machine, JobRecord.of(name, self._boot, commands))
        self._machine.remember(job.record)
        job.begin()

    def _follow(self, question: Question, folder: Path, channel: Channel) -> None:
        job = self._jobs.get(question.folder)
        if job is None:
            channel.write_stderr(b"cat: pid: No such file or directory\n")
            channel.exit(LOST)
            return
        job.record.follows.append(question.number)
        with (folder / "log").open("rb") as log:
            log.seek(question.number)
            if data := log.read():
                channel.write(data)
        if job.is_running:
            job.followers.append(channel)
        else:
            channel.exit(job.exit_status)


class _Job:
    """One running job: a task that prints what its commands are given to print."""

    def __init__(self, folder: Path, machine: Machine, record: JobRecord) -> None:
        self.folder, self.record = folder, record
        self.followers: list[Channel] = []
        self._machine = machine
        self._task: asyncio.Task[None] | None = None
        self._pending = bytearray()
        self._owed = 0.0

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def exit_status(self) -> int:
        """What following it ends with."""
        return LOST if self.record.status is None else self.record.status

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"job {self.folder}")

    def kill(self) -> None:
        """Ended by a signal: no exit status is left, and the followers' `tail` ends."""
        if self.is_running:
            self.record.killed = True
            self._end_task()
            self._tell(LOST)

    def vanish(self) -> None:
        """Gone without a word to anybody."""
        self.followers.clear()
        self._end_task()

    def _end_task(self) -> None:
        if self._task:
            self._task.cancel()
            self._task = None
        self.record.ended_at = self.record.ended_at or time.time()

    async def _run(self) -> None:
        status = await self._commands()
        await self._rest(self._owed)
        self._flush()
        (self.folder / "status").write_text(f"{status}\n")
        self.record.status, self.record.ended_at = status, time.time()
        self._task = None
        self._tell(status)

    async def _commands(self) -> int:
        """The exit status of the script: that of the first command that fails."""
        for command in self.record.commands:
            play = self._machine.play(command)
            self.record.executed[command.number] += 1
            self._machine.perform(command)
            self._print(b"\x1e> %d %.6f %s\n" % (command.number, time.time(), command.title.encode()))
            if command.wants_result:
                (self.folder / "result").write_bytes(play.result)
            for line in play.lines:
                await self._take(play.pause)
                if not command.wants_result:
                    self._print(line)
            await self._take(play.pause)
            self._print(b"\n\x1e< %d %d %.3f\n" % (command.number, play.status, play.seconds))
            if play.status and not command.may_fail:
                return play.status
        return 0

    async def _take(self, seconds: float) -> None:
        """Time passes; what is short is saved up, because a thousand jobs share one event loop."""
        self._owed += seconds
        if self._owed >= TICK:
            await self._rest(self._owed)

    async def _rest(self, seconds: float) -> None:
        self._flush()
        self._owed = 0.0
        await asyncio.sleep(seconds)
        await self._machine.thawed.wait()

    def _print(self, data: bytes) -> None:
        self._pending += data

    def _flush(self) -> None:
        if not self._pending:
            return
        data = bytes(self._pending)
        self._pending.clear()
        descriptor = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, data)
        os.close(descriptor)
        self.record.log += data
        for follower in tuple(self.followers):
            with contextlib.suppress(OSError):
                follower.write(data)

    def _tell(self, status: int) -> None:
        followers, self.followers = self.followers, []
        for follower in followers:
            with contextlib.suppress(OSError):
                follower.exit(status)

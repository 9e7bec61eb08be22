"""The job protocol by the shell text that `deploy.jobs` sends, run by a real bash: slow, and right by definition.

The job's commands themselves are not run, they would wipe disks: each prints what it is given to print, as in
`jobs.ScriptedJobs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from deploy.jobs import ROOT

from .jobs import Asked, Channel, JobRecord, Machine, Question, understood
from .plays import PRELUDE, Framed, NotOurs, Play, framed

NOTHING = b"\n"
WATCH = 0.05
"""Seconds between two looks at what a job has executed."""


class RealJobs:
    """Jobs that are processes of this host, with `deploy.jobs.ROOT` below the machine's own folder."""

    def __init__(self, root: Path, machine: Machine, boot: int) -> None:
        self._root, self._machine, self._boot = root, machine, boot
        self._records: dict[str, JobRecord] = {}
        self._scripts: dict[str, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: dict[Channel, asyncio.Task[None]] = {}

    def ask(self, command: str, stdin: bytes, channel: Channel) -> None:
        question = understood(command)
        if question is None:
            self._machine.complain(f"was asked for a command that the simulation does not know: {command[:200]}")
            channel.exit(127)
            return
        if question.asked is Asked.START and len(stdin) == question.number:
            stdin = self._harmless(question, stdin)
            command = f"{command.removesuffix(str(question.number))}{len(stdin)}"
        elif question.asked is Asked.START:
            stdin = NOTHING  # whatever the shell makes of half a script, it is not to be one that wipes disks
        elif question.asked is Asked.FOLLOW and question.folder in self._records:
            self._records[question.folder].follows.append(question.number)
        elif question.asked is Asked.KILL and question.folder in self._records:
            self._records[question.folder].killed = self._records[question.folder].status is None
        task = self._keep(self._shell(command, stdin, channel))
        if question.asked is Asked.FOLLOW:
            self._followers[channel] = task

    def forget(self, channel: Channel) -> None:
        """As with sshd: what follows a log has nobody to tell of it any more; whatever else was begun, goes on."""
        if follower := self._followers.pop(channel, None):
            follower.cancel()

    def lose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        for pid in self._root.glob(f"{ROOT.lstrip('/')}/*/*/pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        shutil.rmtree(self._root, ignore_errors=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _shell(self, command: str, stdin: bytes, channel: Channel) -> None:
        """Runs the command, with the folder that it names in the machine's own."""
        process = await asyncio.create_subprocess_shell(
            command.replace(ROOT, f"{self._root}{ROOT}"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(stdin)
            process.stdin.close()
            while data := await process.stdout.read(65536):
                channel.write(data)
            channel.write_stderr(await process.stderr.read())
            channel.exit(await process.wait())
        except OSError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _harmless(self, question: Question, stdin: bytes) -> bytes:
        """The job's script with each command replaced by one that prints, and says that it was executed."""
        if record := self._records.get(question.folder):
            record.starts += 1
            return self._scripts[question.folder]
        try:
            commands = framed(stdin.decode())
        except NotOurs as error:
            self._machine.complain(f"{question.folder}: {error}")
            commands = ()
        folder = self._root / "plays" / question.folder.replace("/", "_")
        folder.mkdir(parents=True)
        record = self._records[question.folder] = JobRecord.of(question.folder, self._boot, commands)
        self._machine.remember(record)
        self._keep(self._watch(question.folder, folder, record))
        made = (PRELUDE + "".join(self._frame(one, folder) for one in commands)).encode()
        self._scripts[question.folder] = made
        return made

    def _frame(self, command: Framed, folder: Path) -> str:
        grace = "may-fail" if command.may_fail else "must"
        body = _body(command, self._machine.play(command), folder)
        return f"\nbegin {command.number} {command.quoted_title}\n{body}\nend {command.number} $? {grace}\n"

    async def _watch(self, name: str, folder: Path, record: JobRecord) -> None:
        """Keeps the record of a job, from the files that it leaves."""
        executed, job = folder / "executed", self._root / name.lstrip("/")
        seen = 0
        while record.status is None:
            await asyncio.sleep(WATCH)
            ended = (job / "status").exists()
            numbers = executed.read_text().split() if executed.exists() else []
            for number in map(int, numbers[seen:]):
                record.executed[number] += 1
                self._machine.perform(record.commands[number - 1])
            seen = len(numbers)
            with contextlib.suppress(FileNotFoundError):
                record.log[:] = (job / "log").read_bytes()
            if ended:
                record.status = int((job / "status").read_text())


def _body(command: Framed, play: Play, folder: Path) -> str:
    """Shell text that prints what the play says, in its time."""
    said = [f"echo {command.number} >> {shlex.quote(str(folder / 'executed'))}"]
    lines = (play.result,) if command.wants_result else play.lines
    for index, line in enumerate(lines):
        file = folder / f"{command.number}-{index}"
        file.write_bytes(line)
        said += [f"sleep {play.pause:.3f}", f"cat {shlex.quote(str(file))}"]
    said += [f"sleep {play.pause:.3f}", f"(exit {play.status})"]
    redirected = ' > "$RESULT"' if command.wants_result else ""
    return f"{{ {'; '.join(said)}; }}{redirected}"

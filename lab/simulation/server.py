"""One simulated server: power button, boot, the systems that run on it, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import shlex
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.step import TARGET
from metadata import phonehome
from rescue.inside.service import Controller, Refused, one_key, parse_command_line

from .jobs import JobRecord, Jobs, ScriptedJobs
from .plays import IO_ERROR, Framed, Play, Rule, plausible
from .spec import SSH_PORT, Pace, ServerSpec
from .sshd import HostKey, Sshd
from .wire import Answer, fetch

log = logging.getLogger(__name__)

_MOUNT = re.compile(rf"mount --types \S+ \S+ {TARGET}")
_BOOT_LOADER = re.compile(r"\b(grub2?-install|grub2?-mkconfig|update-grub)\b")
BUSY = (408, 429)


@dataclass(slots=True)
class Disk:
    """What is on a server's disks, as far as it decides what starts from them."""

    holds: str = "old"
    """'old': what was there before; 'nothing'; 'new': what an install has made bootable."""
    token: str = ""
    """Of the phone-home unit, until it has called."""
    url: str = ""
    host_key: HostKey = field(default_factory=HostKey)


@dataclass(frozen=True, slots=True)
class Boot:
    """A start of the machine: what came up at last."""

    number: int
    system: str
    at: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the machine made, and how it was answered; 0 when it was not."""

    path: str
    status: int
    boot: int
    at: float
    kind: str = "real"


@dataclass(frozen=True, slots=True)
class CallOrder:
    """How a call is to be made instead of once and at once: `copies` are seconds after which it is made again."""

    never: bool = False
    delay: float = 0.0
    copies: Sequence[float] = ()
    forged: int = 0


@dataclass(slots=True)
class BmcOrder:
    """How the BMC misbehaves: the next writes are answered with these statuses, `acted` upon or not; all slowly."""

    statuses: deque[int] = field(default_factory=deque)
    acted: bool = False
    slow: float = 0.0


class SimulatedServer:
    """A server that is off until somebody presses its button.

    Everything here runs on one event loop. The methods named in `ORDERS` are what a test may order.
    """

    def __init__(
        self, spec: ServerSpec, url: str, folder: Path, pace: Pace, rng: random.Random, faithful: bool
    ) -> None:
        self.spec, self.pace = spec, pace
        self._url, self._folder, self._rng, self._faithful = url, folder, rng, faithful
        self.is_on = False
        self.runs = "nothing"
        """'nothing', 'firmware', 'rescue', 'old' or 'new'."""
        self.override = "None"
        self.override_once = False
        self.bmc_order = BmcOrder()
        self.disk = Disk()
        self.power_cycles: list[tuple[str, float]] = []
        """Every start and restart that came through the BMC: Redfish's word for it, and when."""
        self.outages: list[float] = []
        self.boots: list[Boot] = []
        self.calls: list[Call] = []
        self.jobs: list[JobRecord] = []
        self.complaints: list[str] = []
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._rules: list[tuple[Rule, list[int]]] = []
        self._call_orders = {"ready": CallOrder(), "phone-home": CallOrder()}
        self._said: list[tuple[str, str, bytes]] = []
        self._starts = 0
        self._stuck = 0
        self._is_mounted = False
        self._life: asyncio.Task[None] | None = None
        self._sshd: Sshd | None = None
        self._rescue_jobs: Jobs | None = None
        self._network: set[asyncio.Task[None]] = set()

    # The power button, as the BMC presses it

    def press(self, reset: str) -> None:
        """Redfish's ResetType, done."""
        if reset in ("ForceOff", "GracefulShutdown"):
            self.power_off()
        elif not (reset in ("On", "ForceOn") and self.is_on):
            self.power_cycles.append((reset, time.time()))
            self.power_off()
            self.power_on()

    def power_on(self) -> None:
        """The machine starts; nothing when it is on."""
        if not self.is_on:
            self.is_on = True
            self._starts += 1
            self._life = asyncio.create_task(self._boot(), name=f"life of {self.spec.name}")

    def power_off(self) -> None:
        """Everything in memory is gone at once."""
        self.is_on = False
        self.runs = "nothing"
        self.thawed.set()
        self._is_mounted = False
        if self._life:
            self._life.cancel()
            self._life = None
        if self._sshd:
            self._sshd.stop()
            self._sshd = None
        if self._rescue_jobs:
            self._rescue_jobs.lose()
            self._rescue_jobs = None

    async def close(self) -> None:
        """The machine is off, and nothing that it sent is still under way."""
        self.power_off()
        for task in tuple(self._network):
            task.cancel()

    # Booting

    async def _boot(self) -> None:
        try:
            self.runs = "firmware"
            await self._spend(self.pace.firmware)
            if self._stuck:
                self._stuck -= 1
                self._booted("stuck")
                return
            script = "" if self._from_disk() else await self._boot_script()
            await self._spend(self.pace.system)
            controller = parse_command_line(_kernel_line(script))
            if controller:
                await self._run_rescue(controller)
            else:
                await self._run_disk()
        except Refused as refusal:
            log.info("%s: stopped: %s", self.spec.name, refusal)
        except Exception:
            log.exception("%s broke", self.spec.name)
            self.complain("the simulation itself broke; see its log")

    def _from_disk(self) -> bool:
        """Whether the BMC says so; else the network comes first, as it does on every machine of Landfall's."""
        from_disk = self.override == "Hdd"
        if self.override_once:
            self.override, self.override_once = "None", False
        return from_disk

    async def _boot_script(self) -> str:
        """iPXE's script, asked for until there is one."""
        path = f"/boot/{self.spec.mac.replace(':', '-')}"
        for pause in self._pauses():
            answer = await self._ask(path)
            if answer and answer.status == 200:
                return answer.text
            await asyncio.sleep(pause)
        raise AssertionError("_pauses() never ends")

    async def _run_rescue(self, controller: Controller) -> None:
        """The rescue system, as rescue/inside/service.py has it."""
        self._booted("rescue")
        key = one_key((await self._until_taken(controller, "/machine/key")).text)
        host_key = HostKey()
        root = self._folder / f"boot-{self._starts}"
        self._rescue_jobs = self._new_jobs(root)
        self._sshd = Sshd(self.spec.address, SSH_PORT, host_key, key, self._rescue_jobs)
        await self._sshd.listen()
        self.runs = "rescue"
        report = {"host_keys": [host_key.line], "boot_id": str(uuid.uuid4()), "facts": self.spec.facts()}
        await self._say("ready", controller, json.dumps(report).encode())

    def _new_jobs(self, root: Path) -> Jobs:
        if self._faithful:
            from .faithful import RealJobs

            return RealJobs(root, self, self._starts)
        return ScriptedJobs(root, self, self._starts)

    async def _run_disk(self) -> None:
        """What is on the disks; where that is the new system, its phone-home unit calls, as phonehome.sh has it."""
        self._booted(self.disk.holds)
        if self.disk.holds == "nothing":
            return
        self.runs = self.disk.holds
        self._sshd = Sshd(self.spec.address, SSH_PORT, self.disk.host_key)
        await self._sshd.listen()
        if self.disk.holds == "new" and self.disk.token:
            message = {
                "boot_id": str(uuid.uuid4()),
                "machine_id": uuid.uuid4().hex,
                "host_keys": [self.disk.host_key.line],
                "kernel": "6.1.0-40-amd64",
                "cloud_init": "done",
                "hostname": self.spec.name,
            }
            if await self._say("phone-home", Controller(self.disk.url, self.disk.token), json.dumps(message).encode()):
                self.disk.token = ""

    def _booted(self, system: str) -> None:
        self.boots.append(Boot(self._starts, system, time.time()))

    async def _spend(self, between: tuple[float, float]) -> None:
        await asyncio.sleep(self._rng.uniform(*between))
        await self.thawed.wait()

    # Calls

    def _pauses(self) -> Iterator[float]:
        pause, longest = self.pace.retry
        while True:
            yield pause * self._rng.uniform(0.8, 1.2)
            pause = min(pause * 2, longest)

    async def _ask(self, path: str, controller: Controller | None = None, body: bytes | None = None) -> Answer | None:
        """The answer; None when there is none."""
        headers = {"Authorization": f"Bearer {controller.token}"} if controller else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = controller.url if controller else self._url
        try:
            return await fetch(url + path, body=body, headers=headers, source=self.spec.address)
        except OSError:
            return None

    async def _until_taken(
        self, controller: Controller, path: str, body: bytes | None = None, kind: str = "real"
    ) -> Answer:
        """The answer, however often it takes to get one; `Refused` on any other 4xx."""
        for pause in self._pauses():
            await self.thawed.wait()
            answer = await self._ask(path, controller, body)
            status = answer.status if answer else 0
            self.calls.append(Call(path, status, self._starts, time.time()))
            if answer and status < 300:
                return answer
            if answer and status < 500 and status not in BUSY:
                raise Refused(f"{path} answered {status}")
            await asyncio.sleep(pause)
        raise AssertionError("_pauses() never ends")

    async def _say(self, call: str, controller: Controller, body: bytes) -> bool:
        """Makes a call as it was ordered to be made; whether the machine is done with it."""
        order, path = self._call_orders[call], f"/machine/{call}"
        self._said.append((path, controller.token, body))
        if order.never:
            return False
        for _ in range(order.forged):
            self.forge(path, body=body)
        await asyncio.sleep(order.delay)
        for seconds in order.copies:
            self._send_later(seconds, controller, path, body, "copy")
        try:
            await self._until_taken(controller, path, body)
        except Refused as refusal:
            # a token that is unknown or spent will not become good: the unit removes itself
            return str(refusal).endswith(("404", "410"))
        return True

    def _send_later(self, seconds: float, controller: Controller, path: str, body: bytes, kind: str) -> None:
        """A call that is on its way by itself: it arrives although the machine may be off by then."""

        async def send() -> None:
            await asyncio.sleep(seconds)
            answer = await self._ask(path, controller, body)
            self.calls.append(Call(path, answer.status if answer else 0, self._starts, time.time(), kind))

        task = asyncio.create_task(send())
        self._network.add(task)
        task.add_done_callback(self._network.discard)

    # What the jobs need

    def play(self, command: Framed) -> Play:
        """What the command does: as the first rule says that fits and is not used up, else what is plausible."""
        for rule, left in self._rules:
            if rule.match in command.title and (not rule.times or left[0] > 0):
                left[0] -= 1
                return rule.play
        return plausible(command, self.spec, self.pace)

    def perform(self, command: Framed) -> None:
        """What the command changes on the machine's disks, as far as a later boot depends on it."""
        title = command.title
        if _MOUNT.fullmatch(title):
            self._is_mounted = True
        elif title == f"umount --recursive {TARGET}":
            self._is_mounted = False
        elif " wipe /dev/" in title:
            self.disk = Disk("nothing")
        elif self._is_mounted and command.written == TARGET + phonehome.TOKEN_PATH:
            self.disk.token = command.stdin.decode().strip()
        elif self._is_mounted and command.written == TARGET + phonehome.SCRIPT_PATH:
            self.disk.url = _url_in(command.stdin.decode())
        elif self._is_mounted and title.startswith("chroot ") and _BOOT_LOADER.search(title):
            self.disk.holds = "new"

    def remember(self, record: JobRecord) -> None:
        """Keeps the record of a job."""
        self.jobs.append(record)

    def complain(self, sentence: str) -> None:
        """Something happened that the simulation is not made for, or that a worker should not do."""
        log.error("%s: %s", self.spec.name, sentence)
        self.complaints.append(sentence)

    # What a test may order

    def power_loss(self, seconds: float = 1.0) -> None:
        """Off, and on again after that time; nobody pressed a button."""
        self.outages.append(time.time())
        self.power_off()
        self._later(seconds, self.power_on)

    def drop(self) -> None:
        """Cuts its SSH connections."""
        if self._sshd:
            self._sshd.drop()

    def deaf(self, seconds: float) -> None:
        """Its SSH port is closed for that time."""
        if sshd := self._sshd:
            sshd.stop()

            async def listen_again() -> None:
                await asyncio.sleep(seconds)
                if self._sshd is sshd:
                    await sshd.listen()

            self._keep(asyncio.create_task(listen_again()))

    def freeze(self, seconds: float) -> None:
        """It hangs for that time: jobs stand still, nothing is answered, no connection ends."""
        self.thawed.clear()
        if self._sshd:
            self._sshd.freeze(True)
        self._later(seconds, self._thaw)

    def _thaw(self) -> None:
        self.thawed.set()
        if self._sshd:
            self._sshd.freeze(False)

    def script(
        self,
        match: str,
        lines: Sequence[str] = (),
        seconds: float = 0.0,
        status: int = 0,
        times: int = 0,
        result: str = "",
    ) -> None:
        """From now on commands whose title contains `match` do this; the last rule given comes first."""
        play = Play(tuple(line.encode() for line in lines), seconds, status, result.encode())
        self._rules.insert(0, (Rule(match, play, times), [times]))

    def io_error(self, match: str = "rsync", times: int = 1) -> None:
        """The next such command fails as on a disk that dies."""
        self._rules.insert(0, (Rule(match, IO_ERROR, times), [times]))

    def forget_scripts(self) -> None:
        """Every command is plausible again."""
        self._rules.clear()

    def ready(self, never: bool = False, delay: float = 0.0, copies: tuple[float, ...] = (), forged: int = 0) -> None:
        """How the rescue system calls from its next start on."""
        self._call_orders["ready"] = CallOrder(never, delay, tuple(copies), forged)

    def phone_home(
        self, never: bool = False, delay: float = 0.0, copies: tuple[float, ...] = (), forged: int = 0
    ) -> None:
        """How the new system calls from its next start on."""
        self._call_orders["phone-home"] = CallOrder(never, delay, tuple(copies), forged)

    def replay(self, newest_first: bool = True) -> None:
        """Every call that was ever made is made again, word for word, one after the other."""
        said = reversed(self._said) if newest_first else iter(self._said)
        for number, (path, token, body) in enumerate(said):
            self._send_later(number * 0.05, Controller(self._url, token), path, body, "replayed")

    def forge(self, path: str = "/machine/phone-home", token: str = "", body: bytes = b"{}") -> None:
        """A call with a token that nobody was given."""
        token = token or f"forged-{self._rng.getrandbits(128):032x}"
        self._send_later(0.0, Controller(self._url, token), path, body, "forged")

    def stick(self, boots: int = 1) -> None:
        """The next starts end in the firmware: nothing is asked for, nobody calls."""
        self._stuck = boots

    def bmc(self, statuses: Sequence[int] = (), acted: bool = False, slow: float = 0.0) -> None:
        """The BMC's next writes are answered with these statuses, its every answer takes `slow` seconds."""
        self.bmc_order = BmcOrder(deque(statuses), acted, slow)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            act()

        self._keep(asyncio.create_task(wait()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._network.add(task)
        task.add_done_callback(self._network.discard)

    # What a test may ask

    def record(self) -> dict[str, Any]:
        """Everything that happened to this server, as plain JSON values."""
        return {
            "name": self.spec.name,
            "is_on": self.is_on,
            "runs": self.runs,
            "disk": self.disk.holds,
            "power_cycles": [list(cycle) for cycle in self.power_cycles],
            "outages": self.outages,
            "boots": [asdict(boot) for boot in self.boots],
            "calls": [asdict(call) for call in self.calls],
            "jobs": [job.to_json() for job in self.jobs],
            "complaints": self.complaints,
        }

    def remove_folder(self) -> None:
        """Nothing of it is left on this host."""
        shutil.rmtree(self._folder, ignore_errors=True)


ORDERS: Mapping[str, Callable[..., None]] = {
    order.__name__: order
    for order in (
        SimulatedServer.power_on, SimulatedServer.power_off, SimulatedServer.power_loss, SimulatedServer.drop,
        SimulatedServer.deaf, SimulatedServer.freeze, SimulatedServer.script, SimulatedServer.io_error,
        SimulatedServer.forget_scripts, SimulatedServer.ready, SimulatedServer.phone_home, SimulatedServer.replay,
        SimulatedServer.forge, SimulatedServer.stick, SimulatedServer.bmc,
    )
}  # fmt: skip
"""What a test may order, by name."""


def _kernel_line(script: str) -> str:
    """The kernel's arguments in an iPXE script; empty where it starts the disk."""
    line = next((line for line in script.splitlines() if line.startswith("kernel ")), "")
    return line.partition("||")[0]


def _url_in(script: str) -> str:
    """Landfall's address in the text of phonehome.sh."""
    line = next(line for line in script.splitlines() if line.startswith("URL="))
    return shlex.split(line)[0].removeprefix("URL=").removesuffix("/machine/phone-home")

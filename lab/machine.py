"""One virtual server: its files, its QEMU process, its power button."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

from images.accelerator import Accelerator

from .qmp import Qmp, QmpError
from .spec import CONSOLE, NETWORK_FIRST, NETWORK_LAST, BootSource, MachineSpec, autoexec, qemu_argv

STOP_TIMEOUT = 10.0
TYPING = 3.0
"""Seconds for which somebody who types has the console open."""
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


class Machine:
    """A server with a power button, a network cable that can be pulled, and a boot order that can be overridden."""

    def __init__(
        self, spec: MachineSpec, folder: Path, http_url: str, accelerator: Accelerator, spawner: Executor
    ) -> None:
        self.spec, self.folder = spec, folder
        self._http_url, self._accelerator, self._spawner = http_url, accelerator, spawner
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._override, self._once = BootSource.NONE, False
        self._pulled: set[int] = set()
        self._has_cable = True

    @property
    def console(self) -> Path:
        """The log of everything the machine ever wrote to its serial port."""
        return self.folder / "console.log"

    def disk(self, number: int) -> Path:
        """The file behind a disk."""
        return self.folder / f"disk{number}.raw"

    def prepare(self, snponly: Path) -> None:
        """The machine's files: empty disks, firmware variables, TFTP folder. Disks that exist keep their content."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end_leftover(self.folder / "qemu.pid")
        for number, size in enumerate(self.spec.disks):
            with self.disk(number).open("ab") as file:
                file.truncate(size)
        if self.spec.firmware == "uefi":
            if not (self.folder / "efi-vars.fd").exists():
                shutil.copyfile(OVMF_VARS, self.folder / "efi-vars.fd")
            tftp = self.folder / "tftp"
            tftp.mkdir(exist_ok=True)
            shutil.copyfile(snponly, tftp / "snponly.efi")
            (tftp / "autoexec.ipxe").write_text(autoexec(self.spec, self._http_url))

    # power

    def is_on(self) -> bool:
        """Whether the machine has power now; a machine that switched itself off has none."""
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """The machine starts, if it was off."""
        with self._lock:
            if self.is_on():
                return
            argv = qemu_argv(
                self.spec, self.folder, self._http_url, self._accelerator, self._network_priority(), self._pulled
            )  # fmt: skip
            # the kernel ends QEMU when the thread that started it ends, hence one thread that lives as long as the lab
            process = self._spawner.submit(spawn, argv, self.folder / "qemu.log").result()
            assert process.stdin is not None and process.stdout is not None
            self._process = process
            try:
                self._qmp = Qmp(process.stdin, process.stdout, self._event)
            except QmpError as error:
                self.power_off()
                raise QmpError(f"{self.spec.name} does not start; see {self.folder / 'qemu.log'}") from error
            if not self._has_cable:
                self.pull_cable()
            self._override_was_used()

    def power_off(self) -> None:
        """No power, at once: what the guest had not written is lost."""
        with self._lock:
            if self._process is not None:
                end(self._process)
            self._process = self._qmp = None

    power_loss = power_off

    def reset(self) -> None:
        """The reset button; nothing happens to a machine that is off.

        A QEMU of its own for every start: OVMF, reset within one, was seen to stay silent for good.
        """
        with self._lock:
            if self.is_on():
                self.power_cycle()

    def press_power_button(self) -> None:
        """A polite request to shut down, which the guest may ignore."""
        self._execute("system_powerdown")

    def power_cycle(self) -> None:
        """Off and on again; on, if it was off."""
        with self._lock:
            self.power_off()
            self.power_on()

    # disks

    def pull_disk(self, number: int) -> None:
        """The disk is gone from the next start on, with all that is on it."""
        self._pulled.add(number)

    def plug_disk(self, number: int) -> None:
        """The disk is back from the next start on, as it was when it was pulled."""
        self._pulled.discard(number)

    # network

    def pull_cable(self) -> None:
        """The network card loses its link, until the cable is plugged again."""
        self._has_cable = False
        self._execute("set_link", name="nic0", up=False)

    def plug_cable(self) -> None:
        """The network card has its link again."""
        self._has_cable = True
        self._execute("set_link", name="nic0", up=True)

    # console

    def type(self, text: str) -> None:
        """The text and Enter, typed on the serial console. Takes some seconds."""
        if self._qmp is None:
            raise QmpError(f"{self.spec.name} is off: nobody reads what is typed")
        devices = self._qmp.execute("query-chardev")
        terminal = next(one["filename"] for one in devices if one["label"] == CONSOLE).removeprefix("pty:")
        with Path(terminal).open("wb", buffering=0) as keyboard:
            keyboard.write(f"{text}\r".encode())
            # QEMU looks once a second whether somebody has the terminal open, and reads nothing while nobody has.
            time.sleep(TYPING)

    # boot override

    def override(self) -> tuple[BootSource, bool]:
        """The boot source set by the BMC, and whether it is for the next boot only."""
        return self._override, self._once

    def override_boot(self, source: BootSource, once: bool) -> None:
        """From the next boot on (or for that one alone) this source comes first."""
        with self._lock:
            self._override, self._once = source, once and source is not BootSource.NONE
            self._apply_priority()

    def _event(self, name: str, _data: dict[str, Any]) -> None:
        if name == "RESET":
            with self._lock:
                self._override_was_used()

    def _override_was_used(self) -> None:
        if self._once:
            self._override, self._once = BootSource.NONE, False
            # the firmware that starts now has its order already: QEMU hands out a changed one at the next reset
            self._apply_priority()

    def _network_priority(self) -> int:
        return NETWORK_LAST if self._override is BootSource.HDD else NETWORK_FIRST

    def _apply_priority(self) -> None:
        with suppress(QmpError):
            self._execute(
                "qom-set", path="/machine/peripheral/nic0", property="bootindex", value=self._network_priority()
            )  # fmt: skip

    def _execute(self, command: str, **arguments: object) -> None:
        qmp = self._qmp
        if qmp is not None and self.is_on():
            qmp.execute(command, **arguments)


def spawn(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process with pipes, its errors in a log file, that ends with the calling thread."""
    with log.open("ab") as errors:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C in a terminal goes to every process of the group; the lab itself ends its machines
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """The process is gone when this returns."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def end_leftover(pidfile: Path) -> None:
    """A QEMU that an earlier lab left in this folder is ended; another process that has its number now is not."""
    with suppress(OSError, ValueError):
        pid = int(pidfile.read_text())
        if str(pidfile).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    pidfile.unlink(missing_ok=True)

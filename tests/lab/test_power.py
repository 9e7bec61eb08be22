"""Power, boot order and cable of real QEMU machines; their disk prints a line and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab, LabUnusable, Machine, MachineSpec
from lab.spec import BootSource
from rescue.build import ensure
from tests.lab.controller import Controller
from tests.lab.test_boot import free_port

pytestmark = pytest.mark.qemu

MIB = 1 << 20

# 16-bit code: print what follows to the first serial port, then stop
#   cld; mov si, 0x7c14; next: lodsb; or al, al; jz stop; mov dx, 0x3f8; out dx, al; jmp next; stop: hlt; jmp stop
SAY = bytes.fromhex("fc be 14 7c ac 08 c0 74 06 ba f8 03 ee eb f5 f4 eb fd 90 90")
BOOT_SECTOR = (SAY + b"booted from disk\r\n\0").ljust(510, b"\0") + b"\x55\xaa"


def eventually(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def rescue_dir() -> Path:
    return ensure(print)


@pytest.fixture
def controller(rescue_dir: Path) -> Iterator[Controller]:
    running = Controller(rescue_dir, "ssh-ed25519 AAAA nobody\n")
    running.rescue = False
    yield running
    running.stop()


@pytest.fixture
def lab(controller: Controller, rescue_dir: Path, tmp_path: Path) -> Iterator[Lab]:
    spec = MachineSpec("oak", "bios", (8 * MIB,), free_port(), memory_mib=256)
    with Lab(tmp_path, [spec], controller.url_for_machines, 0, "admin", "secret", rescue_dir) as running:
        disk = running.machines["oak"].disk(0)
        with disk.open("r+b") as file:
            file.write(BOOT_SECTOR)
        yield running


@pytest.fixture
def oak(lab: Lab) -> Machine:
    return lab.machines["oak"]


def boots_from_disk(oak: Machine) -> int:
    return oak.console.read_text(errors="replace").count("booted from disk") if oak.console.exists() else 0


def test_a_machine_without_an_answer_from_the_controller_boots_its_disk(oak: Machine, controller: Controller) -> None:
    oak.power_on()
    eventually(lambda: boots_from_disk(oak) == 1)
    assert [status for _, path, status in controller.calls] == [404]


def test_an_override_for_once_skips_the_network_once(oak: Machine, controller: Controller) -> None:
    oak.override_boot(BootSource.HDD, once=True)
    oak.power_on()
    eventually(lambda: boots_from_disk(oak) == 1)
    assert controller.calls == []
    assert oak.override() == (BootSource.NONE, False)
    oak.reset()
    eventually(lambda: boots_from_disk(oak) == 2)
    assert len(controller.calls) == 1


def test_an_override_for_good_stays_over_resets_and_can_be_lifted_while_running(
    oak: Machine, controller: Controller
) -> None:
    oak.power_on()
    eventually(lambda: boots_from_disk(oak) == 1)
    controller.calls.clear()
    oak.override_boot(BootSource.HDD, once=False)
    oak.reset()
    eventually(lambda: boots_from_disk(oak) == 2)
    oak.power_cycle()
    eventually(lambda: boots_from_disk(oak) == 3)
    assert controller.calls == []
    oak.override_boot(BootSource.PXE, once=False)
    oak.reset()
    eventually(lambda: boots_from_disk(oak) == 4)
    assert len(controller.calls) == 1


def test_a_machine_without_its_cable_never_reaches_the_controller(oak: Machine, controller: Controller) -> None:
    oak.power_on()
    oak.pull_cable()
    eventually(lambda: boots_from_disk(oak) == 1)
    oak.reset()
    eventually(lambda: boots_from_disk(oak) == 2)
    assert controller.calls == []
    oak.plug_cable()
    oak.reset()
    eventually(lambda: boots_from_disk(oak) == 3)
    assert len(controller.calls) == 1


def test_power_can_be_switched_as_often_as_one_likes(oak: Machine) -> None:
    oak.power_on()
    oak.power_on()
    assert oak.is_on()
    oak.power_loss()
    oak.power_loss()
    assert not oak.is_on()


def test_one_folder_belongs_to_one_lab(lab: Lab, rescue_dir: Path) -> None:
    second = Lab(lab.folder, lab.specs, lab.http_url, 0, "admin", "secret", rescue_dir)
    with pytest.raises(LabUnusable, match="Another lab runs"):
        second.start()


def command_line_lab(folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "lab", "--folder", str(folder), "--bmc-port", str(free_port()), "--on"]
    machine = f"name=elm,firmware=bios,disks=8M,ssh={free_port()},memory=256"
    process = subprocess.Popen([*argv, machine], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and "elm: http://127.0.0.1" in process.stdout.readline()
    return process


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_machine_outlives_the_lab_whatever_ends_it(tmp_path: Path, how: signal.Signals) -> None:
    process = command_line_lab(tmp_path)
    qemu = int((tmp_path / "elm" / "qemu.pid").read_text())
    assert is_alive(qemu)
    os.kill(process.pid, how)
    assert process.wait(20) == (-9 if how is signal.SIGKILL else 0)
    eventually(lambda: not is_alive(qemu), 10)

"""Machines of the lab, booted through their BMC into the real rescue system."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import sushy
from sushy.auth import BasicAuth

from accounts.secret import Secret
from deploy import transport
from deploy.jobs import Job
from lab import GIB, Lab, MachineSpec
from rescue.build import ensure
from tests.lab.controller import Controller
from tests.ports import free_port

pytestmark = pytest.mark.qemu

READY_WITHIN = 900
KILLED_WITHIN = 300  # seconds; it takes 6 to 22


@pytest.fixture(scope="module")
def rescue_dir() -> Path:
    return ensure(print)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def controller(rescue_dir: Path, key: Path) -> Iterator[Controller]:
    running = Controller(rescue_dir, key.with_suffix(".pub").read_text())
    yield running
    running.stop()


def machine(firmware: Literal["bios", "uefi"], disks: int) -> MachineSpec:
    # Memory that is to run out takes an emulated processor minutes to fill.
    memory = 1024 if firmware == "bios" else 2048
    return MachineSpec(f"test-{firmware}", firmware, (4 * GIB,) * disks, free_port(), memory)


def redfish(lab: Lab, name: str) -> Any:
    root = lab.bmc_url(name).partition("/redfish")[0]
    return sushy.Sushy(root, auth=BasicAuth("admin", "secret")).get_system(f"/redfish/v1/Systems/{name}")


def ssh(spec: MachineSpec, key: Path, ready: dict[str, Any], command: str) -> str:
    """The command's output; only the host key that `ready` told is accepted."""
    known = key.with_name("known_hosts")
    known.write_text(f"[127.0.0.1]:{spec.ssh_port} {ready['host_keys'][0]}\n")
    options = ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    argv = ["ssh", "-F", "none", "-i", str(key), "-p", str(spec.ssh_port), *options, "root@127.0.0.1", command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("firmware", "disks"), [("bios", 1), ("uefi", 2)])
def test_a_machine_comes_up_in_rescue_and_lets_the_key_in(
    firmware: Literal["bios", "uefi"], disks: int, rescue_dir: Path, controller: Controller, key: Path, tmp_path: Path
) -> None:
    spec = machine(firmware, disks)
    with Lab(tmp_path / "lab", [spec], controller.url_for_machines, 0, "admin", "secret", rescue_dir) as lab:
        system = redfish(lab, spec.name)
        system.set_system_boot_source(sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
        started = time.monotonic()
        system.reset_system(sushy.RESET_TYPE_ON)
        assert controller.told.wait(READY_WITHIN), lab.machines[spec.name].console.read_text(errors="replace")[-3000:]
        print(f"{firmware}: ready after {time.monotonic() - started:.1f} s, {report(controller, started)}")

        ready = controller.ready[0]
        assert ready["facts"]["firmware"] == firmware
        facts = json.loads(ssh(spec, key, ready, "landfall-facts"))
        assert [disk["serial"] for disk in facts["lsblk"]["blockdevices"] if disk["type"] == "disk"] == [
            spec.disk_serial(number) for number in range(disks)
        ]
        assert facts["serial"] == spec.serial
        assert spec.mac in [link["address"] for link in facts["ip"]]
        assert ready["boot_id"] == ssh(spec, key, ready, "cat /proc/sys/kernel/random/boot_id").strip()
        assert ssh(spec, key, ready, "stat -c '%a %T %F' /run/landfall").split()[0] == "700"
        if firmware == "bios":
            program_is_killed_for_memory(spec, key, ready)
        assert controller.token not in lab.machines[spec.name].console.read_text(errors="replace")
    assert not lab.machines[spec.name].is_on()


HUNGRY = """python3 -c 'eaten = []
while True: eaten.append(b"x" * 2**24)'
echo ended with $?"""


def program_is_killed_for_memory(spec: MachineSpec, key: Path, ready: dict[str, Any]) -> None:
    """A job's program takes all memory: it is killed, and the job goes on and is followed to its end."""
    connection = transport.connect("127.0.0.1", spec.ssh_port, Secret(key.read_text()), ready["host_keys"])
    job = Job(connection, "/run/landfall/jobs/test/hungry-1")
    job.start(HUNGRY)
    stream, log, deadline = job.follow(0), b"", time.monotonic() + KILLED_WITHIN
    while (data := stream.read(timeout=5)) is not None:
        assert time.monotonic() < deadline, "the kernel is still looking for memory"
        log += data
    assert (b"ended with 137" in log, stream.status()) == (True, 0), log
    connection.close()
    assert "killed" in ssh(spec, key, ready, "dmesg | grep -i 'out of memory'").lower()


def report(controller: Controller, started: float) -> str:
    return ", ".join(f"{path} {at - started:.1f}" for at, path, _ in controller.calls)

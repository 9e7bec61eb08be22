"""What a simulated server is, and how fast everything goes: values only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..spec import GIB

BMC_USER, BMC_PASSWORD = "landfall", "of the simulated BMC"
SSH_PORT = 2022
"""Below the ports that the kernel gives to outgoing connections: nobody takes it while a server is off."""
PER_BLOCK = 250


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One simulated server. Every second one has UEFI and two disks, the others BIOS and one.

    Each has a loopback address of its own: what it calls comes from there, as from a machine of its own.
    """

    number: int
    network: int = 66

    @property
    def name(self) -> str:
        """Its name in the inventory, and in the path of its Redfish system."""
        return f"sim-{self.number:04}"

    @property
    def serial(self) -> str:
        """The serial number in its DMI tables."""
        return f"SIM{self.number:06}"

    @property
    def mac(self) -> str:
        """The address of its one network card."""
        return f"52:54:fe:{self.number >> 16 & 255:02x}:{self.number >> 8 & 255:02x}:{self.number & 255:02x}"

    @property
    def address(self) -> str:
        """Its own loopback address."""
        return f"127.{self.network}.{self.number // PER_BLOCK}.{self.number % PER_BLOCK + 1}"

    @property
    def firmware(self) -> str:
        """'uefi' or 'bios'."""
        return "bios" if self.number % 2 else "uefi"

    @property
    def disks(self) -> tuple[int, ...]:
        """Sizes in bytes."""
        return (20 * GIB,) if self.number % 2 else (20 * GIB, 20 * GIB)

    def facts(self) -> dict[str, Any]:
        """What `landfall-facts` prints on it."""
        return {
            "schema": 1,
            "firmware": self.firmware,
            "vendor": "Landfall",
            "product": "Simulated bare metal",
            "serial": self.serial,
            "cpus": 4,
            "memory_bytes": 16 * GIB,
            "lsblk": {"blockdevices": [self._disk(index, size) for index, size in enumerate(self.disks)]},
            "by_id": {},
            "ip": [{"ifname": "eth0", "address": self.mac, "link_type": "ether", "flags": ["UP"]}],
        }

    def _disk(self, index: int, size: int) -> dict[str, Any]:
        name = f"vd{'abcdefgh'[index]}"
        return {
            "name": name, "path": f"/dev/{name}", "type": "disk", "size": size, "log-sec": 512, "phy-sec": 512,
            "rota": False, "model": "SIMULATED", "serial": f"{self.serial}-D{index}", "ro": False, "rm": False,
        }  # fmt: skip


def specs(count: int, network: int = 66) -> tuple[ServerSpec, ...]:
    """That many servers, in one of 127.0.0.0/8's networks."""
    return tuple(ServerSpec(number, network) for number in range(count))


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds; where there are two, it is a random time between them."""

    firmware: tuple[float, float] = (0.05, 0.2)
    """From the power button to the first request for a boot script."""
    system: tuple[float, float] = (0.05, 0.2)
    """From the boot script to a system that runs."""
    command: float = 0.0
    """Any command for which nothing else is said."""
    copy: float = 1.0
    """rsync; curl takes a quarter of it."""
    copy_lines: int = 20
    build: float = 0.5
    """What makes the initramfs."""
    retry: tuple[float, float] = (0.5, 5.0)
    """The first pause before a call is repeated, which doubles, and the longest one."""

    @classmethod
    def of(cls, text: str) -> Pace:
        """The pace that JSON says, e.g. {"command": 0.2, "firmware": [3, 6]}; what it does not name is as usual."""
        said = json.loads(text)
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in said.items()}
        return cls(**values)

    def slower(self, factor: float) -> Pace:
        """The same with all work on the machine taking that many times as long; calls are repeated as before."""
        return Pace(
            (self.firmware[0] * factor, self.firmware[1] * factor),
            (self.system[0] * factor, self.system[1] * factor),
            self.command * factor, self.copy * factor, self.copy_lines, self.build * factor, self.retry,
        )  # fmt: skip

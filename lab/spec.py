"""What a virtual machine is: values only, and the QEMU command line that follows from them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from images.accelerator import Accelerator, processor

GIB = 1 << 30

# Boot priorities of QEMU, lowest first; between them there is room to move the network card behind the disks
NETWORK_FIRST, FIRST_DISK, NETWORK_LAST = 10, 20, 90
CONSOLE = "console"
"""QEMU's name of the serial port."""


class BootSource(Enum):
    """What a Redfish boot override may name, in Redfish's own words."""

    NONE = "None"  # the machine's standing order: network first
    PXE = "Pxe"
    HDD = "Hdd"


def mac_of(name: str) -> str:
    """The MAC address of the machine of this name: locally administered, the same every time."""
    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *digest[:3]))


class Bus(Enum):
    """What a machine's disks are to it."""

    VIRTIO = "virtio"
    NVME = "nvme"
    SATA = "sata"


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One virtual server; `disks` are sizes in bytes, `ssh_port` is where its port 22 appears on 127.0.0.1.

    `sector` is the logical block of its disks: SeaBIOS starts from none of 4,096 bytes, and a SATA disk here has none.
    `physical` is the block in which they store, the same where nothing is said: 4,096 below 512 is a 512e disk.
    """

    name: str
    firmware: Literal["bios", "uefi"]
    disks: tuple[int, ...]
    ssh_port: int
    memory_mib: int = 2048
    mac: str = ""
    bus: Bus = Bus.VIRTIO
    sector: Literal[512, 4096] = 512
    physical: Literal[0, 512, 4096] = 0
    sectors: tuple[int, ...] = ()
    physicals: tuple[int, ...] = ()
    """The same two for each disk, where they differ."""

    def __post_init__(self) -> None:
        if not self.mac:
            object.__setattr__(self, "mac", mac_of(self.name))

    @property
    def uuid(self) -> str:
        """The system's UUID, as its firmware reports it."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.lab.landfall"))

    @property
    def serial(self) -> str:
        """The serial number in the machine's DMI tables."""
        return f"LAB-{self.name.upper()}"

    def disk_path(self, number: int) -> str:
        """What Linux calls a disk."""
        letter = "abcdefghijklmnop"[number]
        return {Bus.VIRTIO: f"/dev/vd{letter}", Bus.NVME: f"/dev/nvme{number}n1", Bus.SATA: f"/dev/sd{letter}"}[
            self.bus
        ]

    def disk_blocks(self, number: int) -> tuple[int, int]:
        """The logical and the physical block of a disk, in bytes."""
        logical = self.sectors[number] if self.sectors else self.sector
        physical = self.physicals[number] if self.physicals else self.physical
        return logical, physical or logical

    def disk_serial(self, number: int) -> str:
        """The serial number of a disk; virtio cuts it at 20 characters."""
        return f"{hashlib.sha256(self.name.encode()).hexdigest()[:8].upper()}-D{number}"


def qemu_argv(
    spec: MachineSpec,
    folder: Path,
    http_url: str,
    accelerator: Accelerator,
    network: int = NETWORK_FIRST,
    pulled: Collection[int] = (),
) -> list[str]:
    """The command line of the machine's QEMU; its files are in `folder`, its monitor speaks on stdin and stdout.

    `pulled` are the numbers of disks that it has to do without.
    """
    return [
        "qemu-system-x86_64",
        *("-name", spec.name, "-uuid", spec.uuid, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,smm=off", "-m", str(spec.memory_mib), *processor(accelerator)),
        *("-smbios", f"type=1,manufacturer=Landfall,product=Virtual bare metal,serial={spec.serial},uuid={spec.uuid}"),
        *("-chardev", "stdio,id=qmp,signal=off", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"pty,id={CONSOLE},logfile={folder / 'console.log'},logappend=on"),
        *("-serial", f"chardev:{CONSOLE}"),
        *("-pidfile", str(folder / "qemu.pid")),
        *("-device", "virtio-rng-pci"),
        *_firmware(spec, folder),
        *_network(spec, folder, http_url, network),
        *(word for number in range(len(spec.disks)) if number not in pulled for word in _disk(spec, folder, number)),
    ]


def boot_path(spec: MachineSpec, http_url: str) -> str:
    """Where the machine asks what to boot."""
    # with dashes: the iPXE in QEMU's ROM would write every colon as %3A
    return f"{http_url.rstrip('/')}/boot/{spec.mac.replace(':', '-')}"


def autoexec(spec: MachineSpec, http_url: str) -> str:
    """The script that snponly.efi runs; when the controller has no answer, iPXE leaves and the firmware goes on."""
    return f"#!ipxe\ndhcp && chain {boot_path(spec, http_url)} || exit 1\n"


def _firmware(spec: MachineSpec, folder: Path) -> list[str]:
    if spec.firmware == "bios":
        return []
    code = "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
    return ["-drive", code, "-drive", f"if=pflash,unit=1,format=raw,file={folder / 'efi-vars.fd'}"]


def _network(spec: MachineSpec, folder: Path, http_url: str, priority: int) -> list[str]:
    backend = f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{spec.ssh_port}-:22"
    card = f"virtio-net-pci,id=nic0,netdev=net0,mac={spec.mac},bootindex={priority}"
    if spec.firmware == "bios":
        return ["-netdev", f"{backend},bootfile={boot_path(spec, http_url)}", "-device", card]
    # QEMU's own EFI ROM is an iPXE too old for autoexec.ipxe: without it OVMF's driver loads ours over TFTP
    return ["-netdev", f"{backend},tftp={folder / 'tftp'},bootfile=snponly.efi", "-device", f"{card},romfile="]


def _disk(spec: MachineSpec, folder: Path, number: int) -> list[str]:
    # the host does not lose power: what a guest flushed need not reach the host's disk at once
    backend = f"if=none,id=drive{number},format=raw,cache=unsafe,discard=unmap,file={folder / f'disk{number}.raw'}"
    model = {Bus.VIRTIO: "virtio-blk-pci", Bus.NVME: "nvme", Bus.SATA: f"ide-hd,bus=ide.{number}"}[spec.bus]
    device = f"{model},id=disk{number},drive=drive{number},serial={spec.disk_serial(number)}"
    logical, physical = spec.disk_blocks(number)
    # QEMU's own choice is 512 for both
    blocks = "" if physical == 512 else f",logical_block_size={logical},physical_block_size={physical}"
    return ["-drive", backend, "-device", f"{device}{blocks},bootindex={FIRST_DISK + number}"]

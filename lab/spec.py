"""What a virtual machine is: values only, and the QEMU command line that follows from them."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

GIB = 1 << 30

# Boot priorities of QEMU, lowest first; between them there is room to move the network card behind the disks
NETWORK_FIRST, FIRST_DISK, NETWORK_LAST = 10, 20, 90


class Accelerator(Enum):
    """How the processor of a machine is made."""

    KVM = "kvm"  # by the host's processor
    TCG = "tcg"  # by translation: ten to twenty times slower, works everywhere


class BootSource(Enum):
    """What a Redfish boot override may name, in Redfish's own words."""

    NONE = "None"  # the machine's standing order: network first
    PXE = "Pxe"
    HDD = "Hdd"


def mac_of(name: str) -> str:
    """The MAC address of the machine of this name: locally administered, the same every time."""
    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *digest[:3]))


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One virtual server; `disks` are sizes in bytes, `ssh_port` is where its port 22 appears on 127.0.0.1."""

    name: str
    firmware: Literal["bios", "uefi"]
    disks: tuple[int, ...]
    ssh_port: int
    memory_mib: int = 2048
    mac: str = ""

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

    def disk_serial(self, number: int) -> str:
        """The serial number of a disk; virtio cuts it at 20 characters."""
        return f"{hashlib.sha256(self.name.encode()).hexdigest()[:8].upper()}-D{number}"


def qemu_argv(
    spec: MachineSpec, folder: Path, http_url: str, accelerator: Accelerator, network: int = NETWORK_FIRST
) -> list[str]:
    """The command line of the machine's QEMU; its files are in `folder`, its monitor speaks on stdin and stdout."""
    return [
        "qemu-system-x86_64",
        *("-name", spec.name, "-uuid", spec.uuid, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,smm=off", "-m", str(spec.memory_mib), *_processor(accelerator)),
        *("-smbios", f"type=1,manufacturer=Landfall,product=Virtual bare metal,serial={spec.serial},uuid={spec.uuid}"),
        *("-chardev", "stdio,id=qmp,signal=off", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"file,id=console,path={folder / 'console.log'},append=on", "-serial", "chardev:console"),
        *("-pidfile", str(folder / "qemu.pid")),
        *("-device", "virtio-rng-pci"),
        *_firmware(spec, folder),
        *_network(spec, folder, http_url, network),
        *(word for number in range(len(spec.disks)) for word in _disk(spec, folder, number)),
    ]


def boot_path(spec: MachineSpec, http_url: str) -> str:
    """Where the machine asks what to boot."""
    # with dashes: the iPXE in QEMU's ROM would write every colon as %3A
    return f"{http_url.rstrip('/')}/boot/{spec.mac.replace(':', '-')}"


def autoexec(spec: MachineSpec, http_url: str) -> str:
    """The script that snponly.efi runs; when the controller has no answer, iPXE leaves and the firmware goes on."""
    return f"#!ipxe\ndhcp && chain {boot_path(spec, http_url)} || exit 1\n"


def _processor(accelerator: Accelerator) -> list[str]:
    if accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    # One processor: a second one makes every fork wait for the other's translations (22 ms a fork against 7, measured),
    # and an install is mostly forks. la57 makes every page walk a level deeper; svm makes kernels load KVM, of no use
    # inside a translation.
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,svm=off", "-smp", "1"]


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
    device = f"virtio-blk-pci,id=disk{number},drive=drive{number},serial={spec.disk_serial(number)}"
    return ["-drive", backend, "-device", f"{device},bootindex={FIRST_DISK + number}"]

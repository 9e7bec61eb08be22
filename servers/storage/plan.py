"""What will be done to the disks, exactly: every partition, array, file system and UUID, before anything is wiped.

A plan is a value. It is shown, approved, stored with the install, rendered into commands (`render`), drawn (`draw`)
and, when all is done, compared with what is really there. Sizes and offsets are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final
from uuid import UUID

from servers.facts import Firmware
from servers.storage.layout import FsType, Raid
from servers.storage.sizes import human_disk
from servers.values import from_plain, to_plain


class PartitionType(Enum):
    """What a partition is for, by its GPT type GUID."""

    ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
    LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    SWAP = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
    RAID = "a19d880f-05fc-4d3b-a006-743f0f84911e"


class ConfigDriveKind(Enum):
    """How cloud-init's files lie on their partition."""

    ISO9660 = "iso9660"
    VFAT = "vfat"


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: where it begins, how long it is, what it is for."""

    number: int
    start: int
    size: int
    type: PartitionType
    name: str
    path: str
    uuid: UUID

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class PlannedDisk:
    """A disk that will be erased and laid out. `sector` is its logical block, `uuid` the GPT's own."""

    path: str
    size: int
    sector: int
    model: str
    serial: str
    wwn: str
    uuid: UUID
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class KeptDisk:
    """A disk that no command names. `asked` when the layout keeps it, not when the layout merely does not use it."""

    path: str
    size: int
    model: str
    serial: str
    wwn: str
    asked: bool


@dataclass(frozen=True, slots=True)
class Array:
    """An md array over partitions. `path` is the name that mdadm and the installed system use: /dev/md/root."""

    path: str
    name: str
    level: Raid
    members: tuple[str, ...]
    uuid: UUID
    size: int
    data_offset: int


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system on a partition or an array, and where it is mounted.

    `uuid` is as blkid gives it, known before the file system is made: an RFC 4122 UUID, or `ABCD-1234` on vfat.
    `features` are what mke2fs must be told so that the image's own tools can read the result.
    """

    device: str
    type: FsType
    mount: str
    label: str
    uuid: str
    size: int
    options: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Swap:
    """Swap space on a partition or an array."""

    device: str
    label: str
    uuid: str
    size: int


@dataclass(frozen=True, slots=True)
class ConfigDrive:
    """The partition that cloud-init's files go to."""

    partition: str
    kind: ConfigDriveKind
    size: int
    sector: int


CONFIG_DRIVE_LABEL: Final = "config-2"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be on the disks. `boot_group` names the disks that the machine can start from, in order."""

    firmware: Firmware
    disks: tuple[PlannedDisk, ...]
    kept: tuple[KeptDisk, ...]
    arrays: tuple[Array, ...]
    filesystems: tuple[Filesystem, ...]
    swaps: tuple[Swap, ...]
    esps: tuple[Filesystem, ...]
    config_drive: ConfigDrive
    notes: tuple[str, ...]
    boot_group: tuple[str, ...]

    @property
    def erased(self) -> tuple[str, ...]:
        """The paths of the disks that lose all that is on them."""
        return tuple(disk.path for disk in self.disks)

    @property
    def root(self) -> Filesystem:
        """The file system of the system itself."""
        return next(filesystem for filesystem in self.filesystems if filesystem.mount == "/")

    @property
    def mounts(self) -> tuple[Filesystem, ...]:
        """File systems and ESPs in an order in which they can be mounted: each after the one it lies in."""
        return tuple(
            sorted((*self.filesystems, *self.esps), key=lambda one: (one.mount.rstrip("/").count("/"), one.mount))
        )

    def summary(self) -> tuple[str, ...]:
        """What the plan is, a sentence each: `RAID1 on 2 x 960 GB`."""
        groups: dict[tuple[str, tuple[str, ...]], None] = {}
        for device in (*(one.device for one in self.filesystems), *(one.device for one in self.swaps)):
            array = next((one for one in self.arrays if one.path == device), None)
            members = array.members if array else (device,)
            on = tuple(disk.path for disk in self.disks if any(one.path in members for one in disk.partitions))
            groups.setdefault((array.level.title if array else "", on))
        return tuple(
            f"{level} on {self._sizes(on)}" if level else f"No RAID, on {self._sizes(on)}" for level, on in groups
        )

    def losses(self, host: str) -> str:
        """One sentence that says what will be lost: `Both disks of web-14 will be erased. 1 disk is kept.`"""
        erased, kept = len(self.disks), len(self.kept)
        if kept == 0:
            which = {1: "The only disk", 2: "Both disks"}.get(erased, f"All {erased} disks")
            return f"{which} of {host} will be erased."
        names = _listed([f"{disk.path} ({human_disk(disk.size)})" for disk in self.disks])
        return (
            f"{erased} of {erased + kept} disks of {host} will be erased: {names}."
            f" {kept} {'disk is' if kept == 1 else 'disks are'} kept."
        )

    def agrees_with(self, other: Plan) -> bool:
        """Whether the other plan does the same to the same disks.

        A disk of which one of them knows no serial number or WWN (entered by hand, not yet inspected) may be the same;
        where both know one and they differ, it is not.
        """
        disks, kept = zip(self.disks, other.disks, strict=False), zip(self.kept, other.kept, strict=False)
        pairs: list[tuple[PlannedDisk | KeptDisk, PlannedDisk | KeptDisk]] = [*disks, *kept]
        names = ((one.serial, two.serial) for one, two in pairs), ((one.wwn, two.wwn) for one, two in pairs)
        known = all(one == two for pair in names for one, two in pair if one and two)
        return known and self._unnamed() == other._unnamed()

    def _unnamed(self) -> Plan:
        """The plan without what only describes its disks."""
        disks = tuple(replace(disk, model="", serial="", wwn="") for disk in self.disks)
        return replace(self, disks=disks, kept=tuple(replace(d, model="", serial="", wwn="") for d in self.kept))

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values, keys and lists always in the same order."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """The plan that `to_json` wrote, equal to it; servers.values.NotThisShape when it did not."""
        return from_plain(cls, data)

    def _sizes(self, paths: tuple[str, ...]) -> str:
        """`2 x 960 GB`, or `480 GB and 960 GB` when the disks differ."""
        sizes = [human_disk(disk.size) for disk in self.disks if disk.path in paths]
        if len(set(sizes)) == 1:
            return f"{len(sizes)} x {sizes[0]}"
        return _listed(sizes)


def _listed(words: list[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]

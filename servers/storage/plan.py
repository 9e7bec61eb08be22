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
from servers.storage.sizes import human_disk
from servers.storage.wanted import FsType, Raid
from servers.values import from_plain, to_plain


class PartitionType(Enum):
    """What a partition is for, by its GPT type GUID."""

    ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
    LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    SWAP = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
    RAID = "a19d880f-05fc-4d3b-a006-743f0f84911e"
    LVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"
    LUKS = "ca7d7ccb-63ed-4c53-861c-1742536059cc"


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
class Luks:
    """A LUKS2 container on a partition or an array, open at `path`: /dev/mapper/<name>. `size` is what it holds.

    `sector` is the block size that it encrypts by. `lost_is_fine` where the system starts without it.
    """

    path: str
    name: str
    device: str
    uuid: UUID
    size: int
    sector: int = 512
    lost_is_fine: bool = False


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """An LVM volume group over partitions, arrays or open containers. `size` is what its extents hold together."""

    name: str
    devices: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A volume in the volume group `group`. `path` is /dev/<group>/<name>; `size` is in whole extents."""

    path: str
    name: str
    group: str
    size: int


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system on a partition, an array, an open container or a volume, and where it is mounted.

    `uuid` is as blkid gives it, known before the file system is made: an RFC 4122 UUID, or `ABCD-1234` on vfat.
    `features` are what mkfs must be told so that the image's own tools can read the result.
    """

    device: str
    type: FsType
    mount: str
    label: str
    uuid: str
    size: int
    options: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


PATIENT: Final = "x-systemd.device-timeout=0"
"""An option in fstab: systemd gives a device 90 seconds, and somebody has yet to type the passphrase of a container."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Swap space on a partition, an array, an open container or a volume."""

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
class Tower:
    """What stands on some partitions, bottom up: `members` are the partitions, `top` is what file systems lie on."""

    members: tuple[str, ...]
    array: Array | None
    container: Luks | None
    group: VolumeGroup | None
    top: str

    @property
    def title(self) -> str:
        """It in words: `RAID1 system, encrypted, volume group system`; empty for a mere partition."""
        words = [
            f"{self.array.level.title} {self.array.name}" if self.array else "",
            "encrypted" if self.container else "",
            f"volume group {self.group.name}" if self.group else "",
        ]
        return ", ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be on the disks. `boot_group` names the disks that the machine can start from, in order.

    The stack, from the bottom: partitions, `arrays` over them, `containers`, `volume_groups` with their `volumes`, and
    on the topmost of these a file system or swap. What was stored before a level existed reads as having none of it.
    """

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
    containers: tuple[Luks, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    volumes: tuple[LogicalVolume, ...] = ()
    secure_erase: bool = False

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

    @property
    def towers(self) -> tuple[Tower, ...]:
        """What stands on the partitions, one tower for each array and each partition that is in none."""
        bases = [(one.path, one.members, one) for one in self.arrays]
        inside = {member for one in self.arrays for member in one.members}
        loose = [one.path for disk in self.disks for one in disk.partitions if one.path not in inside]
        return tuple([self._tower(*base) for base in bases] + [self._tower(path, (path,), None) for path in loose])

    def _tower(self, base: str, members: tuple[str, ...], array: Array | None) -> Tower:
        container = next((one for one in self.containers if one.device == base), None)
        top = container.path if container else base
        group = next((one for one in self.volume_groups if top in one.devices), None)
        return Tower(members, array, container, group, top)

    def tower_of(self, device: str) -> Tower:
        """The tower that a file system or swap on this device belongs to."""
        group = next((one.group for one in self.volumes if one.path == device), None)
        return next(
            one for one in self.towers if one.top == device or (one.group is not None and one.group.name == group)
        )

    def summary(self) -> tuple[str, ...]:
        """What the plan is, a sentence each: `RAID1 on 2 x 960 GB`, `RAID6 on 4 x 8 TB, encrypted, LVM`.

        /boot does not count: it lies where it has to, and says nothing of where the data is.
        """
        sentences = []
        data = (one.device for one in self.filesystems if one.mount != "/boot")
        for device in (*data, *(one.device for one in self.swaps)):
            tower = self.tower_of(device)
            on = tuple(d.path for d in self.disks if any(one.path in tower.members for one in d.partitions))
            level = f"{tower.array.level.title} on" if tower.array else "No RAID, on"
            also = [*(["encrypted"] if tower.container else []), *(["LVM"] if tower.group else [])]
            sentences.append(", ".join([f"{level} {self._sizes(on)}", *also]))
        return tuple(dict.fromkeys(sentences))

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
        where both know one and they differ, it is not. Notes say in words what was planned and what to look after: some
        follow from what an inspection has seen on disks that stay.
        """
        disks, kept = zip(self.disks, other.disks, strict=False), zip(self.kept, other.kept, strict=False)
        pairs: list[tuple[PlannedDisk | KeptDisk, PlannedDisk | KeptDisk]] = [*disks, *kept]
        names = ((one.serial, two.serial) for one, two in pairs), ((one.wwn, two.wwn) for one, two in pairs)
        known = all(one == two for pair in names for one, two in pair if one and two)
        return known and self._unnamed() == other._unnamed()

    def _unnamed(self) -> Plan:
        """The plan without what only describes it and its disks."""
        disks = tuple(replace(disk, model="", serial="", wwn="") for disk in self.disks)
        kept = tuple(replace(d, model="", serial="", wwn="") for d in self.kept)
        return replace(self, disks=disks, kept=kept, notes=())

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

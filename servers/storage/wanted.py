"""The parts of a layout: file systems, groups of disks and volume groups as somebody wants them, on no machine yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class FsType(Enum):
    """The file systems that a plan can hold; `vfat` is for what firmware and cloud-init read, and for plain data."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"
    VFAT = "vfat"


class Raid(Enum):
    """The RAID levels that a file system or a volume group can lie on."""

    RAID0 = "raid0"
    RAID1 = "raid1"
    RAID5 = "raid5"
    RAID6 = "raid6"
    RAID10 = "raid10"

    @property
    def title(self) -> str:
        """As people write it: RAID1."""
        return self.value.upper()

    @property
    def number(self) -> str:
        """As md calls it: 1."""
        return self.value.removeprefix("raid")

    @property
    def least_disks(self) -> int:
        """How many disks the level needs to be worth its name."""
        return {"raid0": 2, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 4}[self.value]

    @property
    def redundant(self) -> bool:
        """Whether any one disk may die and nothing is lost."""
        return self is not Raid.RAID0

    def capacity(self, member: int, disks: int) -> int:
        """The bytes that an array of so many disks holds when each gives `member` bytes to data."""
        if self is Raid.RAID10:
            return member * disks // 2
        return member * {"raid0": disks, "raid1": 1, "raid5": disks - 1, "raid6": disks - 2}[self.value]


class Rest(Enum):
    """In place of a size: all that the others leave."""

    REST = "rest"


REST: Final = Rest.REST
Size = int | Rest


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system that is wanted: where, of what type and size, and on what it lies.

    On the disks of `group` with the level `raid`, without one on the first of them; or in the volume group of the name
    `volume_group`, whose disks, level and encryption then count instead of its own. `group` is empty for the disks
    that are in no group. `encrypted` puts LUKS2 below it.
    """

    mount: str
    type: FsType = FsType.EXT4
    size: Size = REST
    raid: Raid | None = None
    group: str = ""
    volume_group: str = ""
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class DiskGroup:
    """Disks that belong together, such as two SSDs for the system: a name, and each by WWN, serial number or path."""

    name: str
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WantedVolumeGroup:
    """An LVM volume group that is wanted: on one array over the disks of `group`, or on the first of them.

    `encrypted` puts LUKS2 below all of it: one passphrase for every volume in it.
    """

    name: str
    raid: Raid | None = None
    group: str = ""
    size: Size = REST
    encrypted: bool = False

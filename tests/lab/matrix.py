"""Layouts that are really laid out: on which of the machine's disks, and what lies on them before.

The machine has six disks of 512-byte blocks (0 to 5), four of 4,096 (6 to 9), and one with somebody's data (10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab import GIB, MachineSpec
from servers.facts import Firmware
from servers.storage.layout import (
    REST,
    DiskGroup,
    Filesystem,
    FsType,
    Layout,
    Raid,
    WantedVolumeGroup,
    lvm_on_raid1,
    plain,
    raid1,
)
from servers.storage.sizes import MIB
from tests.ports import free_port

KEPT: Final = 10
LARGE_INSIDE: Final = 5
"""A disk that speaks of blocks of 512 bytes and stores 4,096 at once (512e)."""
SPEC: Final = MachineSpec(
    "layouts", "bios", (8 * GIB,) * 10 + (512 * MIB,), free_port(), memory_mib=3072,
    sectors=(512,) * 6 + (4096,) * 4 + (512,), physicals=(512,) * 5 + (4096,) * 5 + (512,),
)  # fmt: skip
KEEP: Final = (SPEC.disk_serial(KEPT),)


@dataclass(frozen=True, slots=True)
class Case:
    """A layout on some of the machine's disks; `before` is what is done to them first, as a shell script."""

    name: str
    layout: Layout
    disks: tuple[int, ...]
    firmware: Firmware = Firmware.UEFI
    before: str = ""


def root(level: Raid | None = None, kind: FsType = FsType.EXT4, size: int = 2 * GIB, **more: object) -> Filesystem:
    return Filesystem("/", kind, size, level, **more)  # type: ignore[arg-type]


def custom(*filesystems: Filesystem, **more: object) -> Layout:
    return Layout("custom", filesystems, keep=KEEP, **more)  # type: ignore[arg-type]


def group(name: str, *numbers: int) -> DiskGroup:
    return DiskGroup(name, tuple(SPEC.disk_serial(number) for number in numbers))


FOUR, FOUR_4K = (0, 1, 2, 3, KEPT), (6, 7, 8, 9, KEPT)
SWAP = GIB // 2

# What stood there before: a mirror with a volume group of the very name, mounted swap in it, an encrypted volume that
# is open, an old array across whole disks without a table, and a config drive where the new one comes to lie.
LEFTOVERS: Final = """\
set -eux
mdadm --create /dev/md/old --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any /dev/vda /dev/vdb
mdadm --create /dev/md/older --run --level=1 --raid-devices=2 --metadata=0.90 /dev/vdc /dev/vdd
vgcreate --yes system /dev/md/old
lvcreate --yes --size 512m --name root system
lvcreate --yes --size 256m --name swap system
lvcreate --yes --size 256m --name secret system
mkfs.xfs -q -f /dev/system/root
mkswap /dev/system/swap
swapon /dev/system/swap
printf secret | cryptsetup luksFormat --batch-mode --type luks1 --iter-time 1 --key-file=- /dev/system/secret
printf secret | cryptsetup open --key-file=- /dev/system/secret open
mkfs.ext4 -q -F -L config-2 /dev/md/older
udevadm settle
"""

# Somebody's mirror, on disks that are not chosen, has the name that the new root's would have.
ROOT_OF_ANOTHER: Final = """\
set -eux
for disk in /dev/vda /dev/vdb; do echo size=1GiB | sfdisk --quiet --label gpt "$disk"; done
udevadm settle
mdadm --create /dev/md/root --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any /dev/vda1 /dev/vdb1
udevadm settle
"""

CASES: Final = (
    Case("plain-uefi", plain(keep=KEEP, swap=SWAP), (0, KEPT)),
    Case("plain-bios", plain(keep=KEEP), (1, KEPT), Firmware.BIOS),
    Case("raid1-uefi", raid1(keep=KEEP, swap=SWAP), (0, 1, KEPT)),
    Case("raid1-bios-three-disks", raid1(keep=KEEP), (0, 1, 2, KEPT), Firmware.BIOS),
    Case("leftovers-of-arrays-and-volumes", lvm_on_raid1(keep=KEEP, swap=SWAP), FOUR, before=LEFTOVERS),
    Case("the-same-once-more", lvm_on_raid1(keep=KEEP, swap=SWAP), FOUR),
    Case("raid0-root", custom(root(Raid.RAID0, size=3 * GIB), swap=SWAP), (0, 1, KEPT)),
    Case("raid5-root", custom(root(Raid.RAID5), swap=SWAP), (0, 1, 2, KEPT)),
    Case("raid6-root", custom(root(Raid.RAID6)), FOUR, Firmware.BIOS),
    Case("raid10-root", custom(root(Raid.RAID10)), FOUR),
    Case("raid10-on-five", custom(root(Raid.RAID1), Filesystem("/srv", raid=Raid.RAID10)), (0, 1, 2, 3, 4, KEPT)),
    Case("raid6-lowered-to-5", custom(root(Raid.RAID6)), (0, 1, 2, KEPT)),
    Case("xfs-root", custom(root(kind=FsType.XFS), Filesystem("/home")), (0, KEPT)),
    Case("btrfs-root-mirrored", custom(root(Raid.RAID1, FsType.BTRFS), Filesystem("/srv", FsType.XFS)), (0, 1, KEPT)),
    Case("vfat-data", custom(root(), Filesystem("/srv/exchange", FsType.VFAT, GIB)), (0, KEPT)),
    Case(
        "lvm-plain",
        custom(
            root(volume_group="system"), Filesystem("/var", FsType.XFS, GIB, volume_group="system"),
            volume_groups=(WantedVolumeGroup("system"),), swap=SWAP,
        ),
        (0, KEPT), Firmware.BIOS,
    ),
    Case(
        "xfs-root-on-lvm-on-raid1",
        custom(
            root(kind=FsType.XFS, volume_group="system"), Filesystem("/var/lib", size=REST, volume_group="system"),
            volume_groups=(WantedVolumeGroup("system", Raid.RAID1),), swap=SWAP,
        ),
        (0, 1, KEPT),
    ),
    Case(
        "two-volume-groups",
        custom(
            root(volume_group="system"), Filesystem("/srv", FsType.XFS, REST, volume_group="data"),
            volume_groups=(
                WantedVolumeGroup("system", Raid.RAID1, "ssd", 4 * GIB), WantedVolumeGroup("data", Raid.RAID5, "hdd"),
            ),
            groups=(group("ssd", 0, 1), group("hdd", 2, 3, 4, 5)),
        ),
        (0, 1, 2, 3, 4, 5, KEPT),
    ),
    Case("luks-root", custom(root(encrypted=True)), (0, KEPT)),
    Case("luks-root-mirrored", custom(root(Raid.RAID1, encrypted=True), swap=SWAP), (0, 1, KEPT)),
    Case(
        "lvm-on-luks-on-raid1",
        custom(
            root(volume_group="system"), Filesystem("/home", FsType.BTRFS, REST, volume_group="system"),
            volume_groups=(WantedVolumeGroup("system", Raid.RAID1, encrypted=True),), swap=SWAP,
        ),
        (0, 1, KEPT), Firmware.BIOS,
    ),
    Case(
        "lvm-on-luks-once-more",
        custom(
            root(volume_group="system"), Filesystem("/home", FsType.BTRFS, REST, volume_group="system"),
            volume_groups=(WantedVolumeGroup("system", Raid.RAID1, encrypted=True),), swap=SWAP,
        ),
        (0, 1, KEPT), Firmware.BIOS,
    ),
    Case(
        "groups-of-disks",
        custom(
            Filesystem("/", raid=Raid.RAID1, group="ssd"), Filesystem("/srv", FsType.XFS, REST, Raid.RAID10, "hdd"),
            Filesystem("/scratch", FsType.XFS, GIB, Raid.RAID0, "hdd"),
            groups=(group("ssd", 0, 1), group("hdd", 2, 3, 4, 5)),
        ),
        (0, 1, 2, 3, 4, 5, KEPT),
    ),
    Case("own-boot", custom(root(Raid.RAID6), Filesystem("/boot", size=GIB, raid=Raid.RAID6)), FOUR),
    Case("4kn-plain", plain(keep=KEEP, swap=SWAP), (6, KEPT)),
    Case("4kn-raid1", raid1(keep=KEEP, swap=SWAP), (6, 7, KEPT)),
    Case("4kn-raid6-xfs", custom(root(Raid.RAID1), Filesystem("/srv", FsType.XFS, raid=Raid.RAID6)), FOUR_4K),
    Case(
        "4kn-lvm-on-luks-on-raid10",
        custom(
            root(kind=FsType.XFS, volume_group="system"), Filesystem("/srv", FsType.BTRFS, REST, volume_group="system"),
            volume_groups=(WantedVolumeGroup("system", Raid.RAID10, encrypted=True),), swap=SWAP,
        ),
        FOUR_4K,
    ),
    Case("blocks-of-all-sizes", custom(root(Raid.RAID1), Filesystem("/srv", FsType.XFS, raid=Raid.RAID1)),
         (0, LARGE_INSIDE, 6, KEPT)),
    Case(
        "chosen-disks-only",
        Layout("custom", (root(Raid.RAID1), Filesystem("/srv", raid=Raid.RAID5)),
               disks=tuple(SPEC.disk_serial(number) for number in (3, 4, 5))),
        (0, 1, 2, 3, 4, 5, KEPT), before=ROOT_OF_ANOTHER,
    ),
)  # fmt: skip

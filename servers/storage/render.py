"""A plan as commands and files: arguments and standard input, never a shell string with a name put into it.

Nothing runs here. The same values make the review page's list, the golden files and the script on the rescue system.
In the order in which a machine wants them: `release` and `wipe` every disk; then `lay_out`, which is `write_table`,
`hand_on`, `clear`, `create_array`, `HOLD_RESYNC`, `format_container` and `open_container`, `create_volumes`, `mkfs` and
`mkswap`; then `mkfs_config_drive` where the config drive is vfat; `fstab`, `crypttab` and `mdadm_conf` for the new
system.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from accounts.secret import Secret
from servers.facts import Firmware
from servers.storage.plan import (
    CONFIG_DRIVE_LABEL,
    PATIENT,
    Array,
    ConfigDrive,
    ConfigDriveKind,
    Filesystem,
    LogicalVolume,
    Luks,
    Partition,
    Plan,
    PlannedDisk,
    Swap,
    VolumeGroup,
)
from servers.storage.sizes import KIB
from servers.storage.sizing import LUKS_HEADER, LVM_EXTENT, LVM_HEADER
from servers.storage.wanted import FsType, Raid


@dataclass(frozen=True, slots=True)
class Call:
    """A program with its arguments, and what it reads from standard input."""

    argv: tuple[str, ...]
    stdin: str | Secret | None = None


SETTLE: Final = Call(("udevadm", "settle", "--timeout=120"))
"""Waits for the device nodes that udev makes some time after a program that changed devices has returned.

Six disks with ten new partitions have taken more than half a minute on a busy emulated machine.
"""

# What lies on a disk is asked for when it runs, not taken from the facts: the wipe is repeated after a crash, when
# arrays of the half-made new layout are there too. Deepest first: a volume before the array that it lies on.
_RELEASE_SCRIPT: Final = """\
set -eu
found=$(lsblk --all --list --noheadings --paths --output NAME,TYPE "$1")
printf '%s\\n' "$found" | tac | while read -r device type; do
    if grep -q "^$(readlink -f "$device") " /proc/swaps; then swapoff "$device"; fi
    case "$type $device" in
        part*) ;;
        *" /dev/md"*) if [ -b "$device" ]; then mdadm --stop "$device"; fi ;;
        *" /dev/mapper/"*) if [ -b "$device" ]; then dmsetup remove --retry "$device"; fi ;;
    esac
done
"""
# Partitions before the table: with the table gone nothing would name them, and an old superblock that comes to lie at
# the start of a new partition would be found again. The kernel forgets its table when it is told to, and refuses while
# anybody has a partition open: the lock keeps udev from looking meanwhile.
_WIPE_SCRIPT: Final = """\
set -eu
exec 9<"$1"
flock 9
found=$(lsblk --list --noheadings --paths --output NAME,TYPE "$1")
printf '%s\\n' "$found" | while read -r device type; do
    if [ "$type" = part ]; then wipefs --all --force "$device"; fi
done
wipefs --all --force "$1"
if [ -b "$1" ]; then blockdev --rereadpt "$1"; fi
"""

# The copy comes first: a resync beside it moves the heads of rotating disks to and fro, whatever md's own good manners.
# Gone with the rescue system: the installed one resyncs at full speed. The file is there once an array is.
HOLD_RESYNC: Final = Call(("tee", "/proc/sys/dev/raid/speed_limit_max"), "1000\n")


# A former array, container or volume group of the same shape comes to lie where the new one does, deeper inside than
# the signatures that wipefs and sfdisk look for, and would come alive the moment that the new array does.
_CLEAR_SCRIPT: Final = """\
set -eu
for device do
    mib=$(($(blockdev --getsize64 "$device") / 1048576))
    dd if=/dev/zero of="$device" bs=1M count=$((mib < 32 ? mib : 32)) conv=notrunc,fsync status=none
    dd if=/dev/zero of="$device" bs=1M seek=$((mib - 1)) count=1 conv=notrunc,fsync status=none
done
"""

# A GPT has the mark of a boot sector with nothing in front of it, and a BIOS runs that nothing: these two bytes are the
# interrupt by which a boot sector says that it has nothing to start.
_HAND_ON_SCRIPT: Final = """\
set -eu
exec 9<"$1"
flock 9
printf '\\315\\030' | dd of="$1" bs=2 count=1 conv=notrunc,fsync status=none
"""

# The passphrase is read in either case: what writes it would be ended by a pipe that nobody reads.
_OPEN_SCRIPT: Final = """\
if [ -b "/dev/mapper/$2" ]; then exec cat >/dev/null; fi
exec cryptsetup open --type luks2 --key-file=- "$1" "$2"
"""


def release(disk: PlannedDisk) -> Call:
    """Stops swaps, arrays, volumes and containers that lie on the disk, whoever made them, and nothing elsewhere.

    All disks are released before the first is wiped. Volumes are taken from the device mapper and not from LVM, which
    refuses where half of a volume group is on a disk that has died.
    """
    return Call(("sh", "-c", _RELEASE_SCRIPT, "release", disk.path))


def wipe(disk: PlannedDisk) -> Call:
    """Erases the signatures of all partitions, then the partition table, of this disk alone."""
    return Call(("sh", "-c", _WIPE_SCRIPT, "wipe", disk.path))


def lay_out(plan: Plan, passphrase: Secret) -> Iterator[Call]:
    """Everything from the partition tables to the file systems and swaps, in the order in which it is made."""
    for disk in plan.disks:
        yield write_table(disk)
        if plan.firmware is Firmware.BIOS and disk.path not in plan.boot_group:
            yield hand_on(disk)
    yield SETTLE
    for disk in plan.disks:
        if disk.partitions:
            yield clear(disk)
    for array in plan.arrays:
        yield create_array(array)
    if plan.arrays:
        yield SETTLE
        yield HOLD_RESYNC
    for container in plan.containers:
        yield format_container(container, passphrase)
        yield open_container(container, passphrase)
    for group in plan.volume_groups:
        yield from create_volumes(group, [one for one in plan.volumes if one.group == group.name])
    if plan.containers or plan.volumes:
        yield SETTLE
    for filesystem in (*plan.filesystems, *plan.esps):
        yield mkfs(filesystem)
    for swap in plan.swaps:
        yield mkswap(swap)


def reopen(plan: Plan, passphrase: Secret) -> Iterator[Call]:
    """Opens the containers and brings up the volumes of a plan that has been laid out; no harm where they are up."""
    for container in plan.containers:
        yield open_container(container, passphrase)
    for group in plan.volume_groups:
        yield activate(group)


def write_table(disk: PlannedDisk) -> Call:
    """Writes the partition table, with signatures of former file systems wiped where new partitions come to lie."""
    argv = ("sfdisk", "--lock=yes", "--wipe=always", "--wipe-partitions=always", disk.path)
    return Call(argv, partition_table(disk))


def hand_on(disk: PlannedDisk) -> Call:
    """Makes a BIOS that tries to start from the disk go on to the next one, whose turn it else would never be."""
    return Call(("sh", "-c", _HAND_ON_SCRIPT, "hand-on", disk.path))


def partition_table(disk: PlannedDisk) -> str:
    """The script that sfdisk reads: a GPT with everything said, in sectors of this disk's own size."""
    lines = ["label: gpt", f"label-id: {str(disk.uuid).upper()}", "unit: sectors", ""]
    lines += [_table_line(one, disk.sector) for one in disk.partitions]
    return "\n".join(lines) + "\n"


def _table_line(partition: Partition, sector: int) -> str:
    return (
        f"start={partition.start // sector}, size={partition.size // sector},"
        f" type={partition.type.value.upper()}, uuid={str(partition.uuid).upper()}, name={partition.name}"
    )


def clear(disk: PlannedDisk) -> Call:
    """Overwrites the beginning and the end of every new partition of the disk with zeros."""
    return Call(("sh", "-c", _CLEAR_SCRIPT, "clear", *(one.path for one in disk.partitions)))


# The size of md's stripes and RAID10's way of spreading them, as mdadm has had them for years; said, so that what GRUB
# and the installed system find is what was planned.
_SHAPES: Final = {
    Raid.RAID0: ("--chunk=512K",),
    Raid.RAID1: (),
    Raid.RAID5: ("--chunk=512K", "--layout=left-symmetric"),
    Raid.RAID6: ("--chunk=512K", "--layout=left-symmetric"),
    Raid.RAID10: ("--chunk=512K", "--layout=n2"),
}


def create_array(array: Array) -> Call:
    """Makes the md array, readable by any host, its sizes all given so that none depends on mdadm's version.

    No --assume-clean: the disks hold different old data, and a mirror that never was one would report mismatches at its
    first check. The resync runs after the copy instead (`HOLD_RESYNC`); until then the first disk is the one read from.
    """
    shape = (f"--level={array.level.number}", f"--raid-devices={len(array.members)}", *_SHAPES[array.level])
    # mdadm makes a RAID5 with one disk missing that it then rebuilds, and until then no disk may die; with --force it
    # makes it whole, and what is written is safe at once
    force = ("--force",) if array.level is Raid.RAID5 else ()
    bitmap = ("--bitmap=internal",) if array.level.redundant else ()
    inside = ("--metadata=1.2", f"--data-offset={array.data_offset // KIB}K", *bitmap)
    names = (f"--name={array.name}", "--homehost=any", f"--uuid={md_uuid(array.uuid)}")
    return Call(("mdadm", "--create", array.path, "--run", *force, *shape, *inside, *names, *array.members))


def md_uuid(uuid: UUID) -> str:
    """A UUID as mdadm writes it: four groups of eight digits with colons."""
    return ":".join(uuid.hex[start : start + 8] for start in range(0, 32, 8))


# Fixed, so that no benchmark decides: what a machine in rescue has plenty of may be too much for its own initramfs.
# 256 MiB and four passes take an attacker's card about as long as the machine itself, a second or so.
_KEY_DERIVATION: Final = (
    "--pbkdf=argon2id", "--pbkdf-memory=262144", "--pbkdf-parallel=2", "--pbkdf-force-iterations=4",
)  # fmt: skip


def format_container(container: Luks, passphrase: Secret) -> Call:
    """Makes the LUKS2 container; the passphrase goes in by standard input, which nothing lists and nothing logs."""
    inside = (f"--sector-size={container.sector}", f"--offset={LUKS_HEADER // 512}")
    cipher = ("--cipher=aes-xts-plain64", "--key-size=512", "--hash=sha256")
    names = (f"--uuid={container.uuid}", f"--label={container.name}")
    argv = ("cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", *cipher, *_KEY_DERIVATION, *inside, *names)
    return Call((*argv, "--key-file=-", container.device), passphrase)


def open_container(container: Luks, passphrase: Secret) -> Call:
    """Opens the container, unless it is open already."""
    return Call(("sh", "-c", _OPEN_SCRIPT, "open", container.device, container.name), passphrase)


def create_volumes(group: VolumeGroup, volumes: list[LogicalVolume]) -> Iterator[Call]:
    """Makes the volume group on its devices, then its volumes, in whole extents and without asking."""
    alignment = f"{LVM_HEADER // KIB}k"
    yield Call(("pvcreate", "--yes", "--force", f"--dataalignment={alignment}", *group.devices))
    yield Call(("vgcreate", "--yes", f"--physicalextentsize={LVM_EXTENT // KIB}k", group.name, *group.devices))
    for one in volumes:
        size = f"--extents={one.size // LVM_EXTENT}"
        yield Call(("lvcreate", "--yes", "--wipesignatures=y", size, f"--name={one.name}", one.group))


def activate(group: VolumeGroup) -> Call:
    """Brings up the volumes of the group."""
    return Call(("vgchange", "--activate=y", group.name))


def mkfs(filesystem: Filesystem) -> Call:
    """Makes the file system with its planned UUID and label, and without what its readers do not know."""
    make = {FsType.EXT4: _ext4, FsType.XFS: _xfs, FsType.BTRFS: _btrfs, FsType.VFAT: _vfat}[filesystem.type]
    return Call((*make(filesystem), filesystem.device))


def _ext4(one: Filesystem) -> tuple[str, ...]:
    features = ("-O", ",".join(one.features)) if one.features else ()
    return ("mkfs.ext4", "-q", "-F", *features, "-U", one.uuid, "-L", one.label)


# mkfs.xfs has its features in groups, each behind a letter
_XFS_INODES: Final = ("exchange", "nrext64", "sparse")


def _xfs(one: Filesystem) -> tuple[str, ...]:
    inodes = [feature for feature in one.features if feature.startswith(_XFS_INODES)]
    metadata = [f"uuid={one.uuid}", *(feature for feature in one.features if feature not in inodes)]
    return (
        "mkfs.xfs", "-q", "-f", "-m", ",".join(metadata), *(("-i", ",".join(inodes)) if inodes else ()), "-L", one.label
    )  # fmt: skip


def _btrfs(one: Filesystem) -> tuple[str, ...]:
    features = ("--features", ",".join(one.features)) if one.features else ()
    profiles = ("--data", "single", "--metadata", "dup")
    return ("mkfs.btrfs", "--quiet", "--force", *profiles, *features, "--uuid", one.uuid, "--label", one.label)


def _vfat(one: Filesystem) -> tuple[str, ...]:
    return ("mkfs.vfat", "-F", "32", "-i", one.uuid.replace("-", ""), "-n", one.label)


def mkswap(swap: Swap) -> Call:
    """Makes the swap space with its planned UUID and label."""
    return Call(("mkswap", "--force", "--uuid", swap.uuid, "--label", swap.label, swap.device))


def mkfs_config_drive(drive: ConfigDrive) -> Call | None:
    """Makes the vfat that the config drive's files are copied to; None where the ISO itself is written."""
    if drive.kind is ConfigDriveKind.ISO9660:
        return None
    return Call(("mkfs.vfat", "-n", CONFIG_DRIVE_LABEL, drive.partition))


def fstab(plan: Plan) -> str:
    """The new system's /etc/fstab: every file system and ESP, each after the one it lies in, and the swap."""
    rows: list[tuple[str, ...]] = [("# device", "mount point", "type", "options", "dump", "check")]
    rows += [_fstab_row(one) for one in plan.mounts]
    rows += [(f"UUID={one.uuid}", "none", "swap", _swap_options(plan, one), "0", "0") for one in plan.swaps]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _fstab_row(filesystem: Filesystem) -> tuple[str, ...]:
    options = ",".join(filesystem.options) or "defaults"
    check = "1" if filesystem.mount == "/" else "2"
    if filesystem.type in (FsType.XFS, FsType.BTRFS):
        check = "0"  # they mend themselves when they are mounted; their fsck does nothing
    return (f"UUID={filesystem.uuid}", filesystem.mount, filesystem.type.value, options, "0", check)


def _swap_options(plan: Plan, swap: Swap) -> str:
    """`sw`; in a container, waited for as its file systems are: until somebody has typed the passphrase."""
    return f"sw,{PATIENT}" if plan.tower_of(swap.device).container else "sw"


def mdadm_conf(plan: Plan) -> str:
    """The new system's mdadm.conf: its arrays by UUID; empty but for a comment where there is none."""
    lines = ["# The arrays of this system, by UUID: names and device numbers may change, these do not."]
    if plan.arrays:
        lines.append("MAILADDR root")
    lines += [f"ARRAY {one.path} metadata=1.2 UUID={md_uuid(one.uuid)}" for one in plan.arrays]
    return "\n".join(lines) + "\n"


def crypttab(plan: Plan, early: Container[str] = ()) -> str:
    """The new system's /etc/crypttab: its containers by UUID, opened by a passphrase at the console.

    Those that are named in `early` carry the word by which Debian's initramfs knows that it has to open them.
    """
    lines = ["# Opened by the passphrase that was shown at the install; `cryptsetup luksAddKey` gives another one."]
    for one in plan.containers:
        options = ["luks", "discard"]
        if one.lost_is_fine:
            options.append("nofail")
        if one.name in early:
            options.append("initramfs")
        lines.append(f"{one.name}  UUID={one.uuid}  none  {','.join(options)}")
    return "\n".join(lines) + "\n"

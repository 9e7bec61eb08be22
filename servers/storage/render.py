"""A plan as commands and files: arguments and standard input, never a shell string with a name put into it.

Nothing runs here. The same values make the review page's list, the golden files and the script on the rescue system.
In the order in which a machine wants them: `release` and `wipe` every disk, `write_table`, `create_array`,
`HOLD_RESYNC`, `mkfs`, `mkswap`; then `mkfs_config_drive` where the config drive is vfat; `fstab` and `mdadm_conf`
for the new system.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from servers.storage.layout import FsType
from servers.storage.plan import (
    CONFIG_DRIVE_LABEL,
    Array,
    ConfigDrive,
    ConfigDriveKind,
    Filesystem,
    Partition,
    Plan,
    PlannedDisk,
    Swap,
)


@dataclass(frozen=True, slots=True)
class Call:
    """A program with its arguments, and what it reads from standard input."""

    argv: tuple[str, ...]
    stdin: str | None = None


# What lies on a disk is asked for when it runs, not taken from the facts: the wipe is repeated after a crash, when
# arrays of the half-made new layout are there too. Deepest first: a volume before the array that it lies on.
_RELEASE_SCRIPT: Final = """\
set -eu
found=$(lsblk --all --list --noheadings --paths --output NAME,TYPE "$1")
printf '%s\\n' "$found" | tac | while read -r device type; do
    case "$type $device" in
        part*) ;;
        *" /dev/md"*) if [ -b "$device" ]; then mdadm --stop "$device"; fi ;;
        *" /dev/mapper/"*) if [ -b "$device" ]; then dmsetup remove --retry "$device"; fi ;;
    esac
done
"""
# Partitions before the table: with the table gone nothing would name them, and an old superblock that comes to lie at
# the start of a new partition would be found again.
_WIPE_SCRIPT: Final = """\
set -eu
found=$(lsblk --list --noheadings --paths --output NAME,TYPE "$1")
printf '%s\\n' "$found" | while read -r device type; do
    if [ "$type" = part ]; then wipefs --all --force "$device"; fi
done
wipefs --all --force "$1"
"""

# The copy comes first: a resync beside it moves the heads of rotating disks to and fro, whatever md's own good manners.
# Gone with the rescue system: the installed one resyncs at full speed. The file is there once an array is.
HOLD_RESYNC: Final = Call(("tee", "/proc/sys/dev/raid/speed_limit_max"), "1000\n")


def release(disk: PlannedDisk) -> Call:
    """Stops arrays, volumes and containers that lie on the disk. All disks are released before the first is wiped."""
    return Call(("sh", "-c", _RELEASE_SCRIPT, "release", disk.path))


def wipe(disk: PlannedDisk) -> Call:
    """Erases the signatures of all partitions, then the partition table, of this disk alone."""
    return Call(("sh", "-c", _WIPE_SCRIPT, "wipe", disk.path))


def write_table(disk: PlannedDisk) -> Call:
    """Writes the partition table, with signatures of former file systems wiped where new partitions come to lie."""
    argv = ("sfdisk", "--lock=yes", "--wipe=always", "--wipe-partitions=always", disk.path)
    return Call(argv, partition_table(disk))


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


def create_array(array: Array) -> Call:
    """Makes the md array, readable by any host, its sizes all given so that none depends on mdadm's version.

    No --assume-clean: the disks hold different old data, and a mirror that never was one would report mismatches at its
    first check. The resync runs after the copy instead (`HOLD_RESYNC`); until then the first disk is the one read from.
    """
    shape = (f"--level={array.level.value.removeprefix('raid')}", f"--raid-devices={len(array.members)}")
    inside = ("--metadata=1.2", f"--data-offset={array.data_offset // 1024}K", "--bitmap=internal")
    names = (f"--name={array.name}", "--homehost=any", f"--uuid={md_uuid(array.uuid)}")
    return Call(("mdadm", "--create", array.path, "--run", *shape, *inside, *names, *array.members))


def md_uuid(uuid: UUID) -> str:
    """A UUID as mdadm writes it: four groups of eight digits with colons."""
    return ":".join(uuid.hex[start : start + 8] for start in range(0, 32, 8))


def mkfs(filesystem: Filesystem) -> Call:
    """Makes the file system with its planned UUID and label."""
    if filesystem.type is FsType.VFAT:
        serial = filesystem.uuid.replace("-", "")
        return Call(("mkfs.vfat", "-F", "32", "-i", serial, "-n", filesystem.label, filesystem.device))
    features = ("-O", ",".join(filesystem.features)) if filesystem.features else ()
    return Call(("mkfs.ext4", "-q", "-F", *features, "-U", filesystem.uuid, "-L", filesystem.label, filesystem.device))


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
    rows += [(f"UUID={one.uuid}", "none", "swap", "sw", "0", "0") for one in plan.swaps]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _fstab_row(filesystem: Filesystem) -> tuple[str, ...]:
    options = ",".join(filesystem.options) or "defaults"
    check = "1" if filesystem.mount == "/" else "2"
    return (f"UUID={filesystem.uuid}", filesystem.mount, filesystem.type.value, options, "0", check)


def mdadm_conf(plan: Plan) -> str:
    """The new system's mdadm.conf: its arrays by UUID; empty but for a comment where there is none."""
    lines = ["# The arrays of this system, by UUID: names and device numbers may change, these do not."]
    if plan.arrays:
        lines.append("MAILADDR root")
    lines += [f"ARRAY {one.path} metadata=1.2 UUID={md_uuid(one.uuid)}" for one in plan.arrays]
    return "\n".join(lines) + "\n"

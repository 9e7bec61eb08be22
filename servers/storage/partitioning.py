"""Where everything begins and ends on a disk: boot partition in front, volumes behind it, config drive at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from servers.facts import Disk, Firmware
from servers.storage.plan import CONFIG_DRIVE_LABEL, Partition, PartitionType, PlannedDisk
from servers.storage.sizes import MIB, align_down
from servers.storage.sizing import Volume

ESP_SIZE: Final = 512 * MIB
BIOS_BOOT_SIZE: Final = MIB
CONFIG_DRIVE_SIZE: Final = MIB
# vfat on 4,096-byte blocks spends whole blocks on every file and folder, and those blocks are eight times larger
CONFIG_DRIVE_SIZE_4K: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class Frame:
    """A disk with what must be on it whatever the layout: room at the front to start from, config drive at the end."""

    disk: Disk
    boot: tuple[PartitionType, int, str] | None
    first: int
    end: int
    config_drive: int

    @property
    def capacity(self) -> int:
        """What is left for volumes. Every disk gives up room for the config drive, so that mirrors are equal."""
        return self.end - self.first


def frame(disk: Disk, firmware: Firmware, *, boots: bool, first: Disk) -> Frame:
    """The frame of a disk; the config drive lies on the `first` of them all."""
    if firmware is Firmware.UEFI:
        boot = (PartitionType.ESP, ESP_SIZE, "esp")
    else:
        boot = (PartitionType.BIOS_BOOT, BIOS_BOOT_SIZE, "bios-boot")
    drive = CONFIG_DRIVE_SIZE if first.logical_block == 512 else CONFIG_DRIVE_SIZE_4K
    return Frame(
        disk=disk,
        boot=boot if boots else None,
        first=MIB + (boot[1] if boots else 0),
        # the last MiB is for the backup of the partition table
        end=align_down(disk.size) - MIB - drive,
        config_drive=drive if disk is first else 0,
    )


def lay_out(index: int, frame: Frame, volumes: Sequence[Volume], members: Sequence[int], seed: UUID) -> PlannedDisk:
    """One disk with all its partitions, front to back."""
    wanted = [frame.boot] if frame.boot else []
    for volume, member in zip(volumes, members, strict=True):
        if index in volume.on:
            wanted.append((partition_type(volume), member, volume.name))
    partitions: list[Partition] = []
    start = MIB
    for kind, size, name in wanted:
        partitions.append(_partition(frame.disk, len(partitions) + 1, start, size, kind, name, seed))
        start += size
    if frame.config_drive:
        number, size = len(partitions) + 1, frame.config_drive
        kind = PartitionType.LINUX
        partitions.append(_partition(frame.disk, number, frame.end, size, kind, CONFIG_DRIVE_LABEL, seed))
    return planned_disk(frame.disk, tuple(partitions), seed)


def planned_disk(disk: Disk, partitions: tuple[Partition, ...], seed: UUID) -> PlannedDisk:
    """The disk with these partitions."""
    table = uuid5(seed, f"table {disk.path}")
    return PlannedDisk(disk.path, disk.size, disk.logical_block, disk.model, disk.serial, disk.wwn, table, partitions)


def partition_type(volume: Volume) -> PartitionType:
    """What the partition says of itself: the lowest of what lies in it."""
    if volume.raid:
        return PartitionType.RAID
    if volume.encrypted:
        return PartitionType.LUKS
    if volume.extents:
        return PartitionType.LVM
    return PartitionType.SWAP if volume.name == "swap" else PartitionType.LINUX


def _partition(disk: Disk, number: int, start: int, size: int, kind: PartitionType, name: str, seed: UUID) -> Partition:
    # a name that ends in a digit (nvme0n1, mmcblk0) needs a letter between itself and the number
    path = f"{disk.path}{'p' if disk.path[-1].isdigit() else ''}{number}"
    return Partition(number, start, size, kind, name, path, uuid5(seed, f"partition {disk.path} {number}"))

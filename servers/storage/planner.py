"""From what is wanted and what is there to what will be done: the one place where disks are laid out.

Arithmetic alone: the same layout, facts, image and seed give the same plan, to the last UUID. That is why the plan that
was approved can be compared with the one that is carried out, and why fstab is known before a file system is made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID, uuid5

from servers.facts import Disk, Facts, Firmware
from servers.storage import plan as planned
from servers.storage.layout import FsType, Layout, Rest
from servers.storage.plan import (
    CONFIG_DRIVE_LABEL,
    Array,
    ConfigDrive,
    ConfigDriveKind,
    KeptDisk,
    Partition,
    PartitionType,
    Plan,
    PlannedDisk,
    Swap,
)
from servers.storage.refusal import PlanImpossible
from servers.storage.selection import Selection, choose
from servers.storage.sizes import MIB, align_down, align_up, human
from servers.storage.sizing import Volume, fit

ESP_SIZE: Final = 512 * MIB
BIOS_BOOT_SIZE: Final = MIB
CONFIG_DRIVE_SIZE: Final = MIB
# vfat on 4,096-byte blocks spends whole blocks on every file and folder, and those blocks are eight times larger
CONFIG_DRIVE_SIZE_4K: Final = 4 * MIB
# Fixed, so that the size of an array is known before it is made; mdadm by itself would reserve 1 to 128 MiB,
# depending on its version and the size of the disks. Superblock and bitmap need well under 1 MiB of it.
ARRAY_DATA_OFFSET: Final = 8 * MIB
SMALLEST_VOLUME: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class ImageNeeds:
    """What an image asks of a plan: room for its root, and file systems and RAID that its own tools can handle.

    `ext4_features` is what mke2fs must be told. The default switches off what the rescue system's mke2fs 1.47 adds and
    GRUB 2.06 and older e2fsck cannot read; a flavour older than that switches off more.
    """

    root_bytes: int
    filesystems: frozenset[str] = frozenset({"ext4"})
    raid: bool = True
    ext4_features: tuple[str, ...] = field(default=("^metadata_csum_seed", "^orphan_file"))

    @property
    def root_floor(self) -> int:
        """The smallest root that the image can live in: its files, what ext4 takes for itself, a new initramfs."""
        return align_up(self.root_bytes + self.root_bytes // 8 + 256 * MIB)


def plan(layout: Layout, facts: Facts, image: ImageNeeds, seed: UUID) -> Plan:
    """What to do to the disks of the machine; PlanImpossible when it cannot be done, with the reason and the way out.

    What was mended (a level lowered, a size changed) is in the plan's notes.
    """
    chosen = choose(layout, facts)
    _check_image(chosen.layout, image)
    volumes, grown = _volumes(chosen, image)
    boot_disks = volumes[0].on
    frames = tuple(_frame(disk, facts.firmware, index in boot_disks, chosen) for index, disk in enumerate(chosen.used))
    sizes, shrunk = fit(volumes, [frame.capacity for frame in frames])
    disks = tuple(_lay_out(index, frame, volumes, sizes, seed) for index, frame in enumerate(frames))
    devices = tuple(_place(volume, size, disks, seed) for volume, size in zip(volumes, sizes, strict=True))
    empty = tuple(_planned(disk, (), seed) for disk in chosen.spare)
    return Plan(
        firmware=facts.firmware,
        disks=(*disks, *empty),
        kept=tuple(KeptDisk(d.path, d.size, d.model, d.serial, d.wwn, d in chosen.asked) for d in chosen.kept),
        arrays=tuple(device for device in devices if isinstance(device, Array)),
        filesystems=_filesystems(chosen.layout, image, volumes, sizes, devices, seed),
        swaps=_swaps(volumes, sizes, devices, seed),
        esps=_esps([disks[index] for index in boot_disks], seed),
        config_drive=_config_drive(disks[0]),
        notes=(*chosen.notes, *grown, *shrunk, *_config_drive_note(disks[0])),
        boot_group=tuple(disks[index].path for index in boot_disks),
    )


def _check_image(layout: Layout, image: ImageNeeds) -> None:
    """PlanImpossible when the installed system could not start from such a layout."""
    for one in layout.filesystems:
        if one.type.value not in image.filesystems:
            raise PlanImpossible(
                f"{one.mount} is to be {one.type.value}, which this image cannot mount.",
                f"Choose one of {', '.join(sorted(image.filesystems))} for it.",
            )
        if one.raid and not image.raid:
            raise PlanImpossible(
                f"{one.mount} is to lie on {one.raid.title}, and this image has no mdadm.",
                "Choose the layout plain, or an image with mdadm.",
            )


def _volumes(chosen: Selection, image: ImageNeeds) -> tuple[tuple[Volume, ...], tuple[str, ...]]:
    """The file systems, root first, and the swap as volumes; and a note where the root had to grow."""
    layout, everywhere = chosen.layout, tuple(range(len(chosen.used)))
    ordered = (layout.root, *(one for one in layout.filesystems if one.mount != "/"))
    names = _names([one.mount for one in ordered])
    volumes = [
        Volume(
            name=name,
            title=one.mount,
            wanted=one.size,
            floor=image.root_floor if one.mount == "/" else SMALLEST_VOLUME,
            raid=one.raid,
            on=everywhere if one.raid else everywhere[:1],
            overhead=ARRAY_DATA_OFFSET if one.raid else 0,
        )
        for name, one in zip(names, ordered, strict=True)
    ]
    if layout.swap:
        root = volumes[0]
        volumes.append(replace(root, name="swap", title="swap", wanted=layout.swap, floor=SMALLEST_VOLUME))
    wanted = layout.root.size
    if isinstance(wanted, Rest) or wanted >= image.root_floor:
        return tuple(volumes), ()
    volumes[0] = replace(volumes[0], wanted=image.root_floor)
    return tuple(volumes), (f"/ grown from {human(wanted)} to {human(image.root_floor)}: the image needs that much.",)


def _names(mounts: Sequence[str]) -> list[str]:
    """A short name of its own for each mount point: `root`, `home`, `var-lib`; `swap` stays free for the swap."""
    names = ["swap"]
    for mount in mounts:
        name = re.sub(r"[^a-z0-9]+", "-", mount.lower()).strip("-")[:12] or "root"
        # mdadm takes a name of digits for the number of the device
        name = f"fs-{name}" if name.isdigit() else name
        base, count = name, 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.append(name)
    return names[1:]


@dataclass(frozen=True, slots=True)
class _Frame:
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


def _frame(disk: Disk, firmware: Firmware, boots: bool, chosen: Selection) -> _Frame:
    if firmware is Firmware.UEFI:
        boot = (PartitionType.ESP, ESP_SIZE, "esp")
    else:
        boot = (PartitionType.BIOS_BOOT, BIOS_BOOT_SIZE, "bios-boot")
    drive = CONFIG_DRIVE_SIZE if chosen.used[0].logical_block == 512 else CONFIG_DRIVE_SIZE_4K
    return _Frame(
        disk=disk,
        boot=boot if boots else None,
        first=MIB + (boot[1] if boots else 0),
        # the last MiB is for the backup of the partition table
        end=align_down(disk.size) - MIB - drive,
        config_drive=drive if disk is chosen.used[0] else 0,
    )


def _lay_out(index: int, frame: _Frame, volumes: Sequence[Volume], sizes: Sequence[int], seed: UUID) -> PlannedDisk:
    """One disk with all its partitions, front to back."""
    wanted = [frame.boot] if frame.boot else []
    for volume, size in zip(volumes, sizes, strict=True):
        if index in volume.on:
            wanted.append((_partition_type(volume), size + volume.overhead, volume.name))
    partitions: list[Partition] = []
    start = MIB
    for kind, size, name in wanted:
        partitions.append(_partition(frame.disk, len(partitions) + 1, start, size, kind, name, seed))
        start += size
    if frame.config_drive:
        number, size = len(partitions) + 1, frame.config_drive
        kind = PartitionType.LINUX
        partitions.append(_partition(frame.disk, number, frame.end, size, kind, CONFIG_DRIVE_LABEL, seed))
    return _planned(frame.disk, tuple(partitions), seed)


def _partition_type(volume: Volume) -> PartitionType:
    if volume.raid:
        return PartitionType.RAID
    return PartitionType.SWAP if volume.name == "swap" else PartitionType.LINUX


def _partition(disk: Disk, number: int, start: int, size: int, kind: PartitionType, name: str, seed: UUID) -> Partition:
    # a name that ends in a digit (nvme0n1, mmcblk0) needs a letter between itself and the number
    path = f"{disk.path}{'p' if disk.path[-1].isdigit() else ''}{number}"
    return Partition(number, start, size, kind, name, path, uuid5(seed, f"partition {disk.path} {number}"))


def _planned(disk: Disk, partitions: tuple[Partition, ...], seed: UUID) -> PlannedDisk:
    table = uuid5(seed, f"table {disk.path}")
    return PlannedDisk(disk.path, disk.size, disk.logical_block, disk.model, disk.serial, disk.wwn, table, partitions)


def _place(volume: Volume, size: int, disks: Sequence[PlannedDisk], seed: UUID) -> Array | str:
    """What the volume lies on: an array over its partitions, or the path of its one partition."""
    members = tuple(one.path for index in volume.on for one in disks[index].partitions if one.name == volume.name)
    if volume.raid is None:
        return members[0]
    return Array(
        path=f"/dev/md/{volume.name}",
        name=volume.name,
        level=volume.raid,
        members=members,
        uuid=uuid5(seed, f"array {volume.name}"),
        size=size,
        data_offset=volume.overhead,
    )


def _device(place: Array | str) -> str:
    return place.path if isinstance(place, Array) else place


def _filesystems(
    layout: Layout,
    image: ImageNeeds,
    volumes: Sequence[Volume],
    sizes: Sequence[int],
    places: Sequence[Array | str],
    seed: UUID,
) -> tuple[planned.Filesystem, ...]:
    """The file systems with the names and options by which fstab will know them, root first."""
    types = {one.mount: one.type for one in layout.filesystems}
    return tuple(
        planned.Filesystem(
            device=_device(place),
            type=types[volume.title],
            mount=volume.title,
            label=volume.name,
            uuid=str(uuid5(seed, f"filesystem {volume.name}")),
            size=size,
            options=("errors=remount-ro",) if volume.title == "/" else (),
            features=image.ext4_features,
        )
        for volume, size, place in zip(volumes, sizes, places, strict=True)
        if volume.title in types
    )


def _swaps(
    volumes: Sequence[Volume], sizes: Sequence[int], places: Sequence[Array | str], seed: UUID
) -> tuple[Swap, ...]:
    return tuple(
        Swap(_device(place), "swap", str(uuid5(seed, "swap")), size)
        for volume, size, place in zip(volumes, sizes, places, strict=True)
        if volume.name == "swap"
    )


def _esps(disks: Sequence[PlannedDisk], seed: UUID) -> tuple[planned.Filesystem, ...]:
    """The ESPs of the disks that the machine can start from: /boot/efi, /boot/efi2, and so on; none under BIOS."""
    found = [one for disk in disks for one in disk.partitions if one.type is PartitionType.ESP]
    # a disk that has died must not keep the others from starting
    lost_is_fine = ("nofail",) if len(found) > 1 else ()
    return tuple(
        planned.Filesystem(
            device=one.path,
            type=FsType.VFAT,
            mount=f"/boot/efi{number if number > 1 else ''}",
            label=f"EFI{number if number > 1 else ''}",
            uuid=_vfat_serial(uuid5(seed, f"esp {number}")),
            size=one.size,
            options=("umask=0077", *lost_is_fine),
        )
        for number, one in enumerate(found, start=1)
    )


def _vfat_serial(uuid: UUID) -> str:
    """The eight hexadecimal digits that vfat has for a UUID, as blkid writes them."""
    digits = uuid.hex[:8].upper()
    return f"{digits[:4]}-{digits[4:]}"


def _config_drive(disk: PlannedDisk) -> ConfigDrive:
    partition = disk.partitions[-1]
    kind = ConfigDriveKind.ISO9660 if disk.sector == 512 else ConfigDriveKind.VFAT
    return ConfigDrive(partition.path, kind, partition.size, disk.sector)


def _config_drive_note(disk: PlannedDisk) -> tuple[str, ...]:
    if disk.sector == 512:
        return ()
    size = human(CONFIG_DRIVE_SIZE_4K)
    why = f"{disk.path} has blocks of {disk.sector} bytes, from which an ISO image cannot be mounted"
    return (f"The config drive is vfat and has {size}: {why}.",)

"""From what is wanted and what is there to what will be done: the one place where disks are laid out.

Arithmetic alone: the same layout, facts, image and seed give the same plan, to the last UUID. That is why the plan that
was approved can be compared with the one that is carried out, and why fstab is known before a file system is made.

In the order in which it goes: `selection` sorts the disks, `mending` brings the layout to what they allow, `volumes`
says what gets partitions, `sizing` how large they become, `partitioning` where they lie, `stack` what is on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final
from uuid import UUID, uuid5

from servers.facts import Disk, Facts, Firmware
from servers.storage.layout import Filesystem as WantedFilesystem
from servers.storage.layout import FsType, Layout
from servers.storage.mending import mend
from servers.storage.needs import ImageNeeds, check_image
from servers.storage.partitioning import CONFIG_DRIVE_SIZE_4K, ESP_SIZE, frame, lay_out, planned_disk
from servers.storage.plan import (
    PATIENT,
    ConfigDrive,
    ConfigDriveKind,
    Filesystem,
    KeptDisk,
    PartitionType,
    Plan,
    PlannedDisk,
    Swap,
)
from servers.storage.refusal import PlanImpossible
from servers.storage.selection import array_names, choose
from servers.storage.sizes import human, human_disk
from servers.storage.sizing import Volume, fit
from servers.storage.stack import Place, Stack, build
from servers.storage.volumes import LARGEST_VFAT, cap_swap, wanted_volumes

__all__ = ["ESP_SIZE", "ImageNeeds", "plan"]


def plan(layout: Layout, facts: Facts, image: ImageNeeds, seed: UUID) -> Plan:
    """What to do to the disks of the machine; PlanImpossible when it cannot be done, with the reason and the way out.

    What was mended (a level lowered, a size changed, a /boot added) is in the plan's notes.
    """
    chosen = choose(layout, facts)
    mended = mend(layout, chosen.groups, image)
    check_image(mended.layout, image)
    wanted = wanted_volumes(mended.layout, chosen.groups, image)
    boots = sorted(next(one for one in wanted.volumes if _holds(one, "/boot") or _holds(one, "/")).on)
    frames = tuple(
        frame(disk, facts.firmware, boots=index in boots, first=wanted.disks[0])
        for index, disk in enumerate(wanted.disks)
    )
    capacities = [one.capacity for one in frames]
    volumes, capped = cap_swap(wanted.volumes, capacities)
    members = fit(volumes, capacities)
    disks = tuple(lay_out(index, one, volumes, members, seed) for index, one in enumerate(frames))
    root = next(one for one in volumes if _holds(one, "/"))
    names = _array_names(volumes, chosen.kept)
    stacks = tuple(
        build(volume, member, disks, seed, array_name=name, lost_is_fine=_outlived(volume, root))
        for volume, member, name in zip(volumes, members, names, strict=True)
    )
    spare = tuple(disk for disk in chosen.chosen if disk not in wanted.disks)
    return Plan(
        firmware=facts.firmware,
        disks=(*disks, *(planned_disk(disk, (), seed) for disk in spare)),
        kept=tuple(KeptDisk(d.path, d.size, d.model, d.serial, d.wwn, d in chosen.asked) for d in chosen.kept),
        arrays=tuple(one.array for one in stacks if one.array),
        filesystems=_filesystems(mended.layout, image, stacks, root, seed),
        swaps=_swaps(stacks, seed),
        esps=_esps([disks[index] for index in boots], seed),
        config_drive=_config_drive(disks[0]),
        notes=(
            *mended.notes, *_spare_notes(spare, len(wanted.disks)), *wanted.notes, *capped, *_shrunk_notes(stacks),
            *_frail_notes(volumes, root), *_name_notes(stacks), *_block_notes(disks, boots, facts.firmware),
            *_first_disk_notes(facts, [disks[index].path for index in boots], chosen.kept),
        ),
        boot_group=tuple(disks[index].path for index in boots),
        containers=tuple(one.container for one in stacks if one.container),
        volume_groups=tuple(one.group for one in stacks if one.group),
        volumes=tuple(volume for one in stacks for volume in one.volumes),
        secure_erase=layout.secure_erase,
    )  # fmt: skip


# What a system does not come up without, wherever it lies
_VITAL: Final = ("/", "/boot", "/usr", "/var", "swap")


def _holds(volume: Volume, title: str) -> bool:
    return any(one.title == title for one in volume.parts)


def _redundant(volume: Volume) -> bool:
    return volume.raid is not None and volume.raid.redundant


def _frail(volume: Volume, root: Volume) -> bool:
    """Whether the system survives a disk that the volume does not survive."""
    return _redundant(root) and not _redundant(volume)


def _outlived(volume: Volume, root: Volume) -> bool:
    """Whether the volume is frail, and the system can do without everything in it."""
    return _frail(volume, root) and not any(one.title in _VITAL for one in volume.parts)


def _filesystems(
    layout: Layout, image: ImageNeeds, stacks: Sequence[Stack], root: Volume, seed: UUID
) -> tuple[Filesystem, ...]:
    """The file systems with the names and options by which fstab will know them, root first."""
    types = {one.mount: one for one in layout.filesystems}
    made = [
        _filesystem(types[place.part.title], place, image, seed, _options(types[place.part.title], stack, root))
        for stack in stacks
        for place in stack.places
        if place.part.title in types
    ]
    return tuple(sorted(made, key=lambda one: one.mount != "/"))


def _options(wanted: WantedFilesystem, stack: Stack, root: Volume) -> tuple[str, ...]:
    """What fstab says of a file system."""
    options = ["errors=remount-ro"] if wanted.mount == "/" and wanted.type is FsType.EXT4 else []
    if _frail(stack.volume, root) and wanted.mount not in _VITAL:
        options.append("nofail")
    if stack.container:
        options.append(PATIENT)
    return tuple(options)


def _filesystem(
    wanted: WantedFilesystem, place: Place, image: ImageNeeds, seed: UUID, options: tuple[str, ...]
) -> Filesystem:
    kind, name = wanted.type, place.part.name
    if kind is FsType.VFAT and place.size > LARGEST_VFAT:
        raise PlanImpossible(
            f"{wanted.mount} would be a vfat of {human(place.size)}, and vfat ends at 2 TiB.",
            "Give it a smaller size, or another type.",
        )
    uuid = uuid5(seed, f"filesystem {name}")
    return Filesystem(
        device=place.device,
        type=kind,
        mount=wanted.mount,
        label=_label(name, kind),
        uuid=_vfat_serial(uuid) if kind is FsType.VFAT else str(uuid),
        size=place.size,
        options=options,
        features=image.features(kind.value),
    )


def _label(name: str, kind: FsType) -> str:
    """The name, as long as the type allows, in capitals where it has no others."""
    if kind is FsType.VFAT:
        return name[:11].upper()
    return name[:12] if kind is FsType.XFS else name


def _swaps(stacks: Sequence[Stack], seed: UUID) -> tuple[Swap, ...]:
    return tuple(
        Swap(place.device, "swap", str(uuid5(seed, "swap")), place.size)
        for stack in stacks
        for place in stack.places
        if place.part.name == "swap"
    )


def _esps(disks: Sequence[PlannedDisk], seed: UUID) -> tuple[Filesystem, ...]:
    """The ESPs of the disks that the machine can start from: /boot/efi, /boot/efi2, and so on; none under BIOS."""
    found = [one for disk in disks for one in disk.partitions if one.type is PartitionType.ESP]
    # a disk that has died must not keep the others from starting
    lost_is_fine = ("nofail",) if len(found) > 1 else ()
    return tuple(
        Filesystem(
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


def _spare_notes(spare: Sequence[Disk], used: int) -> tuple[str, ...]:
    uses = "one disk" if used == 1 else f"{used} disks"
    return tuple(
        f"{disk.path} ({human_disk(disk.size)}) is erased and left empty: this layout uses {uses}." for disk in spare
    )


def _shrunk_notes(stacks: Sequence[Stack]) -> tuple[str, ...]:
    """A note on each file system, swap and volume group that is smaller than it was asked for."""
    notes = []
    for stack in stacks:
        asked = stack.volume.fixed
        short = stack.group is not None and stack.group.size < asked
        if stack.group and short:
            notes.append(_shrunk(stack.group.name, asked, stack.group.size, "the disks are smaller"))
        why = f"the volume group {stack.volume.name} is no larger" if asked else "the disks are smaller"
        notes += [
            _shrunk(place.part.title, place.part.wanted, place.size, why)
            for place in stack.places
            if place.size < place.part.wanted
        ]
    return tuple(notes)


def _shrunk(what: str, asked: int, got: int, why: str) -> str:
    return f"{what} shrunk from {human(asked)} to {human(got)}: {why}."


def _frail_notes(volumes: Sequence[Volume], root: Volume) -> tuple[str, ...]:
    """What the system needs and loses with a disk that its root survives."""
    return tuple(
        f"{one.title} does not survive the loss of a disk, as / does: the server would not start without it."
        for volume in volumes
        for one in volume.parts
        if _frail(volume, root) and one.title in _VITAL
    )


def _array_names(volumes: Sequence[Volume], kept: Sequence[Disk]) -> Iterator[str]:
    """What the array of each volume is called: as the volume, unless an array on a disk that stays has that name."""
    taken = array_names(kept)
    others = taken | {one.name for one in volumes}
    for one in volumes:
        more = (name for number in count(2) if (name := f"{one.name}-{number}") not in others)
        yield next(more) if one.name in taken else one.name


def _name_notes(stacks: Sequence[Stack]) -> tuple[str, ...]:
    return tuple(
        f"The array of {one.volume.name} is called {one.array.name}: a disk that is kept has one called"
        f" {one.volume.name}."
        for one in stacks
        if one.array and one.array.name != one.volume.name
    )


def _block_notes(disks: Sequence[PlannedDisk], boots: Sequence[int], firmware: Firmware) -> tuple[str, ...]:
    notes = []
    first = disks[0]
    if first.sector != 512:
        why = f"{first.path} has blocks of {first.sector} bytes, from which an ISO image cannot be mounted"
        notes.append(f"The config drive is vfat and has {human(CONFIG_DRIVE_SIZE_4K)}: {why}.")
    large = [disks[index].path for index in boots if disks[index].sector != 512]
    if firmware is Firmware.BIOS and large:
        notes.append(f"{', '.join(large)} has blocks of 4096 bytes, from which hardly any BIOS starts: UEFI would.")
    return tuple(notes)


def _first_disk_notes(facts: Facts, boots: Sequence[str], kept: Sequence[Disk]) -> tuple[str, ...]:
    """Where the firmware may look on a disk that the system is not on, before it comes to those that it is on.

    A BIOS starts from the first disk, whatever is there. UEFI looks for a file, which a kept disk may have too.
    """
    first = facts.disks[0]
    if first.path in boots or (facts.firmware is Firmware.UEFI and not (first in kept and first.partitions)):
        return ()
    return (f"The firmware has to start from {' or '.join(boots)}, not from the machine's first disk {first.path}.",)

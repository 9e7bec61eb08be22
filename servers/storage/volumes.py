"""A layout turned into volumes: what gets partitions of its own, how much it wants, and how little will do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from servers.facts import Disk
from servers.storage.layout import Filesystem, FsType, Layout, Rest, WantedVolumeGroup
from servers.storage.mending import carrier
from servers.storage.needs import ImageNeeds
from servers.storage.sizes import GIB, MIB, TIB, align_down, align_up, human
from servers.storage.sizing import LVM_EXTENT, Part, Volume

SMALLEST: Final[Mapping[FsType, int]] = {
    FsType.EXT4: 64 * MIB,
    # mkfs.xfs refuses less than 300 MiB
    FsType.XFS: 320 * MIB,
    FsType.BTRFS: 256 * MIB,
    # FAT32 has at least 65,525 clusters, which on blocks of 4,096 bytes are 256 MiB
    FsType.VFAT: 264 * MIB,
}
"""The least that a file system of the type is made on."""
SMALLEST_SWAP: Final = 64 * MIB
SMALLEST_BOOT: Final = 512 * MIB
"""Room for two kernels and their initramfs with the drivers of all servers, and a third while they are replaced."""
LARGEST_SWAP: Final = TIB


@dataclass(frozen=True, slots=True)
class Wanted:
    """The volumes of a layout, the disks by whose index they say where they lie, and what was mended on the way."""

    volumes: tuple[Volume, ...]
    disks: tuple[Disk, ...]
    notes: tuple[str, ...]


def wanted_volumes(layout: Layout, groups: Mapping[str, Sequence[Disk]], image: ImageNeeds) -> Wanted:
    """The volumes: /boot, then what carries the root, then the others as they are listed."""
    ordered = sorted(layout.filesystems, key=lambda one: {"/boot": 0, "/": 1}.get(one.mount, 2))
    carriers = list(dict.fromkeys(carrier(layout, one) for one in ordered))
    carriers += [group for group in layout.volume_groups if group not in carriers]
    placed = {one: _places(one, groups) for one in carriers}
    root_first = sorted(carriers, key=lambda one: one is not carrier(layout, layout.root))
    disks = tuple(dict.fromkeys(disk for one in root_first for disk in placed[one]))
    names = _names(ordered, [group.name for group in layout.volume_groups])
    notes: list[str] = []
    parts = {one.mount: _part(one, names[one.mount], image, notes) for one in ordered}
    volumes = []
    for one in carriers:
        inside = [parts[filesystem.mount] for filesystem in ordered if carrier(layout, filesystem) is one]
        on = tuple(disks.index(disk) for disk in placed[one])
        is_roots = one is carrier(layout, layout.root)
        volumes += _volume(one, inside, on, layout.swap if is_roots else 0, notes)
    # the swap behind all others, where a larger one is made of it most easily
    return Wanted(tuple(sorted(volumes, key=lambda one: one.name == "swap")), disks, tuple(notes))


def cap_swap(volumes: Sequence[Volume], capacities: Sequence[int]) -> tuple[tuple[Volume, ...], tuple[str, ...]]:
    """The volumes with no more swap than a quarter of what its disks could hold, and a note where that is less."""
    notes: list[str] = []
    return tuple(_capped(volume, capacities, notes) for volume in volumes), tuple(notes)


def _capped(volume: Volume, capacities: Sequence[int], notes: list[str]) -> Volume:
    room = max(volume.content(align_down(min(capacities[disk] for disk in volume.on), volume.step)), 0)
    cap = max(align_down(min(room // 4, LARGEST_SWAP)), SMALLEST_SWAP)
    parts = []
    for one in volume.parts:
        if one.name == "swap" and one.wanted > cap:
            why = "more is of no use" if cap == LARGEST_SWAP else "it gets a quarter of its disks at most"
            notes.append(f"swap capped from {human(one.wanted)} to {human(cap)}: {why}.")
            one = replace(one, wanted=cap)
        parts.append(one)
    return replace(volume, parts=tuple(parts))


def _places(one: Filesystem | WantedVolumeGroup, groups: Mapping[str, Sequence[Disk]]) -> tuple[Disk, ...]:
    """The disks that it lies on: nothing but an array spans disks."""
    disks = tuple(groups[one.group])
    return disks if one.raid else disks[:1]


def _volume(
    one: Filesystem | WantedVolumeGroup, parts: list[Part], on: tuple[int, ...], swap: int, notes: list[str]
) -> list[Volume]:
    """The volume of a file system, with one more for the swap beside the root; of a volume group, the swap in it."""
    swap_part = [Part("swap", "swap", align_up(swap), SMALLEST_SWAP)] if swap else []
    if isinstance(one, Filesystem):
        both = [*((part, isinstance(one.size, Rest)) for part in parts), *((part, False) for part in swap_part)]
        return [Volume(part.name, part.title, (part,), one.raid, on, one.encrypted, rest=rest) for part, rest in both]
    fixed = 0 if isinstance(one.size, Rest) else align_up(one.size, LVM_EXTENT)
    volume = Volume(
        one.name, one.name, (*parts, *swap_part), one.raid, on, one.encrypted, extents=True, fixed=fixed,
        rest=isinstance(one.size, Rest),
    )  # fmt: skip
    if fixed and fixed < volume.floor:
        notes.append(_grown(one.name, fixed, volume.floor, "what lies in it needs that much"))
    return [volume]


def _part(one: Filesystem, name: str, image: ImageNeeds, notes: list[str]) -> Part:
    floor, why = SMALLEST[one.type], f"{one.type.value} needs that much"
    if one.mount == "/":
        floor, why = max(floor, image.root_floor), "the image needs that much"
    if one.mount == "/boot":
        floor, why = SMALLEST_BOOT, "kernels need that much"
    if isinstance(one.size, Rest):
        return Part(name, one.mount, floor, floor, rest=True)
    if one.size < floor:
        notes.append(_grown(one.mount, one.size, floor, why))
    return Part(name, one.mount, max(align_up(one.size), floor), floor)


def _grown(what: str, wanted: int, floor: int, why: str) -> str:
    return f"{what} grown from {human(wanted)} to {human(floor)}: {why}."


# Names that mdadm takes for device numbers (127, d0, md5), and those that LVM keeps to itself
_TAKEN: Final = re.compile(r"(md|d)?\d+|(snapshot|pvmove).*")
LARGEST_VFAT: Final = 2 * TIB - GIB
"""FAT32 counts its blocks of 512 bytes in 32 bits."""


def _names(filesystems: Iterable[Filesystem], taken: Sequence[str]) -> dict[str, str]:
    """A short name of its own for each mount point: `root`, `home`, `var-lib`; names of ours stay free."""
    names = ["swap", "esp", "bios-boot", "config-2", *taken]
    found = {}
    for mount in (one.mount for one in filesystems):
        name = re.sub(r"[^a-z0-9]+", "-", mount.lower()).strip("-")[:12] or "root"
        name = f"fs-{name}" if _TAKEN.fullmatch(name) else name
        base, count = name, 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.append(name)
        found[mount] = name
    return found

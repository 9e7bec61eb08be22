"""What the planner mends by itself, and says: levels that the disks do not allow, a /boot that GRUB needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from servers.facts import Disk
from servers.storage.layout import Filesystem, FsType, Layout, Raid, WantedVolumeGroup
from servers.storage.needs import ImageNeeds
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB, human

BOOT_SIZE: Final = GIB
# From the level that survives most to the one that survives least. RAID0 is no substitute for any of them.
_DOWNWARDS: Final = (Raid.RAID6, Raid.RAID10, Raid.RAID5, Raid.RAID1)


@dataclass(frozen=True, slots=True)
class Mended:
    """A layout that the disks and the image allow, and a note on everything that is not as it was asked for."""

    layout: Layout
    notes: tuple[str, ...]


def mend(layout: Layout, groups: Mapping[str, Sequence[Disk]], image: ImageNeeds) -> Mended:
    """The layout with every level possible on its disks, and with a /boot where the machine could not start else."""
    notes: list[str] = []
    filesystems = []
    for one in layout.filesystems:
        level = _lowered(one.mount, one.raid, len(groups.get(one.group, ())), image, notes)
        filesystems.append(replace(one, raid=level))
    volume_groups = []
    for group in layout.volume_groups:
        level = _lowered(group.name, group.raid, len(groups[group.group]), image, notes)
        volume_groups.append(replace(group, raid=level))
    lowered = replace(layout, filesystems=tuple(filesystems), volume_groups=tuple(volume_groups))
    return Mended(_with_boot(lowered, groups, image, notes), tuple(notes))


def carrier(layout: Layout, one: Filesystem) -> Filesystem | WantedVolumeGroup:
    """What has the level, the disks and the encryption of a file system: its volume group, else itself."""
    return next((group for group in layout.volume_groups if group.name == one.volume_group), one)


def _lowered(what: str, level: Raid | None, disks: int, image: ImageNeeds, notes: list[str]) -> Raid | None:
    """The level itself, or the next lower one that so many disks and the image allow; None on a single disk."""
    if level is None or (disks >= level.least_disks and level in image.raid_levels):
        return level
    seen = f"{level.title} needs {level.least_disks} disks, and {count(disks)} can be used."
    if disks < 2:
        notes.append(f"{what} is on one disk without RAID: {seen}")
        return None
    lower = _DOWNWARDS[_DOWNWARDS.index(level) + 1 :] if level in _DOWNWARDS else ()
    fitting = next((one for one in lower if disks >= one.least_disks and one in image.raid_levels), None)
    if fitting is None:
        # left as it is: the check of the image says what is wrong
        return level
    why = seen if disks < level.least_disks else f"this image knows no {level.title}."
    notes.append(f"{what} is on {fitting.title} in place of {level.title}: {why}")
    return fitting


def _with_boot(layout: Layout, groups: Mapping[str, Sequence[Disk]], image: ImageNeeds, notes: list[str]) -> Layout:
    """The layout with a /boot that GRUB can read, on every disk that the root needs to live."""
    own = next((one for one in layout.filesystems if one.mount == "/boot"), None)
    if own:
        mended = _mended_boot(own, layout, groups, image, notes)
        return replace(layout, filesystems=tuple(mended if one is own else one for one in layout.filesystems))
    why = unreadable(layout, image)
    if not why:
        return layout
    below = carrier(layout, layout.root)
    kind = next((one for one in (FsType.EXT4, FsType.XFS) if one.value in image.grub_reads & image.filesystems), None)
    if kind is None:
        raise PlanImpossible(
            f"GRUB cannot start from a root that is {why}, and this image has no file system for a /boot.",
            f"Put / on {' or '.join(sorted(image.grub_reads)) or 'ext4'}, without volume group or encryption.",
        )
    boot = Filesystem("/boot", kind, BOOT_SIZE, Raid.RAID1 if below.raid else None, below.group)
    notes.append(f"/boot of {human(BOOT_SIZE)} added: GRUB cannot start from a root that is {why}.")
    return replace(layout, filesystems=(*layout.filesystems, boot))


def unreadable(layout: Layout, image: ImageNeeds) -> str:
    """Why GRUB could not read the root (`encrypted`, `on RAID5`); empty when it can."""
    root, below = layout.root, carrier(layout, layout.root)
    if below.encrypted:
        return "encrypted"
    if root.volume_group:
        return "in a volume group"
    if below.raid not in (None, Raid.RAID1):
        return f"on {below.raid.title}" if below.raid else ""
    return f"of type {root.type.value}" if root.type.value not in image.grub_reads else ""


def _mended_boot(
    own: Filesystem, layout: Layout, groups: Mapping[str, Sequence[Disk]], image: ImageNeeds, notes: list[str]
) -> Filesystem:
    """The customer's own /boot: of a type that GRUB reads, and mirrored where the root survives a disk."""
    if own.type.value not in image.grub_reads:
        raise PlanImpossible(
            f"/boot is to be {own.type.value}, which this image's GRUB cannot read.",
            f"Choose one of {', '.join(sorted(image.grub_reads))} for it.",
        )
    level = carrier(layout, layout.root).raid
    if own.raid not in (None, Raid.RAID1):
        notes.append(f"/boot is on RAID1: GRUB does not start from {own.raid.title if own.raid else ''}.")
        return replace(own, raid=Raid.RAID1)
    if own.raid is None and level and level.redundant and len(groups[own.group]) > 1:
        notes.append("/boot is on RAID1: else the server would not start without one disk that / can do without.")
        return replace(own, raid=Raid.RAID1)
    return own


def count(disks: int) -> str:
    """`1 disk`, `2 disks`."""
    return f"{disks} disk" if disks == 1 else f"{disks} disks"

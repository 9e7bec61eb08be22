"""The layouts that are offered by name, made for a machine; and a layout with everything in it encrypted.

Pure, as all of this package. `LayoutRefused` says why a machine cannot have a layout that needs more than it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from servers.facts import Disk, Facts
from servers.storage.layout import NAMED, DiskGroup, Filesystem, Layout, Raid, are_alike, default_layout
from servers.storage.mending import carrier, count
from servers.storage.plan import Plan
from servers.storage.planner import ImageNeeds, plan
from servers.storage.refusal import LayoutRefused, PlanImpossible, StorageRefused
from servers.storage.selection import choose
from servers.storage.sizes import GIB

RAID10_DATA: Final = "raid10-data"
SYSTEM_SIZE: Final = 40 * GIB
"""The root's share of disks that carry the data too; less where they are small."""
NAMES: Final = ("raid1", "lvm-on-raid1", RAID10_DATA, "plain")
"""In this order they are offered."""


def named_layout(
    name: str, facts: Facts, swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()
) -> Layout:
    """The layout of this name on the machine: on `disks`, or where none are named on those that suit it.

    On a machine of many disks that is the first pair of like ones: what may be data on the others is not touched.
    """
    if name == RAID10_DATA:
        return _raid10_data(facts, swap, disks, keep)
    default = default_layout(facts)
    if not disks and not keep:
        disks = default.disks
    return NAMED[name](swap=swap, disks=disks, keep=keep)


@dataclass(frozen=True, slots=True)
class Suiting:
    """The named layouts that a machine can have with an image, in the order of `NAMES`, and which to offer first.

    `refused` says of each of the others why not.
    """

    layouts: Mapping[str, Layout]
    default: str
    refused: Mapping[str, StorageRefused]


def suiting(
    facts: Facts, image: ImageNeeds, swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()
) -> Suiting:
    """What suits the image and the machine as it is asked for: nothing lowered, nothing left out.

    The default is the simplest that survives a disk, `plain` where none does; empty where the image fits nowhere.
    """
    found: dict[str, Layout] = {}
    refused: dict[str, StorageRefused] = {}
    for name in NAMES:
        try:
            layout = named_layout(name, facts, swap, disks, keep)
            _check_levels(layout, plan(layout, facts, image, UUID(int=0)), facts, image)
            found[name] = layout
        except StorageRefused as why:
            refused[name] = why
    by_itself = default_layout(facts).name
    return Suiting(found, by_itself if by_itself in found else next(reversed(found), ""), refused)


def _check_levels(layout: Layout, made: Plan, facts: Facts, image: ImageNeeds) -> None:
    """PlanImpossible where the plan has a lower level than the layout: by its name nobody would expect that."""
    devices = {one.mount: one.device for one in made.filesystems}
    for one in layout.filesystems:
        below = carrier(layout, one)
        array = made.tower_of(devices[one.mount]).array
        if below.raid is None or (array and array.level is below.raid):
            continue
        if below.raid not in image.raid_levels:
            raise PlanImpossible(
                f"This image knows no {below.raid.title}.", "Choose another layout, or an image that knows it."
            )
        disks = count(len(choose(layout, facts).groups[below.group]))
        raise PlanImpossible(
            f"{below.raid.title} needs {below.raid.least_disks} disks, and {disks} can be used.",
            "Choose a layout for fewer disks, or let it use more of them.",
        )


def encrypted(layout: Layout) -> Layout:
    """The layout with all in it encrypted but /boot, from which the machine has to start."""
    filesystems = tuple(
        one if one.mount == "/boot" or one.volume_group else replace(one, encrypted=True) for one in layout.filesystems
    )
    groups = tuple(replace(one, encrypted=True) for one in layout.volume_groups)
    return replace(layout, filesystems=filesystems, volume_groups=groups)


def _raid10_data(facts: Facts, swap: int, disks: tuple[str, ...], keep: tuple[str, ...]) -> Layout:
    """The system mirrored on the first pair of disks that are alike, /srv on RAID10 over all the others.

    Where the others are too few but all are alike, both lie on all of them: the system mirrored on each disk.
    """
    chosen = [disk for disk in facts.disks if _is_named(disk, disks)] if disks else list(facts.disks)
    free = [disk for disk in chosen if not _is_named(disk, keep)]
    pair = default_layout(replace(facts, disks=tuple(free))).disks
    data = tuple(disk.identity for disk in free if disk.identity not in pair)
    if len(data) < Raid.RAID10.least_disks and len(free) >= Raid.RAID10.least_disks and are_alike(free):
        whole = tuple(disk.identity for disk in free)
        filesystems = (Filesystem("/", size=SYSTEM_SIZE, raid=Raid.RAID1), Filesystem("/srv", raid=Raid.RAID10))
        return Layout(RAID10_DATA, filesystems, swap, disks=whole, keep=keep)
    if not pair or len(data) < Raid.RAID10.least_disks:
        count = f"{len(free)} disk{'' if len(free) == 1 else 's'}"
        raise LayoutRefused(
            "It needs four like disks, or a pair of them for the system and four more for the data;"
            f" {count} can be used.",
            "Choose another layout, or write one of your own.",
        )
    groups = (DiskGroup("system", pair), DiskGroup("data", data))
    root = Filesystem("/", raid=Raid.RAID1, group="system")
    srv = Filesystem("/srv", raid=Raid.RAID10, group="data")
    return Layout(RAID10_DATA, (root, srv), swap, keep=keep, groups=groups)


def _is_named(disk: Disk, names: Sequence[str]) -> bool:
    return any(disk.answers_to(name) for name in names)

"""Which disks are used, erased and kept; and all that speaks against it, said before anything is lost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from servers.facts import Disk, Facts
from servers.storage.layout import Layout
from servers.storage.mending import count
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import MIB, human_disk


@dataclass(frozen=True, slots=True)
class Selection:
    """The disks of a machine, sorted: `chosen` are erased, in `groups` by name, and `kept` stay.

    `asked` are those of the kept ones that the layout names.
    """

    groups: Mapping[str, tuple[Disk, ...]]
    chosen: tuple[Disk, ...]
    kept: tuple[Disk, ...]
    asked: tuple[Disk, ...]


def choose(layout: Layout, facts: Facts) -> Selection:
    """The machine's disks sorted by what the layout wants of them; PlanImpossible when they cannot be."""
    asked = tuple(disk for name in layout.keep for disk in _kept(name, facts))
    free = [disk for disk in facts.disks if disk not in asked]
    groups = {group.name: _all_chosen(group.disks, free) for group in layout.groups}
    if layout.disks or _uses_no_group(layout):
        groups[""] = _all_chosen(layout.disks, free) or _in_none_of(groups, free)
        if not groups[""]:
            raise PlanImpossible(
                f"No disk is left to install on: {count(len(facts.disks))} seen, {len(asked)} of them kept"
                f"{f', {_in_groups(groups)} in groups' if layout.groups else ''}.",
                "Keep fewer disks, or check that the machine's controller shows its disks.",
            )
    # the group that is in no group first, as it was before there were any
    chosen = tuple(dict.fromkeys(disk for name in sorted(groups) for disk in groups[name]))
    for disk in chosen:
        _check_blocks(disk)
    kept = tuple(disk for disk in facts.disks if disk not in chosen)
    _check_kept(kept, chosen)
    _check_volume_groups(layout, kept)
    return Selection(groups, chosen, kept, asked)


def _uses_no_group(layout: Layout) -> bool:
    """Whether something lies on the disks that are in no group."""
    loose = any(not one.group and not one.volume_group for one in layout.filesystems)
    return loose or any(not one.group for one in layout.volume_groups)


def _in_none_of(groups: Mapping[str, Sequence[Disk]], disks: Sequence[Disk]) -> tuple[Disk, ...]:
    return tuple(disk for disk in disks if not any(disk in group for group in groups.values()))


def _in_groups(groups: Mapping[str, Sequence[Disk]]) -> int:
    return len({disk.path for group in groups.values() for disk in group})


def _kept(name: str, facts: Facts) -> list[Disk]:
    """The disks that a name in `keep` means: more than one where a vendor gave two disks one serial number."""
    found = [disk for disk in facts.disks if disk.answers_to(name)]
    if not found:
        raise PlanImpossible(
            f"The disk {name} is to be kept, and the machine has no such disk ({_seen(facts.disks)}).",
            "Take it out of the disks to keep, or put the disk back in.",
        )
    return found


def _all_chosen(names: Iterable[str], disks: Sequence[Disk]) -> tuple[Disk, ...]:
    return tuple(dict.fromkeys(_chosen(name, disks) for name in names))


def _chosen(name: str, disks: Sequence[Disk]) -> Disk:
    """The one disk that a name in `disks` or in a group means."""
    found = [disk for disk in disks if disk.answers_to(name)]
    if len(found) != 1:
        raise PlanImpossible(
            f"The name {name} fits {len(found)} of the disks that may be used ({_seen(disks)}).",
            "Name each disk to use by its WWN or serial number.",
        )
    return found[0]


def _check_blocks(disk: Disk) -> None:
    if disk.logical_block < 512 or MIB % disk.logical_block:
        raise PlanImpossible(
            f"{disk.path} has blocks of {disk.logical_block} bytes.", "Format it to 512 or 4096 bytes a block."
        )


def _check_kept(kept: Sequence[Disk], erased: Sequence[Disk]) -> None:
    """PlanImpossible when a disk that stays would spoil the new system, or be spoilt by the erasing of another."""
    for disk in kept:
        if disk.config_drive:
            raise PlanImpossible(
                f"{disk.path} is kept and carries an old config drive (label config-2),"
                " which cloud-init would read in place of ours.",
                f"Let {disk.path} be erased too, or remove that label.",
            )
        for other in erased:
            shared = sorted(set(disk.holders) & set(other.holders))
            if shared:
                raise PlanImpossible(
                    f"{shared[0]} lies on {disk.path}, which is kept, and on {other.path}, which would be erased.",
                    "Keep both disks or neither.",
                )


def _check_volume_groups(layout: Layout, kept: Sequence[Disk]) -> None:
    """PlanImpossible when a disk that stays has a volume group of a name that the layout gives away."""
    for group in layout.volume_groups:
        for disk in kept:
            # device-mapper writes a volume as group-volume, and dashes within a name twice: names of ours have none
            volume = re.compile(rf"/dev/mapper/{re.escape(group.name)}-(?!-)")
            if any(volume.match(holder) for holder in disk.holders):
                raise PlanImpossible(
                    f"{disk.path} is kept and has a volume group {group.name} already.",
                    f"Give the volume group {group.name} of the layout another name.",
                )


def array_names(disks: Iterable[Disk]) -> frozenset[str]:
    """The names of the arrays that lie on the disks, whether they run or not: mdadm makes no second one of a name."""
    members = (part for disk in disks for part in disk.partitions if part.fstype == "linux_raid_member")
    return frozenset(part.label.rpartition(":")[2] for part in members)


def _seen(disks: Sequence[Disk]) -> str:
    return ", ".join(f"{disk.name} {human_disk(disk.size)} {disk.identity}" for disk in disks) or "none at all"

"""Which disks are used, erased and kept; and all that speaks against it, said before anything is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from servers.facts import Disk, Facts
from servers.storage.layout import Layout
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import MIB, human_disk


@dataclass(frozen=True, slots=True)
class Selection:
    """The disks of a machine, sorted: `used` carry the layout, `spare` are erased and left empty, `kept` stay.

    `asked` are those of the kept ones that the layout names. `layout` is what can be had on the used disks.
    """

    layout: Layout
    used: tuple[Disk, ...]
    spare: tuple[Disk, ...]
    kept: tuple[Disk, ...]
    asked: tuple[Disk, ...]
    notes: tuple[str, ...]


def choose(layout: Layout, facts: Facts) -> Selection:
    """The machine's disks sorted by what the layout wants of them; PlanImpossible when they cannot be."""
    asked = tuple(disk for name in layout.keep for disk in _kept(name, facts))
    free = [disk for disk in facts.disks if disk not in asked]
    chosen = tuple(dict.fromkeys(_chosen(name, free) for name in layout.disks)) or tuple(free)
    if not chosen:
        raise PlanImpossible(
            f"No disk is left to install on: {_count(facts.disks)} seen, {len(asked)} of them kept.",
            "Keep fewer disks, or check that the machine's controller shows its disks.",
        )
    for disk in chosen:
        _check_blocks(disk)
    lowered, notes = _lowered(layout, chosen)
    # nothing but an array spans disks
    used = chosen if any(one.raid for one in lowered.filesystems) else chosen[:1]
    spare = chosen[len(used) :]
    kept = tuple(disk for disk in facts.disks if disk not in chosen)
    _check_kept(kept, chosen)
    notes += tuple(
        f"{disk.path} ({human_disk(disk.size)}) is erased and left empty: this layout uses one disk." for disk in spare
    )
    return Selection(lowered, used, spare, kept, asked, notes)


def _kept(name: str, facts: Facts) -> list[Disk]:
    """The disks that a name in `keep` means: more than one where a vendor gave two disks one serial number."""
    found = [disk for disk in facts.disks if disk.answers_to(name)]
    if not found:
        raise PlanImpossible(
            f"The disk {name} is to be kept, and the machine has no such disk ({_seen(facts.disks)}).",
            "Take it out of the disks to keep, or put the disk back in.",
        )
    return found


def _chosen(name: str, disks: Sequence[Disk]) -> Disk:
    """The one disk that a name in `disks` means."""
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


def _lowered(layout: Layout, disks: Sequence[Disk]) -> tuple[Layout, tuple[str, ...]]:
    """The layout with each RAID level that the disks do not allow left out, and a note on it."""
    notes: list[str] = []
    filesystems = []
    for one in layout.filesystems:
        if one.raid and len(disks) < one.raid.least_disks:
            notes.append(
                f"{one.mount} is on one disk without RAID: {one.raid.title} needs {one.raid.least_disks} disks,"
                f" and {_count(disks)} can be used."
            )
            one = replace(one, raid=None)
        filesystems.append(one)
    return replace(layout, filesystems=tuple(filesystems)), tuple(notes)


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


def _count(disks: Sequence[Disk]) -> str:
    return f"{len(disks)} disk" if len(disks) == 1 else f"{len(disks)} disks"


def _seen(disks: Sequence[Disk]) -> str:
    return ", ".join(f"{disk.name} {human_disk(disk.size)} {disk.identity}" for disk in disks) or "none at all"

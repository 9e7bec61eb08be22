"""Disks as a drawing: numbers and words for one horizontal bar per disk, which a template turns into SVG.

Everything is in units of which the largest disk is 1000 wide. Bars are to scale within the server, segments within
their bar, except that nothing becomes too narrow to be seen. What belongs together (the members of an array, the
volumes of a group, an encrypted container) shares `tie`, 1 and up, which is its colour; 0 is a mere partition. A
partition that carries a volume group is drawn as the volumes in it. `table` gives the same as rows, for those who do
not see the drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from servers.facts import Disk, Facts
from servers.storage.plan import (
    CONFIG_DRIVE_LABEL,
    KeptDisk,
    Partition,
    PartitionType,
    Plan,
    PlannedDisk,
    Tower,
)
from servers.storage.sizes import MIB, human, human_disk

FULL_WIDTH: Final = 1000
_NARROWEST_SEGMENT: Final = 14
# The same whatever is on the disk, so that before and after stand under each other; room for a dozen segments.
_NARROWEST_BAR: Final = 160
# Alignment and the backup of the partition table leave a few MiB on every disk; nobody wants to see them.
_SLACK: Final = 16 * MIB


class SegmentKind(Enum):
    """What a segment is, which decides how it is drawn."""

    BOOT = "boot"
    """What the firmware starts from: an ESP or a BIOS boot partition."""
    FILESYSTEM = "filesystem"
    SWAP = "swap"
    CONFIG_DRIVE = "config-drive"
    OTHER = "other"
    """Found on the disk, and not ours to explain."""
    FREE = "free"
    """Hatched."""
    KEPT = "kept"
    """Outlined, locked and grey: will not be touched."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a disk. `label` is what stands in it, `mount` is empty where nothing is mounted.

    `array` is what it belongs to, in words: `RAID1 system, encrypted, volume group system`.
    """

    kind: SegmentKind
    label: str
    size: int
    human: str
    path: str = ""
    mount: str = ""
    fstype: str = ""
    array: str = ""
    tie: int = 0
    encrypted: bool = False
    x: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """A disk: what it is called, how wide it is drawn, and its segments from left to right."""

    path: str
    name: str
    model: str
    serial: str
    size: int
    human: str
    kept: bool
    width: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """All disks of a server. `arrays` are the names behind the ties: arrays, volume groups and containers, in order."""

    bars: tuple[Bar, ...]
    arrays: tuple[str, ...] = ()
    width: int = FULL_WIDTH


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table that says the same as the drawing."""

    disk: str
    disk_size: str
    path: str
    what: str
    mount: str
    fstype: str
    size: str
    array: str


def drawing(plan: Plan) -> Drawing:
    """The disks as they will be: those that are laid out, then those that are kept."""
    tied = [tower for tower in plan.towers if tower.title]
    ties = {member: number for number, tower in enumerate(tied, start=1) for member in tower.members}
    planned = [_bar(disk, _planned_segments(disk, plan, ties)) for disk in plan.disks]
    kept = [_bar(disk, [_kept_segment(disk)]) for disk in plan.kept]
    return Drawing(_to_scale([*planned, *kept]), tuple(tower.title for tower in tied))


def drawing_of(facts: Facts, keep: Iterable[str] = ()) -> Drawing:
    """The disks as they are now; those that one of the names in `keep` means are marked kept."""
    names = tuple(keep)
    bars = []
    for disk in facts.disks:
        bar = _bar(disk, _seen_segments(disk))
        bars.append(replace(bar, kept=any(disk.answers_to(name) for name in names)))
    return Drawing(_to_scale(bars))


def table(drawing: Drawing) -> tuple[Row, ...]:
    """The drawing as rows, disk by disk."""
    return tuple(
        Row(bar.name, bar.human, one.path, one.label, one.mount, one.fstype, one.human, one.array)
        for bar in drawing.bars
        for one in bar.segments
    )


def _bar(disk: PlannedDisk | KeptDisk | Disk, segments: Sequence[Segment]) -> Bar:
    return Bar(
        path=disk.path,
        name=disk.path.removeprefix("/dev/"),
        model=disk.model,
        serial=disk.serial,
        size=disk.size,
        human=human_disk(disk.size),
        kept=isinstance(disk, KeptDisk),
        width=0,
        segments=tuple(segments),
    )


def _kept_segment(disk: KeptDisk) -> Segment:
    label = "kept, will not be touched" if disk.asked else "not used, will not be touched"
    return Segment(SegmentKind.KEPT, label, disk.size, human_disk(disk.size), disk.path)


def _planned_segments(disk: PlannedDisk, plan: Plan, ties: Mapping[str, int]) -> list[Segment]:
    """The partitions of a planned disk, and the gaps between them that are worth showing."""
    segments: list[Segment] = []
    behind = 0
    for one in disk.partitions:
        if one.start - behind > _SLACK:
            segments.append(_free(one.start - behind))
        segments += _partition_segments(one, plan, ties)
        behind = one.end
    if disk.size - behind > _SLACK:
        segments.append(_free(disk.size - behind))
    return segments


def _partition_segments(partition: Partition, plan: Plan, ties: Mapping[str, int]) -> list[Segment]:
    """A partition as one segment, or as one for each of the volumes in it and for what they leave."""
    tower = next(one for one in plan.towers if partition.path in one.members)
    tie = ties.get(partition.path, 0)
    if tower.group is None:
        return [_planned_segment(partition, tower, plan, tie)]
    group = tower.group
    volumes = [(one.path, one.size) for one in plan.volumes if one.group == group.name]
    left = group.size - sum(size for _path, size in volumes)
    segments = []
    behind = drawn = 0
    for path, size in [*volumes, *([("", left)] if left else [])]:
        behind += size
        share = partition.size * behind // group.size - drawn
        drawn += share
        bare = _bare(partition, tower, tie, share, size)
        segments.append(_on(path, bare, plan) if path else replace(bare, kind=SegmentKind.FREE, label="free for LVM"))
    return segments


def _planned_segment(partition: Partition, tower: Tower, plan: Plan, tie: int) -> Segment:
    # of an array, what it gives; md keeps some MiB for itself
    holds = tower.container.size if tower.container else tower.array.size if tower.array else partition.size
    bare = _bare(partition, tower, tie, partition.size, holds)
    if partition.type is PartitionType.BIOS_BOOT:
        return replace(bare, kind=SegmentKind.BOOT, label="BIOS boot")
    if partition.path == plan.config_drive.partition:
        return replace(bare, kind=SegmentKind.CONFIG_DRIVE, label="config drive", fstype=plan.config_drive.kind.value)
    return _on(tower.top, bare, plan)


def _bare(partition: Partition, tower: Tower, tie: int, size: int, holds: int) -> Segment:
    return Segment(
        kind=SegmentKind.OTHER,
        label=partition.name,
        size=size,
        human=human(holds),
        path=partition.path,
        array=tower.title,
        tie=tie,
        encrypted=tower.container is not None,
    )


def _on(device: str, bare: Segment, plan: Plan) -> Segment:
    """The segment with what is on the device."""
    for esp in plan.esps:
        if esp.device == device:
            return replace(bare, kind=SegmentKind.BOOT, label="ESP", mount=esp.mount, fstype=esp.type.value)
    for one in plan.filesystems:
        if one.device == device:
            kind = SegmentKind.FILESYSTEM
            return replace(bare, kind=kind, label=one.mount, mount=one.mount, fstype=one.type.value)
    return replace(bare, kind=SegmentKind.SWAP, label="swap", fstype="swap")


def _seen_segments(disk: Disk) -> list[Segment]:
    """What was found on a disk, in the order of its partitions; where the gaps are is not known, only their sum."""
    segments = [
        Segment(
            kind=_seen_kind(one.fstype, one.label),
            label=one.label or one.fstype or one.path.removeprefix("/dev/"),
            size=one.size,
            human=human(one.size),
            path=one.path,
            fstype=one.fstype,
        )
        for one in disk.partitions
    ]
    left = disk.size - sum(one.size for one in disk.partitions)
    return [*segments, _free(left)] if left > _SLACK else segments


def _seen_kind(fstype: str, label: str) -> SegmentKind:
    if label.lower() == CONFIG_DRIVE_LABEL:
        return SegmentKind.CONFIG_DRIVE
    return {"swap": SegmentKind.SWAP, "": SegmentKind.OTHER}.get(fstype, SegmentKind.FILESYSTEM)


def _free(size: int) -> Segment:
    return Segment(SegmentKind.FREE, "free", size, human(size))


def _to_scale(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """The bars and their segments with places and widths; the largest disk is as wide as the drawing."""
    largest = max((bar.size for bar in bars), default=1)
    scaled = []
    for bar in bars:
        width = max(bar.size * FULL_WIDTH // largest, _NARROWEST_BAR)
        scaled.append(replace(bar, width=width, segments=_spread(bar.segments, width)))
    return tuple(scaled)


def _spread(segments: Sequence[Segment], width: int) -> tuple[Segment, ...]:
    """The segments side by side over exactly `width`: each its share, and none narrower than can be seen."""
    narrowest = min(_NARROWEST_SEGMENT, width // len(segments)) if segments else 0
    shared = width - narrowest * len(segments)
    total = sum(one.size for one in segments) or 1
    placed, behind, x = [], 0, 0
    for index, one in enumerate(segments, start=1):
        behind += one.size
        # rounded where it ends, not in its width, so that the widths add up
        end = narrowest * index + shared * behind // total
        placed.append(replace(one, x=x, width=end - x))
        x = end
    return tuple(placed)

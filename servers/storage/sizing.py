"""How large everything becomes: what is too much is shrunk in proportion, and what takes the rest takes it.

A volume is what gets a partition of its own on each of its disks: a file system, the swap or a volume group, before it
has a place. Between its partitions and what lies in it stand md, LUKS and LVM, each of which keeps something for
itself; `member` and `content` are the way down and up. All sizes of partitions are whole MiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from servers.storage.layout import Raid
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import MIB, align_down, align_up, human

# Fixed, so that the size of an array is known before it is made; mdadm by itself would reserve 1 to 128 MiB,
# depending on its version and the size of the disks. Superblock and bitmap need well under 1 MiB of it.
ARRAY_DATA_OFFSET: Final = 8 * MIB
# LUKS2 with the space for keys that cryptsetup gives by itself, said so that no version gives another.
LUKS_HEADER: Final = 16 * MIB
# One MiB in front of the first extent for the label and the metadata; nothing is kept at the end.
LVM_HEADER: Final = MIB
LVM_EXTENT: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class Part:
    """A file system or the swap inside a volume: what it wants, its least size, and whether it takes the rest."""

    name: str
    title: str
    wanted: int
    floor: int
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """What gets one partition on each of the disks `on` (their indices). With `extents` it is a volume group."""

    name: str
    title: str
    parts: tuple[Part, ...]
    raid: Raid | None
    on: tuple[int, ...]
    encrypted: bool = False
    extents: bool = False
    fixed: int = 0
    """What a volume group is to hold, where that is said."""
    rest: bool = False

    @property
    def floor(self) -> int:
        """The least that it may hold."""
        return max(sum(self._whole(one.floor) for one in self.parts), self._whole(1))

    @property
    def wanted(self) -> int:
        """What it is to hold before the rest is given away."""
        return max(self._whole(self.fixed) or sum(self._whole(one.wanted) for one in self.parts), self.floor)

    @property
    def step(self) -> int:
        """What its partitions are multiples of: so much that RAID10 over an odd number of disks has whole MiB too."""
        return 2 * MIB if self.raid is Raid.RAID10 and len(self.on) % 2 else MIB

    @property
    def offset(self) -> int:
        """What md keeps for itself in front of the data of each partition."""
        return ARRAY_DATA_OFFSET if self.raid else 0

    def device(self, member: int) -> int:
        """The size of the partition or array when each partition has `member` bytes."""
        return self.raid.capacity(member - self.offset, len(self.on)) if self.raid else member

    def content(self, member: int) -> int:
        """What fits in when each partition has `member` bytes."""
        inside = self.device(member) - (LUKS_HEADER if self.encrypted else 0)
        return align_down(inside - LVM_HEADER, LVM_EXTENT) if self.extents else inside

    def member(self, content: int) -> int:
        """The size of each partition for that content to fit in."""
        device = content + (LUKS_HEADER if self.encrypted else 0) + (LVM_HEADER if self.extents else 0)
        each = self.raid.capacity(self.step, len(self.on)) if self.raid else self.step
        return -(-device // each) * self.step + self.offset

    def _whole(self, size: int) -> int:
        return align_up(size, LVM_EXTENT if self.extents else MIB)


def fit(volumes: Sequence[Volume], capacities: Sequence[int]) -> tuple[int, ...]:
    """The size of each volume's partitions on disks of these capacities.

    PlanImpossible when even the floors are more than a disk has, or when two take the rest of one disk.
    """
    wants = [one.member(one.wanted) for one in volumes]
    floors = [one.member(one.floor) for one in volumes]
    for disk, capacity in enumerate(capacities):
        here = [index for index, one in enumerate(volumes) if disk in one.on]
        _check_floors([volumes[index] for index in here], sum(floors[index] for index in here), capacity)
        steps = [volumes[index].step for index in here]
        # shrinking on one disk only ever makes room on the others, so one pass over the disks is enough
        shrunk = shrink([wants[index] for index in here], [floors[index] for index in here], steps, capacity)
        for index, size in zip(here, shrunk, strict=True):
            wants[index] = size
        _check_takers([volumes[index] for index in here])
    taken = [sum(want for want, one in zip(wants, volumes, strict=True) if disk in one.on)
             for disk in range(len(capacities))]  # fmt: skip
    return tuple(
        want + align_down(min(capacities[disk] - taken[disk] for disk in one.on), one.step) if one.rest else want
        for want, one in zip(wants, volumes, strict=True)
    )


def share(volume: Volume, content: int) -> tuple[int, ...]:
    """The size of each part of a volume that holds `content` bytes."""
    if not volume.extents:
        return (content,)
    parts, steps = volume.parts, [LVM_EXTENT] * len(volume.parts)
    wants = [align_up(one.wanted, LVM_EXTENT) for one in parts]
    sizes = shrink(wants, [align_up(one.floor, LVM_EXTENT) for one in parts], steps, content)
    left = align_down(content - sum(sizes), LVM_EXTENT)
    return tuple(size + left if one.rest else size for size, one in zip(sizes, parts, strict=True))


def shrink(wants: Sequence[int], floors: Sequence[int], steps: Sequence[int], capacity: int) -> list[int]:
    """The sizes made to fit: each gives up the same share of what it has above its floor."""
    asked, spare = sum(wants) - sum(floors), capacity - sum(floors)
    if asked <= spare:
        return list(wants)
    return [
        floor + align_down((want - floor) * spare // asked, step)
        for want, floor, step in zip(wants, floors, steps, strict=True)
    ]


def _check_floors(volumes: Sequence[Volume], least: int, capacity: int) -> None:
    if least > capacity:
        needs = ", ".join(f"{part.title} {human(part.floor)}" for one in volumes for part in one.parts)
        raise PlanImpossible(
            f"The system needs {human(least)} on a disk that has {human(max(capacity, 0))} to give ({needs}).",
            "Choose a smaller image, fewer file systems or larger disks.",
        )


def _check_takers(volumes: Sequence[Volume]) -> None:
    takers = [one.title for one in volumes if one.rest]
    if len(takers) > 1:
        raise PlanImpossible(
            f"{' and '.join(takers)} take the rest of the same disk, which is in the groups of both.",
            "Give all but one of them a size.",
        )

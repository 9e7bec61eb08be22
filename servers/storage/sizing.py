"""How large everything becomes: what is too much is shrunk in proportion, and what takes the rest takes it.

A volume is a file system or swap that has no place yet. Its cost on a disk is its size, and on an array what md keeps
for itself in front of the data. All sizes here are whole MiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from servers.storage.layout import REST, Raid, Rest, Size
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import align_down, align_up, human


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system (or swap) before it has a place. `on` are the indices of the disks that it lies on."""

    name: str
    title: str
    wanted: Size
    floor: int
    raid: Raid | None
    on: tuple[int, ...]
    overhead: int = 0

    @property
    def fixed(self) -> int:
        """What it takes of a disk before the rest is given away."""
        return (self.floor if isinstance(self.wanted, Rest) else self.wanted) + self.overhead


def fit(volumes: Sequence[Volume], capacities: Sequence[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The size of each volume on disks of these capacities, and a note on each that was shrunk.

    PlanImpossible when even the floors are more than a disk has.
    """
    fitted = [
        replace(one, wanted=one.wanted if isinstance(one.wanted, Rest) else align_up(one.wanted)) for one in volumes
    ]
    for disk, capacity in enumerate(capacities):
        here = [index for index, one in enumerate(fitted) if disk in one.on]
        # shrinking on one disk only ever makes room on the others, so one pass over the disks is enough
        for index, volume in zip(here, _shrunk([fitted[index] for index in here], capacity), strict=True):
            fitted[index] = volume
    sizes = tuple(_size(one, fitted, capacities) for one in fitted)
    notes = tuple(
        f"{one.title} shrunk from {human(align_up(one.wanted))} to {human(size)}: the disks are smaller."
        for one, size in zip(volumes, sizes, strict=True)
        if not isinstance(one.wanted, Rest) and size < align_up(one.wanted)
    )
    return sizes, notes


def _shrunk(volumes: Sequence[Volume], capacity: int) -> list[Volume]:
    """The volumes of one disk, made to fit it: each gives up the same share of what it has above its floor."""
    used = sum(one.fixed for one in volumes)
    if used <= capacity:
        return list(volumes)
    least = sum(one.floor + one.overhead for one in volumes)
    if least > capacity:
        needs = ", ".join(f"{one.title} {human(one.floor)}" for one in volumes)
        raise PlanImpossible(
            f"The system needs {human(least)} on a disk that has {human(max(capacity, 0))} to give ({needs}).",
            "Choose a smaller image, fewer file systems or larger disks.",
        )
    spare, asked = capacity - least, used - least
    return [
        one if one.wanted is REST else replace(one, wanted=one.floor + align_down(_above(one) * spare // asked))
        for one in volumes
    ]


def _above(volume: Volume) -> int:
    return volume.fixed - volume.overhead - volume.floor


def _size(volume: Volume, volumes: Sequence[Volume], capacities: Sequence[int]) -> int:
    """What the volume gets: its size, or what the fullest of its disks has left."""
    if not isinstance(volume.wanted, Rest):
        return volume.wanted
    left = min(capacities[disk] - sum(one.fixed for one in volumes if disk in one.on) for disk in volume.on)
    return align_down(volume.floor + left)

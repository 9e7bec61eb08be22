"""What lies between a volume's partitions and its file systems: array, container, volume group and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from servers.storage.plan import Array, LogicalVolume, Luks, PlannedDisk, VolumeGroup
from servers.storage.sizing import LUKS_HEADER, Part, Volume, share


@dataclass(frozen=True, slots=True)
class Place:
    """The device that a file system or the swap is made on, and how much it holds."""

    part: Part
    device: str
    size: int


@dataclass(frozen=True, slots=True)
class Stack:
    """All of one volume above its partitions; what it does not have is None or empty."""

    volume: Volume
    array: Array | None
    container: Luks | None
    group: VolumeGroup | None
    volumes: tuple[LogicalVolume, ...]
    places: tuple[Place, ...]


def build(
    volume: Volume, member: int, disks: Sequence[PlannedDisk], seed: UUID, *, array_name: str, lost_is_fine: bool
) -> Stack:
    """The stack of a volume of which each partition has `member` bytes; its array, if it has one, has this name."""
    members = tuple(one.path for index in volume.on for one in disks[index].partitions if one.name == volume.name)
    array = _array(volume, array_name, member, members, seed) if volume.raid else None
    device = array.path if array else members[0]
    container = None
    if volume.encrypted:
        sector = max(disks[index].sector for index in volume.on)
        size = volume.device(member) - LUKS_HEADER
        container = _container(volume, device, size, sector, seed, lost_is_fine)
        device = container.path
    content = volume.content(member)
    sizes = share(volume, content)
    if not volume.extents:
        places = tuple(Place(part, device, size) for part, size in zip(volume.parts, sizes, strict=True))
        return Stack(volume, array, container, None, (), places)
    group = VolumeGroup(volume.name, (device,), content)
    volumes = tuple(
        LogicalVolume(f"/dev/{group.name}/{part.name}", part.name, group.name, size)
        for part, size in zip(volume.parts, sizes, strict=True)
    )
    places = tuple(Place(part, one.path, one.size) for part, one in zip(volume.parts, volumes, strict=True))
    return Stack(volume, array, container, group, volumes, places)


def _array(volume: Volume, name: str, member: int, members: tuple[str, ...], seed: UUID) -> Array:
    assert volume.raid
    return Array(
        path=f"/dev/md/{name}",
        name=name,
        level=volume.raid,
        members=members,
        uuid=uuid5(seed, f"array {volume.name}"),
        size=volume.device(member),
        data_offset=volume.offset,
    )


def _container(volume: Volume, device: str, size: int, sector: int, seed: UUID, lost_is_fine: bool) -> Luks:
    name = f"luks-{volume.name}"
    uuid = uuid5(seed, f"container {volume.name}")
    return Luks(f"/dev/mapper/{name}", name, device, uuid, size, sector, lost_is_fine)

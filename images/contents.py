"""What is on a disk: its partition table, and the file system that is the root. Pure: bytes in, values out.

The root may lie in a partition, on a disk without any, or in a linear volume of LVM. Everything here is the word of the
image's maker: it is good for a choice that a person sees, and for nothing else.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from . import lvm

SECTOR: Final = 512
READ_BYTES: Final = 128 * 1024
"""How much of the start of a disk or of a partition is looked at: the superblock of btrfs lies at 64 KiB."""

MOST_PARTITIONS: Final = 16
"""How many partitions are looked into; no cloud image has as many."""

_EXTENDED: Final = (0x05, 0x0F, 0x85)
"""Types of an MBR's partition that holds others, the logical ones."""

# Root of an x86-64 system (Discoverable Partitions Specification), and the EFI system partition.
_ROOT_TYPES: Final = {UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")}
_ESP_TYPE: Final = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_ROOT_LABELS: Final = ("root", "rootfs", "cloudimg-rootfs", "/")

Read = Callable[[int, int], bytes]
"""The bytes of a disk: (offset, length), both whole sectors; fewer at the end of it."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A Linux file system: its type, label, last mount point, and the bytes in use, its own tables included."""

    type: str
    label: str = ""
    mounted_at: str = ""
    used: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """A piece of the disk; number 0 is the whole of a disk without partitions."""

    number: int
    start: int
    size: int
    type: UUID | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """The file system that becomes `/`, and how it was told from the others."""

    partition: int
    filesystem: Filesystem
    found_by: str
    volume: str = ""
    """The volume of LVM that it is, as `group/name`; its partition is then the one with its first byte."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A disk's partition table ('gpt', 'dos' or none), and what was found in its partitions."""

    table: str
    partitions: tuple[Partition, ...]
    root: Root | None
    needs: int = 0
    """Bytes that the disk must have at least, going by its own table."""
    lvm: bool = False
    """Whether a part of it belongs to LVM."""

    @property
    def has_esp(self) -> bool:
        """Whether UEFI finds a boot loader partition on it."""
        return any(partition.type == _ESP_TYPE for partition in self.partitions)


def look(read: Read) -> Contents:
    """What is on the disk that `read` reads."""
    start = read(0, READ_BYTES)
    table, needs = "", 0
    partitions: tuple[Partition, ...] = (Partition(0, 0, 0),)
    if start[SECTOR : SECTOR + 8] == b"EFI PART":
        table, partitions = "gpt", tuple(_gpt(start))
        needs = (int.from_bytes(start[SECTOR + 32 : SECTOR + 40], "little") + 1) * SECTOR
    elif start[510:512] == b"\x55\xaa" and not is_whole(start):
        table, partitions = "dos", tuple(_dos(start, read))
        needs = max((partition.start + partition.size for partition in partitions), default=0)
    places, has_lvm = _places(read, partitions[:MOST_PARTITIONS])
    return Contents(table, partitions, _root(places), needs, has_lvm)


def is_whole(start: bytes) -> bool:
    """Whether a disk that begins with these bytes has no partitions: it is a file system, or all of it LVM's."""
    return filesystem(start) is not None or lvm.is_physical_volume(start)


def filesystem(start: bytes) -> Filesystem | None:
    """The Linux file system whose first 128 KiB these are; None when they are none."""
    if start[1080:1082] == b"\x53\xef":
        return _ext(start[1024:2048])
    if start[:4] == b"XFSB":
        return _xfs(start)
    if start[0x10040:0x10048] == b"_BHRfS_M":
        used = int.from_bytes(start[0x10078:0x10080], "little")
        return Filesystem("btrfs", _text(start[0x1012B : 0x1012B + 256]), used=used)
    return None


def _gpt(start: bytes) -> Iterator[Partition]:
    """The partitions of a GPT; its entries are looked for where they nearly always are, near the start."""
    entries, count, size = struct.unpack_from("<QII", start, SECTOR + 72)
    for index in range(min(count, 128)):
        at = entries * SECTOR + index * size
        if size < 128 or at + 128 > len(start):
            return
        kind = UUID(bytes_le=start[at : at + 16])
        first, last = struct.unpack_from("<QQ", start, at + 32)
        if kind.int and first <= last:
            yield Partition(index + 1, first * SECTOR, (last - first + 1) * SECTOR, kind)


def _dos(start: bytes, read: Read) -> Iterator[Partition]:
    """The primary partitions of an MBR, and the logical ones in its extended partition, which are numbered from 5."""
    for number, kind, first, sectors in _entries(start):
        yield Partition(number, first * SECTOR, sectors * SECTOR)
        if kind in _EXTENDED:
            yield from _logical(first, read)


def _logical(extended: int, read: Read) -> Iterator[Partition]:
    """The logical partitions: each in a table of its own, which leads on to the next one."""
    at, seen = extended, set[int]()
    while at not in seen and len(seen) < MOST_PARTITIONS:
        seen.add(at)
        following = None
        for _, kind, first, sectors in _entries(read(at * SECTOR, SECTOR)):
            if kind in _EXTENDED:
                following = extended + first
            else:
                yield Partition(4 + len(seen), (at + first) * SECTOR, sectors * SECTOR)
        if following is None:
            return
        at = following


def _entries(table: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The four entries of a table, those that are used: number, type, first sector, sectors."""
    if table[510:512] != b"\x55\xaa":
        return
    for index in range(4):
        at = 446 + 16 * index
        first, sectors = struct.unpack_from("<II", table, at + 8)
        if table[at + 4] and sectors:
            yield index + 1, table[at + 4], first, sectors


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file system was found."""

    partition: Partition
    filesystem: Filesystem
    volume: str = ""


def _places(read: Read, partitions: tuple[Partition, ...]) -> tuple[list[_Place], bool]:
    """The file systems in the partitions and in the volumes of LVM on them, and whether there is any LVM."""
    places: list[_Place] = []
    physical = []
    for partition in partitions:
        start = read(partition.start, READ_BYTES)
        if inside := filesystem(start):
            places.append(_Place(partition, inside))
        elif lvm.is_physical_volume(start) and (found := lvm.physical_volume(read, partition.start)):
            physical.append(found)
    for volume in lvm.volumes(physical):
        if inside := filesystem(volume.reader(read)(0, READ_BYTES)):
            partition = max((p for p in partitions if p.start <= volume.extents[0].start), key=lambda p: p.start)
            places.append(_Place(partition, inside, f"{volume.group}/{volume.name}"))
    return places, bool(physical)


def _root(places: list[_Place]) -> Root | None:
    """The root: by GPT type, label, where it was last mounted, the volume's name; then the fullest file system."""
    rules: list[tuple[str, Callable[[_Place], bool]]] = [
        ("GPT type", lambda place: not place.volume and place.partition.type in _ROOT_TYPES),
        ("label", lambda place: place.filesystem.label.lower() in _ROOT_LABELS),
        ("last mount point", lambda place: place.filesystem.mounted_at == "/"),
        ("name of the volume", lambda place: place.volume.rpartition("/")[2].lower() in _ROOT_LABELS),
    ]
    for how, fits in rules:
        for place in places:
            if fits(place):
                return Root(place.partition.number, place.filesystem, how, place.volume)
    if not places:
        return None
    place = max(places, key=lambda one: one.filesystem.used)
    return Root(place.partition.number, place.filesystem, "content", place.volume)


def _ext(superblock: bytes) -> Filesystem:
    blocks, _reserved, free = struct.unpack_from("<III", superblock, 4)
    block_size = 1024 << min(struct.unpack_from("<I", superblock, 24)[0], 6)
    compatible, incompatible, _ = struct.unpack_from("<III", superblock, 92)
    if incompatible & 0x80:  # 64bit: the upper halves of the counts are in use
        blocks += int.from_bytes(superblock[0x150:0x154], "little") << 32
        free += int.from_bytes(superblock[0x158:0x15C], "little") << 32
    kind = "ext4" if incompatible & 0x40 else "ext3" if compatible & 0x4 else "ext2"
    used = max(0, blocks - free) * block_size
    return Filesystem(kind, _text(superblock[120:136]), _text(superblock[136:200]), used)


def _xfs(start: bytes) -> Filesystem:
    (block_size,) = struct.unpack_from(">I", start, 4)
    (blocks,) = struct.unpack_from(">Q", start, 8)
    (free,) = struct.unpack_from(">Q", start, 144)
    return Filesystem("xfs", _text(start[108:120]), used=max(0, blocks - free) * block_size)


def _text(field: bytes) -> str:
    text = field.split(b"\0")[0].decode(errors="replace")
    return text if text.isprintable() else ""

"""LVM2 as it lies on a disk: physical volumes, the volume group that they say they are of, and its linear volumes.

Pure: bytes in, values out. The format is LVM2's lib/format_text/layout.h and the text that `vgcfgbackup` writes.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SECTOR: Final = 512
MOST_METADATA: Final = 2**20
MOST_DEPTH: Final = 16
MOST_VOLUMES: Final = 64

Read = Callable[[int, int], bytes]
"""The bytes of a disk: (offset, length), both whole sectors."""

_MDA_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_CRC_START: Final = 0xF597A6CF
_TOKEN: Final = re.compile(r'(?:\s|#[^\n]*\n)*("(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+-]+|[{}\[\]=,])')


class _Damaged(Exception):
    """Metadata that cannot be read."""


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A partition, or a whole disk, that begins with LVM's label. `text` describes its group; it may be empty."""

    uuid: str
    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a volume: where it begins in the volume and on the disk, and its length. Bytes."""

    at: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A volume that is nothing but pieces of the disk, one after the other."""

    group: str
    name: str
    extents: tuple[Extent, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(extent.size for extent in self.extents)

    def reader(self, read: Read) -> Read:
        """Reads the volume out of the disk that `read` reads."""

        def volume(offset: int, length: int) -> bytes:
            pieces = []
            for extent in self.extents:
                skip = max(0, offset - extent.at)
                if skip < extent.size and length and offset < extent.at + extent.size:
                    take = min(length, extent.size - skip)
                    pieces.append(read(extent.start + skip, take))
                    offset, length = offset + take, length - take
            return b"".join(pieces)

        return volume


def is_physical_volume(start: bytes) -> bool:
    """Whether a disk or partition that begins with these bytes is one of LVM's."""
    return _label(start) is not None


def physical_volume(read: Read, start: int) -> PhysicalVolume | None:
    """The physical volume that begins at this byte of the disk; None where there is none, or a damaged one."""
    head = read(start, 4 * SECTOR)
    label = _label(head)
    if label is None:
        return None
    uuid = label[:32].decode("ascii", "replace")
    try:
        _, areas = _areas(label[40:])
        text = next(filter(None, (_metadata(read, start + offset, size) for offset, size in areas)), "")
    except (_Damaged, struct.error):
        text = ""
    return PhysicalVolume(uuid, start, text)


def volumes(found: Sequence[PhysicalVolume]) -> list[LogicalVolume]:
    """The linear volumes that lie wholly on these; those that mirror, stripe or are thin are left out."""
    starts = {one.uuid: one.start for one in found}
    volumes: list[LogicalVolume] = []
    for text in dict.fromkeys(one.text for one in found if one.text):
        try:
            for group, body in _parse(text).items():
                if isinstance(body, dict) and "logical_volumes" in body:
                    volumes.extend(_volumes(group, body, starts))
        except (_Damaged, KeyError, TypeError, ValueError, AttributeError):
            continue
    return volumes[:MOST_VOLUMES]


def _label(head: bytes) -> bytes | None:
    """The header behind the label, which is in one of the first four sectors."""
    for sector in range(4):
        block = head[sector * SECTOR : (sector + 1) * SECTOR]
        if len(block) == SECTOR and block.startswith(b"LABELONE") and block[24:32] == b"LVM2 001":
            checksum, offset = struct.unpack_from("<II", block, 16)
            if 32 <= offset <= SECTOR - 64 and _crc(block[20:]) == checksum:
                return block[offset:]
    return None


def _areas(rest: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The areas of data and of metadata: two lists of (offset, size), each ended by zeros."""
    lists: list[list[tuple[int, int]]] = [[], []]
    which = 0
    for offset, size in struct.iter_unpack("<QQ", rest[: len(rest) // 16 * 16]):
        if offset:
            lists[which].append((offset, size))
        else:
            which += 1
            if which == 2:
                return lists[0], lists[1]
    raise _Damaged


def _metadata(read: Read, start: int, size: int) -> str:
    """The newest text in an area of metadata, which is written round and round behind the area's first sector."""
    header = read(start, SECTOR)
    if len(header) < SECTOR or header[4:20] != _MDA_MAGIC or _crc(header[4:]) != int.from_bytes(header[:4], "little"):
        raise _Damaged
    offset, length, checksum, _flags = struct.unpack_from("<QQII", header, 40)
    if not length:
        return ""
    if length > MOST_METADATA or not SECTOR <= offset < size or length > size - SECTOR:
        raise _Damaged
    first = min(length, size - offset)
    raw = _bytes(read, start + offset, first) + _bytes(read, start + SECTOR, length - first)
    if _crc(raw) != checksum:
        raise _Damaged
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def _bytes(read: Read, offset: int, length: int) -> bytes:
    """Any bytes, by way of whole sectors."""
    skip = offset % SECTOR
    return read(offset - skip, -(-(skip + length) // SECTOR) * SECTOR)[skip : skip + length] if length else b""


def _crc(data: bytes) -> int:
    """LVM's CRC-32, which begins elsewhere than the usual one and is not turned round at its end."""
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _volumes(group: str, body: Mapping[str, Any], starts: Mapping[str, int]) -> Iterator[LogicalVolume]:
    extent = int(body["extent_size"]) * SECTOR
    begins: dict[str, int] = {}
    for name, physical in body["physical_volumes"].items():
        uuid = physical["id"].replace("-", "")
        if uuid in starts:
            begins[name] = starts[uuid] + int(physical["pe_start"]) * SECTOR
    for name, volume in body["logical_volumes"].items():
        segments = [part for key, part in volume.items() if key.startswith("segment") and isinstance(part, dict)]
        extents = [_extent(segment, extent, begins) for segment in segments]
        if extents and None not in extents:
            ordered = sorted((one for one in extents if one), key=lambda one: one.at)
            ends = [0, *(one.at + one.size for one in ordered)]
            if all(one.at == end for one, end in zip(ordered, ends, strict=False)):
                yield LogicalVolume(group, name, tuple(ordered))


def _extent(segment: Mapping[str, Any], extent: int, begins: Mapping[str, int]) -> Extent | None:
    """The piece that a linear segment is; None for every other kind."""
    if segment.get("type") != "striped" or segment.get("stripe_count") != 1:
        return None
    physical, first = segment["stripes"]
    count = int(segment["extent_count"])
    if physical not in begins or count < 1 or first < 0:
        return None
    return Extent(int(segment["start_extent"]) * extent, begins[physical] + first * extent, count * extent)


def _parse(text: str) -> dict[str, Any]:
    """The text as nested dicts: names, then numbers, strings or lists of them."""
    return _section(_tokens(text), 0)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            # what is left may be a last comment
            if text[at:].lstrip().startswith("#"):
                return
            raise _Damaged
        at = match.end()
        yield match[1]


def _section(tokens: Iterator[str], depth: int) -> dict[str, Any]:
    if depth > MOST_DEPTH:
        raise _Damaged
    section: dict[str, Any] = {}
    for name in tokens:
        if name == "}":
            if depth:
                return section
            raise _Damaged
        what = next(tokens, "")
        if what == "{":
            section[name] = _section(tokens, depth + 1)
        elif what == "=":
            section[name] = _value(tokens)
        else:
            raise _Damaged
    if depth:
        raise _Damaged
    return section


def _value(tokens: Iterator[str]) -> str | int | list[str | int]:
    token = next(tokens, "")
    if token != "[":
        return _scalar(token)
    values: list[str | int] = []
    for token in tokens:
        if token == "]":
            return values
        if token != ",":
            values.append(_scalar(token))
    raise _Damaged


def _scalar(token: str) -> str | int:
    if token.startswith('"'):
        return token[1:-1]
    try:
        return int(token)
    except ValueError:
        return token

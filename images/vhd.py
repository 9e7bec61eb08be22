"""The headers of a VHD and of a VHDX, read before any other program opens the file.

Both can hold only what differs from a parent, another file. Pure: bytes in, values out. The formats are Microsoft's
*Virtual Hard Disk Image Format Specification* and [MS-VHDX].
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from .refusal import ImageRefused

FOOTER_MAGIC: Final = b"conectix"
VHDX_MAGIC: Final = b"vhdxfile"
SECTOR: Final = 512
MIB: Final = 2**20

Read = Callable[[int, int], bytes]

_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQIII16s")
_DYNAMIC: Final = struct.Struct(">8sQQIIII16s")
_FIXED_DISK, _DYNAMIC_DISK, _DIFFERENCING_DISK = 2, 3, 4
_UNUSED: Final = 0xFFFFFFFF

_METADATA_REGION: Final = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_FILE_PARAMETERS: Final = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_VIRTUAL_SIZE: Final = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_PARENT_LOCATOR: Final = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_HAS_PARENT: Final = 2
_REGION_TABLES: Final = (192 * 1024, 256 * 1024)
_MOST_ENTRIES: Final = 2047

_FLATTEN: Final = "Merge it with its parent, or make a complete one with: qemu-img convert -O qcow2 OLD NEW"


@dataclass(frozen=True, slots=True)
class Header:
    """What a harmless VHD or VHDX says of itself. `virtual_size` in bytes."""

    kind: str
    virtual_size: int


def read_vhd(read: Read, size: int) -> Header:
    """The footer of a VHD of `size` bytes; ImageRefused when it is damaged, or a difference to another file."""
    footer = read(size - SECTOR, SECTOR)
    if not footer.startswith(FOOTER_MAGIC):
        raise _damaged("VHD", "it ends early")
    (_, _features, _version, header_at, _time, _app, _app_version, _host, _original, current, _geometry, kind,
     _checksum, _identity) = _FOOTER.unpack_from(footer)  # fmt: skip
    if kind == _DIFFERENCING_DISK:
        raise _leans("VHD")
    if kind not in (_FIXED_DISK, _DYNAMIC_DISK):
        raise ImageRefused(f"The VHD is of the kind {kind}, and only fixed and dynamic disks are known.", _FLATTEN)
    _check_sum("VHD", footer, 64)
    if kind == _FIXED_DISK:
        if current > size - SECTOR:
            raise _damaged("VHD", "its disk is larger than the file")
        return Header("fixed", current)
    if read(0, SECTOR) != footer:
        raise _damaged("VHD", "what is at its start is not what is at its end")
    _check_dynamic(read, header_at, current, size)
    return Header("dynamic", current)


def _check_dynamic(read: Read, header_at: int, current: int, size: int) -> None:
    if header_at > size - 1024 - SECTOR:
        raise _damaged("VHD", "its header lies outside of the file")
    header = read(header_at, 1024)
    (magic, _data, table_at, _version, entries, block, _checksum, parent) = _DYNAMIC.unpack_from(header)
    if magic != b"cxsparse":
        raise _damaged("VHD", "its header is none")
    _check_sum("VHD", header, 36)
    if any(parent) or any(header[64:1024]):
        raise _leans("VHD")
    if block < 4096 or block & (block - 1) or entries * block < current or entries > 2**22:
        raise _damaged("VHD", "its table of blocks is impossible")
    if table_at + 4 * entries > size - SECTOR:
        raise _damaged("VHD", "its table of blocks lies outside of the file")
    # each block begins with a bitmap of its sectors, in whole sectors
    bitmap = -(-block // SECTOR // 8 // SECTOR) * SECTOR
    table = read(table_at, -(-4 * entries // SECTOR) * SECTOR)
    for (sector,) in struct.iter_unpack(">I", table[: 4 * entries]):
        if sector != _UNUSED and sector * SECTOR + bitmap + min(block, current) > size:
            raise _damaged("VHD", "parts of it lie outside of the file")


def _check_sum(what: str, header: bytes, at: int) -> None:
    """A VHD's headers carry the complement of the sum of their bytes."""
    (said,) = struct.unpack_from(">I", header, at)
    if ~(sum(header) - sum(header[at : at + 4])) & 0xFFFFFFFF != said:
        raise _damaged(what, "the checksum of its header is wrong")


def read_vhdx(read: Read, size: int) -> Header:
    """The metadata of a VHDX of `size` bytes; ImageRefused when it is damaged, or a difference to another file."""
    if size < MIB:
        raise _damaged("VHDX", "it ends early")
    # The two tables say the same; a program may take either, so both are looked at.
    metadata = {at for place in _REGION_TABLES for at in _regions(read, place, size)}
    if len(metadata) != 1:
        raise _damaged("VHDX", "its tables of regions are impossible")
    at = metadata.pop()
    found: dict[UUID, bytes] = {}
    for identity, offset, length in _metadata(read(at, 64 * 1024)):
        if identity == _PARENT_LOCATOR:
            raise _leans("VHDX")
        if identity in (_FILE_PARAMETERS, _VIRTUAL_SIZE):
            if identity in found or length < 8:
                raise _damaged("VHDX", "its metadata is impossible")
            found[identity] = read(at + offset // SECTOR * SECTOR, 2 * SECTOR)[offset % SECTOR :][:8]
    if len(found) != 2 or any(len(value) != 8 for value in found.values()):
        raise _damaged("VHDX", "its metadata is missing")
    _block, flags = struct.unpack("<II", found[_FILE_PARAMETERS])
    if flags & _HAS_PARENT:
        raise _leans("VHDX")
    return Header("dynamic", *struct.unpack("<Q", found[_VIRTUAL_SIZE]))


def _regions(read: Read, place: int, size: int) -> Iterator[int]:
    """Where a table of regions says that the metadata is."""
    table = read(place, 64 * 1024)
    magic, _checksum, count, _ = struct.unpack_from("<4sIII", table)
    if magic != b"regi" or count > _MOST_ENTRIES:
        raise _damaged("VHDX", "its table of regions is none")
    for index in range(count):
        raw, at, length, _required = struct.unpack_from("<16sQII", table, 16 + 32 * index)
        if at < MIB or at % MIB or at + length > size:
            raise _damaged("VHDX", "a region lies outside of the file")
        if UUID(bytes_le=raw) == _METADATA_REGION:
            yield at


def _metadata(table: bytes) -> Iterator[tuple[UUID, int, int]]:
    """The entries of the table of metadata: what, where from its start, how long."""
    if len(table) < 64 * 1024 or not table.startswith(b"metadata"):
        raise _damaged("VHDX", "its table of metadata is none")
    (count,) = struct.unpack_from("<H", table, 10)
    if count > _MOST_ENTRIES:
        raise _damaged("VHDX", "its table of metadata is impossible")
    for index in range(count):
        raw, offset, length = struct.unpack_from("<16sII", table, 32 + 32 * index)
        if length and not 64 * 1024 <= offset <= MIB - length:
            raise _damaged("VHDX", "its metadata lies outside of its region")
        yield UUID(bytes_le=raw), offset, length


def _leans(what: str) -> ImageRefused:
    return ImageRefused(f"The {what} holds only what differs from another file, its parent.", _FLATTEN)


def _damaged(what: str, how: str) -> ImageRefused:
    return ImageRefused(f"The {what} is damaged: {how}.", "Fetch it again, and compare its checksum.")

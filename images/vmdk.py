"""The header of a VMDK, read before any other program opens the file.

A VMDK can name other files: a parent of which it holds the differences, or extents with its data; a program that trusts
it would read whatever it names. Taken are the two kinds that are one whole file: monolithicSparse, and streamOptimized
as an OVA has it. Pure: bytes in, values out. The format is VMware's *Virtual Disk Format 5.0*.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .refusal import ImageRefused

MAGIC: Final = b"KDMV"
DESCRIPTOR_MAGIC: Final = b"# Disk DescriptorFile"
SECTOR: Final = 512

Read = Callable[[int, int], bytes]

_HEADER: Final = struct.Struct("<4sIIQQQQIQQQ")
_AT_END: Final = 2**64 - 1
_KINDS: Final = ("monolithicsparse", "streamoptimized")
_NO_PARENT: Final = "ffffffff"
_MOST_DESCRIPTOR: Final = 64 * 1024

_FLATTEN: Final = "Make a complete one with: qemu-img convert -O vmdk -o subformat=streamOptimized OLD NEW"


@dataclass(frozen=True, slots=True)
class Header:
    """What a harmless VMDK says of itself. `virtual_size` in bytes."""

    kind: str
    virtual_size: int


@dataclass(frozen=True, slots=True)
class _Sparse:
    """The fields of a sparse extent's header that are looked at; sectors."""

    version: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_size: int
    directory_at: int


def read_header(read: Read, size: int) -> Header:
    """The header of a VMDK of `size` bytes; ImageRefused when it is damaged, or leans on another file."""
    head = _sparse(read(0, SECTOR))
    descriptor = _descriptor(read, head)
    at_end = head.directory_at == _AT_END
    if at_end:
        # A program that finds the directory at the end takes all of the header from there.
        footer = _sparse(read(size - 2 * SECTOR, SECTOR))
        if (footer.capacity, footer.grain) != (head.capacity, head.grain):
            raise _damaged("the header at its end says something else than the one at its start")
        if footer.descriptor_size and (footer.descriptor_at, footer.descriptor_size) != (
            head.descriptor_at,
            head.descriptor_size,
        ):
            raise _damaged("its two headers name two descriptions")
        head = footer
    if not 0 < head.directory_at < size // SECTOR:
        raise _damaged("its directory lies outside of the file")
    fields = _fields(descriptor)
    _check_alone(fields, descriptor)
    kind = fields.get("createtype", "")
    if kind.lower() not in _KINDS:
        raise ImageRefused(f"The VMDK is of the kind {kind[:40]!r}, which is not one file.", _FLATTEN)
    return Header(kind, head.capacity * SECTOR)


def refuse_descriptor(text: bytes) -> ImageRefused:
    """The refusal of a file that is the description of a VMDK, by what it names."""
    named = re.search(rb'^\s*RW?\w*\s+\d+\s+\w+\s+"([^"\n]{1,100})"', text[:_MOST_DESCRIPTOR], re.MULTILINE)
    what = f" {named[1].decode(errors='replace')!r}" if named else ""
    return ImageRefused(f"The file is the description of a VMDK, whose data is in other files{what}.", _FLATTEN)


def _sparse(sector: bytes) -> _Sparse:
    if len(sector) < SECTOR or not sector.startswith(MAGIC):
        raise _damaged("it ends early")
    (_, version, _flags, capacity, grain, at, size, _entries, _redundant, directory, _overhead) = _HEADER.unpack_from(
        sector
    )
    if version not in (1, 2, 3):
        raise ImageRefused(f"This is version {version} of VMDK, and only 1 to 3 are known.", _FLATTEN)
    # Without a capacity a program would look for the disk in the files that the description names.
    if not capacity:
        raise ImageRefused("The VMDK has no data of its own.", _FLATTEN)
    if grain < 1 or grain > 2**16 or grain & (grain - 1) or capacity > 2**54:
        raise _damaged("the size of its grains or of its disk is impossible")
    return _Sparse(version, capacity, grain, at, size, directory)


def _descriptor(read: Read, head: _Sparse) -> str:
    """The description inside; QEMU looks for a parent right behind the header, wherever the header says that it is."""
    length = head.descriptor_size * SECTOR
    if head.descriptor_at != 1 or not 0 < length <= _MOST_DESCRIPTOR:
        raise _damaged("its description is not behind its header")
    # QEMU reads 20 sectors, whatever the size says: nothing may hide behind the end.
    raw = read(SECTOR, max(length, 20 * SECTOR))
    if b"parentFileNameHint" in raw:
        raise ImageRefused("The VMDK holds only what differs from another file, its parent.", _FLATTEN)
    return raw[:length].split(b"\0")[0].decode(errors="replace")


def _fields(descriptor: str) -> dict[str, str]:
    found = re.findall(r'^[ \t]*([A-Za-z.]+)[ \t]*=[ \t]*"?([^"\n\r]*)"?', descriptor, re.MULTILINE)
    fields = {name.lower(): value.strip() for name, value in found}
    if len({name.lower() for name, _ in found}) != len(found):
        raise _damaged("its description says things twice")
    return fields


def _check_alone(fields: dict[str, str], descriptor: str) -> None:
    if fields.get("parentcid", _NO_PARENT).lower() != _NO_PARENT:
        raise ImageRefused("The VMDK holds only what differs from another file, its parent.", _FLATTEN)
    extents = re.findall(r"^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+(.*)$", descriptor, re.MULTILINE)
    if len(extents) != 1:
        raise ImageRefused(f"The VMDK describes {len(extents)} pieces, and is only one of them.", _FLATTEN)
    match = re.fullmatch(r'\d+[ \t]+SPARSE[ \t]+"([^"]*)"(?:[ \t]+\d+)?\s*', extents[0])
    # The name is what the file was called once. A path in it is somebody's try.
    if not match or "/" in match[1] or "\\" in match[1]:
        raise ImageRefused("The VMDK says that its data is in another file.", _FLATTEN)


def _damaged(how: str) -> ImageRefused:
    return ImageRefused(f"The VMDK is damaged: {how}.", "Fetch it again, and compare its checksum.")

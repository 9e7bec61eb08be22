"""The header of a QCOW2 file, read before any other program opens the file.

A QCOW2 can name other files that are to be opened with it: as its backing file, or for its data. An image from anywhere
must not make us read /etc/shadow. Pure: bytes in, values out. The format is docs/interop/qcow2 of QEMU.
"""

import struct
from dataclasses import dataclass
from typing import Final

from .refusal import ImageRefused

MAGIC: Final = b"QFI\xfb"
HEADER_BYTES: Final = 64 * 1024
"""How much of the file's beginning `read_header` wants to see."""

_VERSION_2: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3: Final = struct.Struct(">QQQII")

# Incompatible features, by bit: who does not know one must not open the file.
_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION, _LONG_L2 = (1 << bit for bit in range(5))
_HARMLESS: Final = _COMPRESSION | _LONG_L2

# Header extensions.
_END, _LUKS, _DATA_FILE = 0x00000000, 0x0537BE77, 0x44415441

_FLATTEN: Final = "Make a complete one with: qemu-img convert -O qcow2 OLD NEW"


@dataclass(frozen=True, slots=True)
class Header:
    """What a harmless QCOW2 says of itself."""

    version: int
    virtual_size: int
    cluster_size: int


def read_header(start: bytes) -> Header:
    """The header at the start of a file; ImageRefused when the file is damaged, encrypted or leans on another one."""
    if len(start) < _VERSION_2.size:
        raise _damaged("it ends within its header")
    (_, version, backing_offset, backing_size, cluster_bits, size, encryption, *_rest) = _VERSION_2.unpack_from(start)
    if version not in (2, 3):
        raise ImageRefused(f"This is version {version} of QCOW2, and only 2 and 3 are known.", _FLATTEN)
    if not 9 <= cluster_bits <= 21:
        raise _damaged("the size of its clusters is impossible")
    if backing_offset or backing_size:
        raise ImageRefused("The QCOW2 holds only what differs from another file, its backing file.", _FLATTEN)
    if encryption:
        raise ImageRefused("The QCOW2 is encrypted.", "Export the image without a password.")
    end = _VERSION_2.size
    if version == 3:
        end = _check_features(start)
    _check_extensions(start[: 1 << cluster_bits], end)
    if not size or size % 512:
        raise _damaged("the disk in it has no whole number of sectors")
    return Header(version, size, 1 << cluster_bits)


def _check_features(start: bytes) -> int:
    """Where the header ends, once its features are found harmless."""
    if len(start) < _VERSION_2.size + _VERSION_3.size:
        raise _damaged("it ends within its header")
    incompatible, _compatible, _autoclear, _order, length = _VERSION_3.unpack_from(start, _VERSION_2.size)
    if incompatible & _EXTERNAL_DATA:
        raise ImageRefused("The QCOW2 keeps its data in another file.", _FLATTEN)
    if incompatible & (_DIRTY | _CORRUPT):
        raise _damaged("it is marked so itself", "Repair it with: qemu-img check -r all FILE")
    if incompatible & ~_HARMLESS:
        raise ImageRefused("The QCOW2 uses features that are not known here.", _FLATTEN)
    if not _VERSION_2.size + _VERSION_3.size <= length <= len(start) or length % 8:
        raise _damaged("the length of its header is impossible")
    return int(length)


def _check_extensions(start: bytes, at: int) -> None:
    while at + 8 <= len(start):
        kind, length = struct.unpack_from(">II", start, at)
        if kind == _END:
            return
        if kind == _DATA_FILE:
            raise ImageRefused("The QCOW2 names another file for its data.", _FLATTEN)
        if kind == _LUKS:
            raise ImageRefused("The QCOW2 is encrypted.", "Export the image without a password.")
        at += 8 + (length + 7) // 8 * 8
    if at > len(start):
        raise _damaged("a part of its header is longer than the header")


def _damaged(how: str, fix: str = "Fetch it again, and compare its checksum.") -> ImageRefused:
    return ImageRefused(f"The QCOW2 is damaged: {how}.", fix)

"""Looks at an image file and prints what it is. Runs in a process of its own, whose limits `images.inspect` sets.

    python -m images.look FILE FORMAT LIMITS

prints an inspection, or a refusal, as one JSON object. The header is read here first; only a file that names no other
file is then shown to qemu-img.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from servers.storage.sizes import human

from . import contents, ova, qcow2, tarball, vhd, vmdk
from .contents import SECTOR
from .formats import Format
from .inspection import DiskInside, Inspection, Limits
from .qemu import Disk
from .refusal import ImageRefused

_CONVERT: Final = "Convert it first: qemu-img convert -O qcow2 OLD NEW"
# What people really try: (where, the bytes there, what it is, what to do)
_FOREIGN: Final = (
    (0, b"BZh", "a bzip2 file", tarball.UNPACK),
    (0, b"PK\3\4", "a ZIP file", tarball.UNPACK),
    (0, b"COWD", "an old VMDK of one piece among several", _CONVERT),
    (64, b"\x7f\x10\xda\xbe", "a VirtualBox disk", _CONVERT),
    (0, b"LUKS\xba\xbe", "encrypted", "Export it without a password."),
    (32769, b"CD001", "the ISO file of a CD", "Take the distribution's cloud image."),
)
_MAGICS: Final = ((qcow2.MAGIC, Format.QCOW2), (vmdk.MAGIC, Format.VMDK), (vhd.VHDX_MAGIC, Format.VHDX))

Read = Callable[[int, int], bytes]


def look(path: Path, claimed: Format | None, limits: Limits) -> Inspection:
    """What the file is; ImageRefused when it may not become an image, such as one that is not what it claims."""
    size = path.stat().st_size
    if size > limits.file_size:
        raise ImageRefused(
            f"The file has {human(size)}, and {human(limits.file_size)} is the limit.", "Make it smaller."
        )
    with path.open("rb") as file:
        read = _reader(file)
        found = recognise(read, size)
        if claimed and found is not claimed:
            raise ImageRefused(
                f"The file is called a {claimed.label} image, and is a {found.label} one.", "Name it as what it is."
            )
        if found is Format.TAR:
            return _look_at_tarball(path, size, limits)
        if found is Format.OVA:
            return _look_at_ova(path, file, size, limits)
        return _look_at_disk(Disk(path, found, limits), read, size)


def recognise(read: Read, size: int) -> Format:
    """What kind of image a file is; ImageRefused says what it is when it is none."""
    start = read(0, contents.READ_BYTES)
    for magic, format in _MAGICS:
        if start.startswith(magic):
            return format
    for offset, magic, what, fix in _FOREIGN:
        if start[offset : offset + len(magic)] == magic:
            raise ImageRefused(f"The file is {what}.", fix)
    if start.startswith(vmdk.DESCRIPTOR_MAGIC):
        raise vmdk.refuse_descriptor(start)
    if tarball.packer(start):
        return Format.TAR
    if tarball.is_tar(start):
        first = start[:100].split(b"\0")[0].lower()
        return Format.OVA if first.endswith(b".ovf") else Format.TAR
    if read(max(0, size - SECTOR), SECTOR).startswith(vhd.FOOTER_MAGIC) or start.startswith(vhd.FOOTER_MAGIC):
        return Format.VHD
    _refuse_text(start)
    if start[510:512] != b"\x55\xaa" and not contents.is_whole(start):
        raise ImageRefused(
            "The file is no disk: it has no header of a known format, no partition table and no file system.",
            "Check what it is with: file NAME",
        )
    return Format.RAW


def _refuse_text(start: bytes) -> None:
    if b"<Envelope" in start[:4096] or b":Envelope" in start[:4096]:
        raise ImageRefused(
            "The file is an OVF: the description of a machine, without its disk.",
            "Pack both with: tar -cf NEW.ova MACHINE.ovf DISK.vmdk",
        )
    if start.lstrip()[:1] == b"<":
        raise ImageRefused("The file is a web page.", "Open the address in a browser: it may ask for something first.")


def _look_at_tarball(path: Path, size: int, limits: Limits) -> Inspection:
    system = tarball.look(path, limits)
    return Inspection(
        Format.TAR, size, system.bytes, system=system.name, likely_flavour=system.id, tree_bytes=system.bytes
    )


def _look_at_ova(path: Path, file: IO[bytes], size: int, limits: Limits) -> Inspection:
    package = ova.open_package(file)
    if package.offset + package.size > size:
        raise ImageRefused("The OVA ends early.", "Fetch it again, and compare its checksum.")
    read = _reader(file, package.offset, package.size)
    format = recognise(read, package.size)
    if format in (Format.OVA, Format.TAR):
        raise ImageRefused("The disk in the OVA is no disk.", "Export the machine again.")
    inside = DiskInside(package.member, package.offset, package.size, format)
    found = _look_at_disk(Disk(path, format, limits, inside), read, package.size)
    return Inspection(
        Format.OVA, size, found.virtual_size, found.table, found.has_esp, found.has_lvm, found.root,
        inside, package.left_out, package.manifest,
    )  # fmt: skip


def _look_at_disk(disk: Disk, read: Read, size: int) -> Inspection:
    """What is on a disk in a file of `size` bytes, which `read` reads."""
    said = _said_size(disk.format, read, size)
    _check_virtual_size(said, disk.limits)
    if disk.format is Format.RAW:
        virtual_size, inner = size, read
    else:
        virtual_size = disk.virtual_size()
        # Both read the same bytes; should they ever differ in their judgement, nothing is opened on the word of one.
        # A VHD has its size twice: in bytes, and in cylinders that are never more.
        if virtual_size != said and not (disk.format is Format.VHD and said // 2 < virtual_size < said):
            raise ImageRefused(
                f"qemu-img reads the {disk.format.label} differently than its header says.", "Do not use this file."
            )
        disk.check()
        inner = disk.reader(virtual_size)
    inside = contents.look(inner)
    if inside.needs > virtual_size:
        raise ImageRefused(
            f"The image ends early: its partition table needs {inside.needs} bytes and there are {virtual_size}.",
            "Fetch it again, and compare its checksum.",
        )
    return Inspection(disk.format, size, virtual_size, inside.table, inside.has_esp, inside.lvm, inside.root)


def _said_size(format: Format, read: Read, size: int) -> int:
    """The bytes of the disk inside by the file's own header, which is found to lean on no other file."""
    match format:
        case Format.QCOW2:
            return qcow2.read_header(read(0, qcow2.HEADER_BYTES)).virtual_size
        case Format.VMDK:
            return vmdk.read_header(read, size).virtual_size
        case Format.VHD:
            return vhd.read_vhd(read, size).virtual_size
        case Format.VHDX:
            return vhd.read_vhdx(read, size).virtual_size
    if size % SECTOR:
        raise ImageRefused(
            "The file is no whole number of sectors, so it was cut short.", "Fetch it again, and compare its checksum."
        )
    return size


def _check_virtual_size(size: int, limits: Limits) -> None:
    if size > limits.virtual_size:
        raise ImageRefused(
            f"The disk inside has {human(size)}, and {human(limits.virtual_size)} is the limit.",
            "Shrink it, or take a cloud image: those grow by themselves.",
        )


def _reader(file: IO[bytes], start: int = 0, size: int | None = None) -> Read:
    """Reads a file, or a piece of it; beyond its end there is nothing."""

    def read(offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            return b""
        if size is not None:
            length = max(0, min(length, size - offset))
        file.seek(min(start + offset, 2**62))
        return file.read(length)

    return read


def leave_network() -> bool:
    """Whether this process, and all that it starts, is now without any network: false where the kernel forbids that."""
    new_user, new_network = 0x10000000, 0x40000000
    uid, gid = os.getuid(), os.getgid()
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.unshare(new_network) == 0:
        return True
    if kernel.unshare(new_user | new_network) != 0:
        return False
    # Files that are made now need an owner outside, too.
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def main(path: str, claimed: str, limits: str) -> None:
    """Prints what the file is, or why it may not become an image."""
    leave_network()
    try:
        found = look(Path(path), Format(claimed) if claimed else None, Limits(**json.loads(limits)))
        print(found.to_json())
    except ImageRefused as refusal:
        print(json.dumps({"why": refusal.why, "fix": refusal.fix}))


if __name__ == "__main__":
    main(*sys.argv[1:])

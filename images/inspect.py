"""Looks at an image file before anything is done with it, and refuses what is dangerous, damaged or not what it claims.

The header is read here first; only a file that names no other file is then shown to qemu-img, which runs with limits on
memory, time and output, so that a hostile file costs seconds and no more.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from servers.storage.sizes import human

from . import contents, qcow2
from .contents import SECTOR, Contents, Root
from .models import Format
from .refusal import ImageRefused

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an image may be, and what looking at it may cost. Bytes and seconds."""

    file_size: int = 64 * GIB
    virtual_size: int = 512 * GIB
    memory: int = GIB
    cpu_seconds: int = 30
    seconds: int = 60


LIMITS: Final = Limits()

_UNPACK: Final = "Unpack it first, and import what is in it."
_CONVERT: Final = "Convert it first: qemu-img convert -O qcow2 OLD NEW"
# What people really try: (where, the bytes there, what it is, what to do)
_FOREIGN: Final = (
    (0, b"\x1f\x8b", "a gzip file", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (0, b"BZh", "a bzip2 file", _UNPACK),
    (0, b"PK\3\4", "a ZIP file", _UNPACK),
    (257, b"ustar", "a tar file (an OVA is one)", _UNPACK),
    (0, b"KDMV", "a VMDK", _CONVERT),
    (0, b"# Disk DescriptorFile", "the description of a VMDK", _CONVERT),
    (0, b"vhdxfile", "a VHDX", _CONVERT),
    (0, b"conectix", "a VHD", _CONVERT),
    (64, b"\x7f\x10\xda\xbe", "a VirtualBox disk", _CONVERT),
    (0, b"LUKS\xba\xbe", "encrypted", "Export it without a password."),
    (32769, b"CD001", "the ISO file of a CD", "Take the distribution's cloud image."),
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file that may become an image. `root` is the best guess at the file system that becomes `/`."""

    format: Format
    size: int
    virtual_size: int
    table: str
    has_esp: bool
    root: Root | None

    @property
    def root_bytes(self) -> int:
        """The bytes in use in the root file system; 0 when they are not known."""
        return self.root.filesystem.used if self.root else 0

    def capabilities(self) -> dict[str, Any]:
        """What was found inside, for the catalogue."""
        found: dict[str, Any] = {"partition_table": self.table or "none", "efi_system_partition": self.has_esp}
        if self.root:
            found["root_file_system"] = {
                "type": self.root.filesystem.type,
                "label": self.root.filesystem.label,
                "partition": self.root.partition,
                "found_by": self.root.found_by,
            }
        return found


def inspect(path: Path, claimed: Format | None = None, limits: Limits = LIMITS) -> Inspection:
    """What the file is; ImageRefused when it may not become an image, such as one that is not what it claims."""
    size = path.stat().st_size
    if size > limits.file_size:
        raise ImageRefused(
            f"The file has {human(size)}, and {human(limits.file_size)} is the limit.", "Make it smaller."
        )
    with path.open("rb") as file:
        start = file.read(contents.READ_BYTES)
        file.seek(max(0, size - SECTOR))
        end = file.read()
    found = recognise(start, end)
    if claimed and found is not claimed:
        raise ImageRefused(
            f"The file is called a {claimed.label} image, and is a {found.label} one.", "Name it as what it is."
        )
    look = _look_at_qcow2 if found is Format.QCOW2 else _look_at_raw
    virtual_size, inside = look(path, start, limits)
    if inside.needs > virtual_size:
        raise ImageRefused(
            f"The image ends early: its partition table needs {inside.needs} bytes and there are {virtual_size}.",
            "Fetch it again, and compare its checksum.",
        )
    return Inspection(found, size, virtual_size, inside.table, inside.has_esp, inside.root)


def claimed_format(name: str) -> Format | None:
    """What a file's name says that it is; `.img` says nothing, it is used for both."""
    suffix = Path(name).suffix.lower()
    return {".qcow2": Format.QCOW2, ".qcow": Format.QCOW2, ".raw": Format.RAW}.get(suffix)


def recognise(start: bytes, end: bytes) -> Format:
    """What kind of image begins and ends with these bytes; ImageRefused says what it is when it is none."""
    if start.startswith(qcow2.MAGIC):
        return Format.QCOW2
    for offset, magic, what, fix in _FOREIGN:
        if start[offset : offset + len(magic)] == magic:
            raise ImageRefused(f"The file is {what}.", fix)
    if end.startswith(b"conectix"):
        raise ImageRefused("The file is a VHD.", _CONVERT)
    if start.lstrip()[:1] == b"<":
        raise ImageRefused("The file is a web page.", "Open the address in a browser: it may ask for something first.")
    if start[510:512] != b"\x55\xaa" and not contents.filesystem(start):
        raise ImageRefused(
            "The file is no disk: it has neither the header of a QCOW2, nor a partition table, nor a file system.",
            "Check what it is with: file NAME",
        )
    return Format.RAW


def _look_at_raw(path: Path, start: bytes, limits: Limits) -> tuple[int, Contents]:
    size = path.stat().st_size
    if size % SECTOR:
        raise ImageRefused(
            "The file is no whole number of sectors, so it was cut short.", "Fetch it again, and compare its checksum."
        )
    _check_virtual_size(size, limits)
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return size, contents.look(read)


def _look_at_qcow2(path: Path, start: bytes, limits: Limits) -> tuple[int, Contents]:
    header = qcow2.read_header(start[: qcow2.HEADER_BYTES])
    _check_virtual_size(header.virtual_size, limits)
    info = json.loads(_qemu_img(limits, "info", "--force-share", "--output=json", "-f", "qcow2", str(path)))
    # Both read the same bytes; should they ever differ in their judgement, nothing is opened on the word of one.
    if info.get("virtual-size") != header.virtual_size or "backing-filename" in info or info.get("encrypted"):
        raise ImageRefused("qemu-img reads the QCOW2 differently than its header says.", "Do not use this file.")
    _check_clusters(path, limits)
    return header.virtual_size, contents.look(_qcow2_reader(path, header.virtual_size, limits))


def _check_virtual_size(size: int, limits: Limits) -> None:
    if size > limits.virtual_size:
        raise ImageRefused(
            f"The disk inside has {human(size)}, and {human(limits.virtual_size)} is the limit.",
            "Shrink it, or take a cloud image: those grow by themselves.",
        )


def _check_clusters(path: Path, limits: Limits) -> None:
    """Refuses a file with clusters that are missing or shared: half a download has the header of a whole one."""
    arguments = ("check", "--force-share", "--output=json", "-f", "qcow2", str(path))
    # 2: corrupt; 3: leaked clusters, which cost space and no data
    report = json.loads(_qemu_img(limits, *arguments, accept=(0, 2, 3)))
    if report.get("corruptions") or report.get("check-errors"):
        raise ImageRefused(
            "The QCOW2 is damaged: parts of it are missing.", "Fetch it again, and compare its checksum."
        )


def _qcow2_reader(path: Path, virtual_size: int, limits: Limits) -> contents.Read:
    """Reads the disk inside, sector by sector; beyond its end there is nothing."""

    def read(offset: int, length: int) -> bytes:
        length = min(length, virtual_size - offset)
        if length <= 0:
            return b""
        with tempfile.TemporaryDirectory(prefix="landfall-inspect-") as scratch:
            piece = Path(scratch) / "piece"
            # a window of the disk: what the options of `qemu-img dd` mean together has changed over the years
            window = f"driver=raw,offset={offset},size={length},file.driver=qcow2,file.file.driver=file"
            file = f"file.file.filename={str(path).replace(',', ',,')}"
            _qemu_img(limits, "convert", "--force-share", "--image-opts", f"{window},{file}", "-O", "raw", str(piece))
            return piece.read_bytes()

    return read


def _qemu_img(limits: Limits, *arguments: str, accept: tuple[int, ...] = (0,)) -> bytes:
    """What qemu-img prints, within the limits; ImageRefused when it fails or takes too much."""
    command = [
        "prlimit", f"--as={limits.memory}", f"--cpu={limits.cpu_seconds}", f"--fsize={contents.READ_BYTES}",
        "--core=0", "--", "qemu-img", *arguments,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=limits.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ImageRefused("Looking at the file takes far too long.", "Do not use this file.") from None
    if done.returncode not in accept:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise ImageRefused(f"qemu-img cannot read the file: {last[0][:300]}.", "Fetch it again, or make it anew.")
    return done.stdout

"""Disks opened by qemu-img: what it says of one, whether it is whole, and its bytes.

Every node names its driver and says that there is no backing file, so nothing is probed and nothing followed.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import contents
from .formats import Format
from .inspection import DiskInside, Limits
from .refusal import ImageRefused

_CHECKED: Final = (Format.QCOW2, Format.VMDK, Format.VHDX)
"""The formats whose inner tables `qemu-img check` follows."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk in a file, or in a piece of a file."""

    path: Path
    format: Format
    limits: Limits
    inside: DiskInside | None = None

    def virtual_size(self) -> int:
        """The bytes of the disk, as QEMU reads them; ImageRefused when it would open another file, too."""
        info = json.loads(self._qemu_img("info", "--output=json"))
        if "backing-filename" in info or info.get("encrypted"):
            raise ImageRefused(f"qemu-img reads the {self.format.label} differently than its header says.", _LEAVE_IT)
        return int(info["virtual-size"])

    def check(self) -> None:
        """Refuses a file with parts that are missing or shared: half a download has the header of a whole one."""
        if self.format not in _CHECKED:
            return
        # 2: corrupt; 3: leaked clusters, which cost space and no data
        report = json.loads(self._qemu_img("check", "--output=json", accept=(0, 2, 3)))
        if report.get("corruptions") or report.get("check-errors"):
            raise ImageRefused(
                f"The {self.format.label} is damaged: parts of it are missing.",
                "Fetch it again, and compare its checksum.",
            )

    def reader(self, virtual_size: int) -> contents.Read:
        """Reads the disk inside, sector by sector; beyond its end there is nothing."""

        def read(offset: int, length: int) -> bytes:
            length = min(length, virtual_size - offset)
            if length <= 0 or offset < 0:
                return b""
            with tempfile.TemporaryDirectory(prefix="landfall-inspect-") as scratch:
                piece = Path(scratch) / "piece"
                # a window of the disk: what the options of `qemu-img dd` mean together has changed over the years
                window = {"driver": "raw", "offset": offset, "size": length, "file": self._node()}
                qemu_img(self.limits, "convert", "--force-share", "-O", "raw", _name(window), str(piece))
                return piece.read_bytes()

        return read

    def _node(self) -> dict[str, Any]:
        file: dict[str, Any] = {"driver": "file", "filename": str(self.path)}
        if self.inside:
            file = {"driver": "raw", "offset": self.inside.offset, "size": self.inside.size, "file": file}
        node = {"driver": self.format.driver, "file": file}
        return node if self.format in (Format.RAW, Format.VHD, Format.VHDX) else {**node, "backing": None}

    def _qemu_img(self, command: str, *options: str, accept: tuple[int, ...] = (0,)) -> bytes:
        return qemu_img(self.limits, command, "--force-share", *options, _name(self._node()), accept=accept)


_LEAVE_IT: Final = "Do not use this file."


def _name(node: Mapping[str, Any]) -> str:
    return f"json:{json.dumps(node)}"


def qemu_img(limits: Limits, *arguments: str, accept: tuple[int, ...] = (0,)) -> bytes:
    """What qemu-img prints, within the limits; ImageRefused when it fails or takes too much."""
    command = [
        "prlimit", f"--as={limits.memory}", f"--cpu={limits.cpu_seconds}", f"--fsize={LARGEST_PIECE}", "--core=0", "--",
        "qemu-img", *arguments,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=limits.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ImageRefused("Looking at the file takes far too long.", _LEAVE_IT) from None
    if done.returncode not in accept:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        why = last[0].rpartition("': ")[2][:300]  # what stands before it is the name that we gave the file
        raise ImageRefused(f"qemu-img cannot read the file: {why}.", "Fetch it again, and compare its checksum.")
    return done.stdout


LARGEST_PIECE: Final = 2 * 2**20
"""Bytes that are read of a disk at once: the metadata of LVM may have a MiB."""

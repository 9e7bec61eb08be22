"""A small virtual machine that packs the tree in an image: no kernel but its own ever mounts what somebody else made.

It is booted from the rescue system's kernel and initramfs, has no network, sees the image through a snapshot, and can
write to one file alone. So it needs no root, and a file system that breaks a kernel breaks that of a machine that ends.
"""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from images import strays, tree
from images.accelerator import Accelerator, accelerator, processor
from images.refusal import ImageRefused

QEMU: Final = "qemu-system-x86_64"
MEMORY_MIB: Final = 1536
LONGEST: Final = 2 * 3600.0
"""Seconds that a machine may take."""
MOST_SAID: Final = 1 << 20
BLOCK: Final = 1 << 20

NOT_NEEDED: Final = (
    "systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service", "landfall-rescue.service",
    "dbus.service", "dbus.socket", "systemd-sysusers.service",
)  # fmt: skip
"""What the rescue system starts, and this machine has no use for: minutes, where it is emulated on a busy host."""

# The kernel finds disks some time after the system is up.
_DISK: Final = "/dev/disk/by-id/virtio-script"
_RUN: Final = f"/bin/sh -c 'until test -b {_DISK}; do sleep 0.5; done; exec bash {_DISK}'"

UNPACKERS: Final = {"gz": "gzip -dc", "xz": "xz -dc", "zst": "zstd -dc", "bz2": "bzip2 -dc", "": "cat"}


class Watch(Protocol):
    """Who waits for the stream."""

    def say(self, text: str) -> None:
        """Is told what is being done."""

    def goes_on(self) -> bool:
        """Asked every second: whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file of an image, and how it is opened."""

    path: Path
    format: str
    size: int
    virtual_size: int
    disk: Mapping[str, Any] | None = None

    @property
    def drive(self) -> str:
        """The image as QEMU's -drive names it; of a tarball its bytes."""
        format = "raw" if self.format == "tar" else self.format
        return tree.options(format, str(self.path), self.disk)

    @property
    def most(self) -> int:
        """Bytes that the stream may have: a little more than what is in the image."""
        return max(self.virtual_size, self.size) * (8 if self.format == "tar" else 1) + (256 << 20)


@dataclass(frozen=True, slots=True)
class Packed:
    """What the machine says of the stream that it wrote; to be believed once it was hashed here."""

    sha256: str
    size: int
    tar_bytes: int
    root_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Rescue:
    """The rescue system's folder."""

    folder: Path

    def __post_init__(self) -> None:
        missing = [name for name in ("vmlinuz", "initrd.img") if not (self.folder / name).is_file()]
        if missing:
            raise ImageRefused(
                f"{self.folder} is no rescue system: it has no {missing[0]}.",
                "Run `python -m rescue` and set LANDFALL_RESCUE_DIR to the folder that it prints.",
            )


def script(source: Source, level: int) -> bytes:
    """What the machine runs, as the content of a disk: whole sectors, newlines at the end."""
    text = Path(__file__).with_name("guest.sh").read_text()
    packed = UNPACKERS[_compression(source.path)] if source.format == "tar" else "no"
    said = {"@LEVEL@": str(level), "@PACKED@": shlex.quote(packed), "@SIZE@": str(source.size)}
    for mark, value in said.items():
        text = text.replace(mark, value)
    programs = f"OPEN={shlex.quote(tree.OPEN)}\nSTRAYS={shlex.quote(Path(strays.__file__).read_text())}\n"
    data = f"{programs}{text}\nexit 0\n".encode()
    return data.ljust(-(-len(data) // 4096) * 4096, b"\n")


def _compression(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(6)
    magics = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
    return next((name for magic, name in magics.items() if start.startswith(magic)), "")


def argv(source: Source, rescue: Rescue, scratch: Path, how: Accelerator) -> list[str]:
    """The command line of the machine."""
    kernel = (
        "initrd=initrd.img console=ttyS0,115200 quiet systemd.show_status=no norandmaps "
        # the rescue system's own choice of a target would win over that of systemd.run
        f'systemd.unit=kernel-command-line.target systemd.run="{_RUN}" '
        "systemd.run_success_action=poweroff-force systemd.run_failure_action=poweroff-force "
        + " ".join(f"systemd.mask={unit}" for unit in NOT_NEEDED)
    )
    return [
        *("nice", QEMU, "-name", "landfall-publish", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-no-reboot", "-nic", "none", "-machine", "q35,smm=off", "-m", str(MEMORY_MIB)),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *processor(how),
        *("-kernel", str(rescue.folder / "vmlinuz"), "-initrd", str(rescue.folder / "initrd.img"), "-append", kernel),
        *("-serial", f"file:{scratch / 'console'}", "-serial", f"file:{scratch / 'said'}"),
        *("-drive", f"if=none,id=image,snapshot=on,{source.drive}"),
        *("-device", "virtio-blk-pci,drive=image,serial=image"),
        *("-drive", f"if=none,id=script,format=raw,read-only=on,file={scratch / 'script'}"),
        *("-device", "virtio-blk-pci,drive=script,serial=script"),
        # a full disk is an error for the machine: by default it would wait for ever
        *("-drive", f"if=none,id=stream,format=raw,cache=unsafe,werror=report,file={scratch / 'stream'}"),
        *("-device", "virtio-blk-pci,drive=stream,serial=stream"),
    ]


def pack(source: Source, rescue: Rescue, scratch: Path, watch: Watch) -> Packed:
    """The stream in `scratch/stream`, cut to its length. ImageRefused says why there is none.

    Takes a minute or two, and an emulated machine several.
    """
    how = accelerator(rescue.folder / "vmlinuz")
    (scratch / "script").write_bytes(script(source, 9 if how is Accelerator.KVM else 3))
    (scratch / "said").touch()
    with (scratch / "stream").open("wb") as stream:
        stream.truncate(-(-source.most // BLOCK) * BLOCK)
    watch.say(f"starting a machine ({how.name})")
    try:
        with (scratch / "errors").open("wb") as errors:
            machine = subprocess.Popen(
                argv(source, rescue, scratch, how), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                env=os.environ | {"TMPDIR": str(scratch)},
            )  # fmt: skip
    except FileNotFoundError as error:
        raise ImageRefused(f"{error.filename} is not installed.", "Install qemu-system-x86 on this host.") from error
    try:
        _wait(machine, scratch / "said", watch)
    finally:
        machine.kill()
        machine.wait()
    return _result(scratch)


def _wait(machine: "subprocess.Popen[bytes]", said: Path, watch: Watch) -> None:
    deadline, last = time.monotonic() + LONGEST, ""
    while machine.poll() is None and watch.goes_on():
        if time.monotonic() > deadline:
            raise ImageRefused(f"It was not packed within {LONGEST / 3600:g} hours.", "Look at the host's load.")
        lines = _text(said).splitlines()
        if lines and lines[-1] != last:
            last = lines[-1]
            watch.say(last)
        time.sleep(1)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        # a serial port ends lines with CR LF
        text = file.read(MOST_SAID).decode(errors="replace").replace("\r", "")
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _result(scratch: Path) -> Packed:
    """What the machine said at last. It may be lying: lengths and the checksum are compared with what is there."""
    text = _text(scratch / "said")
    found = re.search(r"^RESULT (\{.*\})$", text, re.MULTILINE)
    if not found:
        if refused := re.search(r"^image not taken: (.+) \| (.+)$", text, re.MULTILINE):
            raise ImageRefused(refused[1][:300], refused[2][:300])
        lines = text.splitlines() or _text(scratch / "errors").splitlines() or ["it said nothing"]
        raise ImageRefused(f"The image could not be packed: {lines[-1][:300]}.", "Look whether it is a whole system.")
    try:
        packed = Packed(**json.loads(found[1]))
        if (
            not re.fullmatch("[0-9a-f]{64}", packed.sha256)
            or not 0 < packed.size <= (scratch / "stream").stat().st_size
        ):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ImageRefused("What the machine said of the stream makes no sense.", "Try it again.") from error
    os.truncate(scratch / "stream", packed.size)
    return packed

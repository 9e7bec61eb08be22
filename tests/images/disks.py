"""Image files for tests, made with the real tools; none needs root."""

import lzma
import struct
import subprocess
from pathlib import Path

MIB = 2**20
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service+ep"""
ROOT_X86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"


def run(*arguments: object, stdin: str = "") -> str:
    return subprocess.run(
        [str(one) for one in arguments], input=stdin, check=True, capture_output=True, text=True
    ).stdout


def make_filesystem(path: Path, *, kind: str = "ext4", label: str = "root", size: int = 32 * MIB) -> Path:
    """A file that is a file system with one file of 1 MiB in it (ext4) or none."""
    with path.open("wb") as file:
        file.truncate(size)
    if kind == "ext4":
        tree = path.with_suffix(".tree")
        tree.mkdir()
        (tree / "data").write_bytes(b"x" * MIB)
        run("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", tree, path)
    elif kind == "xfs":
        run("mkfs.xfs", "-q", "-L", label, path)
    elif kind == "btrfs":
        run("mkfs.btrfs", "-q", "-L", label, path)
    else:
        run("mkfs.vfat", "-n", label, path)
    return path


def make_raw(path: Path, *partitions: tuple[str, Path], table: str = "gpt") -> Path:
    """A raw image with a partition of the type for each file, one after the other."""
    sizes = [file.stat().st_size // MIB for _, file in partitions]
    with path.open("wb") as disk:
        disk.truncate((sum(sizes) + 2) * MIB)
    lines = [f"label: {table}", "first-lba: 2048"] if table == "gpt" else [f"label: {table}"]
    start = 1
    for (kind, _), size in zip(partitions, sizes, strict=True):
        lines.append(f"start={start}MiB, size={size}MiB, type={kind}")
        start += size
    run("sfdisk", "--quiet", path, stdin="\n".join(lines) + "\n")
    start = 1
    for (_, file), size in zip(partitions, sizes, strict=True):
        run("dd", f"if={file}", f"of={path}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
        start += size
    return path


def make_image(folder: Path, *, suffix: str = "qcow2") -> Path:
    """A small image as a distribution would publish it: GPT, an ESP, a root file system."""
    folder.mkdir(exist_ok=True)
    esp = make_filesystem(folder / "esp", kind="vfat", label="EFI", size=4 * MIB)
    root = make_filesystem(folder / "root")
    raw = make_raw(folder / "image.raw", (ESP, esp), (ROOT_X86_64, root))
    return raw if suffix == "raw" else convert(raw, folder / f"image.{suffix}")


def convert(raw: Path, to: Path, *options: str, format: str = "qcow2") -> Path:
    run("qemu-img", "convert", "-f", "raw", "-O", format, *options, raw, to)
    return to


def patch(path: Path, offset: int, kind: str, *values: int | bytes) -> None:
    """Writes big-endian values into a file, as somebody with a hex editor would."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(f">{kind}", *values))


EXTENT = 4 * MIB
_SAMPLE = Path(__file__).with_name("samples") / "lvm2-metadata.xz"
"""The first MiB of a physical volume as LVM2 2.03.16 wrote it: group vg0 with its volumes swap, home and root."""

_ROOT_EXTENTS = (2, 3, 4, 5, 6, 9, 10)
"""Where root lies: it was made larger once, and so has two segments."""

ROOT_VOLUME_SIZE = len(_ROOT_EXTENTS) * EXTENT


def make_physical_volume(path: Path, root: Path) -> Path:
    """A physical volume of 64 MiB, in whose volume vg0/root the file system of 28 MiB lies."""
    content = root.read_bytes()
    with path.open("wb") as file:
        file.write(lzma.decompress(_SAMPLE.read_bytes()))
        file.truncate(64 * MIB)
        for number, extent in enumerate(_ROOT_EXTENTS):
            file.seek(MIB + extent * EXTENT)
            file.write(content[number * EXTENT : (number + 1) * EXTENT])
    return path

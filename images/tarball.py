"""A tarball with a root file system in it: unpacked in a stream, counted, and looked at entry by entry.

Nothing of it is written anywhere.
"""

import subprocess
from pathlib import Path
from typing import IO, Final

from servers.storage.sizes import human

from .inspection import Limits
from .refusal import ImageRefused
from .rootfs import LONGEST_OS_RELEASE, OS_RELEASE, System, Tree
from .tarstream import BLOCK, REGULAR, Tar

CHUNK: Final = 2**18
UNPACK: Final = "Unpack it first, and import what is in it."
_MEMORY: Final = 256 * 2**20
"""Bytes that unpacking may keep: xz -9 needs 65 MiB, zstd --long=27 128 MiB."""

PACKERS: Final = (
    (b"\x1f\x8b", "gzip", ("gzip", "-dcq")),
    (b"\xfd7zXZ\0", "xz", ("xz", "-dcq", "-T1", f"--memlimit-decompress={_MEMORY}")),
    (b"\x28\xb5\x2f\xfd", "zstd", ("zstd", "-dcq", f"--memory={_MEMORY}")),
)
"""How a packed file begins, what it is called, and what unpacks it."""


def packer(start: bytes) -> str:
    """What packed a file that begins with these bytes; empty when nothing did that is known here."""
    return next((name for magic, name, _ in PACKERS if start.startswith(magic)), "")


def look(path: Path, limits: Limits) -> System:
    """What the root file system in the tarball is; ImageRefused when it is none, damaged, hostile or a bomb."""
    with path.open("rb") as file:
        start = file.read(16)
    # opened anew: the other program reads from where the file stands, not from where Python's buffer does
    with path.open("rb") as file:
        unpack = next((command for magic, _, command in PACKERS if start.startswith(magic)), None)
        if unpack is None:
            return _read(_Counted(file, path.stat().st_size, limits))
        with subprocess.Popen(unpack, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            try:
                stream = _Counted(process.stdout, path.stat().st_size, limits)
                first = stream.peek()
                if len(first) < BLOCK:
                    raise _broken(unpack[0])
                if not is_tar(first):
                    raise ImageRefused(f"The file is a {unpack[0]} file with no tar in it.", UNPACK)
                system = _read(stream)
                stream.drain()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise _broken(unpack[0])
        return system


def is_tar(start: bytes) -> bool:
    """Whether a file begins like a tar."""
    return start[257:262] == b"ustar"


class _Counted:
    """A stream that is counted, and ends with an error when it becomes too large, or too much larger than its file."""

    def __init__(self, stream: IO[bytes], packed: int, limits: Limits) -> None:
        self._stream = stream
        self._packed = packed
        self._limits = limits
        self._ahead = b""
        self.count = 0

    def peek(self) -> bytes:
        """The first block of the stream, which stays in it."""
        self._ahead = self.read(BLOCK)
        return self._ahead

    def read(self, length: int) -> bytes:
        pieces = [self._ahead[:length]]
        self._ahead, length = self._ahead[length:], length - len(pieces[0])
        while length and (piece := self._stream.read(min(length, CHUNK))):
            self._add(len(piece))
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def skip(self, length: int) -> None:
        while length and (piece := self._stream.read(min(length, CHUNK))):
            self._add(len(piece))
            length -= len(piece)

    def drain(self) -> None:
        while piece := self._stream.read(CHUNK):
            self._add(len(piece))

    def _add(self, count: int) -> None:
        self.count += count
        if self.count > self._limits.unpacked:
            raise ImageRefused(
                f"What is in the tarball has more than {human(self._limits.unpacked)}, which is the limit.",
                "Make it smaller.",
            )
        if self.count > self._limits.free and self.count > self._limits.ratio * self._packed:
            raise ImageRefused(
                f"The tarball becomes more than {self._limits.ratio} times as large when it is unpacked.",
                "Do not use this file.",
            )


def _read(stream: _Counted) -> System:
    tree, tar = Tree(), Tar(stream.read, stream.skip)
    for member in tar:
        path = tree.add(member)
        if path in OS_RELEASE and member.type == REGULAR and member.size <= LONGEST_OS_RELEASE:
            tree.release(tar.data(member))
    return tree.system()


def _broken(unpack: str) -> ImageRefused:
    return ImageRefused(f"{unpack} cannot unpack the file to its end.", "Fetch it again, and compare its checksum.")

"""The initramfs archive format (newc), as the kernel unpacks it."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, symbolic link or device of the archive; `mode` carries the type, as in stat."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """An empty folder, readable by all."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def character_device(name: str, major: int, minor: int) -> Entry:
    """A device node, mode 600: the kernel opens /dev/console before anything is mounted."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def write(entries: Sequence[Entry], output: BinaryIO) -> None:
    """The archive with its trailer; everything belongs to root and carries no time: equal input gives equal bytes."""
    for inode, entry in enumerate(entries, start=1):
        _write_entry(inode, entry, output)
    _write_entry(0, Entry("TRAILER!!!", 0), output)


def _write_entry(inode: int, entry: Entry, output: BinaryIO) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + "".join(f"{number:08X}" for number in numbers).encode()
    output.write(_padded(header + name))
    output.write(_padded(entry.data))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

"""An OVA: a tar with the description of a machine, its disks, and a manifest of their checksums."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Final

from . import ovf
from .refusal import ImageRefused
from .tarstream import BLOCK, REGULAR, Member, Tar

MOST_MEMBERS: Final = 64
MOST_MANIFEST: Final = 2**20
CHUNK: Final = 2**20

_LINE: Final = re.compile(r"(SHA1|SHA256|SHA512) ?\(([^()]{1,255})\) ?= ?([0-9a-fA-F]+)", re.ASCII)
_EXPORT: Final = "Export the machine again, or pack its files with: tar -cf NEW.ova MACHINE.ovf DISK.vmdk"
_FETCH: Final = "Fetch it again, and compare its checksum."


@dataclass(frozen=True, slots=True)
class Package:
    """What is in an OVA: where its boot disk lies, the disks that are left out, and what the manifest was compared by.

    `size` is in whole sectors: the padding of the tar stands behind the last one.
    """

    member: str
    offset: int
    size: int
    left_out: tuple[str, ...]
    manifest: str


def open_package(file: IO[bytes]) -> Package:
    """What is in the OVA; ImageRefused when it is damaged or hostile, or a checksum of its manifest is wrong.

    Reads every byte that a manifest speaks of.
    """
    members, texts = _members(file)
    described = [name for name in members if name.lower().endswith(".ovf")]
    if len(described) != 1:
        raise ImageRefused(f"The OVA has {len(described)} files that end in .ovf, and needs one.", _EXPORT)
    manifests = [name for name in members if name.lower().endswith(".mf")]
    if len(manifests) > 1:
        raise ImageRefused("The OVA has more than one manifest.", _EXPORT)
    disk = ovf.boot_disk(texts[described[0]])
    if disk.file not in members:
        raise ImageRefused(f"The OVA's disk {disk.file[:100]!r} is not in it.", _EXPORT)
    if members[disk.file].size == 0:
        raise ImageRefused(f"The OVA's disk {disk.file[:100]!r} is empty.", _EXPORT)
    manifest = ""
    if manifests:
        manifest = _compare(file, members, texts[manifests[0]], (described[0], disk.file))
    found = members[disk.file]
    return Package(disk.file, found.offset, -(-found.size // BLOCK) * BLOCK, disk.others, manifest)


def is_plain_name(name: str) -> bool:
    """Whether a file of this name lies in the folder of who names it, and nowhere else."""
    return "/" not in name and "\\" not in name and name not in ("", ".", "..") and name.isprintable()


def _members(file: IO[bytes]) -> tuple[dict[str, Member], dict[str, bytes]]:
    """The members by name, each a plain file in the top folder, and the texts of those that describe."""

    def skip(length: int) -> None:
        file.seek(length, 1)

    file.seek(0)
    tar = Tar(file.read, skip)
    members: dict[str, Member] = {}
    texts: dict[str, bytes] = {}
    for member in tar:
        name = member.name.removeprefix("./")
        if not name and member.type == "5":
            continue  # the folder that was packed
        if len(members) >= MOST_MEMBERS:
            raise ImageRefused(f"The OVA has more than {MOST_MEMBERS} files.", _EXPORT)
        if not is_plain_name(name):
            raise ImageRefused(f"The OVA's file {member.name[:100]!r} would lie outside of its folder.", _EXPORT)
        if member.type != REGULAR or member.is_sparse:
            raise ImageRefused(f"The OVA's {name[:100]!r} is no plain file.", _EXPORT)
        if name in members:
            raise ImageRefused(f"The OVA has two files named {name[:100]!r}.", _EXPORT)
        members[name] = member
        if name.lower().endswith((".ovf", ".mf")):
            if member.size > MOST_MANIFEST:
                raise ImageRefused(f"The OVA's {name[:100]!r} is larger than any description.", _EXPORT)
            texts[name] = tar.data(member)
    return members, texts


def _compare(file: IO[bytes], members: Mapping[str, Member], manifest: bytes, needed: tuple[str, ...]) -> str:
    """The algorithm by which everything that the manifest names was compared."""
    named: dict[str, tuple[str, str]] = {}
    for line in filter(None, (line.strip() for line in manifest.decode(errors="replace").splitlines())):
        match = _LINE.fullmatch(line)
        if not match or match[2] in named:
            raise ImageRefused(f"The OVA's manifest has a line that is none: {line[:100]!r}.", _EXPORT)
        named[match[2]] = (match[1].lower(), match[3].lower())
    for name in needed:
        if name not in named:
            raise ImageRefused(f"The OVA's manifest does not name {name[:100]!r}.", _EXPORT)
    for name, (algorithm, said) in named.items():
        if name not in members:
            raise ImageRefused(f"The OVA's manifest names {name[:100]!r}, which is not in it.", _FETCH)
        if (found := _digest(file, members[name], algorithm)) != said:
            raise ImageRefused(
                f"The {algorithm.upper()} of {name[:100]!r} is {found}, not {said[:128]} as the manifest says.",
                _FETCH,
            )
    return named[needed[-1]][0]


def _digest(file: IO[bytes], member: Member, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    file.seek(member.offset)
    left = member.size
    while left and (chunk := file.read(min(CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()

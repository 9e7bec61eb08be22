"""What a tarball must be to become a root file system, and what may not be in it. Pure: values in, values out.

It is unpacked as root. So nothing in it may be written anywhere but into its own tree, and what lies there is judged as
`images.strays` does: no device node outside of /dev, no setuid program in a home.
"""

import shlex
from dataclasses import dataclass
from typing import Final

from . import strays
from .refusal import ImageRefused
from .tarstream import BLOCK_DEVICE, CHARACTER_DEVICE, FOLDER, HARD_LINK, LINK, REGULAR, Member

MOST_MEMBERS: Final = 2_000_000
LONGEST_OS_RELEASE: Final = 64 * 1024
PAGE: Final = 4096

OS_RELEASE: Final = ("etc/os-release", "usr/lib/os-release")

_REPACK: Final = (
    "Pack it again from the root file system alone: tar --numeric-owner --xattrs -C ROOT -cJf image.tar.xz ."
)


@dataclass(frozen=True, slots=True)
class System:
    """What a root file system takes, and what it says that it is."""

    members: int
    bytes: int
    name: str = ""
    id: str = ""


class Tree:
    """The tree that a tarball's members would make, checked as they come."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._members = 0
        self._bytes = 0
        self._release: dict[str, str] = {}

    def add(self, member: Member) -> str:
        """The member's place in the tree; ImageRefused when it may not be there."""
        path = self._place(member)
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise ImageRefused(f"The tarball has more than {MOST_MEMBERS} entries.", _REPACK)
        if path:
            self._check_parents(path, member)
            self._check_kind(path, member)
            self._kinds[path] = member.type
            self._bytes += -(-member.size // PAGE) * PAGE + (PAGE if member.type == FOLDER else 0)
        return path

    def release(self, text: bytes) -> None:
        """Takes what the tree's os-release says."""
        self._release = self._release or read_os_release(text)

    def system(self) -> System:
        """The whole tree; ImageRefused when it is none of a system."""
        if not any(path in self._kinds for path in OS_RELEASE):
            raise ImageRefused(
                "The tarball holds no root file system: it has neither etc/os-release nor usr/lib/os-release.",
                _REPACK,
            )
        release = self._release
        version = release.get("VERSION_ID", "")
        name = "-".join(part for part in (release.get("ID", ""), version.split(".")[0]) if part)
        return System(self._members, self._bytes, release.get("PRETTY_NAME", "")[:100], name[:40])

    def _place(self, member: Member) -> str:
        if member.name.startswith("/"):
            raise self._refused(member, "has an absolute name")
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(member, "climbs out of the tree")
        if "\0" in member.name:
            raise self._refused(member, "has a name that is none")
        return "/".join(parts)

    def _check_parents(self, path: str, member: Member) -> None:
        at = path.find("/")
        while at >= 0:
            kind = self._kinds.setdefault(path[:at], FOLDER)
            if kind != FOLDER:
                raise self._refused(member, f"would be written through {path[:at]!r}, which is no folder")
            at = path.find("/", at + 1)

    def _check_kind(self, path: str, member: Member) -> None:
        known = self._kinds.get(path)
        if known is not None and not known == member.type == FOLDER:
            raise self._refused(member, "is in it twice")
        if member.type in (CHARACTER_DEVICE, BLOCK_DEVICE) and (why := strays.device_at(path)):
            raise self._refused(member, why)
        if member.type == LINK and _leaves(path, member.link):
            raise self._refused(member, f"is a link that leaves the tree, to {member.link[:100]!r}")
        if member.type == HARD_LINK:
            self._check_hard_link(member)
        names = [name.removeprefix("SCHILY.xattr.") for name in member.attributes]
        if member.type == REGULAR and (why := strays.program_at(path, member.mode, names)):
            raise self._refused(member, why)

    def _check_hard_link(self, member: Member) -> None:
        parts = [part for part in member.link.split("/") if part not in ("", ".")]
        target = "/".join(parts)
        if member.link.startswith("/") or ".." in parts or self._kinds.get(target, FOLDER) == FOLDER:
            raise self._refused(member, f"is a hard link to what is not in the tree, {member.link[:100]!r}")

    def _refused(self, member: Member, why: str) -> ImageRefused:
        return ImageRefused(f"The tarball's {member.name[:100]!r} {why}.", _REPACK)


def _leaves(path: str, target: str) -> bool:
    """Whether a symbolic link leads above the root, going by its words; an absolute one begins at the tree's own."""
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        depth += 0 if part in ("", ".") else -1 if part == ".." else 1
        if depth < 0:
            return True
    return not target


def read_os_release(text: bytes) -> dict[str, str]:
    """The names and values of an os-release file; lines that are none are left out."""
    values = {}
    for line in text.decode(errors="replace").splitlines():
        name, is_set, value = line.strip().partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if is_set and name.isidentifier() and len(words) < 2 and all(word.isprintable() for word in words):
            values[name] = words[0] if words else ""
    return values

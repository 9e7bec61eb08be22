"""What a customer wants on the disks: file systems, swap, RAID, which disks to use and which to keep.

A layout knows no machine; the planner makes a plan of it for one. Its JSON is what a person may write by hand:

    {"name": "custom", "swap": "4 GiB", "keep": ["S3Z8NB0K"],
     "filesystems": [{"mount": "/", "size": "40 GiB", "raid": "raid1"},
                     {"mount": "/home", "size": "rest", "raid": "raid1"}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from servers.facts import Disk, Facts
from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import MIB, SizeRefused, exact, parse_size


class FsType(Enum):
    """The file systems that a plan can hold; `vfat` is for what firmware and cloud-init read, never for a root."""

    EXT4 = "ext4"
    VFAT = "vfat"


class Raid(Enum):
    """The RAID levels that a file system can lie on."""

    RAID1 = "raid1"

    @property
    def title(self) -> str:
        """As people write it: RAID1."""
        return self.value.upper()

    @property
    def least_disks(self) -> int:
        """How many disks the level needs to be worth its name."""
        return {"raid1": 2}[self.value]


class Rest(Enum):
    """In place of a size: all that the others leave."""

    REST = "rest"


REST: Final = Rest.REST
Size = int | Rest


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system that is wanted: where, of what type and size, on which RAID level (none: on the first disk)."""

    mount: str
    type: FsType = FsType.EXT4
    size: Size = REST
    raid: Raid | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What is wanted on the disks of a machine, whichever machine it is.

    `swap` is in bytes, 0 for none; it lies on the root's RAID level, so that a server does not die with one disk.
    `disks` names the disks to use by WWN, serial number or path; none named means all that are not kept.
    `keep` names disks by WWN or serial number that nothing may touch.
    """

    name: str
    filesystems: tuple[Filesystem, ...]
    swap: int = 0
    disks: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def root(self) -> Filesystem:
        """The file system that the rest is mounted on."""
        return next(filesystem for filesystem in self.filesystems if filesystem.mount == "/")

    @classmethod
    def from_json(cls, data: object) -> Layout:
        """The layout that a person or `to_json` wrote; LayoutRefused says what is wrong with it and how to mend it."""
        wanted = _object(data, "The layout", ("name", "filesystems", "swap", "disks", "keep"))
        listed = wanted.get("filesystems")
        if not isinstance(listed, list) or not listed:
            raise LayoutRefused("The layout has no file systems.", "List at least one, mounted at /.")
        return cls(
            name=_string(wanted.get("name", "custom"), "The layout's name"),
            filesystems=tuple(_filesystem(one) for one in listed),
            swap=_swap(wanted.get("swap")),
            disks=_names(wanted.get("disks"), "disks"),
            keep=_names(wanted.get("keep"), "keep"),
        )

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON that `from_json` reads back equal, sizes as a person would write them."""
        return {
            "name": self.name,
            "filesystems": [
                {"mount": one.mount, "type": one.type.value, "size": one.size.value if isinstance(one.size, Rest)
                 else exact(one.size), "raid": one.raid.value if one.raid else None}
                for one in self.filesystems
            ],
            "swap": exact(self.swap) if self.swap else None,
            "disks": list(self.disks),
            "keep": list(self.keep),
        }  # fmt: skip


def plain(swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> Layout:
    """Everything in one file system on the first disk."""
    return Layout("plain", (Filesystem("/"),), swap, disks, keep)


def raid1(swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> Layout:
    """Everything in one file system, mirrored on the disks: any one of them may die."""
    return Layout("raid1", (Filesystem("/", raid=Raid.RAID1),), swap, disks, keep)


NAMED: Final[Mapping[str, Callable[..., Layout]]] = {"plain": plain, "raid1": raid1}
"""The layouts that are offered by name; each takes swap, disks and keep."""


def default_layout(facts: Facts) -> Layout:
    """What to offer first: a mirror over the first two disks that match in kind and size, else the first disk alone."""
    for index, disk in enumerate(facts.disks):
        twin = next((other for other in facts.disks[index + 1 :] if _alike(disk, other)), None)
        if twin and len(facts.disks) == 2:
            return raid1()
        if twin:
            return raid1(disks=(disk.identity, twin.identity))
    return plain()


def _alike(one: Disk, other: Disk) -> bool:
    """Whether a mirror of the two wastes less than a tenth and pairs no SSD with a rotating disk."""
    small, large = sorted((one.size, other.size))
    return one.rotational == other.rotational and small * 10 >= large * 9


# What the installed system or the boot itself owns; a file system of the customer's there would hide or break it.
_RESERVED_MOUNTS: Final = ("/boot/efi", "/dev", "/proc", "/sys", "/run", "/etc", "/bin", "/sbin", "/lib", "/lib64")
_MOUNT: Final = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*)?", re.ASCII)
_SMALLEST: Final = 64 * MIB


def _check(layout: Layout) -> None:
    """LayoutRefused when no machine whatever could satisfy the layout."""
    mounts = [filesystem.mount for filesystem in layout.filesystems]
    for mount in mounts:
        _check_mount(mount)
        if mounts.count(mount) > 1:
            raise LayoutRefused(
                f"{mount} is listed {mounts.count(mount)} times.", "Give each file system its own mount."
            )
    if "/" not in mounts:
        raise LayoutRefused("No file system is mounted at /.", "Add one: the system itself goes there.")
    takers = [filesystem.mount for filesystem in layout.filesystems if filesystem.size is REST]
    if len(takers) > 1:
        raise LayoutRefused(
            f"{len(takers)} file systems take the rest: {', '.join(takers)}.", "Give all but one of them a size."
        )
    for filesystem in layout.filesystems:
        _check_filesystem(filesystem)
    if 0 < layout.swap < _SMALLEST or layout.swap < 0:
        raise LayoutRefused(f"A swap of {exact(layout.swap)} is too small.", "Ask for at least 64 MiB, or for none.")
    _check_disks(layout)


def _check_mount(mount: str) -> None:
    if not _MOUNT.fullmatch(mount) or len(mount) > 100:
        raise LayoutRefused(
            f"'{mount[:60]}' is no mount point.",
            "Write an absolute path of letters, digits, dots, dashes and underscores, such as /home.",
        )
    if any(mount == taken or mount.startswith(f"{taken}/") for taken in _RESERVED_MOUNTS):
        raise LayoutRefused(f"{mount} belongs to the system.", "Choose another mount point, such as /home or /srv.")


def _check_filesystem(filesystem: Filesystem) -> None:
    if filesystem.type is not FsType.EXT4:
        raise LayoutRefused(f"{filesystem.mount} is asked for as {filesystem.type.value}.", "Use ext4.")
    if isinstance(filesystem.size, int) and filesystem.size < _SMALLEST:
        raise LayoutRefused(
            f"{filesystem.mount} has {exact(filesystem.size)}, which is too small.", "Give it at least 64 MiB."
        )


def _check_disks(layout: Layout) -> None:
    both = [name for name in layout.keep if name.lower() in {one.lower() for one in layout.disks}]
    if both:
        raise LayoutRefused(f"The disk {both[0]} is to be used and to be kept.", "Take it out of one of the two lists.")
    for name in layout.keep:
        if name.startswith("/dev/") and not name.startswith("/dev/disk/by-id/"):
            raise LayoutRefused(
                f"{name} may be another disk after the next start.",
                "Name the disk to keep by its WWN or serial number.",
            )


def _object(data: object, what: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise LayoutRefused(f"{what} is not a JSON object.", f"Write an object with {', '.join(keys)}.")
    unknown = sorted(str(key) for key in data if key not in keys)
    if unknown:
        raise LayoutRefused(f"{what} has an unknown key '{unknown[0][:40]}'.", f"The keys are {', '.join(keys)}.")
    return data


def _string(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 100 or not value.isprintable():
        raise LayoutRefused(f"{what} is no text of 1 to 100 characters.", "Write it in quotes, on one line.")
    return value.strip()


def _filesystem(data: object) -> Filesystem:
    wanted = _object(data, "A file system", ("mount", "type", "size", "raid"))
    mount = _string(wanted.get("mount"), "The mount point of a file system")
    fstype = wanted.get("type", FsType.EXT4.value)
    if fstype not in {one.value for one in FsType}:
        raise LayoutRefused(f"{mount} has the unknown type {fstype!r}.", "Use ext4.")
    level = wanted.get("raid")
    if level is not None and level not in {one.value for one in Raid}:
        raise LayoutRefused(f"{mount} has the unknown RAID level {level!r}.", "Use raid1, or leave it out.")
    return Filesystem(
        mount, FsType(fstype), _size(wanted.get("size", REST.value), mount), Raid(level) if level else None
    )


def _size(value: object, what: str) -> Size:
    if isinstance(value, str) and value.strip().lower() == REST.value:
        return REST
    try:
        return parse_size("" if isinstance(value, bool) else str(value))
    except SizeRefused:
        raise LayoutRefused(
            f"The size of {what} is {str(value)[:40]!r}.", "Write a number with a unit, such as 20 GiB, or rest."
        ) from None


def _swap(value: object) -> int:
    if value in (None, 0, "", "0"):
        return 0
    size = _size(value, "the swap")
    if isinstance(size, Rest):
        raise LayoutRefused("The swap is to take the rest of the disks.", "Give it a size, such as 4 GiB.")
    return size


def _names(value: object, key: str) -> tuple[str, ...]:
    """The disk names in a list; 'all' in place of a list of disks to use."""
    if value is None or (key == "disks" and value == "all"):
        return ()
    if not isinstance(value, list):
        raise LayoutRefused(f"'{key}' is not a list.", "List disks by WWN or serial number.")
    return tuple(dict.fromkeys(_string(one, f"A disk in '{key}'") for one in value))

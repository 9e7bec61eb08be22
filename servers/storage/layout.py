"""What a customer wants on the disks: file systems, swap, RAID, LVM, encryption, which disks to use and which to keep.

A layout knows no machine; the planner makes a plan of it for one. Its JSON is what a person may write by hand:

    {"name": "custom", "swap": "4 GiB", "keep": ["S3Z8NB0K"],
     "groups": [{"name": "data", "disks": ["ZA1", "ZA2", "ZA3", "ZA4"]}],
     "volume_groups": [{"name": "system", "raid": "raid1", "encrypted": true}],
     "filesystems": [{"mount": "/", "size": "40 GiB", "volume_group": "system"},
                     {"mount": "/home", "size": "rest", "volume_group": "system"},
                     {"mount": "/srv", "type": "xfs", "size": "rest", "raid": "raid6", "group": "data"}]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from servers.facts import Disk, Facts
from servers.storage import reading
from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import exact
from servers.storage.soundness import check
from servers.storage.wanted import REST, DiskGroup, Filesystem, FsType, Raid, Rest, Size, WantedVolumeGroup

__all__ = [
    "NAMED", "REST", "DiskGroup", "Filesystem", "FsType", "Layout", "Raid", "Rest", "Size", "WantedVolumeGroup",
    "are_alike", "default_layout", "lvm_on_raid1", "plain", "raid1",
]  # fmt: skip

_KEYS: Final = ("name", "filesystems", "swap", "disks", "keep", "groups", "volume_groups", "secure_erase")


@dataclass(frozen=True, slots=True)
class Layout:
    """What is wanted on the disks of a machine, whichever machine it is.

    `swap` is in bytes, 0 for none; it lies beside the root (the same level, disks, volume group and encryption), so
    that a server does not die with one disk. `disks` names the disks to use by WWN, serial number or path; none named
    means all that are neither kept nor in one of `groups`. `keep` names disks by WWN or serial number that nothing may
    touch. `secure_erase` asks the wipe to destroy the old data, not only what names it.
    """

    name: str
    filesystems: tuple[Filesystem, ...]
    swap: int = 0
    disks: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    groups: tuple[DiskGroup, ...] = ()
    volume_groups: tuple[WantedVolumeGroup, ...] = ()
    secure_erase: bool = False

    def __post_init__(self) -> None:
        check(self)

    @property
    def root(self) -> Filesystem:
        """The file system that the rest is mounted on."""
        return next(filesystem for filesystem in self.filesystems if filesystem.mount == "/")

    @property
    def encrypted(self) -> bool:
        """Whether the install needs a passphrase."""
        return any(one.encrypted for one in self.filesystems) or any(one.encrypted for one in self.volume_groups)

    @classmethod
    def from_json(cls, data: object) -> Layout:
        """The layout that a person or `to_json` wrote; LayoutRefused says what is wrong with it and how to mend it."""
        wanted = reading.an_object(data, "The layout", _KEYS)
        listed = wanted.get("filesystems")
        if not isinstance(listed, list) or not listed:
            raise LayoutRefused("The layout has no file systems.", "List at least one, mounted at /.")
        return cls(
            name=reading.a_text(wanted.get("name", "custom"), "The layout's name"),
            filesystems=tuple(reading.filesystem(one) for one in listed),
            swap=reading.swap_size(wanted.get("swap")),
            disks=reading.disk_names(wanted.get("disks"), "disks"),
            keep=reading.disk_names(wanted.get("keep"), "keep"),
            groups=reading.parts(wanted.get("groups"), "groups", reading.disk_group),
            volume_groups=reading.parts(wanted.get("volume_groups"), "volume_groups", reading.volume_group),
            secure_erase=reading.a_truth(wanted.get("secure_erase"), "'secure_erase'"),
        )

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON that `from_json` reads back equal, sizes as a person would write them."""
        base = {
            "name": self.name,
            "filesystems": [reading.filesystem_json(one) for one in self.filesystems],
            "swap": exact(self.swap) if self.swap else None,
            "disks": list(self.disks),
            "keep": list(self.keep),
        }
        more = {
            "groups": [{"name": one.name, "disks": list(one.disks)} for one in self.groups],
            "volume_groups": [reading.volume_group_json(one) for one in self.volume_groups],
            "secure_erase": self.secure_erase,
        }
        return base | {key: value for key, value in more.items() if value}


def plain(swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> Layout:
    """Everything in one file system on the first disk."""
    return Layout("plain", (Filesystem("/"),), swap, disks, keep)


def raid1(swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> Layout:
    """Everything in one file system, mirrored on the disks: any one of them may die."""
    return Layout("raid1", (Filesystem("/", raid=Raid.RAID1),), swap, disks, keep)


def lvm_on_raid1(swap: int = 0, disks: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> Layout:
    """A volume group on a mirror, all of it the root's and the swap's for now: LVM can grow, shrink and move them."""
    group = WantedVolumeGroup("system", raid=Raid.RAID1)
    root = Filesystem("/", volume_group=group.name)
    return Layout("lvm-on-raid1", (root,), swap, disks, keep, volume_groups=(group,))


NAMED: Final[Mapping[str, Callable[..., Layout]]] = {"plain": plain, "raid1": raid1, "lvm-on-raid1": lvm_on_raid1}
"""The layouts that need no knowledge of the machine, by name; each takes swap, disks and keep."""


def default_layout(facts: Facts) -> Layout:
    """What to offer first: a mirror over the first two disks that match in kind and size, else the first disk alone."""
    for index, disk in enumerate(facts.disks):
        twin = next((other for other in facts.disks[index + 1 :] if are_alike((disk, other))), None)
        if twin and len(facts.disks) == 2:
            return raid1()
        if twin:
            return raid1(disks=(disk.identity, twin.identity))
    return plain()


def are_alike(disks: Sequence[Disk]) -> bool:
    """Whether an array over the disks wastes less than a tenth of each and pairs no SSD with a rotating disk."""
    sizes = [disk.size for disk in disks]
    return len({disk.rotational for disk in disks}) == 1 and min(sizes) * 10 >= max(sizes) * 9

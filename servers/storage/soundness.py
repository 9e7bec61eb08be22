"""What no machine whatever could satisfy in a layout, said the moment that it is made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import MIB, exact
from servers.storage.wanted import REST, Filesystem, FsType, Size

if TYPE_CHECKING:
    from servers.storage.layout import Layout

# What the installed system or the boot itself owns; a file system of the customer's there would hide or break it.
_RESERVED_MOUNTS: Final = ("/dev", "/proc", "/sys", "/run", "/etc", "/bin", "/sbin", "/lib", "/lib64")
_MOUNT: Final = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*)?", re.ASCII)
# vfat has neither owners nor links, so the system itself cannot lie there
_SYSTEM_MOUNTS: Final = ("/", "/boot", "/home", "/opt", "/root", "/usr", "/var", "/tmp")
_GROUP_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,30}", re.ASCII)
_VOLUME_GROUP_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,14}", re.ASCII)
# LVM makes /dev/<name>, where all these are already, or appear with the next device
_DEVICE_NAMES: Final = re.compile(
    r"(sd|hd|vd|xvd)[a-z]+\d*|(nvme|md|dm|loop|sr|nbd|zram|ram|mmcblk|tty|vcs|sg|rtc|fb|fd|fuse|cpu|hpet|i2c|tpm)[0-9]*"
    r"|block|bus|char|console|core|disk|full|input|kmsg|kvm|log|mapper|mem|mqueue|net|null|port|pts|ptmx|random|shm|snd"
    r"|stderr|stdin|stdout|urandom|vfio|vhost|zero|swap|esp"
)
SMALLEST: Final = 64 * MIB


def check(layout: Layout) -> None:
    """LayoutRefused when no machine whatever could satisfy the layout."""
    _check_mounts(layout)
    _check_references(layout)
    _check_takers(layout)
    for filesystem in layout.filesystems:
        _check_filesystem(filesystem)
    for group in layout.volume_groups:
        _check_size(group.name, group.size)
    if 0 < layout.swap < SMALLEST or layout.swap < 0:
        raise LayoutRefused(f"A swap of {exact(layout.swap)} is too small.", "Ask for at least 64 MiB, or for none.")
    _check_disks(layout)


def _check_mounts(layout: Layout) -> None:
    mounts = [filesystem.mount for filesystem in layout.filesystems]
    for mount in mounts:
        _check_mount(mount)
        if mounts.count(mount) > 1:
            raise LayoutRefused(
                f"{mount} is listed {mounts.count(mount)} times.", "Give each file system its own mount."
            )
    if "/" not in mounts:
        raise LayoutRefused("No file system is mounted at /.", "Add one: the system itself goes there.")


def _check_mount(mount: str) -> None:
    if not _MOUNT.fullmatch(mount) or len(mount) > 100:
        raise LayoutRefused(
            f"'{mount[:60]}' is no mount point.",
            "Write an absolute path of letters, digits, dots, dashes and underscores, such as /home.",
        )
    reserved = any(mount == taken or mount.startswith(f"{taken}/") for taken in _RESERVED_MOUNTS)
    # below /boot lie the ESPs and what GRUB and the kernel packages own
    if reserved or mount.startswith("/boot/"):
        raise LayoutRefused(f"{mount} belongs to the system.", "Choose another mount point, such as /home or /srv.")


def _check_references(layout: Layout) -> None:
    """Groups and volume groups have sound names of their own, and every name that is used is one of them."""
    _check_names("disk group", [one.name for one in layout.groups], _GROUP_NAME, "letters, digits, dots and dashes")
    volume_groups = [one.name for one in layout.volume_groups]
    _check_names("volume group", volume_groups, _VOLUME_GROUP_NAME, "2 to 15 small letters and digits")
    for name in volume_groups:
        if _DEVICE_NAMES.fullmatch(name):
            raise LayoutRefused(
                f"{name} is no name for a volume group: /dev/{name} is taken.", "Call it system, or data."
            )
    groups = [group.name for group in layout.groups]
    for one in layout.volume_groups:
        _check_known(one.name, one.group, "group", groups)
    for filesystem in layout.filesystems:
        _check_known(filesystem.mount, filesystem.group, "group", groups)
        _check_known(filesystem.mount, filesystem.volume_group, "volume group", volume_groups)
    used = {one.group for one in layout.filesystems} | {one.group for one in layout.volume_groups}
    for group in layout.groups:
        if group.name not in used:
            raise LayoutRefused(f"Nothing lies on the disk group {group.name}.", "Use it, or leave it out.")
        if not group.disks:
            raise LayoutRefused(f"The disk group {group.name} has no disks.", "List disks by WWN or serial number.")


def _check_names(what: str, names: list[str], pattern: re.Pattern[str], fix: str) -> None:
    for name in names:
        if not pattern.fullmatch(name):
            raise LayoutRefused(f"'{name[:40]}' is no name for a {what}.", f"Use {fix}.")
        if names.count(name) > 1:
            raise LayoutRefused(f"Two {what}s are called {name}.", "Give each a name of its own.")


def _check_known(what: str, name: str, kind: str, known: Iterable[str]) -> None:
    if name and name not in known:
        there = ", ".join(known) or "none"
        raise LayoutRefused(
            f"{what} is to lie on the {kind} {name}, which the layout does not have (it has {there}).",
            f"Add the {kind}, or correct the name.",
        )


def _check_takers(layout: Layout) -> None:
    """Of what shares a group of disks, or a volume group, one may take the rest."""
    takers: dict[str, list[str]] = {}
    for filesystem in layout.filesystems:
        if filesystem.size is REST:
            where = (
                f" of the volume group {filesystem.volume_group}" if filesystem.volume_group else _of(filesystem.group)
            )
            takers.setdefault(where, []).append(filesystem.mount)
    for group in layout.volume_groups:
        if group.size is REST:
            takers.setdefault(_of(group.group), []).append(group.name)
    for where, names in takers.items():
        if len(names) > 1:
            kind = "file systems" if all(name.startswith("/") for name in names) else "things"
            raise LayoutRefused(
                f"{len(names)} {kind} take the rest{where}: {', '.join(names)}.", "Give all but one of them a size."
            )


def _of(group: str) -> str:
    return f" of the disk group {group}" if group else ""


def _check_filesystem(filesystem: Filesystem) -> None:
    mount = filesystem.mount
    if filesystem.type is FsType.VFAT and any(mount == one or _is_below(mount, one) for one in _SYSTEM_MOUNTS):
        raise LayoutRefused(f"{mount} is asked for as vfat.", "Use ext4: vfat has no owners and no links.")
    if mount == "/boot" and (filesystem.encrypted or filesystem.volume_group):
        raise LayoutRefused(
            "/boot is to be encrypted or to lie in a volume group, where GRUB could not read it.",
            "Put it on the disks themselves, unencrypted.",
        )
    if filesystem.volume_group and (filesystem.raid or filesystem.group or filesystem.encrypted):
        raise LayoutRefused(
            f"{mount} lies in the volume group {filesystem.volume_group} and has a level, disks or encryption of its"
            " own.",
            "Give them to the volume group, for all that lies in it.",
        )
    _check_size(mount, filesystem.size)


def _is_below(mount: str, other: str) -> bool:
    return other != "/" and mount.startswith(f"{other}/")


def _check_size(what: str, size: Size) -> None:
    if isinstance(size, int) and size < SMALLEST:
        raise LayoutRefused(f"{what} has {exact(size)}, which is too small.", "Give it at least 64 MiB.")


def _check_disks(layout: Layout) -> None:
    groups = [name for group in layout.groups for name in group.disks]
    used = {one.lower() for one in (*layout.disks, *groups)}
    both = [name for name in layout.keep if name.lower() in used]
    if both:
        raise LayoutRefused(f"The disk {both[0]} is to be used and to be kept.", "Take it out of one of the two lists.")
    for name in layout.keep:
        if name.startswith("/dev/") and not name.startswith("/dev/disk/by-id/"):
            raise LayoutRefused(
                f"{name} may be another disk after the next start.",
                "Name the disk to keep by its WWN or serial number.",
            )

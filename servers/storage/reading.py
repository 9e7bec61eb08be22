"""The parts of a layout out of the JSON that a person or a program wrote; every mistake gets a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import SizeRefused, exact, parse_size
from servers.storage.wanted import REST, DiskGroup, Filesystem, FsType, Raid, Rest, Size, WantedVolumeGroup

Part = TypeVar("Part")
Choice = TypeVar("Choice", bound=Enum)

_FILESYSTEM: Final = ("mount", "type", "size", "raid", "group", "volume_group", "encrypted")
_VOLUME_GROUP: Final = ("name", "raid", "group", "size", "encrypted")


def an_object(data: object, what: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    """`data` as an object with no other keys than these."""
    if not isinstance(data, Mapping):
        raise LayoutRefused(f"{what} is not a JSON object.", f"Write an object with {', '.join(keys)}.")
    unknown = sorted(str(key) for key in data if key not in keys)
    if unknown:
        raise LayoutRefused(f"{what} has an unknown key '{unknown[0][:40]}'.", f"The keys are {', '.join(keys)}.")
    return data


def a_text(value: object, what: str) -> str:
    """`value` as a short text on one line."""
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 100 or not value.isprintable():
        raise LayoutRefused(f"{what} is no text of 1 to 100 characters.", "Write it in quotes, on one line.")
    return value.strip()


def a_truth(value: object, what: str) -> bool:
    """`value` as true or false; nothing is false."""
    if value is not None and not isinstance(value, bool):
        raise LayoutRefused(f"{what} is {str(value)[:40]!r}.", "Write true or false.")
    return bool(value)


def a_size(value: object, what: str) -> Size:
    """`value` as bytes, or the rest."""
    if isinstance(value, str) and value.strip().lower() == REST.value:
        return REST
    try:
        return parse_size("" if isinstance(value, bool) else str(value))
    except SizeRefused:
        raise LayoutRefused(
            f"The size of {what} is {str(value)[:40]!r}.", "Write a number with a unit, such as 20 GiB, or rest."
        ) from None


def swap_size(value: object) -> int:
    """`value` as the bytes of the swap, 0 for none."""
    if value in (None, 0, "", "0"):
        return 0
    size = a_size(value, "the swap")
    if isinstance(size, Rest):
        raise LayoutRefused("The swap is to take the rest of the disks.", "Give it a size, such as 4 GiB.")
    return size


def disk_names(value: object, key: str) -> tuple[str, ...]:
    """The disk names in a list; 'all' in place of a list of disks to use."""
    if value is None or (key == "disks" and value == "all"):
        return ()
    if not isinstance(value, list):
        raise LayoutRefused(f"'{key}' is not a list.", "List disks by WWN or serial number.")
    return tuple(dict.fromkeys(a_text(one, f"A disk in '{key}'") for one in value))


def parts(value: object, key: str, read: Callable[[object], Part]) -> tuple[Part, ...]:
    """Each object in a list, read; none when there is no list."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise LayoutRefused(f"'{key}' is not a list.", "Write a list of objects, or leave it out.")
    return tuple(read(one) for one in value)


def filesystem(data: object) -> Filesystem:
    """A file system of the layout."""
    wanted = an_object(data, "A file system", _FILESYSTEM)
    mount = a_text(wanted.get("mount"), "The mount point of a file system")
    return Filesystem(
        mount=mount,
        type=_choice(FsType, wanted.get("type", FsType.EXT4.value), f"{mount} has the unknown type"),
        size=a_size(wanted.get("size", REST.value), mount),
        raid=_level(wanted.get("raid"), mount),
        group=_reference(wanted.get("group"), f"The group of {mount}"),
        volume_group=_reference(wanted.get("volume_group"), f"The volume group of {mount}"),
        encrypted=a_truth(wanted.get("encrypted"), f"'encrypted' of {mount}"),
    )


def disk_group(data: object) -> DiskGroup:
    """A group of disks."""
    wanted = an_object(data, "A disk group", ("name", "disks"))
    name = a_text(wanted.get("name"), "The name of a disk group")
    # 'all' would be every other group's disks too
    disks = disk_names(wanted.get("disks"), f"disks of {name}")
    return DiskGroup(name, disks)


def volume_group(data: object) -> WantedVolumeGroup:
    """A volume group."""
    wanted = an_object(data, "A volume group", _VOLUME_GROUP)
    name = a_text(wanted.get("name"), "The name of a volume group")
    return WantedVolumeGroup(
        name=name,
        raid=_level(wanted.get("raid"), name),
        group=_reference(wanted.get("group"), f"The group of {name}"),
        size=a_size(wanted.get("size", REST.value), name),
        encrypted=a_truth(wanted.get("encrypted"), f"'encrypted' of {name}"),
    )


def filesystem_json(one: Filesystem) -> dict[str, Any]:
    """The JSON that `filesystem` reads back equal; what is as usual is left out."""
    base = {"mount": one.mount, "type": one.type.value, "size": size_text(one.size), "raid": _level_text(one.raid)}
    more = {"group": one.group, "volume_group": one.volume_group, "encrypted": one.encrypted}
    return base | {key: value for key, value in more.items() if value}


def volume_group_json(one: WantedVolumeGroup) -> dict[str, Any]:
    """The JSON that `volume_group` reads back equal."""
    base = {"name": one.name, "size": size_text(one.size), "raid": _level_text(one.raid)}
    more = {"group": one.group, "encrypted": one.encrypted}
    return base | {key: value for key, value in more.items() if value}


def size_text(size: Size) -> str:
    """The size as a person would write it."""
    return size.value if isinstance(size, Rest) else exact(size)


def _level(value: object, what: str) -> Raid | None:
    return None if value is None else _choice(Raid, value, f"{what} has the unknown RAID level")


def _level_text(level: Raid | None) -> str | None:
    return level.value if level else None


def _reference(value: object, what: str) -> str:
    return "" if value in (None, "") else a_text(value, what)


def _choice(kind: type[Choice], value: object, what: str) -> Choice:
    found = next((one for one in kind if one.value == value), None)
    if found is None:
        raise LayoutRefused(f"{what} {str(value)[:40]!r}.", f"Use one of {', '.join(one.value for one in kind)}.")
    return found

"""What the rescue system saw of a machine: disks, network cards, firmware, memory.

`parse_facts` reads the JSON that the rescue system prints. It passes over what it does not know and bears what is
missing (every vendor leaves something out), but never guesses about a disk: one without a size is not a disk for us.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from servers.values import NotThisShape, from_plain, to_plain


class Firmware(Enum):
    """How the machine starts; a disk for the one does not start the other."""

    BIOS = "bios"
    UEFI = "uefi"


class FactsRefused(Exception):
    """What came is not a description of a machine; `why` says so in a sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class SeenPartition:
    """A partition as it was found, before anything of ours."""

    path: str
    size: int
    fstype: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that an installation could use. Sizes in bytes; texts are empty where the disk says nothing."""

    path: str
    size: int
    logical_block: int = 512
    physical_block: int = 512
    rotational: bool = False
    model: str = ""
    serial: str = ""
    wwn: str = ""
    transport: str = ""
    by_id: str | None = None
    config_drive: bool = False
    """Something on it carries the label config-2, which cloud-init would believe."""
    partitions: tuple[SeenPartition, ...] = ()
    holders: tuple[str, ...] = ()
    """Arrays, volumes and open containers that lie on it: /dev/md127, /dev/mapper/vg-home."""

    @property
    def identity(self) -> str:
        """What names this disk after a reboot too: its WWN or serial number, its path only where it has neither."""
        return self.wwn or self.serial or self.path

    @property
    def name(self) -> str:
        """The short name that people use: `sda`."""
        return self.path.removeprefix("/dev/")

    def answers_to(self, selector: str) -> bool:
        """Whether `selector` is this disk's WWN, serial number, path or by-id name. Upper and lower case are one."""
        names = (self.wwn, self.serial, self.path, self.by_id or "")
        return bool(selector) and selector.strip().lower() in {name.lower() for name in names if name}


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card: the kernel's name for it, and its MAC in lower case with colons."""

    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine, as the rescue system saw it."""

    firmware: Firmware
    vendor: str = ""
    product: str = ""
    serial: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()


SCHEMA: Final = 1
CONFIG_DRIVE_LABEL: Final = "config-2"
# Serial numbers that say nothing: boards whose vendor never filled the field in.
_NO_SERIAL: Final = {
    "none", "n/a", "na", "unknown", "not specified", "not available", "to be filled by o.e.m.", "default string",
    "system serial number", "0", "0123456789", "123456789", "empty",
}  # fmt: skip
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NOT_A_DISK: Final = re.compile(r"/dev/(loop|zram|ram|nbd|sr|fd|dm-|md|mtdblock|drbd|mmcblk\d+(boot|rpmb))")
_HOLDER_TYPES: Final = ("part", "disk", "loop", "rom")


def parse_facts(raw: object) -> Facts:
    """The facts in what the rescue system sent (JSON text or already parsed); FactsRefused when it is no such thing."""
    if isinstance(raw, (str, bytes)):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise FactsRefused(f"The facts are not JSON: {error}.") from error
    if not isinstance(raw, Mapping):
        raise FactsRefused("The facts are not a JSON object.")
    if raw.get("schema", SCHEMA) != SCHEMA:
        raise FactsRefused(f"The facts have schema {raw['schema']!r}, and this version reads schema {SCHEMA}.")
    return Facts(
        firmware=_firmware(raw),
        vendor=_text(raw, "vendor"),
        product=_text(raw, "product"),
        serial=known_serial(_text(raw, "serial")),
        cpus=_number(raw, "cpus"),
        memory_bytes=_number(raw, "memory_bytes"),
        disks=tuple(_disks(raw)),
        nics=tuple(_nics(raw)),
    )


def to_json(facts: Facts) -> dict[str, Any]:
    """The facts as plain JSON values, for storing; `from_json` reads them back equal."""
    return {"schema": SCHEMA, **to_plain(facts)}


def from_json(data: object) -> Facts:
    """The facts that `to_json` wrote; FactsRefused when it did not."""
    try:
        return from_plain(Facts, data)
    except NotThisShape as error:
        raise FactsRefused(f"The stored facts cannot be read: {error}.") from error


def disk_to_json(disk: Disk) -> dict[str, Any]:
    """One disk as plain JSON values; `disk_from_json` reads it back equal."""
    plain: dict[str, Any] = to_plain(disk)
    return plain


def disk_from_json(data: object) -> Disk:
    """The disk that `disk_to_json` wrote; FactsRefused when it did not."""
    try:
        return from_plain(Disk, data)
    except NotThisShape as error:
        raise FactsRefused(f"The stored disk cannot be read: {error}.") from error


def known_serial(serial: str) -> str:
    """The serial number, or nothing where the vendor left a filler text in its place."""
    serial = serial.strip()
    return "" if serial.lower() in _NO_SERIAL else serial


def normal_mac(mac: str) -> str:
    """The MAC in lower case with colons."""
    return mac.strip().lower().replace("-", ":")


def wrong_machine(expected_serial: str, expected_macs: Iterable[str], facts: Facts) -> str | None:
    """A sentence that says why this is not the machine that we meant, or None when it is.

    The serial number decides where both sides know it. Where one does not, one MAC in common is enough.
    """
    expected = known_serial(expected_serial)
    macs = {normal_mac(mac) for mac in expected_macs if mac}
    seen = {nic.mac for nic in facts.nics}
    if expected and facts.serial:
        if expected.lower() == facts.serial.lower():
            return None
        also = " although the MAC agrees" if macs & seen else ""
        return f"The machine that called has serial number {facts.serial}, not {expected}{also}."
    if macs & seen:
        return None
    if not macs and not expected:
        return "Neither a serial number nor a MAC is on record for this server, so the machine cannot be recognised."
    return (
        f"The machine that called has the MACs {_listed(seen)}, and none of them is on record ({_listed(macs)});"
        f" its serial number is {facts.serial or 'unknown'}, on record is {expected or 'none'}."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _firmware(raw: Mapping[str, object]) -> Firmware:
    try:
        return Firmware(raw.get("firmware"))
    except ValueError as error:
        raise FactsRefused(f"The firmware is {raw.get('firmware')!r}, and should be 'bios' or 'uefi'.") from error


def _disks(raw: Mapping[str, object]) -> Iterator[Disk]:
    """The real disks in the order the kernel lists them."""
    listing = raw.get("lsblk")
    if not isinstance(listing, Mapping) or not isinstance(listing.get("blockdevices"), list):
        raise FactsRefused("The facts hold no list of disks: 'lsblk' has no 'blockdevices'.")
    by_id = raw.get("by_id")
    names = by_id if isinstance(by_id, Mapping) else {}
    seen: set[str] = set()
    for node in _nodes(listing["blockdevices"]):
        path = _text(node, "path") or f"/dev/{_text(node, 'name')}"
        if _is_usable(node, path) and path not in seen:
            seen.add(path)
            yield _disk(node, path, names.get(path))


def _is_usable(node: Mapping[str, object], path: str) -> bool:
    """Whether an installation may use the device: a real disk, writable, built in, with a size."""
    # a BMC shows its virtual media as removable USB disks that come and go
    virtual_media = _flag(node, "rm") and _text(node, "tran") in ("usb", "")
    return (
        _text(node, "type") == "disk"
        and not _NOT_A_DISK.match(path)
        and _number(node, "size") > 0
        and not _flag(node, "ro")
        and not virtual_media
    )


def _disk(node: Mapping[str, object], path: str, names: object) -> Disk:
    below = list(_descendants(node))
    return Disk(
        path=path,
        size=_number(node, "size"),
        logical_block=_number(node, "log-sec") or 512,
        physical_block=_number(node, "phy-sec") or 512,
        rotational=_flag(node, "rota"),
        model=_text(node, "model"),
        serial=_text(node, "serial"),
        wwn=_text(node, "wwn"),
        transport=_text(node, "tran"),
        by_id=_best_name(names),
        config_drive=any(_text(one, "label").lower() == CONFIG_DRIVE_LABEL for one in (node, *below)),
        partitions=tuple(_partition(one) for one in below if _text(one, "type") == "part" and _number(one, "size")),
        holders=tuple(
            dict.fromkeys(_text(one, "path") for one in below if _text(one, "type") not in _HOLDER_TYPES)
        ),
    )  # fmt: skip


def _partition(node: Mapping[str, object]) -> SeenPartition:
    return SeenPartition(_text(node, "path"), _number(node, "size"), _text(node, "fstype"), _text(node, "label"))


def _best_name(names: object) -> str | None:
    """The by-id name that says most: a WWN before a model and serial number, before anything else."""
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    whole = [name for name in known if not re.search(r"-part\d+$", name)]
    return min(whole, key=lambda name: ("/wwn-" not in name, "/nvme-eui." not in name, name), default=None)


def _nics(raw: Mapping[str, object]) -> Iterator[Nic]:
    """The network cards; the loopback and what software made (bridges, tunnels) stay out."""
    for link in _nodes(raw.get("ip")):
        mac = normal_mac(_text(link, "address"))
        made_by_software = "linkinfo" in link or "LOOPBACK" in str(link.get("flags", ""))
        if _text(link, "link_type") in ("ether", "") and _MAC.fullmatch(mac) and not made_by_software:
            # a bond or a dock may have changed the address; the card's own one stays
            yield Nic(_text(link, "ifname"), normal_mac(_text(link, "permaddr")) or mac)


def _nodes(value: object) -> Iterator[Mapping[str, object]]:
    """The objects in a list, and nothing else that may be in it."""
    yield from (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _descendants(node: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for child in _nodes(node.get("children")):
        yield child
        yield from _descendants(child)


def _text(node: Mapping[str, object], key: str) -> str:
    """The text under `key` without surrounding blanks and NULs (both occur in DMI and SCSI strings), else empty."""
    value = node.get(key)
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""


def _number(node: Mapping[str, object], key: str) -> int:
    """The number under `key`, zero when there is none; older lsblk writes numbers as text."""
    value = node.get(key)
    if isinstance(value, str) and re.fullmatch(r"\d{1,20}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _flag(node: Mapping[str, object], key: str) -> bool:
    """The truth under `key`; older lsblk writes it as "0" and "1"."""
    return node.get(key) in (True, 1, "1")

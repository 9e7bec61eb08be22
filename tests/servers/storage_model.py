"""A machine made of numbers, to which rendered commands are applied: it knows what the tools do, and nothing of plans.

Only what the tools are told makes it up: the arguments and the standard input. What a tool would refuse (a member that
is in use, a partition behind the end of the disk, a volume that does not fit) is an AssertionError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from accounts.secret import Secret
from servers.facts import Disk
from servers.storage.render import Call

MIB, KIB = 1 << 20, 1 << 10


@dataclass
class Device:
    """A block device: how large it is, in what blocks, and what has been made on it."""

    size: int
    sector: int
    holds: dict[str, Any] | None = None


@dataclass
class Group:
    """A volume group: its extents, and how many are left."""

    device: str
    extent: int
    extents: int
    free: int


@dataclass
class Model:
    """The devices of a machine by their paths, and its volume groups by name."""

    devices: dict[str, Device]
    tables: dict[str, str] = field(default_factory=dict)
    partitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    wiped: set[str] = field(default_factory=set)

    def apply(self, call: Call) -> None:
        """Does what the command does."""
        program, *words = call.argv
        if program == "sh":
            program, words = words[2], words[3:]
        tools = {
            "sfdisk": self._sfdisk, "mdadm": self._mdadm, "cryptsetup": self._luks_format, "open": self._luks_open,
            "pvcreate": self._pvcreate, "vgcreate": self._vgcreate, "lvcreate": self._lvcreate, "mkswap": self._mkswap,
            "mkfs.ext4": self._mkfs, "mkfs.xfs": self._mkfs, "mkfs.btrfs": self._mkfs, "mkfs.vfat": self._mkfs,
            "release": self._look, "wipe": self._look, "clear": self._look, "hand-on": self._look,
            "udevadm": _nothing, "tee": _nothing,
        }  # fmt: skip
        text = call.stdin.reveal() if isinstance(call.stdin, Secret) else call.stdin or ""
        tools[program]([program, *words], text)

    def _make(self, path: str, **what: Any) -> None:
        """Something is made on the device: once, on one that is there."""
        device = self.devices[path]
        assert device.holds is None, f"{path} is in use: {device.holds}"
        device.holds = what

    def _look(self, words: list[str], _text: str) -> None:
        assert all(path in self.devices for path in words[1:])
        if words[0] == "wipe":
            self.wiped.add(words[1])

    def _sfdisk(self, words: list[str], text: str) -> None:
        path = words[-1]
        assert path in self.wiped
        disk = self.devices[path]
        head, _, rows = text.partition("\n\n")
        told = dict(line.split(": ") for line in head.splitlines())
        assert told["label"] == "gpt" and told["unit"] == "sectors"
        self._make(path, kind="gpt", uuid=told["label-id"].lower())
        # the table and its backup: a block for the header, 16 KiB for the entries
        reserved = 1 + 16 * KIB // disk.sector
        behind = 1 + reserved
        for number, row in enumerate(rows.splitlines(), 1):
            told = dict(pair.split("=") for pair in row.split(", "))
            start, size = int(told["start"]), int(told["size"])
            assert start >= behind and start + size <= disk.size // disk.sector - reserved
            behind = start + size
            node = f"{path}{'p' if re.search('[0-9]$', path) else ''}{number}"
            self.devices[node] = Device(size * disk.sector, disk.sector)
            self.partitions[node] = {"start": start * disk.sector, "size": size * disk.sector, "disk": path,
                                     "type": told["type"].lower(), "uuid": told["uuid"].lower(),
                                     "name": told["name"]}  # fmt: skip

    def _mdadm(self, words: list[str], _text: str) -> None:
        path, options = words[2], _options(words)
        count = int(options["--raid-devices"])
        members = words[-count:]
        chunk = _bytes(options.get("--chunk", "64K"))
        offset = _bytes(options["--data-offset"])
        level = "raid" + options["--level"]
        each = min(self.devices[one].size for one in members) - offset
        # levels with stripes use whole chunks of each member
        each -= each % chunk if level != "raid1" else 0
        size = {"raid0": each * count, "raid1": each, "raid5": each * (count - 1), "raid6": each * (count - 2),
                "raid10": each // chunk * count // 2 * chunk}[level]  # fmt: skip
        for one in members:
            self._make(one, kind="member", of=path, offset=offset)
        self.devices[path] = Device(size, max(self.devices[one].sector for one in members))
        self.arrays[path] = {"level": level, "members": tuple(members), "uuid": options["--uuid"].replace(":", ""),
                             "size": size, "name": options["--name"]}  # fmt: skip

    def _luks_format(self, words: list[str], text: str) -> None:
        options = _options(words)
        assert words[1] == "luksFormat" and options["--key-file"] == "-" and text
        sector = int(options["--sector-size"])
        assert sector >= self.devices[words[-1]].sector
        self._make(words[-1], kind="luks", uuid=options["--uuid"], offset=int(options["--offset"]) * 512, key=text,
                   sector=sector)  # fmt: skip

    def _luks_open(self, words: list[str], text: str) -> None:
        _open, device, name = words
        inside = self.devices[device].holds
        assert inside and inside["kind"] == "luks" and inside["key"] == text
        path, size = f"/dev/mapper/{name}", self.devices[device].size - inside["offset"]
        assert path not in self.devices
        self.devices[path] = Device(size - size % inside["sector"], inside["sector"])
        inside["path"] = path

    def _pvcreate(self, words: list[str], _text: str) -> None:
        self._make(words[-1], kind="pv", start=_bytes(_options(words)["--dataalignment"].upper()))

    def _vgcreate(self, words: list[str], _text: str) -> None:
        name, device = words[-2:]
        inside = self.devices[device].holds
        assert inside and inside["kind"] == "pv" and name not in self.groups
        extent = _bytes(_options(words)["--physicalextentsize"].upper())
        extents = (self.devices[device].size - inside["start"]) // extent
        self.groups[name] = Group(device, extent, extents, extents)

    def _lvcreate(self, words: list[str], _text: str) -> None:
        options, group = _options(words), self.groups[words[-1]]
        extents = int(options["--extents"])
        assert 0 < extents <= group.free
        group.free -= extents
        path = f"/dev/{words[-1]}/{options['--name']}"
        assert path not in self.devices
        self.devices[path] = Device(extents * group.extent, self.devices[group.device].sector)

    def _mkfs(self, words: list[str], _text: str) -> None:
        kind, flags = words[0].removeprefix("mkfs."), dict(pairwise(words))
        if kind == "vfat":
            uuid, label = f"{flags['-i'][:4]}-{flags['-i'][4:]}", flags["-n"]
        elif kind == "xfs":
            uuid, label = dict(one.split("=") for one in flags["-m"].split(","))["uuid"], flags["-L"]
        elif kind == "btrfs":
            uuid, label = flags["--uuid"], flags["--label"]
        else:
            uuid, label = flags["-U"], flags["-L"]
        assert len(label) <= {"vfat": 11, "xfs": 12, "ext4": 16, "btrfs": 255}[kind]
        least = {"vfat": 33, "xfs": 300, "ext4": 16, "btrfs": 114}[kind] * MIB
        assert self.devices[words[-1]].size >= least
        self._make(words[-1], kind=kind, uuid=uuid, label=label)

    def _mkswap(self, words: list[str], _text: str) -> None:
        flags = dict(pairwise(words))
        self._make(words[-1], kind="swap", uuid=flags["--uuid"], label=flags["--label"])


def machine_with(disks: tuple[Disk, ...]) -> Model:
    """A machine with these disks, nothing on them."""
    return Model({disk.path: Device(disk.size, disk.logical_block) for disk in disks})


def _nothing(_words: list[str], _text: str) -> None:
    pass


def _options(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)


def _bytes(text: str) -> int:
    assert text[-1] == "K"
    return int(text[:-1]) * KIB

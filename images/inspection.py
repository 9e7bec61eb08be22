"""What looking at a file finds, and what it may cost. Pure: values only."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from .contents import Filesystem, Root
from .formats import Format

GIB: Final = 2**30
MB: Final = 10**6


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an image may be, and what looking at it may cost. Bytes and seconds.

    The seconds are for a small file; one whose every byte has to be read gets more, by `rate` bytes a second.
    """

    file_size: int = 64 * GIB
    virtual_size: int = 512 * GIB
    unpacked: int = 128 * GIB
    ratio: int = 200
    """How many times larger a packed file may become, once it is past `free`."""
    free: int = GIB // 4
    memory: int = GIB
    cpu_seconds: int = 30
    seconds: int = 60
    rate: int = 10 * MB


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class DiskInside:
    """Where a disk lies in an OVA, so that it can be opened in place: its member, the bytes, its own format."""

    member: str
    offset: int
    size: int
    format: Format


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file that may become an image. `root` is the best guess at the file system that becomes `/`."""

    format: Format
    size: int
    virtual_size: int
    table: str = ""
    has_esp: bool = False
    has_lvm: bool = False
    root: Root | None = None
    disk: DiskInside | None = None
    left_out: tuple[str, ...] = ()
    """Further disks of an OVA, of which nothing is taken."""
    manifest: str = ""
    """What an OVA's manifest was compared by, for instance `sha256`; empty where there is none."""
    system: str = ""
    """What the system calls itself, where a tarball says so."""
    likely_flavour: str = ""
    tree_bytes: int = 0
    """Bytes that a tarball's files take."""

    @property
    def root_bytes(self) -> int:
        """The bytes in use in the root file system; 0 when they are not known."""
        return self.root.filesystem.used if self.root else self.tree_bytes

    def capabilities(self) -> dict[str, Any]:
        """What was found inside, for the catalogue."""
        if self.format is Format.TAR:
            return {"system": self.system} if self.system else {}
        found: dict[str, Any] = {"partition_table": self.table or "none", "efi_system_partition": self.has_esp}
        if self.root:
            found["root_file_system"] = {
                "type": self.root.filesystem.type,
                "label": self.root.filesystem.label,
                "partition": self.root.partition,
                "found_by": self.root.found_by,
            }
            if self.root.volume:
                found["root_file_system"]["volume"] = self.root.volume
        if self.disk:
            found["disk"] = asdict(self.disk)
            found["manifest"] = self.manifest or "none"
        if self.left_out:
            found["left_out"] = list(self.left_out)
        return found

    def to_json(self) -> str:
        """A text that `from_json` reads back: how it comes out of the process that looked."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Inspection":
        """The inspection in a text."""
        data = json.loads(text)
        if root := data["root"]:
            data["root"] = Root(**{**root, "filesystem": Filesystem(**root["filesystem"])})
        if disk := data["disk"]:
            data["disk"] = DiskInside(**{**disk, "format": Format(disk["format"])})
        return cls(**{**data, "format": Format(data["format"]), "left_out": tuple(data["left_out"])})

"""The description of a virtual machine inside an OVA: which of its files is the disk that it boots from.

The XML is somebody else's. A document type is refused before anything of it is read, and with it every entity, external
or nested; what is left is bounded in size and depth. Pure: bytes in, values out. The format is DMTF's DSP0243.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from .refusal import ImageRefused

MOST_BYTES: Final = 2**20
MOST_DEPTH: Final = 64
MOST_ELEMENTS: Final = 20_000

_DISK_DRIVE: Final = "17"  # CIM_ResourceAllocationSettingData.ResourceType
_EXPORT: Final = "Export the machine again, as one OVA with one disk."


@dataclass(frozen=True, slots=True)
class BootDisk:
    """The file of the disk that the machine boots from, and those of its other disks."""

    file: str
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class _Element:
    """An element, its names without their namespaces."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    def all(self, name: str) -> Iterator["_Element"]:
        """Every element of this name below."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.all(name)

    def value(self, name: str) -> str:
        """The text of the first child of this name; empty where there is none."""
        return next((child.text.strip() for child in self.children if child.name == name), "")


def boot_disk(xml: bytes) -> BootDisk:
    """The disk that the description's machine boots from; ImageRefused when it is hostile, or that cannot be told."""
    envelope = _parse(xml)
    if envelope.name != "Envelope":
        raise _refused("its description is no OVF")
    machines = list(envelope.all("VirtualSystem"))
    if len(machines) != 1:
        raise _refused(f"it holds {len(machines)} machines, and only one can be installed")
    files = {one.attributes.get("id", ""): one for one in envelope.all("File")}
    disks = {}
    for disk in envelope.all("Disk"):
        if disk.attributes.get("parentRef"):
            raise _refused("its disk holds only what differs from another one, its parent")
        # a disk without a file is an empty one, made when the machine is
        if reference := disk.attributes.get("fileRef"):
            if reference not in files:
                raise _refused("its description names a file that it does not describe")
            disks[disk.attributes.get("diskId", "")] = _file_name(files[reference])
    if not disks:
        raise _refused("its description names no disk")
    first = next(iter(disks)) if len(disks) == 1 else _first(machines[0], set(disks))
    return BootDisk(disks[first], tuple(name for disk, name in disks.items() if disk != first))


def _first(machine: _Element, disks: set[str]) -> str:
    """The disk at the first address of the first controller: where firmware looks for a boot loader."""
    places = []
    for item in [*machine.all("Item"), *machine.all("StorageItem")]:
        if item.value("ResourceType") == _DISK_DRIVE:
            disk = item.value("HostResource").removeprefix("ovf:").rpartition("/")[2]
            controller, address = item.value("Parent"), item.value("AddressOnParent")
            if disk in disks and controller.isdecimal() and address.isdecimal():
                places.append((int(controller), int(address), disk))
    places.sort()
    if len(places) != len(disks) or len({place[:2] for place in places}) != len(places):
        raise _refused(f"it has {len(disks)} disks, and does not say which one it boots from")
    return places[0][2]


def _file_name(file: _Element) -> str:
    name = file.attributes.get("href", "")
    if "://" in name:
        raise _refused(f"its disk is elsewhere, at {name[:100]!r}")
    if file.attributes.get("compression", "identity").lower() not in ("", "identity"):
        raise _refused("its disk is packed once more")
    if file.attributes.get("chunkSize"):
        raise _refused("its disk is cut into pieces")
    return name


def _parse(xml: bytes) -> _Element:
    if len(xml) > MOST_BYTES:
        raise _refused(f"its description has more than {MOST_BYTES} bytes")
    root = _Element("", {})
    stack = [root]
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(stack) > MOST_DEPTH or count > MOST_ELEMENTS:
            raise _refused("its description is nested too deeply, or has too many elements")
        element = _Element(_local(name), {_local(key): value for key, value in attributes.items()})
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def document_type(*_: object) -> None:
        raise _refused("its description has a document type, which could name other files or grow without end")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = document_type
    parser.EntityDeclHandler = document_type
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise _refused(f"its description is no XML ({error})") from error
    except (ValueError, LookupError) as error:
        raise _refused("the encoding of its description is not known") from error
    return root.children[0]


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _refused(why: str) -> ImageRefused:
    return ImageRefused(f"The OVA cannot be taken: {why}.", _EXPORT)

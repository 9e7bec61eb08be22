"""The same image in the other forms in which providers hand images out: RAW, and OVA as hypervisors export it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from enum import Enum
from pathlib import Path

from rescue.workshop import Progress, build_once, run

from . import build


class Form(Enum):
    """In which form an image is handed out."""

    QCOW2 = "qcow2"
    RAW = "raw"
    OVA = "ova"


def ensure(name: str, form: Form, progress: Progress) -> Path:
    """The image's file in this form; converted, and built before that, if it never was. BuildFailed as `build.ensure`.

    A RAW file is sparse. Converting takes about a minute.
    """
    qcow2 = build.ensure(name, progress)
    if form is Form.QCOW2:
        return qcow2
    target = qcow2.with_suffix(f".{form.value}")
    make = {Form.RAW: raw, Form.OVA: ova}[form]
    return build_once(target, lambda scratch: make(name, qcow2, scratch, progress), progress)


def raw(name: str, qcow2: Path, scratch: Path, progress: Progress) -> Path:
    """A plain copy of the disk, its holes still holes."""
    finished = scratch / f"{name}.raw"
    progress(f"{name}: as RAW")
    run(["qemu-img", "convert", "-O", "raw", str(qcow2), str(finished)], progress)
    return finished


def ova(name: str, qcow2: Path, scratch: Path, progress: Progress) -> Path:
    """A tar of the descriptor, the manifest and a compressed VMDK, in the order that a reader of streams wants."""
    disk, finished = scratch / f"{name}-disk1.vmdk", scratch / f"{name}.ova"
    progress(f"{name}: as OVA")
    run(
        ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", str(qcow2), str(disk)], progress
    )  # fmt: skip
    descriptor, manifest = scratch / f"{name}.ovf", scratch / f"{name}.mf"
    descriptor.write_text(ovf(name, disk.name, disk.stat().st_size, virtual_size(qcow2)))
    manifest.write_text("".join(f"SHA256({file.name})= {_sha256(file)}\n" for file in (descriptor, disk)))
    with tarfile.open(finished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in (descriptor, manifest, disk):
            tar.add(file, file.name, filter=_anonymous)
    return finished


def virtual_size(image: Path) -> int:
    """How large the disk is that the image holds, in bytes."""
    told = subprocess.run(["qemu-img", "info", "--output=json", image], capture_output=True, check=True).stdout
    return int(json.loads(told)["virtual-size"])


def ovf(name: str, disk: str, file_size: int, capacity: int) -> str:
    """The descriptor of a machine with this one disk."""
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
          xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
          xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
          xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="{disk}" ovf:size="{file_size}"/>
  </References>
  <DiskSection>
    <Info>The disks of the machine</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="{capacity}"
          ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="96">
      <Info>The system on its disk</Info>
      <Description>Debian GNU/Linux, 64 bits</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>What the machine is made of</Info>
      <System>
        <vssd:ElementName>Virtual hardware</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:ElementName>1 processor</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>1024 MiB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:ElementName>SATA controller</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>AHCI</rasd:ResourceSubType>
        <rasd:ResourceType>20</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member without who made it and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member

"""The kinds of file that an image may be. Pure: values only."""

from enum import StrEnum


class Format(StrEnum):
    """What kind of file an image is."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    OVA = "ova"  # a tar with one of the disks above in it, opened in place
    TAR = "tar"  # a root file system, as it is or packed by gzip, xz or zstd

    @property
    def label(self) -> str:
        """The format as people write it."""
        return "tarball" if self is Format.TAR else self.name

    @property
    def driver(self) -> str:
        """What QEMU calls it; a tarball is none of its formats, and an OVA is opened by the format of its disk."""
        return "vpc" if self is Format.VHD else self.value


def choices() -> list[tuple[str, str]]:
    """The formats for a column of the database."""
    return [(one.value, one.label) for one in Format]

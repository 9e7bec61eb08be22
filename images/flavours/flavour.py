"""The shape of a flavour: every question that the steps ask about a distribution."""

from dataclasses import dataclass, field
from enum import Enum


class Initramfs(Enum):
    """The tool that builds the initramfs."""

    INITRAMFS_TOOLS = "initramfs-tools"
    DRACUT = "dracut"


class BlsStyle(Enum):
    """Where the boot menu's entries live."""

    NONE = "none"  # in grub.cfg, written by mkconfig
    LOADER_ENTRIES = "loader-entries"  # one file a kernel below /boot/loader/entries


class LicenceTool(Enum):
    """How the system is registered with its vendor."""

    SUBSCRIPTION_MANAGER = "subscription-manager"


@dataclass(frozen=True, slots=True)
class Grub:
    """GRUB as this distribution packages it.

    `efi_signed`: the loaders come signed from packages that put them on the ESP (shim and GRUB), and must not be
    made anew by grub-install; otherwise grub-install makes one, in the removable path.
    """

    install: str
    mkconfig: tuple[str, ...]
    presets: str
    efi_folder: str
    efi_signed: bool = False
    efi_config: str = ""
    bls: BlsStyle = BlsStyle.NONE


# Drivers of real servers' storage: an image made in a virtual machine often has an initramfs with virtio alone.
SERVER_DRIVERS = (
    "ahci", "nvme", "megaraid_sas", "mpt3sas", "hpsa", "smartpqi", "aacraid", "mptsas", "mvsas", "isci", "arcmsr",
    "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "usbhid", "hid_generic", "xhci_pci",
)  # fmt: skip
RAID_DRIVERS = ("md_mod", "raid0", "raid1", "raid10", "raid456", "dm_mod")


@dataclass(frozen=True, slots=True)
class Flavour:
    """One distribution in one version."""

    name: str
    title: str
    login: str
    packages: tuple[str, ...]
    package_query: tuple[str, ...]
    initramfs: Initramfs
    grub: Grub
    mdadm_conf: str
    network_renderer: str
    drivers: tuple[str, ...] = field(default=(*SERVER_DRIVERS, *RAID_DRIVERS))
    filesystems: frozenset[str] = frozenset({"ext4"})
    ext4_features: tuple[str, ...] = ("^metadata_csum_seed", "^orphan_file")
    selinux: bool = False
    licence: LicenceTool | None = None

    def packages_for(self, *, raid: bool, uefi: bool) -> tuple[str, ...]:
        """The packages that must be in the image for a machine like this."""
        return tuple(
            package
            for package in self.packages
            if (raid or package not in _RAID_PACKAGES)
            and (uefi or not _is_efi(package))
            and (not uefi or not _is_bios(package))
        )


EFI_LOADER = "/EFI/BOOT/BOOTX64.EFI"
"""Where firmware looks on an ESP when it has no boot entries: every flavour gets a loader there."""

_RAID_PACKAGES = ("mdadm",)


def _is_efi(package: str) -> bool:
    return "efi" in package or "shim" in package


def _is_bios(package: str) -> bool:
    return package in ("grub-pc-bin", "grub2-pc", "grub2-pc-modules")

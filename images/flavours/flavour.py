"""The shape of a flavour: every question that the steps ask about a distribution."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum

from .drivers import NETWORK_DRIVERS, RAID_DRIVERS, SERVER_DRIVERS
from .packages import Need, PackageTool

ALL_RAID_LEVELS = frozenset({"raid0", "raid1", "raid5", "raid6", "raid10"})
CONSOLE = "console=tty0 console=ttyS0,115200"
"""Screen and serial line, both: the last one is where the first process writes, and what serial-over-LAN shows."""


class Initramfs(Enum):
    """The tool that builds the initramfs."""

    INITRAMFS_TOOLS = "initramfs-tools"
    DRACUT = "dracut"
    MKINITCPIO = "mkinitcpio"


class EfiLoader(Enum):
    """Where the loader on an ESP comes from."""

    GRUB_INSTALL = "grub-install"  # makes it, in the removable path
    SIGNED = "signed"  # shim and GRUB come from packages, and are copied; all of GRUB's configuration lies beside them
    SIGNED_STUB = "signed, stub"  # the same, but a few lines lie beside them that go on with /boot's configuration


class LicenceTool(Enum):
    """How the system is registered with its vendor."""

    SUBSCRIPTION_MANAGER = "subscription-manager"


@dataclass(frozen=True, slots=True)
class Grub:
    """GRUB as this distribution packages it.

    `folder` is where it reads its configuration, `modules` where its package puts what grub-install installs.
    `bls`: the menu's entries are files below /boot/loader/entries, one a kernel, and not lines of grub.cfg.
    """

    install: str
    mkconfig: tuple[str, ...]
    presets: str
    folder: str
    modules: str
    efi_folder: str
    efi_loader: EfiLoader = EfiLoader.GRUB_INSTALL
    efi_options: tuple[str, ...] = ()
    more_presets: tuple[str, ...] = ()
    bls: bool = False

    @property
    def efi_signed(self) -> bool:
        """Whether the loaders come signed from packages that put them on the ESP, and must not be made anew."""
        return self.efi_loader is not EfiLoader.GRUB_INSTALL


@dataclass(frozen=True, slots=True)
class Flavour:
    """One distribution in one version.

    `filesystems`, `raid_levels`, `lvm` and `luks` are what its GRUB, its initramfs and its kernel can start from;
    the features switch off what the rescue system's newer tools would add and they cannot read.
    `tested_here`: a machine of the lab was installed with it and logged into; all others are held by tests of their
    commands alone, and must be called untested.
    """

    name: str
    title: str
    login: str
    packages: Mapping[Need, tuple[str, ...]]
    package_tool: PackageTool
    initramfs: Initramfs
    grub: Grub
    mdadm_conf: str
    network_renderer: str
    end_of_life: date | None
    server_drivers: tuple[str, ...] = (*SERVER_DRIVERS, *RAID_DRIVERS)
    network_drivers: tuple[str, ...] = NETWORK_DRIVERS
    filesystems: frozenset[str] = frozenset({"ext4", "xfs"})
    raid_levels: frozenset[str] = ALL_RAID_LEVELS
    lvm: bool = True
    luks: bool = True
    ext4_features: tuple[str, ...] = ("^metadata_csum_seed", "^orphan_file")
    xfs_features: tuple[str, ...] = ()
    btrfs_features: tuple[str, ...] = ("^block-group-tree",)
    console: str = CONSOLE
    selinux: bool = False
    licence: LicenceTool | None = None
    tested_here: bool = False

    def packages_for(self, *needs: Need) -> tuple[str, ...]:
        """The packages that must be in the system for a machine that needs this."""
        return tuple(package for need in needs for package in self.packages.get(need, ()))


EFI_LOADER = "/EFI/BOOT/BOOTX64.EFI"
"""Where firmware looks on an ESP when it has no boot entries: every flavour gets a loader there."""

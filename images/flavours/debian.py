"""Debian and Ubuntu: initramfs-tools, GRUB made by grub-install, presets in /etc/default/grub.d."""

from dataclasses import replace
from datetime import date

from .flavour import Flavour, Grub, Initramfs
from .packages import APT, Need

# Not grub-pc and grub-efi-amd64: those ask which disk is theirs, and install themselves there at each update.
_PACKAGES = {
    Need.SYSTEM: ("initramfs-tools", "grub2-common"),
    Need.BIOS: ("grub-pc-bin",),
    Need.UEFI: ("grub-efi-amd64-bin",),
    Need.RAID: ("mdadm",),
    Need.LVM: ("lvm2",),
    Need.LUKS: ("cryptsetup-initramfs",),
    Need.XFS: ("xfsprogs",),
    Need.BTRFS: ("btrfs-progs",),
}
_GRUB = Grub(
    install="grub-install",
    mkconfig=("update-grub",),
    presets="/etc/default/grub.d/landfall.cfg",
    folder="/boot/grub",
    modules="/usr/lib/grub",
    efi_folder="debian",
    # The signed loader looks for its configuration in a folder that --removable leaves empty. Nothing is lost: a
    # server that boots over the network by iPXE does so with Secure Boot switched off.
    efi_options=("--no-uefi-secure-boot",),
)
# GRUB 2.06 cannot read XFS with the large counters of extents that mkfs.xfs makes since 6.5.
_XFS_OF_GRUB_2_06 = ("nrext64=0",)

DEBIAN_12 = Flavour(
    name="debian-12",
    title="Debian 12",
    login="debian",
    # linux-image-cloud-amd64 of the cloud images has no drivers for servers
    packages={**_PACKAGES, Need.SYSTEM: ("linux-image-amd64", *_PACKAGES[Need.SYSTEM])},
    package_tool=APT,
    initramfs=Initramfs.INITRAMFS_TOOLS,
    grub=_GRUB,
    mdadm_conf="/etc/mdadm/mdadm.conf",
    network_renderer="netplan",
    end_of_life=date(2028, 6, 30),
    filesystems=frozenset({"ext4", "xfs", "btrfs"}),
    xfs_features=_XFS_OF_GRUB_2_06,
    tested_here=True,
)
DEBIAN_11 = replace(
    DEBIAN_12,
    name="debian-11",
    title="Debian 11",
    # cloud-init renders for ifupdown here, which without a DHCP client leaves the server offline
    packages={**DEBIAN_12.packages, Need.SYSTEM: (*DEBIAN_12.packages[Need.SYSTEM], "ifupdown", "isc-dhcp-client")},
    network_renderer="eni",
    end_of_life=date(2026, 8, 31),
    tested_here=True,
)
DEBIAN_13 = replace(
    DEBIAN_12,
    name="debian-13",
    title="Debian 13",
    end_of_life=date(2030, 6, 30),
    # the rescue system is a Debian 13 itself
    ext4_features=(),
    xfs_features=(),
)
UBUNTU_24_04 = replace(
    DEBIAN_13,
    name="ubuntu-24.04",
    title="Ubuntu 24.04 LTS",
    login="ubuntu",
    # linux-image-virtual of the cloud images comes without linux-modules-extra, where servers' drivers are
    packages={**_PACKAGES, Need.SYSTEM: ("linux-image-generic", *_PACKAGES[Need.SYSTEM])},
    # Cloud images start by the UUID of the partition that they were built on, without an initramfs.
    grub=replace(_GRUB, efi_folder="ubuntu", more_presets=("GRUB_FORCE_PARTUUID=",)),
    end_of_life=date(2029, 5, 31),
    tested_here=False,
)
UBUNTU_22_04 = replace(
    UBUNTU_24_04,
    name="ubuntu-22.04",
    title="Ubuntu 22.04 LTS",
    end_of_life=date(2027, 6, 1),
    ext4_features=DEBIAN_12.ext4_features,
    xfs_features=_XFS_OF_GRUB_2_06,
)

DEBIANS = (DEBIAN_11, DEBIAN_12, DEBIAN_13, UBUNTU_22_04, UBUNTU_24_04)

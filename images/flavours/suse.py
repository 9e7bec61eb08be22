"""openSUSE Leap: dracut, GRUB made by grub2-install below /boot/grub2, zypper."""

from datetime import date

from .flavour import Flavour, Grub, Initramfs
from .packages import ZYPPER, Need

LEAP_15 = Flavour(
    name="opensuse-leap-15",
    title="openSUSE Leap 15.6",
    login="opensuse",
    packages={
        # kernel-default-base of the cloud images lacks the drivers of servers
        Need.SYSTEM: ("kernel-default", "dracut", "grub2"),
        Need.BIOS: ("grub2-i386-pc",),
        Need.UEFI: ("grub2-x86_64-efi",),
        Need.RAID: ("mdadm",),
        Need.LVM: ("lvm2",),
        Need.LUKS: ("cryptsetup",),
        Need.XFS: ("xfsprogs",),
        Need.BTRFS: ("btrfsprogs",),
    },
    package_tool=ZYPPER,
    initramfs=Initramfs.DRACUT,
    # Without shim: a server that boots over the network by iPXE does so with Secure Boot switched off.
    grub=Grub(
        install="grub2-install",
        mkconfig=("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"),
        presets="/etc/default/grub",
        folder="/boot/grub2",
        modules="/usr/share/grub2",
        efi_folder="opensuse",
    ),
    mdadm_conf="/etc/mdadm.conf",
    network_renderer="sysconfig",
    end_of_life=date(2026, 4, 30),
    filesystems=frozenset({"ext4", "xfs", "btrfs"}),
    xfs_features=("nrext64=0",),
)

"""Arch Linux, which has no versions: mkinitcpio, GRUB made by grub-install, pacman."""

from .flavour import Flavour, Grub, Initramfs
from .packages import PACMAN, Need

ARCH = Flavour(
    name="arch",
    title="Arch Linux",
    login="arch",
    packages={
        Need.SYSTEM: ("linux", "mkinitcpio", "grub"),
        Need.RAID: ("mdadm",),
        Need.LVM: ("lvm2",),
        Need.LUKS: ("cryptsetup",),
        Need.XFS: ("xfsprogs",),
        Need.BTRFS: ("btrfs-progs",),
    },
    package_tool=PACMAN,
    initramfs=Initramfs.MKINITCPIO,
    grub=Grub(
        install="grub-install",
        mkconfig=("grub-mkconfig", "-o", "/boot/grub/grub.cfg"),
        presets="/etc/default/grub",
        folder="/boot/grub",
        modules="/usr/lib/grub",
        efi_folder="arch",
    ),
    mdadm_conf="/etc/mdadm.conf",
    network_renderer="networkd",
    end_of_life=None,
    filesystems=frozenset({"ext4", "xfs", "btrfs"}),
    ext4_features=(),
)

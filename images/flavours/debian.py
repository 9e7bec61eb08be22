"""Debian: initramfs-tools, GRUB made by grub-install, presets in /etc/default/grub.d."""

from .flavour import Flavour, Grub, Initramfs

DEBIAN_12 = Flavour(
    name="debian-12",
    title="Debian 12",
    login="debian",
    packages=("linux-image-amd64", "initramfs-tools", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "mdadm"),
    package_query=("dpkg-query", "--show"),
    initramfs=Initramfs.INITRAMFS_TOOLS,
    grub=Grub(
        install="grub-install",
        mkconfig=("update-grub",),
        presets="/etc/default/grub.d/landfall.cfg",
        efi_folder="debian",
    ),
    mdadm_conf="/etc/mdadm/mdadm.conf",
    network_renderer="netplan",
)

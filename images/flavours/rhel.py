"""Red Hat Enterprise Linux: dracut, signed loaders on the ESP, SELinux, subscription-manager.

`untested here`: these cannot be booted without Red Hat's own images; their commands are held by golden tests.
"""

from dataclasses import replace

from .flavour import BlsStyle, Flavour, Grub, Initramfs, LicenceTool

RHEL_8 = Flavour(
    name="rhel-8",
    title="Red Hat Enterprise Linux 8",
    login="cloud-user",
    packages=("kernel", "dracut", "grub2-tools", "grub2-pc", "grub2-pc-modules", "grub2-efi-x64", "shim-x64", "mdadm"),
    package_query=("rpm", "--query"),
    initramfs=Initramfs.DRACUT,
    grub=Grub(
        install="grub2-install",
        mkconfig=("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"),
        presets="/etc/default/grub",
        efi_folder="redhat",
        efi_signed=True,
        efi_config="/boot/efi/EFI/redhat/grub.cfg",
        bls=BlsStyle.LOADER_ENTRIES,
    ),
    mdadm_conf="/etc/mdadm.conf",
    network_renderer="network-manager",
    filesystems=frozenset({"ext4", "xfs"}),
    selinux=True,
    licence=LicenceTool.SUBSCRIPTION_MANAGER,
)

# RHEL 7 writes its menu entries into grub.cfg, and its kernel 3.10 reads no ext4 with 64bit checksums of later tools.
RHEL_7 = replace(
    RHEL_8,
    name="rhel-7",
    title="Red Hat Enterprise Linux 7",
    grub=replace(RHEL_8.grub, bls=BlsStyle.NONE),
    network_renderer="sysconfig",
    ext4_features=("^metadata_csum_seed", "^orphan_file", "^metadata_csum"),
)

"""Red Hat Enterprise Linux, what is made like it, and Fedora: dracut, signed loaders on the ESP, SELinux."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from .flavour import EfiLoader, Flavour, Grub, Initramfs, LicenceTool
from .packages import DNF, YUM, Need

_PACKAGES = {
    # kernel-core alone, as in cloud images, lacks many drivers of servers
    Need.SYSTEM: ("kernel-core", "kernel-modules", "dracut", "grub2-tools"),
    Need.BIOS: ("grub2-pc", "grub2-pc-modules"),
    Need.UEFI: ("grub2-efi-x64", "shim-x64"),
    Need.RAID: ("mdadm",),
    Need.LVM: ("lvm2",),
    Need.LUKS: ("cryptsetup",),
    Need.XFS: ("xfsprogs",),
    Need.BTRFS: ("btrfs-progs",),
}
# What these kernels cannot mount, or not write to, of what mkfs.xfs 6.13 makes.
_XFS_OF_LINUX_3_10 = (
    "sparse=0", "nrext64=0", "rmapbt=0", "reflink=0", "bigtime=0", "inobtcount=0",
)  # fmt: skip
_XFS_OF_LINUX_4_18 = ("nrext64=0", "rmapbt=0", "bigtime=0", "inobtcount=0")
_XFS_OF_LINUX_5_14 = ("nrext64=0",)

RHEL_9 = Flavour(
    name="rhel-9",
    title="Red Hat Enterprise Linux 9",
    login="cloud-user",
    packages=_PACKAGES,
    package_tool=DNF,
    initramfs=Initramfs.DRACUT,
    grub=Grub(
        install="grub2-install",
        mkconfig=("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"),
        presets="/etc/default/grub",
        folder="/boot/grub2",
        modules="/usr/lib/grub",
        efi_folder="redhat",
        # grub2-mkconfig of this version refuses to write over the stub
        efi_loader=EfiLoader.SIGNED_STUB,
        more_presets=("GRUB_DEFAULT=saved", "GRUB_ENABLE_BLSCFG=true"),
        bls=True,
    ),
    mdadm_conf="/etc/mdadm.conf",
    network_renderer="sysconfig",
    end_of_life=date(2032, 5, 31),
    xfs_features=_XFS_OF_LINUX_5_14,
    selinux=True,
    licence=LicenceTool.SUBSCRIPTION_MANAGER,
)
RHEL_10 = replace(
    RHEL_9,
    name="rhel-10",
    title="Red Hat Enterprise Linux 10",
    network_renderer="network-manager",
    end_of_life=date(2035, 5, 31),
    xfs_features=(),
)
RHEL_8 = replace(
    RHEL_9,
    name="rhel-8",
    title="Red Hat Enterprise Linux 8",
    grub=replace(RHEL_9.grub, efi_loader=EfiLoader.SIGNED),
    end_of_life=date(2029, 5, 31),
    xfs_features=_XFS_OF_LINUX_4_18,
)
# Its menu entries are lines of grub.cfg; its e2fsck knows no checksums of metadata; its kernel 3.10 opens no LUKS2 with
# sectors of 4,096 bytes, which is what cryptsetup makes on today's disks.
RHEL_7 = replace(
    RHEL_8,
    name="rhel-7",
    title="Red Hat Enterprise Linux 7",
    packages={**_PACKAGES, Need.SYSTEM: ("kernel", "dracut", "grub2-tools")},
    package_tool=YUM,
    grub=replace(RHEL_8.grub, bls=False, more_presets=("GRUB_DEFAULT=saved",)),
    end_of_life=date(2024, 6, 30),
    luks=False,
    ext4_features=("^metadata_csum_seed", "^orphan_file", "^metadata_csum"),
    xfs_features=_XFS_OF_LINUX_3_10,
)
RHELS = (RHEL_7, RHEL_8, RHEL_9, RHEL_10)


def _rebuilt(name: str, title: str, login: str, efi_folder: str, ends: dict[str, date]) -> Iterator[Flavour]:
    """The versions of a distribution that is made of RHEL's sources and needs no licence."""
    for of in RHELS[1:]:
        version = of.name.partition("-")[2]
        yield replace(
            of,
            name=f"{name}-{version}",
            title=f"{title} {version}",
            login=login,
            grub=replace(of.grub, efi_folder=efi_folder),
            end_of_life=ends.get(version, of.end_of_life),
            licence=None,
        )


ROCKYS = tuple(_rebuilt("rocky", "Rocky Linux", "rocky", "rocky", {}))
ALMAS = tuple(_rebuilt("alma", "AlmaLinux", "almalinux", "almalinux", {"8": date(2029, 3, 1)}))


def _fedora(version: int, end_of_life: date) -> Flavour:
    return replace(
        RHEL_10,
        name=f"fedora-{version}",
        title=f"Fedora {version}",
        login="fedora",
        grub=replace(RHEL_10.grub, efi_folder="fedora"),
        end_of_life=end_of_life,
        filesystems=frozenset({"ext4", "xfs", "btrfs"}),
        ext4_features=(),
        licence=None,
    )


FEDORAS = (_fedora(42, date(2026, 5, 13)), _fedora(43, date(2026, 12, 2)))

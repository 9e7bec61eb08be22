"""What a factory image is made of, and the mmdebstrap call that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

# The partition type that says 'root file system of an x86-64 system' (Discoverable Partitions Specification)
ROOT_X86_64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "nice": "coreutils",
}


# What all of them have: a server that can start from any layout and either firmware, and be configured by cloud-init.
COMMON = (
    # both firmware's GRUB, as modules and tools alone: grub-pc and grub-efi-amd64 exclude each other,
    # and a bare-metal installer has no network to fetch the right one
    "linux-image-amd64", "initramfs-tools", "zstd", "grub-pc-bin", "grub-efi-amd64-bin", "grub2-common",
    "efibootmgr", "dosfstools", "mdadm", "lvm2", "cryptsetup-initramfs", "gdisk", "fdisk",
    "e2fsprogs", "xfsprogs", "btrfs-progs",
    # cloud-init renders network_data.json through netplan to systemd-networkd, as in Debian's own cloud images
    "cloud-init", "netplan.io", "iproute2",
    # without locales cloud-init ends in status 'error'
    "locales", "openssh-server", "sudo", "systemd-sysv", "dbus", "libpam-systemd", "udev", "kmod",
    "python3", "curl", "ca-certificates", "procps", "iputils-ping", "less", "nano", "tzdata",
)  # fmt: skip

# what a server without screen, sound and radio does not miss, and a copy over a slow link notices
EXCLUDED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*",
    *(
        f"{modules}/*/kernel/{part}/*"
        # Debian 13's kernel packages bring /usr/lib/modules, the older ones /lib/modules
        for modules in ("/lib/modules", "/usr/lib/modules")
        for part in (
            "sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/bluetooth",
            "drivers/staging", "drivers/iio", "drivers/comedi", "drivers/infiniband", "drivers/isdn",
            "drivers/nfc", "drivers/net/can", "drivers/net/hamradio", "drivers/input/touchscreen",
            "net/bluetooth", "net/mac80211", "net/nfc",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: which Debian, what it needs beyond `COMMON`, how large its root file system is."""

    name: str
    suite: str
    version: str
    extra_packages: tuple[str, ...] = ()
    root_size: int = 1536 * MIB

    @property
    def packages(self) -> tuple[str, ...]:
        """All that is installed, and what that depends on."""
        return (*COMMON, *self.extra_packages)

    @property
    def folder(self) -> Path:
        """Where the files are that go into every image: `tree`, `customize.sh`."""
        return Path(__file__).parent / "debian"


# Its cloud-init wants ifupdown, and prefers that to netplan; a DHCP client is for ifupdown no more than a suggestion.
DEBIAN_11 = Recipe("debian-11", suite="bullseye", version="11", extra_packages=("ifupdown", "isc-dhcp-client"))
# Until Debian 12 systemd itself brought resolved.
DEBIAN_12 = Recipe("debian-12", suite="bookworm", version="12", extra_packages=("systemd-resolved",))
DEBIAN_13 = Recipe("debian-13", suite="trixie", version="13", extra_packages=("systemd-resolved",))

RECIPES = {recipe.name: recipe for recipe in (DEBIAN_11, DEBIAN_12, DEBIAN_13)}


def mmdebstrap(recipe: Recipe, extra_files: Path, output: Path) -> list[str]:
    """The argv that leaves `root.img`, an ext4 file system of the whole system, in the folder `output`.

    The file system is made inside mmdebstrap's own name space, where files belong to the users that they should
    belong to although the builder may be nobody special; it is handed out through /mnt, which is hidden meanwhile.
    """
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=null",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
        f"--customize-hook=tar-in {extra_files} /",
        '--customize-hook=chroot "$1" /landfall-customize && rm "$1/landfall-customize"',
        f"--customize-hook={pack_script(recipe)}",
        f"--customize-hook=copy-out /mnt/root.img {output}",
        recipe.suite,
        "-",
    ]


def pack_script(recipe: Recipe) -> str:
    """The shell text that packs the new root ($1) into $1/mnt/root.img."""
    # GRUB 2.06 reads neither of the two features that newer mke2fs switch on
    features, size = "^orphan_file,^metadata_csum_seed", f"{recipe.root_size // 1024}k"
    mke2fs = f'mke2fs -q -t ext4 -O {features} -L root -m 1 -d "$staging" "$1/mnt/root.img" {size}'
    return "\n".join(
        [
            "set -e",
            # mmdebstrap's own settings for apt stay out of the image, but it wants to delete them itself
            'mv "$1/etc/apt/apt.conf.d/00mmdebstrap" "$1/mnt/"',
            "staging=$(mktemp -d)",
            # not recursive: what is mounted inside the root (proc, sys) stays out
            'mount --bind "$1" "$staging"',
            'mount -t tmpfs -o mode=755 none "$staging/mnt"',
            mke2fs,
            'umount "$staging/mnt" "$staging"',
            'rmdir "$staging"',
            'mv "$1/mnt/00mmdebstrap" "$1/etc/apt/apt.conf.d/"',
        ]
    )


def partition_table() -> str:
    """The sfdisk script of the image: one root partition from the first MiB to the end."""
    return f'label: gpt\nfirst-lba: 2048\nstart=2048, type={ROOT_X86_64}, name="root"\n'

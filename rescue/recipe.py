"""What the rescue system is made of: its packages, what is left out, and the mmdebstrap call that follows from it."""

from __future__ import annotations

from pathlib import Path

SUITE = "trixie"

# UEFI: iPXE hands the initramfs over by its name; the last console is the one of serial-over-LAN
KERNEL_ARGS = "initrd=initrd.img console=tty0 console=ttyS0,115200 quiet systemd.show_status=no net.ifnames=0"

TOOLS = {"mmdebstrap": "mmdebstrap", "sqfstar": "squashfs-tools", "nice": "coreutils"}

PACKAGES = (
    # the system
    "linux-image-amd64", "busybox-static", "systemd", "systemd-sysv", "systemd-resolved", "udev", "kmod",
    "iproute2", "iputils-ping", "procps", "openssh-server", "python3", "ca-certificates", "tzdata",
    # disks and file systems
    "mdadm", "lvm2", "cryptsetup-bin", "gdisk", "fdisk", "e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools",
    "nvme-cli", "hdparm",
    # images
    "rsync", "qemu-utils", "curl", "zstd", "xz-utils", "bzip2",
    # hardware
    "dmidecode", "pciutils", "efibootmgr", "firmware-bnx2", "firmware-bnx2x",
    # only its snponly.efi is taken out
    "ipxe",
)  # fmt: skip

COMPONENTS = ("main", "non-free-firmware")

# Left out of packages as they are unpacked. A server's storage and network drivers stay, all of them.
EXCLUDED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/i18n/*",
    "/usr/share/lintian/*", "/usr/share/bash-completion/*", "/usr/share/zsh/*", "/usr/lib/x86_64-linux-gnu/gconv/*",
    "/usr/share/qemu/*", "/usr/lib/ipxe/qemu/*", "/boot/ipxe*",
    *(
        f"/usr/lib/modules/*/kernel/{part}/*"
        for part in (
            "sound", "arch/x86/kvm", "drivers/watchdog",
            "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/bluetooth", "drivers/staging",
            "drivers/iio", "drivers/comedi", "drivers/infiniband", "drivers/net/can", "drivers/net/hamradio",
            "drivers/net/wwan", "drivers/net/ieee802154", "drivers/nfc", "drivers/isdn", "drivers/video",
            "drivers/input/touchscreen", "drivers/input/joystick", "drivers/input/tablet", "drivers/platform",
            "drivers/accel", "drivers/greybus", "drivers/soundwire", "drivers/power", "drivers/hwmon",
            "drivers/usb/gadget", "drivers/usb/serial", "drivers/w1", "drivers/edac", "drivers/crypto",
            "net/bluetooth", "net/mac80211", "net/wireless", "net/nfc", "net/ieee802154", "net/mac802154", "net/can",
            "net/batman-adv", "net/tipc", "net/sctp", "net/openvswitch", "net/ceph", "net/rxrpc", "net/sunrpc",
            "fs/ceph", "fs/nfs", "fs/nfsd", "fs/smb", "fs/ocfs2", "fs/gfs2", "fs/afs", "fs/orangefs", "fs/jfs",
            "fs/ubifs", "fs/jffs2", "fs/reiserfs", "fs/9p",
        )
    ),
)  # fmt: skip

# What the first process needs to reach the squashfs; in loading order once dependencies are resolved
EARLY_MODULES = ("loop", "squashfs", "overlay")

# Needed on the way, never inside the running system
NOT_PACKED = ("boot", "usr/lib/ipxe", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old", "landfall-customize")


def mmdebstrap(extra_files: Path, output: Path) -> list[str]:
    """The argv that builds the root file system into a tar file: as root, or unprivileged in a user namespace.

    `extra_files` is a tar of our own files, which also brings /landfall-customize.
    """
    return [
        # the kernel package's own initramfs is never used, and building it takes longer than most of the rest
        "env",
        "INITRD=No",
        "mmdebstrap",
        "--variant=essential",
        f"--components={','.join(COMPONENTS)}",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
        f"--customize-hook=tar-in {extra_files} /",
        '--customize-hook=chroot "$1" /landfall-customize',
        SUITE,
        str(output),
    ]

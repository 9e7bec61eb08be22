"""Failures of disks, arrays and file systems, and the words by which they are known; as in `commands`."""

from ..events import Blame
from .entry import Chapter, Entry, Trace

# The image is mounted from RAM: what cannot be read there is the image, and no disk of the server.
_NOT_THE_IMAGE = r"^(?!.*(?:/run/landfall/image/root|/dev/nbd|\bdev nbd))"

DISKS = Chapter(
    "Disks and file systems",
    "What programs say of the server's disks, of arrays and file systems on them.",
    (
        Entry(
            "disk-io-error",
            Blame.HARDWARE,
            "A disk cannot be read or written.",
            "Look at its SMART values (smartctl -a) and its cable, replace the disk, then try again.",
            (
                Trace(_NOT_THE_IMAGE + ".*Input/output error", "any program, as the C library has it: seen"),
                Trace(_NOT_THE_IMAGE + r".*\bI/O error, dev ", "the kernel: seen"),
                Trace(r"Buffer I/O error on dev (?!nbd)", "the kernel: seen"),
                Trace("can't read superblock on", "mount of util-linux 2.41: seen", of=r"\bmount\b"),
                Trace("unable to erase bootbits sectors", "mkswap of util-linux 2.41: seen", of="^mkswap"),
                Trace("failed whilst (reading|writing)", "mkfs.fat 4.2: seen", of=r"^mkfs\.vfat"),
                Trace("Failed to write metadata to", "mdadm 4.4: seen", of="^mdadm"),
                Trace("had trouble writing out superblocks", "mke2fs: read", of=r"^mkfs\.ext4"),
            ),
        ),
        Entry(
            "boot-full",
            Blame.CUSTOMER,
            "The file system that holds /boot is full.",
            "Choose a layout with a larger /boot, or without one of its own.",
            (
                Trace(
                    "No space left on device",
                    "cpio, zstd, cp, cat under update-initramfs, dracut, update-grub: seen",
                    of="update-initramfs|dracut|update-grub|grub2?-mkconfig|grub2?-install",
                ),
            ),
            final=True,
        ),
        Entry(
            "no-space",
            Blame.CUSTOMER,
            "A file system is full: what should go onto it does not fit.",
            "Choose a layout that gives it more room, a larger disk, or a smaller image.",
            (Trace("No space left on device", "any program, as the C library has it: seen"),),
            final=True,
        ),
        Entry(
            "read-only",
            Blame.HARDWARE,
            "A file system has become read-only, as it does when its disk fails.",
            "Look at the server's console for errors of the disk, and at its SMART values; then try again.",
            (Trace("Read-only file system", "any program, as the C library has it: seen"),),
        ),
        Entry(
            "device-busy",
            Blame.PROVIDER,
            "A disk, an array or a file system is in use on the rescue system.",
            "Try again from the start: a fresh rescue system holds nothing. If it happens again, look on it with lsblk "
            "and findmnt for what holds the disk.",
            (
                Trace("Device or resource busy", "any program, as the C library has it: seen"),
                Trace("target is busy", "umount of util-linux 2.41: seen"),
                Trace("Cannot get exclusive access to", "mdadm 4.4: seen"),
                Trace("is mounted; will not make", "mke2fs 1.47, mkswap of util-linux 2.41: seen"),
                Trace("is apparently in use by the system", "mke2fs: read"),
                Trace("contains a mounted filesystem", "mkfs.fat 4.2: seen"),
                Trace("This disk is currently in use", "sfdisk of util-linux 2.41: seen"),
            ),
        ),
        Entry(
            "disk-locked",
            Blame.HARDWARE,
            "A disk is locked by an ATA password that Landfall did not set.",
            "Unlock it with its password (hdparm --security-unlock), or replace it; then try again.",
            (Trace("it is locked by a password that is not ours", "Landfall's own eraser", of="eraser"),),
            final=True,
        ),
        Entry(
            "disk-not-erased",
            Blame.HARDWARE,
            "A disk cannot be erased: it does not do what it is told, or does not do what it says it did.",
            "Read in the step's log what was tried. Replace the disk, or ask for the install without secure erase.",
            (Trace(r"^\S+: cannot be erased: no way to erase it has worked", "Landfall's own eraser", of="eraser"),),
            final=True,
        ),
        Entry(
            "device-missing",
            Blame.HARDWARE,
            "A disk or partition that was there when the plan was made is not there any more.",
            "Look whether all disks are still seen by the server's firmware; then try again from the start.",
            (
                Trace(
                    r"/dev/(?!nbd)\S+: (?:.*: )?No such (?:file or directory|device)",
                    "sfdisk, wipefs, mkswap of util-linux 2.41, mdadm 4.4, mkfs.fat 4.2, dd: seen",
                    of="^(?!.*(?:grub|chroot))",
                ),
                Trace("does not exist and no size was specified", "mke2fs 1.47: seen"),
                Trace("Can't lookup blockdev", "mount of util-linux 2.41: seen"),
                Trace("special device .* does not exist", "mount of util-linux 2.38: seen"),
                Trace("can't find UUID=", "mount of util-linux 2.38: seen"),
                Trace("not a block device", "lsblk of util-linux 2.41: seen", of="^lsblk|sh -c"),
            ),
        ),
        Entry(
            "devices-slow",
            Blame.HARDWARE,
            "The kernel did not get to know all devices in time.",
            "A disk or controller answers very slowly: look at the server's console for its messages, then try again.",
            (Trace("Timed out for waiting the udev queue", "udevadm of systemd: read", of="udevadm"),),
        ),
        Entry(
            "partition-too-small",
            Blame.PROVIDER,
            "A partition of the plan is too small for what should go onto it, or for its disk too large.",
            "Choose another layout, and report this: the plan should have been refused.",
            (
                Trace("Not enough space to build proposed filesystem", "mke2fs 1.47: seen"),
                Trace("Too few blocks for viable filesystem", "mkfs.fat 4.2: seen"),
                Trace("is too small .* for required metadata", "mdadm 4.4: seen"),
                Trace(r"Failed to add #\d+ partition", "sfdisk of util-linux 2.41: seen"),
            ),
            final=True,
        ),
        Entry(
            "filesystem-refused",
            Blame.PROVIDER,
            "A file system cannot be mounted: it is damaged, or not of the kind that was expected.",
            "Try again from the start, so that it is made anew. If it happens again, look at the disk's SMART values.",
            (
                Trace("wrong fs type, bad option, bad superblock", "mount of util-linux 2.41: seen"),
                Trace("unknown filesystem type", "mount of util-linux 2.38: seen"),
                Trace("Structure needs cleaning", "any program, as the C library has it: seen"),
            ),
        ),
        Entry(
            "config-drive-differs",
            Blame.HARDWARE,
            "What was read back from the config drive is not what was written to it.",
            "The disk loses data: look at its SMART values and its cable, then try again.",
            (
                Trace(
                    "computed checksum did NOT match|FAILED open or read",
                    "sha256sum of coreutils 9.7: seen",
                    of="config-drive",
                ),
            ),
        ),
    ),
)

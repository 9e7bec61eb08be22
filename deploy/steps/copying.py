"""Steps 7 and 8: the plan's tree mounted, and the image's files copied into it."""

from collections.abc import Iterator
from datetime import timedelta

from accounts.secret import Secret

from ..commands import Command, run, write_file
from ..step import RUN, TARGET, Context, Step, run_commands

WORK = f"{RUN}/image"
"""A file system in RAM that holds the image while it is copied."""


def mount(ctx: Context) -> Iterator[Command]:
    """The plan's file systems, each mounted in the one it lies in."""
    yield run("sh", "-c", f"findmnt {TARGET} >/dev/null || exit 0; umount --recursive --lazy {TARGET}")
    for filesystem in ctx.plan.mounts:
        where = TARGET + filesystem.mount.rstrip("/")
        yield run("mkdir", "-p", where)
        yield run("mount", "--types", filesystem.type.value, filesystem.device, where)
    yield run("findmnt", "--submounts", TARGET)


MOUNT = Step(
    "mount",
    title="Mount",
    timeout=timedelta(minutes=2),
    retries=2,
    after_crash="mount",
    cancellable=False,
    perform=run_commands,
    commands=mount,
)

# The root inside is found by what it is, not by its number: by GPT type or label first, then by looking into each.
_MOUNT_ROOT = """\
set -eu
device=$1 root=$2
mkdir -p "$root"
ro() { mount --read-only --options noload "$1" "$root" 2>/dev/null || mount --read-only "$1" "$root" 2>/dev/null; }
candidates() {
    lsblk --noheadings --list --paths --output NAME,PARTTYPE "$device" |
        awk '$2 == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" { print $1 }'
    lsblk --noheadings --list --paths --output NAME,LABEL "$device" |
        awk '$2 ~ /^(root|cloudimg-rootfs)$/ { print $1 }'
    lsblk --noheadings --list --paths --output NAME "$device" | tac
}
for partition in $(candidates); do
    ro "$partition" || continue
    if [ -e "$root/etc/os-release" ] || [ -L "$root/etc/os-release" ]; then
        echo "the root file system of the image is $partition"
        esp=$(lsblk --noheadings --list --paths --output NAME,PARTTYPE "$device" |
            awk '$2 == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" { print $1; exit }')
        [ -z "$esp" ] || [ ! -d "$root/boot/efi" ] || mount --read-only "$esp" "$root/boot/efi"
        exit 0
    fi
    umount "$root"
done
echo "no partition of the image holds a root file system: none has /etc/os-release" >&2
exit 1
"""

_RELEASE_IMAGE = f"""\
! mountpoint --quiet {WORK}/root || umount --recursive {WORK}/root
[ ! -e /sys/block/nbd0/pid ] || qemu-nbd --disconnect /dev/nbd0
! mountpoint --quiet {WORK} || umount {WORK}
"""


def copy(ctx: Context) -> Iterator[Command]:
    """The image fetched into RAM, its checksum compared, its files copied with all their attributes."""
    image = ctx.image
    yield run("sh", "-c", _RELEASE_IMAGE)
    yield run("mkdir", "-p", WORK)
    yield run("mount", "--types", "tmpfs", "--options", f"size={image.size + 2**20},mode=0700", "tmpfs", WORK)
    # The token goes in by a file: arguments can be read by every process.
    yield write_file(f"{WORK}/headers", Secret(f"Authorization: Bearer {ctx.fetch_token.reveal()}\n"), mode=0o600)
    yield run(
        "curl", "--fail", "--location", "--progress-bar", "--retry", "5", "--retry-connrefused", "--header",
        f"@{WORK}/headers", "--output", f"{WORK}/file", image.url,
    )  # fmt: skip
    yield run("sha256sum", "--check", "--strict", stdin=f"{image.sha256}  {WORK}/file\n")
    yield run("modprobe", "nbd", "max_part=16")
    yield run("qemu-nbd", "--read-only", f"--format={image.format}", "--connect=/dev/nbd0", f"{WORK}/file")
    # The kernel reads the partition table some time after qemu-nbd has returned.
    yield run(
        "sh", "-c", "for _ in 1 2 3 4 5 6 7 8 9 10; do udevadm settle; [ -e /dev/nbd0p1 ] && exit; sleep 0.5; done"
    )
    yield run("sh", "-c", _MOUNT_ROOT, "mount-root", "/dev/nbd0", f"{WORK}/root")
    yield run(
        "rsync", "-aHAXS", "--numeric-ids", "--no-inc-recursive", "--info=progress2", "--outbuf=L",
        "--exclude=/lost+found", "--exclude=/boot/efi/*", f"{WORK}/root/", f"{TARGET}/",
    )  # fmt: skip
    if ctx.plan.esps and ctx.flavour.grub.efi_signed:
        # vfat knows neither owners nor links; what is there came from the vendor's signed packages
        yield run("rsync", "-rt", f"{WORK}/root/boot/efi/", f"{TARGET}{ctx.plan.esps[0].mount}/")
    yield run("sh", "-c", _RELEASE_IMAGE)
    yield run("df", "--human-readable", TARGET)


COPY = Step(
    "copy",
    title="Copy the image",
    timeout=timedelta(minutes=30),
    retries=2,
    after_crash="copy",
    cancellable=False,
    perform=run_commands,
    commands=copy,
    tokens=frozenset({"fetch"}),
)

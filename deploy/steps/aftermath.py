"""What a system that never phoned home left behind, read from the rescue system: its logs, and what it starts from."""

from collections.abc import Iterator

from accounts.secret import Secret
from servers.storage import render
from servers.storage.plan import Plan
from servers.storage.render import md_uuid

from ..commands import Command, Run, run
from ..step import TARGET, Context

JOURNAL = f"{TARGET}/var/log/journal"
LINES = "400"


def read_aftermath(ctx: Context) -> Iterator[Command]:
    """The new system's journal and cloud-init's logs, then GRUB's and the initramfs' state. Nothing is changed, and
    nothing that is missing ends it: what could not be read is a finding, too.
    """
    yield from _mount(ctx.plan, ctx.disk_passphrase)
    yield _look("journalctl", "--directory", JOURNAL, "--no-pager", "--list-boots")
    yield _look("journalctl", "--directory", JOURNAL, "--no-pager", "--unit=landfall-phone-home", f"--lines={LINES}")
    yield _look("journalctl", "--directory", JOURNAL, "--no-pager", "--boot", f"--lines={LINES}")
    yield _look("journalctl", "--directory", JOURNAL, "--no-pager", "--boot", "--priority=err", f"--lines={LINES}")
    # systems whose journal is forgotten at every start, as RHEL's is
    yield _look("tail", f"--lines={LINES}", f"{TARGET}/var/log/messages")
    yield _look("cat", f"{TARGET}/var/lib/cloud/data/status.json")
    yield _look("cat", f"{TARGET}/var/lib/cloud/data/result.json")
    yield _look("tail", f"--lines={LINES}", f"{TARGET}/var/log/cloud-init-output.log")
    yield _look("tail", f"--lines={LINES}", f"{TARGET}/var/log/cloud-init.log")
    yield _look("cat", f"{TARGET}/etc/fstab")
    yield _look("ls", "-l", "--time-style=full-iso", f"{TARGET}/boot", f"{TARGET}/boot/grub", f"{TARGET}/boot/grub2")
    yield _look("sh", "-c", _GRUB_ENTRIES, "grub-entries", TARGET)
    for esp in ctx.plan.esps:
        yield _look("find", f"{TARGET}{esp.mount}", "-type", "f", "-size", "+0")
    yield _look("sh", "-c", _INITRAMFS, "initramfs", TARGET)
    yield _look("umount", "--recursive", TARGET)


def _mount(plan: Plan, passphrase: Secret) -> Iterator[Command]:
    """The plan's file systems, read-only; their journals are replayed, as the system itself would do it."""
    for array in plan.arrays:
        # The rescue system's own mdadm.conf lets nothing come alive by itself; --run: a mirror's half will do.
        uuid = f"--uuid={md_uuid(array.uuid)}"
        yield _look("mdadm", "--assemble", array.path, "--config=partitions", "--run", uuid)
    if plan.arrays:
        yield _look("cat", "/proc/mdstat")
        yield _look("udevadm", "settle", "--timeout=30")
    for call in render.reopen(plan, passphrase):
        yield run(*call.argv, stdin=call.stdin, may_fail=True)
    yield _look("lsblk", "--output", "NAME,SIZE,TYPE,FSTYPE,LABEL,UUID")
    for filesystem in plan.mounts:
        where = TARGET + filesystem.mount.rstrip("/")
        yield _look("mkdir", "-p", where)
        # by UUID: an array that was not assembled by us may have got another name
        yield _look("mount", "--read-only", "--types", filesystem.type.value, f"UUID={filesystem.uuid}", where)
    yield _look("findmnt", "--submounts", TARGET)


def _look(*argv: str) -> Run:
    return run(*argv, may_fail=True)


_GRUB_ENTRIES = """\
for file in "$1"/boot/grub/grub.cfg "$1"/boot/grub2/grub.cfg "$1"/boot/loader/entries/*.conf; do
    [ -e "$file" ] || continue
    echo "$file:"
    grep -E '^[[:space:]]*(menuentry|linux|linuxefi|initrd|search|options|title)[[:space:]]' "$file" | head -n 20
done
"""

# The tools are the new system's own, as they know its format. They write temporary files, and into /dev/null.
_INITRAMFS = """\
mount --types tmpfs tmpfs "$1/tmp"
mount --bind /dev "$1/dev"
for file in "$1"/boot/initrd.img-* "$1"/boot/initramfs-*.img; do
    [ -e "$file" ] || continue
    echo "$file: $(stat --format=%s "$file") bytes"
    for tool in lsinitramfs lsinitrd; do
        chroot "$1" sh -c "command -v $tool" >/dev/null || continue
        timeout 120 chroot "$1" "$tool" "${file#"$1"}" |
            grep -E 'mdadm|/(raid|md-mod|ahci|nvme|virtio|ext4|xfs)' | head -n 60
    done
done
umount "$1/dev" "$1/tmp"
"""

"""Step 8: the image's files copied into the plan's tree, in one pass from the network where the image was published.

Otherwise the file is fetched, opened and copied with rsync. It lies in memory meanwhile; where it does not fit there,
on the largest file system of the plan. (QEMU can read a disk over HTTP too, and needs no room for it: but then what is
copied is not what was hashed.)
"""

from collections.abc import Iterator
from datetime import timedelta

from images import tree
from images.formats import Format

from ..commands import Command, run
from ..step import RUN, TARGET, Context, Step, run_commands
from .fetch import FETCHED, JUDGE, KEPT, NBD, PROGRAM, connect, disconnect, look, own_wanted, programs, wanted

WORK = f"{RUN}/image"
"""Where the file lies while it is copied: a file system in RAM, or a folder of the plan's largest one."""
HELD = f"{WORK}/file"
SCRATCH = ".landfall-image"

_MAKE_ROOM = """\
set -eu
work=$1 scratch=$2 size=$3; shift 3
mkdir -p "$work"
# fetched already, before the wipe
[ ! -e "$1" ] || exit 0
shift
# of a customer's own image the size is known since then
[ "$size" != 0 ] || size=$(cat "$work/../fetched.size")
room=$((size + size / 64 + 1048576))
free=$(awk '/^MemAvailable:/ { print $2 * 1024 }' /proc/meminfo)
# besides the file itself the rescue system needs memory to work in
if [ $((room + 402653184)) -le "$free" ]; then
    mount --types tmpfs --options "size=$room,mode=0700" tmpfs "$work"
    echo "the image is held in memory: $((room >> 20)) of $((free >> 20)) MiB"
    exit 0
fi
best=$(df --block-size=1 --output=avail,target "$@" | tail --lines=+2 | sort --numeric-sort | tail --lines=1)
where=${best##* } left=$(echo "$best" | awk '{ print $1 }')
if [ "$room" -gt "$left" ]; then
    echo "no room for the image: it has $((size >> 20)) MiB, $((free >> 20)) MiB of memory are free, and" \\
        "$((left >> 20)) MiB on the largest file system" >&2
    exit 1
fi
mkdir --mode=0700 "${where%/}/$scratch"
mount --bind "${where%/}/$scratch" "$work"
echo "the image is held in $where while it is copied: memory has no room for it"
"""

_MAKE_AWAY = """\
work=$1 scratch=$2; shift 2
! mountpoint --quiet "$work" || umount "$work"
rm --force "$work/file"
for where; do rm --recursive --force --one-file-system "${where%/}/$scratch"; done
"""

TAR = (
    f"tar --extract --directory={TARGET} --preserve-permissions --same-owner --numeric-owner --xattrs "
    "'--xattrs-include=*' --delay-directory-restore --warning=no-timestamp --anchored --blocking-factor=2048"
)
"""Unpacks with owners by number and all extended attributes: ACLs, capabilities and labels are such, in numbers too.

Read a MiB at a time, and so written: in tar's usual 10 KiB, writing takes a third longer.
"""


def copy(ctx: Context) -> Iterator[Command]:
    """The image's files in the plan's tree, with all their attributes, and on the disks."""
    yield from programs(ctx)
    yield from _release(ctx)
    unpacked = ctx.image.stream or ctx.image.format == Format.TAR
    if ctx.image.own or not unpacked:
        yield from _hold(ctx)
    yield from _unpack(ctx) if unpacked else _copy_files(ctx)
    yield from _release(ctx)
    yield run("sh", "-c", f"! mountpoint --quiet {FETCHED} || umount {FETCHED}")
    yield run("mkdir", "-p", f"{TARGET}/boot/efi")
    # once, at the end, and errors of the disks show here: rsync's own --fsync would wait for them after every file
    yield run("sync", "--file-system", *_targets(ctx))
    yield run("df", "--human-readable", *_targets(ctx))


def _targets(ctx: Context) -> tuple[str, ...]:
    """Where the plan's file systems for files are mounted, ESPs apart."""
    return tuple(TARGET + one.mount.rstrip("/") for one in ctx.plan.mounts if one not in ctx.plan.esps)


def _wants_esp(ctx: Context) -> bool:
    """Whether what lies on the image's ESP is wanted: it came from the vendor's signed packages."""
    return bool(ctx.plan.esps) and ctx.flavour.grub.efi_signed


def _hold(ctx: Context) -> Iterator[Command]:
    """The file fetched; a customer's own one is looked at again, here and now, as it may not have been before."""
    yield run("sh", "-c", _MAKE_ROOM, "make-room", WORK, SCRATCH, str(ctx.image.size), KEPT, *_targets(ctx))
    yield run(*PROGRAM, *wanted(ctx), "--output", HELD)
    if ctx.image.own:
        yield look(ctx, HELD)


def _unpack(ctx: Context) -> Iterator[Command]:
    """In one pass from the network to the disks. What did not have its checksum fails at the end, and so the step.

    A customer's own one is no stream: it is held, and was looked at.
    """
    source = own_wanted(ctx.image.own, kept=HELD) if ctx.image.own else wanted(ctx)
    without = ["lost+found"] if _wants_esp(ctx) else ["lost+found", "boot/efi"]
    excluded = "".join(f" --exclude={prefix}{name}" for name in without for prefix in ("./", ""))
    pipe = f'set -o pipefail; "$@" --output - --unpack | {TAR}{excluded}'
    yield run("bash", "-c", pipe, "stream", *PROGRAM, *source)


def _copy_files(ctx: Context) -> Iterator[Command]:
    """The file opened as the disk that it is, and its files copied."""
    root = f"{WORK}/root"
    yield connect(ctx, HELD)
    yield run("sh", "-c", tree.OPEN, "open-image", NBD, root)
    if ctx.image.own:
        yield run(*JUDGE, root)
    yield run(
        "rsync", "-aHAXS", "--numeric-ids", "--no-inc-recursive", "--info=progress2", "--outbuf=L",
        "--exclude=/lost+found", "--exclude=/boot/efi/*", f"{root}/", f"{TARGET}/",
    )  # fmt: skip
    if _wants_esp(ctx):
        # vfat knows neither owners nor links
        yield run("rsync", "-rt", f"{root}/boot/efi/", f"{TARGET}{ctx.plan.esps[0].mount}/")


def _release(ctx: Context) -> Iterator[Command]:
    yield from disconnect(f"{WORK}/root")
    yield run("sh", "-c", _MAKE_AWAY, "make-away", WORK, SCRATCH, *_targets(ctx))


COPY = Step(
    "copy",
    title="Copy the image",
    timeout=timedelta(minutes=60),
    retries=2,
    after_crash="copy",
    cancellable=False,
    perform=run_commands,
    commands=copy,
    tokens=frozenset({"fetch"}),
)

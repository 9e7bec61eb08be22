"""How the rescue system fetches an image; and the step in which a customer's own one is fetched before the wipe.

The program is `deploy.fetching`, which is sent along: what judges addresses there is the same file as here. So are
`deploy.looking`, by which a customer's own image is held to what the catalogue's are, before anything opens it, and
`images.strays`, for the files in it.
"""

from collections.abc import Iterator
from datetime import timedelta

from accounts.secret import Secret
from images import strays, tree
from images.formats import Format

from .. import fetching, looking
from ..commands import Command, Run, run, write_file
from ..sent import sources
from ..step import RUN, Context, OwnSource, Step, run_commands

LIB = f"{RUN}/lib"
SECRETS = f"{RUN}/fetching"
"""Headers and addresses that nobody may see: arguments can be read by every process."""

FETCHED = f"{RUN}/fetched"
"""Where a customer's own image lies in memory from before the wipe until it was copied."""
KEPT = f"{FETCHED}/file"
LOOKED = f"{RUN}/looked"
"""How QEMU opens the disk in it, as looking at it has found."""
NBD = "/dev/nbd0"

PROGRAM = ("env", f"PYTHONPATH={LIB}", "python3", "-m", fetching.__name__)
LOOKER = (*PROGRAM[:-1], looking.__name__)
JUDGE = (*PROGRAM[:-1], strays.__name__)


def programs(ctx: Context) -> Iterator[Command]:
    """What fetches, and looks at what a customer brought; and what it must know and nobody else."""
    # which looks in a process of its own, and so does not import it
    looks = (looking.__name__, "images.look", strays.__name__) if ctx.image.own else ()
    for path, text in sources(fetching.__name__, *looks).items():
        yield write_file(f"{LIB}/{path}", text)
    yield run("mkdir", "-p", "-m", "0700", SECRETS)
    if own := ctx.image.own:
        yield write_file(f"{SECRETS}/url", own.url, mode=0o600)
        yield write_file(f"{SECRETS}/headers", own.headers, mode=0o600)
    elif ctx.image.stream is None or ctx.image.stream.with_token:
        token = ctx.fetch_token.reveal()
        yield write_file(f"{SECRETS}/headers", Secret(f"Authorization: Bearer {token}\n"), mode=0o600)


def wanted(ctx: Context) -> tuple[str, ...]:
    """The arguments that say what is fetched."""
    if own := ctx.image.own:
        return own_wanted(own)
    if stream := ctx.image.stream:
        return (
            *(word for url in stream.urls for word in ("--url", url)),
            *(("--header-file", f"{SECRETS}/headers") if stream.with_token else ()),
            *("--checksum", f"sha256:{stream.sha256}", "--size", str(stream.size)),
            *(("--rate", stream.rate) if stream.rate else ()),
        )
    image = ctx.image
    return (
        *("--url", image.url, "--header-file", f"{SECRETS}/headers"),
        *("--checksum", f"sha256:{image.sha256}", "--size", str(image.size)),
    )


def own_wanted(own: OwnSource, kept: str = KEPT) -> tuple[str, ...]:
    """The same for a customer's own image: public addresses alone; what was fetched before is not fetched again."""
    return (
        *("--url-file", f"{SECRETS}/url", "--header-file", f"{SECRETS}/headers", "--checksum", own.checksum),
        *("--most", str(looking.LIMITS.file_size), "--public", own.networks),
        *("--kept", kept, "--note-size", f"{RUN}/fetched.size"),
    )


def look(ctx: Context, file: str) -> Run:
    """A customer's own image looked at, and refused where the catalogue would refuse it."""
    return run(*LOOKER, file, ctx.image.format, str(ctx.plan.root.size), LOOKED)


def connect(ctx: Context, file: str) -> Run:
    """The disk in the image shown as NBD; of a customer's own one, as looking at it has found."""
    image = ctx.image
    return run(
        "sh", "-c", _CONNECT, "connect", NBD, LOOKED if image.own else tree.options(image.format, file, image.disk)
    )


# Besides the file itself the rescue system needs memory to work in.
_FETCH = """\
set -eu
kept=$1; shift
free=$(awk '/^MemAvailable:/ { print $2 * 1024 }' /proc/meminfo)
room=$((free - 402653184))
mkdir -p "$kept"
mountpoint --quiet "$kept" ||
    mount --types tmpfs --options "size=$((room > 0 ? room : 1)),mode=0700" tmpfs "$kept"
exec "$@" --room "$room" --output "$kept/file"
"""

_CONNECT = """\
set -eu
device=$1 options=$2
# of a customer's own image they are in a file, as looking at it has found
case $options in /*) options=$(cat "$options") ;; esac
modprobe nbd max_part=16
# what is written, such as a replayed journal, goes into a temporary file
prlimit --as=4294967296 --core=0 -- qemu-nbd --snapshot --image-opts --connect="$device" "$options"
# The kernel reads the partition table some time after qemu-nbd has returned.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    udevadm settle --timeout=30
    ! ls "$device"p* >/dev/null 2>&1 || break
    ! blkid --probe --usages filesystem "$device" >/dev/null 2>&1 || break
    sleep 0.5
done
"""

_FITS = """\
set -eu
root=$1 size=$2
used=$(df --block-size=1 --output=used "$root" | tail --lines=1)
echo "the files of the image take $((used >> 20)) MiB, the root file system of the plan has $((size >> 20)) MiB"
if [ "$used" -gt "$size" ]; then
    echo "the image does not fit onto the disks" >&2
    exit 1
fi
"""


def disconnect(root: str) -> Iterator[Run]:
    """The image closed, whatever of it was open."""
    yield run("sh", "-c", tree.CLOSE, "close-image", NBD, root)
    yield run("sh", "-c", 'test ! -e "/sys/block/${1#/dev/}/pid" || qemu-nbd --disconnect "$1"', "disconnect", NBD)


def fetch(ctx: Context) -> Iterator[Command]:
    """A customer's own image: fetched, its checksum compared, and looked into, before anything is lost.

    Where memory has no room for it, it is only compared now, and looked at by the step that fetches it again.
    """
    own = ctx.image.own
    if own is None:
        return
    yield from programs(ctx)
    yield from disconnect(f"{FETCHED}/root")
    yield run("sh", "-c", _FETCH, "fetch-image", FETCHED, *PROGRAM, *own_wanted(own))
    yield _if_kept(look(ctx, KEPT))
    if ctx.image.format == Format.TAR:
        return
    yield _if_kept(connect(ctx, KEPT))
    yield _if_kept(run("sh", "-c", tree.OPEN, "open-image", NBD, f"{FETCHED}/root"))
    yield _if_kept(run(*JUDGE, f"{FETCHED}/root"))
    yield _if_kept(run("sh", "-c", _FITS, "fits", f"{FETCHED}/root", str(ctx.plan.root.size)))
    yield from disconnect(f"{FETCHED}/root")


def _if_kept(command: Run) -> Run:
    return run("sh", "-c", 'test ! -e "$0" || exec "$@"', KEPT, *command.argv)


FETCH = Step(
    "fetch",
    title="Fetch the image",
    timeout=timedelta(minutes=60),
    retries=2,
    after_crash="fetch",
    cancellable=True,
    perform=run_commands,
    commands=fetch,
)

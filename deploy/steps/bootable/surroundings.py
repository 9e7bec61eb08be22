"""What programs of the new system expect around them, while they run in its tree and not by themselves."""

from collections.abc import Iterator

from ...commands import Command, run
from ...step import TARGET

# Whose resolv.conf the tree has is nobody's business but its own: nothing is written into it. A link into /run, which
# is a file system in RAM here, is given the file that it points to; a file is covered.
_RESOLVER = """\
set -eu
conf=$1/etc/resolv.conf
link=$(readlink "$conf") || link=
case $link in
*run/*)
    file=$1/run/${link#*run/}
    mkdir -p "${file%/*}"
    cp /etc/resolv.conf "$file"
    ;;
*)
    [ -e "$conf" ] || { rm -f "$conf" && : >"$conf"; }
    mountpoint --quiet "$conf" || mount --bind /etc/resolv.conf "$conf"
    ;;
esac
"""


def surroundings() -> Iterator[Command]:
    """/proc, /sys, /dev and /run, private, so that unmounting them leaves the rescue system alone; and names of hosts.

    Harmless where they are there already.
    """
    for source in ("proc", "sys", "dev"):
        where = f"{TARGET}/{source}"
        yield run("sh", "-c", f"mountpoint --quiet {where} || mount --rbind --make-rslave /{source} {where}")
    yield run("sh", "-c", f"mountpoint --quiet {TARGET}/run || mount --types tmpfs tmpfs {TARGET}/run")
    yield run("mkdir", "-p", f"{TARGET}/run/udev")
    # grub-probe and lvm ask udev's database what a device is
    yield run("sh", "-c", f"mountpoint --quiet {TARGET}/run/udev || mount --bind /run/udev {TARGET}/run/udev")
    yield run("sh", "-c", _RESOLVER, "resolver", TARGET)

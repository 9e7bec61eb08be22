"""The packages that this machine needs, installed where the image has not brought them."""

from collections.abc import Iterator

from images.flavours import Need
from servers.facts import Firmware

from ...commands import Command, in_chroot, run
from ...step import TARGET, Context

_SCRIPT = """\
has() { %(has)s; }
install() { %(install)s; }
missing=
for package in "$@"; do
    has "$package" || missing="$missing $package"
done
[ -n "$missing" ] || { echo "the image has all of them"; exit 0; }
echo "not in the image, and installed now:$missing"
install $missing && exit 0
echo "these packages are missing in the image, and %(name)s could not install them:$missing" >&2
exit 1
"""

# A kernel of a cloud's virtual machines starts on a server, and finds no network there: better said now than guessed
# in half an hour. Only said: between the rescue system's kernel and another a driver may have changed its name.
_DRIVERS = """\
version=$(ls "$1/lib/modules" | sort -V | tail -n 1)
for class in /sys/bus/pci/devices/*/class; do
    case $(cat "$class") in 0x01* | 0x02*) ;; *) continue ;; esac
    device=${class%/class}
    module=$(readlink "$device/driver/module") || continue
    module=${module##*/}
    grep -qs "/$module.ko" "$1/lib/modules/$version/modules.builtin" ||
        chroot "$1" modinfo -k "$version" "$module" >/dev/null 2>&1 ||
        echo "kernel $version of the new system has no driver $module, which this machine's ${device##*/} has here" >&2
done
"""


def packages(ctx: Context) -> Iterator[Command]:
    """Ends the step at once when a package can be had nowhere, rather than somewhere in the middle of GRUB."""
    tool = ctx.flavour.package_tool
    script = _SCRIPT % {"has": tool.has, "install": tool.install, "name": tool.name}
    yield in_chroot(TARGET, "sh", "-c", script, "packages", *ctx.flavour.packages_for(*needs(ctx)))
    yield run("sh", "-c", _DRIVERS, "drivers", TARGET, may_fail=True)


def needs(ctx: Context) -> Iterator[Need]:
    """What the plan asks of the installed system's packages."""
    plan = ctx.plan
    types = {filesystem.type.value for filesystem in plan.filesystems}
    yield Need.SYSTEM
    yield Need.UEFI if plan.firmware is Firmware.UEFI else Need.BIOS
    if plan.arrays:
        yield Need.RAID
    if plan.volume_groups:
        yield Need.LVM
    if plan.containers:
        yield Need.LUKS
    for kind, need in (("xfs", Need.XFS), ("btrfs", Need.BTRFS)):
        if kind in types:
            yield need

"""How each family of distributions says that a package is there, and how one that is not is installed."""

from dataclasses import dataclass
from enum import Enum


class Need(Enum):
    """What packages are needed for."""

    SYSTEM = "every server"
    BIOS = "BIOS"
    UEFI = "UEFI"
    RAID = "software RAID"
    LVM = "LVM"
    LUKS = "LUKS"
    XFS = "XFS"
    BTRFS = "Btrfs"


@dataclass(frozen=True, slots=True)
class PackageTool:
    """Two pieces of shell: `has` succeeds when the package "$1" is installed, `install` installs the packages "$@"."""

    name: str
    has: str
    install: str


APT = PackageTool(
    "apt-get",
    # a package that was removed is still known by its configuration
    has="dpkg-query --show --showformat='${db:Status-Status}' \"$1\" 2>/dev/null | grep -qx installed",
    # The initramfs is built later, once, and not by the packages' triggers as well.
    install=(
        "conf=/etc/initramfs-tools/update-initramfs.conf; "
        'sed -i "s/^update_initramfs=yes/update_initramfs=no/" $conf; apt-get -q update && '
        'apt-get -q --yes --no-install-recommends -o Dpkg::Options::=--force-confold install "$@"; status=$?; '
        'sed -i "s/^update_initramfs=no/update_initramfs=yes/" $conf; return $status'
    ),
)
DNF = PackageTool("dnf", 'rpm --quiet --query "$1"', 'dnf --assumeyes --setopt=install_weak_deps=False install "$@"')
# yum calls it a success when one of several packages does not exist
YUM = PackageTool("yum", DNF.has, 'yum --assumeyes install "$@" && rpm --query "$@"')
# The kernel of cloud images conflicts with that of servers, and gives way to it.
ZYPPER = PackageTool("zypper", DNF.has, 'zypper --non-interactive install --no-recommends --force-resolution "$@"')
# All of it upgraded: Arch knows no system of which a part is newer than the rest.
PACMAN = PackageTool(
    "pacman", 'pacman --query "$1" >/dev/null 2>&1', 'pacman --sync --refresh --sysupgrade --needed --noconfirm "$@"'
)

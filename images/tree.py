"""How the tree of files inside an image is reached: shell scripts for a system that boots from RAM alone. Pure.

The rescue system and the machine that publishes run the same ones, on a block device that shows the disk in the image.
Writes to that device must be possible and must lead nowhere (a snapshot): journals are replayed there, and volume
groups get other names there, because the plan may have one of the same name.
"""

from collections.abc import Mapping
from typing import Any

OPEN = r"""set -eu
device=$1 root=$2
options=nosuid,nodev,noexec
mkdir -p "$root"

# of the device and what lies on it: columns as lsblk names them
below() { lsblk --noheadings --raw --paths --output "$1" "$device" | sort --unique; }
first() { awk -v wanted="$1" '$2 == wanted { print $1; exit }'; }

# Volume groups of the image come up under names of their own.
volumes=$(below NAME,FSTYPE | awk '$2 == "LVM2_member" { print $1 }')
renamed=
if [ -n "$volumes" ]; then
    these=$(echo $volumes | tr ' ' ,)
    number=0
    for group in $(pvs --devices "$these" --noheadings --options vg_name | sort --unique); do
        of_group=$(pvs --devices "$these" --noheadings --options pv_name --select "vg_name=$group")
        vgimportclone --devices "$these" --basevgname "landfall_image$number" $of_group
        vgchange --devices "$these" --activate y "landfall_image$number"
        renamed="$renamed $group=landfall_image$number"
        number=$((number + 1))
    done
    udevadm settle --timeout=30
fi

# Read-only, its journal replayed; without that when the file system is damaged.
look() {
    what=$1 where=$2 more=${3:-}
    type=$(blkid --probe --match-tag TYPE --output value "$what") || return 1
    case $type in
        xfs) more=$more,nouuid without=norecovery ;;
        ext?) without=noload ;;
        btrfs) without=rescue=nologreplay ;;
        vfat) without= ;;
        *) return 1 ;;
    esac
    for more in "$more" ${without:+"$more,$without"}; do
        ! mount --types "$type" --read-only --options "$options$more" "$what" "$where" 2>/dev/null || return 0
    done
    return 1
}
is_root() { [ -e "$root/etc/os-release" ] || [ -L "$root/etc/os-release" ]; }

# The root is found by what it is, not by its number: by GPT type or label first, then by looking into each.
candidates() {
    below NAME,PARTTYPE | awk '$2 == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" { print $1 }'
    below NAME,LABEL | awk '$2 ~ /^(root|rootfs|cloudimg-rootfs)$/ { print $1 }'
    below NAME | tac
}
find_root() {
    for one in $(candidates); do
        look "$one" "$root" || continue
        found=$one
        ! is_root || return 0
        inside=
        [ "$type" != btrfs ] || inside=$(btrfs subvolume list "$root" | awk '$NF !~ /snapshot/ { print $NF }')
        umount "$root"
        for subvolume in $inside; do
            look "$one" "$root" ",subvol=/$subvolume" || continue
            ! is_root || { echo "its root is the subvolume $subvolume"; return 0; }
            umount "$root"
        done
    done
    echo "no partition of the image holds a root file system: none has /etc/os-release" >&2
    return 1
}
find_root
echo "the root file system of the image is $found ($type)"

# The device mapper doubles the dashes of names.
doubled() { echo "$1" | sed s/-/--/g; }
# What a line of fstab means, among what the image holds; nothing for what it does not hold.
resolve() {
    case $1 in
        UUID=*) below NAME,UUID | first "${1#*=}" ;;
        LABEL=*) below NAME,LABEL | first "${1#*=}" ;;
        PARTUUID=*) below NAME,PARTUUID | first "${1#*=}" ;;
        PARTLABEL=*) below NAME,PARTLABEL | first "${1#*=}" ;;
        /dev/*)
            for pair in $renamed; do
                old=${pair%=*} new=${pair#*=} volume=
                dashed=$(doubled "$old")
                case $1 in
                    "/dev/$old/"*) volume=$(doubled "${1#"/dev/$old/"}") ;;
                    "/dev/mapper/$dashed-"*) volume=${1#"/dev/mapper/$dashed-"} ;;
                    *) continue ;;
                esac
                below NAME | grep --line-regexp --fixed-strings "/dev/mapper/$new-$volume"
            done ;;
    esac
}
# Other file systems of the image, such as /boot: where its fstab says, and never outside of the tree.
if [ -f "$root/etc/fstab" ] && [ ! -L "$root/etc/fstab" ]; then
    sed 's/^[[:space:]]*#.*//' "$root/etc/fstab" | awk '$2 ~ /^\/./ { print $2, $1, $3, $4 }' | sort |
    while read -r where spec kind said; do
        case $kind in ext?|xfs|btrfs|vfat) ;; *) continue ;; esac
        what=$(resolve "$spec" || true)
        inside=$(readlink --canonicalize-existing "$root$where" || true)
        case $what:$inside in :*|*:) continue ;; *:"$root"/*) ;; *) continue ;; esac
        [ -d "$inside" ] && ! mountpoint --quiet "$inside" || continue
        subvolume=$(echo "$said" | tr , '\n' | sed --quiet 's/^\(subvol\(id\)\?=.*\)/,\1/p' | head -n 1)
        ! look "$what" "$inside" "$subvolume" || echo "$where of the image is $what$subvolume"
    done
fi
esp=$(below NAME,PARTTYPE | first c12a7328-f81f-11d2-ba4b-00a0c93ec93b)
if [ -n "$esp" ] && [ -d "$root/boot/efi" ] && [ ! -L "$root/boot/efi" ] && ! mountpoint --quiet "$root/boot/efi"; then
    look "$esp" "$root/boot/efi" || true
fi
"""
"""`sh -c OPEN open-image DEVICE ROOT`: the root file system, and what belongs into it, mounted read-only."""

CLOSE = r"""device=$1 root=$2
! mountpoint --quiet "$root" || umount --recursive "$root"
below() { lsblk --noheadings --raw --paths --output NAME,FSTYPE "$device" 2>/dev/null; }
volumes=$(below | awk '$2 == "LVM2_member" { print $1 }')
[ -z "$volumes" ] || vgchange --devices "$(echo $volumes | tr ' ' ,)" --activate n
"""
"""`sh -c CLOSE close-image DEVICE ROOT`: undoes what OPEN did; nothing where it did nothing."""

DRIVERS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}
"""What QEMU calls the formats of disks."""


def options(format: str, path: str, disk: Mapping[str, Any] | None = None) -> str:
    """How QEMU opens the disk in a file: itself, or, for an archive such as an OVA, what lies in it as `disk` says."""
    path = path.replace(",", ",,")
    if disk is None:
        return f"driver={DRIVERS[format]},file.driver=file,file.filename={path}"
    return (
        f"driver={DRIVERS[str(disk['format'])]},file.driver=raw,file.offset={disk['offset']},file.size={disk['size']},"
        f"file.file.driver=file,file.file.filename={path}"
    )

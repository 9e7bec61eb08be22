#!/bin/sh
# Keeps this server able to start from each of its disks: GRUB is put onto all of them anew when its package was
# updated. Written by Landfall when the system was installed; it belongs to nothing else.
#
# Runs when packages change what @NAME@.path watches. Running it by hand does no harm:
#   @SCRIPT@
# To be rid of it: systemctl disable --now @NAME@.path, and delete this file.
# After a disk was replaced: make a BIOS boot partition on it, put its PARTUUID below, run this with --now.

ROOT=${BOOT_SYNC_ROOT:-} # set by tests alone
# The BIOS boot partitions by their UUIDs, as the names of disks change.
PARTITIONS="@PARTITIONS@"

# GRUB was updated: files of its package came after it was last put onto the disks.
if [ "$1" != --now ] && [ -z "$(find "$ROOT@MODULES@" -type f -cnewer "$ROOT@CORE@" 2>&1)" ]; then
    exit 0
fi
for uuid in $PARTITIONS; do
    partition=$(readlink -e "$ROOT/dev/disk/by-partuuid/$uuid")
    if [ -z "$partition" ]; then
        echo "the disk with the partition $uuid is not there: it may have died. It is left alone." >&2
        continue
    fi
    disk=/dev/$(lsblk --noheadings --output PKNAME "$partition" | head -n 1)
    echo "putting GRUB onto $disk"
    @INSTALL@ "$disk"
done

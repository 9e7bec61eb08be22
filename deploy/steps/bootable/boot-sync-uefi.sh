#!/bin/sh
# Keeps this server able to start from each of its disks: what updates change on the first EFI system partition (ESP)
# is copied to the others. Written by Landfall when the system was installed; it belongs to nothing else.
#
# Runs when packages change what @NAME@.path watches. Running it by hand does no harm:
#   @SCRIPT@
# To be rid of it: systemctl disable --now @NAME@.path, and delete this file.
# After a disk was replaced: make an ESP on it with the UUID that /etc/fstab has for it, mount it, run this.

ROOT=${BOOT_SYNC_ROOT:-} # set by tests alone
FIRST=$ROOT@FIRST@
OTHERS="@OTHERS@"

# GRUB as its packages have it now, where firmware looks: EFI/BOOT
renew_loader() {
@RENEW@
}

# $2 made equal to $1. A file is changed under another name, and then renamed: a power cut leaves the old one or the new.
copy_tree() {
    (cd "$1" && find . -type d) | while IFS= read -r folder; do mkdir -p "$2/$folder"; done
    (cd "$1" && find . -type f) | while IFS= read -r file; do
        cmp -s "$1/$file" "$2/$file" && continue
        echo "copying ${file#./} to $2"
        cp "$1/$file" "$2/$file.new" && sync && mv -f "$2/$file.new" "$2/$file"
    done
    (cd "$2" && find . -type f) | while IFS= read -r file; do
        [ -e "$1/$file" ] || { echo "deleting ${file#./} from $2" && rm -f "$2/$file"; }
    done
}

if ! mountpoint -q "$FIRST"; then
    echo "$FIRST is not mounted: its disk may have died. Nothing was copied; the other ESPs are as they were." >&2
    exit 1
fi
renew_loader
for other in $OTHERS; do
    other=$ROOT$other
    mountpoint -q "$other" || mount "$other" 2>/dev/null
    if ! mountpoint -q "$other"; then
        echo "$other is not mounted: its disk may have died. It is left alone." >&2
        continue
    fi
    # once more when something was changed meanwhile
    for round in 1 2 3; do
        copy_tree "$FIRST" "$other"
        diff -r "$FIRST" "$other" >/dev/null && break
    done
done
sync

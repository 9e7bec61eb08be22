# Runs in a machine of its own that has no network: it alone mounts file systems that somebody else has made.
# Says what it does, and at last RESULT with what has come of it, on the second serial port.
exec >"${SAID:-/dev/ttyS1}" 2>&1 </dev/null
set -eu -o pipefail
image=${IMAGE:-/dev/disk/by-id/virtio-image} stream=${STREAM:-/dev/disk/by-id/virtio-stream}
work=${WORK:-/run}
level=@LEVEL@ packed=@PACKED@
! command -v udevadm >/dev/null || udevadm settle --timeout=60

# From standard input to the disk that the host reads, counted before and hashed behind the compression.
pack() {
    tee >(wc --bytes >"$work/tar-bytes") | zstd --quiet --threads=0 "-$level" |
        tee >(sha256sum | cut --characters=1-64 >"$work/sha256") >(wc --bytes >"$work/size") |
        dd of="$stream" bs=1M iflag=fullblock oflag=direct conv=notrunc,sync status=none
    for file in "$work/tar-bytes" "$work/sha256" "$work/size"; do
        for _ in $(seq 300); do [ -s "$file" ] && break; sleep 0.1; done
    done
}

case $packed in
    no)
        sh -c "$OPEN" open-image "$image" "$work/root"
        python3 -c "$STRAYS" "$work/root"
        cd "$work/root"
        root_bytes=$(du --block-size=1 --summarize --exclude=./boot/efi . | cut --fields=1)
        echo "packing $((root_bytes >> 20)) MiB"
        tar --create --format=pax --pax-option=delete=atime,delete=ctime --numeric-owner --sparse --xattrs \
            '--xattrs-include=*' --exclude=./lost+found --verbose --index-file="$work/index" . | pack
        files=$(wc --lines <"$work/index") ;;
    *)
        # A tarball is a tree already; what it holds is counted on the way.
        head --bytes=@SIZE@ "$image" | $packed | tee >(tar --list --file=- --verbose --numeric-owner |
            awk '{ files++; if (substr($1, 1, 1) == "-") bytes += 4096 * int(($3 + 4095) / 4096) }
                END { print files + 0, bytes + 0 }' >"$work/counted") | pack
        for _ in $(seq 300); do [ -s "$work/counted" ] && break; sleep 0.1; done
        read -r files root_bytes <"$work/counted" ;;
esac
printf 'RESULT {"sha256": "%s", "size": %s, "tar_bytes": %s, "root_bytes": %s, "files": %s}\n' \
    "$(cat "$work/sha256")" "$(cat "$work/size")" "$(cat "$work/tar-bytes")" "$root_bytes" "$files"
sync

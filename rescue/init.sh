#!/bin/busybox sh
# The first process: puts the squashfs that came with this initramfs under a writable layer in RAM and hands over.
set -e
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do
    busybox insmod "/modules/$module"
done
busybox mount -t squashfs -o loop,ro /rescue.squashfs /lower
# the image being installed may be downloaded into RAM: leave the system a fifth of it
busybox mount -t tmpfs -o size=80%,mode=755 rescue /upper
busybox mkdir /upper/files /upper/work
busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work rescue /new
busybox mount --move /dev /new/dev
busybox umount /proc
# what is deleted here was copied to RAM by the kernel; the squashfs itself lives on, as the loop device holds it open
exec busybox switch_root /new /usr/lib/systemd/systemd

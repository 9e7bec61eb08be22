#!/bin/sh
# Runs inside the new root as the last thing before it is packed.
set -eu

systemctl enable --quiet systemd-networkd.service systemd-resolved.service ssh.service
systemctl mask --quiet systemd-networkd-wait-online.service 2>/dev/null
ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

echo 'LANG=C.UTF-8' > /etc/default/locale
echo 'LABEL=root / ext4 errors=remount-ro 0 1' > /etc/fstab
echo localhost > /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' > /etc/hosts

# every machine makes its own
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id /var/lib/systemd/random-seed
: > /etc/machine-id
passwd --quiet --lock root

# the exclusions were for this build; a package that is installed later comes whole
rm -f /etc/dpkg/dpkg.cfg.d/99mmdebstrap
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old \
    /var/log/*.log /var/log/apt /run/* /tmp/*

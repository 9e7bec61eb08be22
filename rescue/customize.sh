#!/bin/sh
# Runs inside the new root as the last thing before it is packed.
set -eu

# one service matters here; whatever does not serve it costs boot time (a second each in an emulated machine)
systemctl mask --quiet \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    mdcheck_continue.timer mdcheck_start.timer mdmonitor-oneshot.timer mdmonitor.service \
    lvm2-monitor.service lvm2-lvmpolld.socket lvm2-lvmpolld.service dm-event.socket dm-event.service \
    blk-availability.service nvmefc-boot-connections.service nvmf-autoconnect.service \
    getty.target getty@.service serial-getty@.service autovt@.service console-getty.service \
    systemd-pstore.service systemd-timesyncd.service systemd-logind.service systemd-networkd-wait-online.service \
    systemd-journal-flush.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-hwdb-update.service systemd-firstboot.service systemd-machine-id-commit.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-user-sessions.service \
    systemd-binfmt.service systemd-rfkill.service systemd-rfkill.socket systemd-network-generator.service \
    systemd-sysext.service systemd-confext.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
    systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pcrmachine.service systemd-ask-password-wall.path \
    systemd-ask-password-console.path keyboard-setup.service console-setup.service ssh.socket \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-mqueue.mount dev-hugepages.mount \
    ldconfig.service modprobe@configfs.service modprobe@fuse.service sys-kernel-config.mount \
    sys-fs-fuse-connections.mount systemd-udev-load-credentials.service systemd-networkd-persistent-storage.service \
    systemd-remount-fs.service sshd-unix-local.socket sshd-vsock.socket 2>/dev/null
systemctl disable --quiet ssh.service 2>/dev/null || true
systemctl enable --quiet systemd-networkd.service systemd-resolved.service landfall-rescue.service
systemctl set-default --quiet multi-user.target

mkdir -p /etc/systemd/system-generators
for generator in systemd-ssh-generator systemd-gpt-auto-generator systemd-getty-generator systemd-tpm2-generator \
    systemd-hibernate-resume-generator systemd-cryptsetup-generator systemd-integritysetup-generator \
    systemd-veritysetup-generator systemd-bless-boot-generator; do
    ln -sf /dev/null "/etc/systemd/system-generators/$generator"
done

# nothing on the disks may come alive: they are about to be wiped
for rule in 64-md-raid-assembly.rules 69-lvm.rules; do
    ln -sf /dev/null "/etc/udev/rules.d/$rule"
done
sed -i 's/^[# \t]*event_activation *=.*/\tevent_activation = 0/' /etc/lvm/lvm.conf
printf 'AUTO -all\n' > /etc/mdadm/mdadm.conf

rm -f /etc/ssh/ssh_host_* /etc/hostname
ln -sf /run/systemd/resolve/resolv.conf /etc/resolv.conf
: > /etc/machine-id
echo rescue > /etc/hostname
ln -sf /usr/share/zoneinfo/UTC /etc/localtime

python3 -m compileall -q /usr/local/lib/landfall
python3 -c 'import http.client, json, ssl, subprocess, urllib.request'

# the hardware database names devices for people; nobody looks at names here
rm -rf /usr/lib/udev/hwdb.bin /usr/lib/udev/hwdb.d /usr/share/misc/pci.ids /usr/share/perl5 \
    /usr/share/initramfs-tools /usr/lib/klibc* /var/lib/dpkg/info/*.md5sums /var/cache/debconf/* /var/log/*.log \
    /usr/lib/python3*/lib2to3 /usr/lib/python3*/pydoc_data /usr/lib/python3*/ensurepip /usr/lib/systemd/catalog

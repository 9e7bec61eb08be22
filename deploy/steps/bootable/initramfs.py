"""The initramfs with the drivers of servers, and with what puts the root together."""

from collections.abc import Iterator

from images.flavours import CRYPT_DRIVERS, Initramfs

from ...commands import Command, in_chroot, run, write_file
from ...step import TARGET, Context
from .stack import of_root


def initramfs(ctx: Context) -> Iterator[Command]:
    """Every storage driver of the kernel, so that the disks may move to another machine.

    No network drivers: nothing boots over the network here, and of the time that initramfs-tools takes with
    MODULES=most they and their firmware are the larger part.
    """
    yield from _BY_TOOL[ctx.flavour.initramfs](ctx)


def _drivers(ctx: Context) -> tuple[str, ...]:
    """Kernel modules that are put in by name."""
    crypt = CRYPT_DRIVERS if of_root(ctx.plan).containers else ()
    types = {filesystem.type.value for filesystem in ctx.plan.filesystems}
    return (*ctx.flavour.server_drivers, *crypt, *sorted(types | {"ext4"}))


def _initramfs_tools(ctx: Context) -> Iterator[Command]:
    yield write_file(f"{TARGET}/etc/initramfs-tools/conf.d/landfall", _SETTINGS)
    # It would wait half a minute for the swap of the machine that the image was made on.
    yield run("rm", "-f", f"{TARGET}/etc/initramfs-tools/conf.d/resume")
    hook = _HOOK % " ".join(_drivers(ctx))
    yield write_file(f"{TARGET}/etc/initramfs-tools/hooks/landfall", hook, mode=0o755)
    yield in_chroot(TARGET, "update-initramfs", "-u", "-k", "all")
    yield in_chroot(TARGET, "sh", "-c", _MISSING)


_SETTINGS = """\
# Written by Landfall: which drivers go in is said in hooks/landfall.
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=1
RESUME=none
"""

# -u passes over a kernel that has none yet, and is content.
_MISSING = """\
for kernel in /boot/vmlinuz-*; do
    version=${kernel#/boot/vmlinuz-}
    [ ! -e "$kernel" ] || [ -e "/boot/initrd.img-$version" ] || update-initramfs -c -k "$version" || exit 1
done
"""

_HOOK = """\
#!/bin/sh
# Written by Landfall: the storage drivers and keyboards of servers, whatever machine the image was made on.
case "$1" in prereqs) exit 0 ;; esac
. /usr/share/initramfs-tools/hook-functions
auto_add_modules scsi block ata mmc usb_storage
copy_modules_dir kernel/drivers/usb/host
manual_add_modules %s
"""


def _dracut(ctx: Context) -> Iterator[Command]:
    root = of_root(ctx.plan)
    modules = [
        name
        for name, wanted in (("mdraid", ctx.plan.arrays), ("crypt", root.containers), ("lvm", root.volumes))
        if wanted
    ]
    lines = [
        "# Written by Landfall: the drivers of servers, whatever machine the image was made on.",
        'hostonly="no"',
        f'add_drivers+=" {" ".join(_drivers(ctx))} "',
    ]
    if modules:
        lines.append(f'add_dracutmodules+=" {" ".join(modules)} "')
    if ctx.plan.arrays:
        lines.append('mdadmconf="yes"')
    if root.containers:
        # Opened by the same name as later: the running system must not try to open it a second time.
        lines.append('install_items+=" /etc/crypttab "')
    yield write_file(f"{TARGET}/etc/dracut.conf.d/landfall.conf", "\n".join(lines) + "\n")
    yield in_chroot(TARGET, "dracut", "--force", "--regenerate-all")


def _mkinitcpio(ctx: Context) -> Iterator[Command]:
    root = of_root(ctx.plan)
    hooks = ["base", "systemd", "keyboard", "modconf", "block"]
    if ctx.plan.arrays:
        hooks.append("mdadm_udev")
    if root.containers:
        hooks.append("sd-encrypt")
    if root.volumes:
        hooks.append("lvm2")
    hooks += ["filesystems", "fsck"]
    # with a question mark it is no error that a kernel lacks one
    modules = " ".join(f"{driver}?" for driver in _drivers(ctx))
    text = _MKINITCPIO % (modules, " ".join(hooks))
    yield write_file(f"{TARGET}/etc/mkinitcpio.conf.d/landfall.conf", text)
    yield in_chroot(TARGET, "mkinitcpio", "--allpresets")


_MKINITCPIO = """\
# Written by Landfall: the drivers of servers, whatever machine the image was made on (no autodetect).
MODULES=(%s)
HOOKS=(%s)
COMPRESSION=zstd
"""

_BY_TOOL = {
    Initramfs.INITRAMFS_TOOLS: _initramfs_tools,
    Initramfs.DRACUT: _dracut,
    Initramfs.MKINITCPIO: _mkinitcpio,
}

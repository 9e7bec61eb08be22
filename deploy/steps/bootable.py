"""Step 9: the copied files made into a system that starts on this machine."""

from collections.abc import Iterator
from datetime import timedelta

from images.flavours import BlsStyle, Initramfs
from metadata import phonehome
from servers.facts import Firmware
from servers.storage import render

from ..commands import Command, in_chroot, run, write_file
from ..step import TARGET, Context, Step, run_commands

CONSOLE = "console=tty0 console=ttyS0,115200"


def bootable(ctx: Context) -> Iterator[Command]:
    """fstab, arrays, initramfs, GRUB on every disk, ESPs in step, and the unit that phones home."""
    yield from _system_mounts()
    yield from _packages(ctx)
    yield write_file(f"{TARGET}/etc/fstab", render.fstab(ctx.plan))
    if ctx.plan.arrays:
        yield write_file(TARGET + ctx.flavour.mdadm_conf, render.mdadm_conf(ctx.plan))
    yield from _initramfs(ctx)
    yield from _grub(ctx)
    yield from _phone_home(ctx)
    # A machine id that came with the image would be the same on every server made from it.
    yield write_file(f"{TARGET}/etc/machine-id", "")
    if ctx.flavour.selinux:
        # Files written from here have no labels; the system labels everything once at its first start.
        yield write_file(f"{TARGET}/.autorelabel", "")
    yield run("sync")


def _system_mounts() -> Iterator[Command]:
    """What programs expect of a running system; private, so that unmounting it leaves the rescue system alone."""
    for source in ("proc", "sys", "dev"):
        where = f"{TARGET}/{source}"
        yield run("sh", "-c", f"mountpoint --quiet {where} || mount --rbind --make-rslave /{source} {where}")
    yield run("sh", "-c", f"mountpoint --quiet {TARGET}/run || mount --types tmpfs tmpfs {TARGET}/run")
    yield run("mkdir", "-p", f"{TARGET}/run/udev")
    # grub-probe and lvm ask udev's database what a device is
    yield run("sh", "-c", f"mountpoint --quiet {TARGET}/run/udev || mount --bind /run/udev {TARGET}/run/udev")


def _packages(ctx: Context) -> Iterator[Command]:
    """Ends the step at once when the image lacks a package, rather than somewhere in the middle of GRUB."""
    needed = ctx.flavour.packages_for(raid=bool(ctx.plan.arrays), uefi=ctx.plan.firmware is Firmware.UEFI)
    yield in_chroot(TARGET, *ctx.flavour.package_query, *needed)


def _initramfs(ctx: Context) -> Iterator[Command]:
    """Every storage driver of the kernel, so that the disks may move to another machine.

    No network drivers: nothing boots over the network here, and of the time that initramfs-tools takes with
    MODULES=most they and their firmware are the larger part.
    """
    drivers = " ".join((*ctx.flavour.drivers, *sorted(ctx.flavour.filesystems)))
    if ctx.flavour.initramfs is Initramfs.DRACUT:
        lines = [f'add_drivers+=" {drivers} "', 'hostonly="no"']
        if ctx.plan.arrays:
            lines += ['mdadmconf="yes"', 'add_dracutmodules+=" mdraid "']
        yield write_file(f"{TARGET}/etc/dracut.conf.d/landfall.conf", "\n".join(lines) + "\n")
        yield in_chroot(TARGET, "dracut", "--force", "--regenerate-all")
        return
    yield write_file(f"{TARGET}/etc/initramfs-tools/conf.d/landfall", _INITRAMFS_SETTINGS)
    yield write_file(f"{TARGET}/etc/initramfs-tools/hooks/landfall", _DRIVERS_HOOK % drivers, mode=0o755)
    yield in_chroot(TARGET, "update-initramfs", "-u", "-k", "all")


_INITRAMFS_SETTINGS = """\
# Written by Landfall: which drivers go in is said in hooks/landfall.
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=1
"""

_DRIVERS_HOOK = """\
#!/bin/sh
# Written by Landfall: the storage drivers and keyboards of servers, whatever machine the image was made on.
case "$1" in prereqs) exit 0 ;; esac
. /usr/share/initramfs-tools/hook-functions
auto_add_modules scsi block ata mmc usb_storage
copy_modules_dir kernel/drivers/usb/host
manual_add_modules %s
"""


def _grub(ctx: Context) -> Iterator[Command]:
    grub = ctx.flavour.grub
    yield write_file(TARGET + grub.presets, _presets(ctx))
    if ctx.plan.firmware is Firmware.BIOS:
        for disk in ctx.plan.boot_group:
            yield in_chroot(TARGET, grub.install, "--target=i386-pc", "--recheck", disk)
        yield in_chroot(TARGET, *grub.mkconfig)
        return
    first, *others = ctx.plan.esps
    if grub.efi_signed:
        yield in_chroot(TARGET, *grub.mkconfig)
        yield from _signed_loader(ctx, first.mount)
    else:
        # grub-install makes the folder that the configuration goes into
        yield in_chroot(
            TARGET, grub.install, "--target=x86_64-efi", f"--efi-directory={first.mount}", "--no-nvram", "--removable",
            "--recheck",
        )  # fmt: skip
        yield in_chroot(TARGET, *grub.mkconfig)
    for other in others:
        yield run("rsync", "-rt", "--delete", "--modify-window=2", f"{TARGET}{first.mount}/", f"{TARGET}{other.mount}/")


def _presets(ctx: Context) -> str:
    lines = [
        "# Written by Landfall.",
        "GRUB_TIMEOUT=2",
        f'GRUB_CMDLINE_LINUX="{CONSOLE}"',
        'GRUB_TERMINAL="console serial"',
        'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"',
        # It would look for other systems on every disk, those that are kept too.
        "GRUB_DISABLE_OS_PROBER=true",
    ]
    if ctx.flavour.grub.bls is BlsStyle.LOADER_ENTRIES:
        lines.append("GRUB_ENABLE_BLSCFG=true")
    if ctx.plan.arrays and ctx.flavour.initramfs is Initramfs.DRACUT:
        uuids = " ".join(f"rd.md.uuid={render.md_uuid(array.uuid)}" for array in ctx.plan.arrays)
        lines[2] = f'GRUB_CMDLINE_LINUX="{CONSOLE} {uuids}"'
    return "\n".join(lines) + "\n"


def _signed_loader(ctx: Context, esp: str) -> Iterator[Command]:
    """Shim and GRUB as the vendor signed them, in the removable path too, with the configuration beside them."""
    folder = f"{esp}/EFI/{ctx.flavour.grub.efi_folder}"
    yield in_chroot(TARGET, *ctx.flavour.grub.mkconfig[:-1], ctx.flavour.grub.efi_config)
    yield in_chroot(TARGET, "mkdir", "-p", f"{esp}/EFI/BOOT")
    yield in_chroot(TARGET, "cp", f"{folder}/shimx64.efi", f"{esp}/EFI/BOOT/BOOTX64.EFI")
    yield in_chroot(TARGET, "cp", f"{folder}/grubx64.efi", f"{esp}/EFI/BOOT/grubx64.efi")
    yield in_chroot(TARGET, "cp", ctx.flavour.grub.efi_config, f"{esp}/EFI/BOOT/grub.cfg")
    # shim's fallback would write boot entries into the firmware and restart the machine once more
    yield in_chroot(TARGET, "rm", "-f", f"{esp}/EFI/BOOT/fbx64.efi")


def _phone_home(ctx: Context) -> Iterator[Command]:
    yield write_file(TARGET + phonehome.TOKEN_PATH, ctx.phone_home_token, mode=0o600)
    yield write_file(TARGET + phonehome.SCRIPT_PATH, phonehome.script(ctx.machine_url), mode=0o700)
    yield write_file(TARGET + phonehome.UNIT_PATH, phonehome.unit())
    yield run("mkdir", "-p", TARGET + phonehome.WANTED_PATH.rsplit("/", 1)[0])
    yield run("ln", "-sf", phonehome.UNIT_PATH, TARGET + phonehome.WANTED_PATH)


BOOTABLE = Step(
    "bootable",
    title="Make it bootable",
    timeout=timedelta(minutes=20),
    retries=1,
    after_crash="bootable",
    cancellable=False,
    perform=run_commands,
    commands=bootable,
    tokens=frozenset({"phone-home"}),
)

"""GRUB: its settings and its menu, and its loader on every disk that the machine may start from."""

from collections.abc import Iterator

from images.flavours import EfiLoader, Initramfs
from servers.facts import Firmware
from servers.storage import render
from servers.storage.plan import Plan

from ...commands import Command, in_chroot, write_file
from ...step import TARGET, Context
from .stack import of_root

ESP = "/boot/efi"
"""Where the first ESP is mounted: packages of all distributions write there."""


def grub(ctx: Context) -> Iterator[Command]:
    """Settings, menu, and a loader on every disk or on the first ESP."""
    yield write_file(TARGET + ctx.flavour.grub.presets, presets(ctx))
    if ctx.plan.firmware is Firmware.BIOS:
        for disk in ctx.plan.boot_group:
            yield in_chroot(TARGET, *install_bios(ctx), disk)
        yield from _menu(ctx)
        return
    if ctx.flavour.grub.efi_signed:
        yield from _menu(ctx)
        yield from _signed_loader(ctx)
    else:
        # grub-install makes the folder that the configuration goes into
        yield in_chroot(TARGET, *install_efi(ctx))
        yield from _menu(ctx)


def install_bios(ctx: Context) -> tuple[str, ...]:
    """The program that puts GRUB onto the disk which follows."""
    return (ctx.flavour.grub.install, "--target=i386-pc", "--recheck")


def install_efi(ctx: Context) -> tuple[str, ...]:
    """The program that puts GRUB onto the first ESP, where firmware looks that has no boot entries."""
    kind = ctx.flavour.grub
    where = ("--target=x86_64-efi", f"--efi-directory={ESP}", "--no-nvram", "--removable", "--recheck")
    return (kind.install, *where, *kind.efi_options)


def presets(ctx: Context) -> str:
    """The settings from which the menu is made, now and at each update of a kernel."""
    kind = ctx.flavour.grub
    lines = [
        "# Written by Landfall.",
        "GRUB_TIMEOUT=2",
        f'GRUB_CMDLINE_LINUX="{kernel_arguments(ctx)}"',
        'GRUB_TERMINAL="console serial"',
        'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"',
        # It would look for other systems on every disk, those that are kept too.
        "GRUB_DISABLE_OS_PROBER=true",
        *kind.more_presets,
    ]
    return "\n".join(lines) + "\n"


def kernel_arguments(ctx: Context) -> str:
    """Consoles, and where the initramfs is told on the command line what it has to put together."""
    root = of_root(ctx.plan)
    words = [ctx.flavour.console]
    if ctx.flavour.initramfs is Initramfs.DRACUT:
        # It waits for each of them: no array of mere data is among them, without which the system can start.
        words += [f"rd.md.uuid={render.md_uuid(one.uuid)}" for one in root.arrays]
        words += [f"rd.luks.uuid={one.uuid}" for one in root.containers]
        words += [f"rd.lvm.lv={one.group}/{one.name}" for one in root.volumes]
    elif ctx.flavour.initramfs is Initramfs.MKINITCPIO:
        words += [f"rd.luks.name={one.uuid}={one.name}" for one in root.containers]
    return " ".join(words)


def _menu(ctx: Context) -> Iterator[Command]:
    yield in_chroot(TARGET, *ctx.flavour.grub.mkconfig)
    if ctx.flavour.grub.bls:
        line = f"root=UUID={ctx.plan.root.uuid} ro {kernel_arguments(ctx)}"
        # what kernels that are installed later are started with
        yield write_file(f"{TARGET}/etc/kernel/cmdline", f"{line}\n")
        yield in_chroot(TARGET, "sh", "-c", _ENTRIES, "entries", line, _boot_prefix(ctx.plan))


# The image's entries speak of the machine that it was built on: of its id, its root, and of a /boot that was a file
# system or was not. A kernel without an entry (the image had them elsewhere) is given one by its own packages' tool.
_ENTRIES = """\
set -eu
options=$1 boot=$2
id=$(cat /etc/machine-id)
mkdir -p /boot/loader/entries
cd /boot/loader/entries
for kernel in /lib/modules/*/vmlinuz; do
    version=${kernel%/vmlinuz}
    version=${version##*/}
    ls | grep -qF -- "-$version.conf" || kernel-install add "$version" "$kernel"
done
for entry in *.conf; do
    sed -i -E "s#^options .*#options $options#; s#^(linux|initrd) (/boot)?/#\\1 $boot/#" "$entry"
    name=$(echo "$entry" | sed -E 's/^[0-9a-f]{32}-//')
    [ "$entry" = "$id-$name" ] || mv "$entry" "$id-$name"
    echo "$id-$name: $(grep ^linux "$id-$name")"
done
"""


def _boot_prefix(plan: Plan) -> str:
    """How a path below /boot begins, as GRUB sees it in the file system that /boot is on."""
    return "" if any(one.mount == "/boot" for one in plan.filesystems) else "/boot"


def _signed_loader(ctx: Context) -> Iterator[Command]:
    """Shim and GRUB as the vendor signed them, in the removable path too, with the configuration beside them."""
    kind = ctx.flavour.grub
    folder = f"{ESP}/EFI/{kind.efi_folder}"
    if kind.efi_loader is EfiLoader.SIGNED_STUB:
        yield write_file(f"{TARGET}{folder}/grub.cfg", stub(ctx))
    else:
        yield in_chroot(TARGET, *kind.mkconfig[:-1], f"{folder}/grub.cfg")
    yield in_chroot(TARGET, "sh", "-c", SIGNED, "signed", ESP, kind.efi_folder)


SIGNED = """\
set -eu
from=$1/EFI/$2 to=$1/EFI/BOOT
mkdir -p "$to"
cp "$from/shimx64.efi" "$to/BOOTX64.EFI"
cp "$from/grubx64.efi" "$from/grub.cfg" "$to/"
# shim's fallback would write boot entries into the firmware, and restart the machine once more
rm -f "$to/fbx64.efi"
"""


def stub(ctx: Context) -> str:
    """What lies beside the signed loader: where /boot is, by UUID, so that the loader of either disk finds it."""
    plan = ctx.plan
    boot = next((one for one in plan.filesystems if one.mount == "/boot"), plan.root)
    folder = ctx.flavour.grub.folder.removeprefix("" if boot is plan.root else "/boot")
    return f"""\
search --no-floppy --fs-uuid --set=dev {boot.uuid}
set prefix=($dev){folder}
export $prefix
configfile $prefix/grub.cfg
"""

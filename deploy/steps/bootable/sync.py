"""What keeps the installed system able to start from each of its disks: a script, and a unit that runs it.

It is triggered by what changes and not by who changes it: hooks of package managers differ, and a folder is a folder.
"""

from collections.abc import Iterator
from pathlib import Path
from shlex import join

from servers.facts import Firmware
from servers.storage.plan import PartitionType

from ...commands import Command, in_chroot, run, write_file
from ...step import TARGET, Context
from .grub import ESP, install_bios, install_efi

NAME = "landfall-boot-sync"
SCRIPT_PATH = f"/usr/local/sbin/{NAME}"
_UNITS = "/etc/systemd/system"

_SERVICE = f"""\
[Unit]
Description=Keep this server able to start from each of its disks

[Service]
Type=oneshot
# a package changes many files: after the last of them rather than after the first
ExecStartPre=/bin/sleep 20
ExecStart=/bin/sh {SCRIPT_PATH}
"""


def keep_in_step(ctx: Context) -> Iterator[Command]:
    """The script, its service, and the unit that watches what updates change; the other ESPs made equal by it."""
    yield write_file(TARGET + SCRIPT_PATH, script(ctx), mode=0o755)
    yield write_file(f"{TARGET}{_UNITS}/{NAME}.service", _SERVICE)
    yield write_file(f"{TARGET}{_UNITS}/{NAME}.path", _path_unit(ctx))
    yield run("mkdir", "-p", f"{TARGET}{_UNITS}/multi-user.target.wants")
    yield run("ln", "-sf", f"{_UNITS}/{NAME}.path", f"{TARGET}{_UNITS}/multi-user.target.wants/{NAME}.path")
    if len(ctx.plan.esps) > 1:
        yield in_chroot(TARGET, "sh", SCRIPT_PATH)


def script(ctx: Context) -> str:
    """The text of SCRIPT_PATH for this machine: with its own disks and the programs of its distribution."""
    if ctx.plan.firmware is Firmware.BIOS:
        partitions = [one for disk in ctx.plan.disks for one in disk.partitions]
        return _filled(
            "boot-sync-bios.sh",
            PARTITIONS=" ".join(str(one.uuid) for one in partitions if one.type is PartitionType.BIOS_BOOT),
            MODULES=f"{ctx.flavour.grub.modules}/i386-pc",
            CORE=f"{ctx.flavour.grub.folder}/i386-pc/core.img",
            INSTALL=join(install_bios(ctx)),
        )
    return _filled(
        "boot-sync-uefi.sh",
        FIRST=ESP,
        OTHERS=" ".join(one.mount for one in ctx.plan.esps[1:]),
        RENEW="\n".join(f"    {line}" for line in _renew(ctx).splitlines()),
    )


def _filled(name: str, **values: str) -> str:
    text = Path(__file__).with_name(name).read_text()
    for placeholder, value in {"NAME": NAME, "SCRIPT": SCRIPT_PATH, **values}.items():
        text = text.replace(f"@{placeholder}@", value)
    return text


def _renew(ctx: Context) -> str:
    """The lines that bring GRUB on the first ESP up to its packages."""
    kind = ctx.flavour.grub
    if not kind.efi_signed:
        core = f"$ROOT{kind.folder}/x86_64-efi/core.efi"
        return f"""\
# its package only brings the parts: are there some that came after it was last put together?
if [ -n "$(find "$ROOT{kind.modules}/x86_64-efi" -type f -cnewer "{core}" 2>&1)" ]; then
    {join(install_efi(ctx))}
fi"""
    return f"""\
# its packages write to EFI/{kind.efi_folder}; firmware without boot entries starts what lies in EFI/BOOT
from=$FIRST/EFI/{kind.efi_folder} to=$FIRST/EFI/BOOT
cmp -s "$from/shimx64.efi" "$to/BOOTX64.EFI" || cp "$from/shimx64.efi" "$to/BOOTX64.EFI"
for file in grubx64.efi grub.cfg; do
    cmp -s "$from/$file" "$to/$file" || cp "$from/$file" "$to/$file"
done
# shim's fallback would write boot entries into the firmware, and restart the machine once more
rm -f "$to/fbx64.efi\""""


def _path_unit(ctx: Context) -> str:
    kind = ctx.flavour.grub
    if ctx.plan.firmware is Firmware.BIOS:
        watched = [f"{kind.modules}/i386-pc"]
    else:
        watched = [f"{ESP}/EFI", f"{ESP}/EFI/BOOT"]
        watched.append(f"{ESP}/EFI/{kind.efi_folder}" if kind.efi_signed else f"{kind.modules}/x86_64-efi")
    lines = "".join(f"PathChanged={folder}\n" for folder in watched)
    return f"""\
[Unit]
Description=Watch what updates change of what this server starts from

[Path]
{lines}
[Install]
WantedBy=multi-user.target
"""

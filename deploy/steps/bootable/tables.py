"""The files that tell the new system what is on its disks, and who it is."""

from collections.abc import Iterator

from images.flavours import Initramfs
from servers.storage import render

from ...commands import Command, run, write_file
from ...step import TARGET, Context
from .stack import of_root

# One that came with the image would be the same on every server made from it. Not left to the first start: names of
# boot menu entries begin with it, and a system without one enables and disables units anew, ours too.
_MACHINE_ID = """\
tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id" && chmod 444 "$1/etc/machine-id"
"""
# Images know which cloud they were made for, and wait for its metadata service on every first start.
_DATASOURCE = """\
# Written by Landfall: a server's config drive is on its disk.
datasource_list: [ConfigDrive, NoCloud, None]
"""


def tables(ctx: Context) -> Iterator[Command]:
    """fstab, arrays and containers by UUID; a machine id of its own; where cloud-init finds its data."""
    yield write_file(f"{TARGET}/etc/fstab", render.fstab(ctx.plan))
    if ctx.plan.arrays:
        yield write_file(TARGET + ctx.flavour.mdadm_conf, render.mdadm_conf(ctx.plan))
    if ctx.plan.containers:
        yield write_file(f"{TARGET}/etc/crypttab", render.crypttab(ctx.plan, opened_early(ctx)), mode=0o600)
    yield run("sh", "-c", _MACHINE_ID, "machine-id", TARGET)
    yield write_file(f"{TARGET}/etc/cloud/cloud.cfg.d/99_landfall.cfg", _DATASOURCE)


def opened_early(ctx: Context) -> list[str]:
    """The containers that crypttab marks for Debian's initramfs; those of others are told by the command line."""
    debian = ctx.flavour.initramfs is Initramfs.INITRAMFS_TOOLS
    return [one.name for one in of_root(ctx.plan).containers] if debian else []

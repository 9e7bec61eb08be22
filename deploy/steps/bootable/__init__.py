"""Step 10: the copied files made into a system that starts on this machine.

Each module is a part of it, in the order of `bootable`; what differs between distributions comes from the flavour.
"""

from collections.abc import Iterator
from datetime import timedelta

from ...commands import Command, run, write_file
from ...step import TARGET, Context, Step, run_commands
from .grub import grub
from .home import phone_home
from .hook import hook
from .initramfs import initramfs
from .packages import packages
from .surroundings import surroundings
from .sync import keep_in_step
from .tables import tables


def bootable(ctx: Context) -> Iterator[Command]:
    """Packages, fstab and its kin, the hook, initramfs, GRUB on every disk, ESPs in step, the unit that phones home."""
    yield from surroundings()
    yield from packages(ctx)
    yield from tables(ctx)
    # before the initramfs is built and GRUB configured: what the script installs and sets counts
    yield from hook(ctx)
    yield from initramfs(ctx)
    yield from grub(ctx)
    yield from keep_in_step(ctx)
    yield from phone_home(ctx)
    if ctx.flavour.selinux:
        # Files written from here have no labels; the system labels everything once at its first start.
        yield write_file(f"{TARGET}/.autorelabel", "-F\n")
    yield run("sync")


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

"""Step 4: what was on the disks is gone, or at least no longer found; from here on there is no way back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from servers.storage import render
from servers.storage.plan import Plan

from .. import erasure
from ..commands import Command, Run, run, write_file
from ..step import RUN, TARGET, Context, Control, Done, Outcome, Step
from .licence import give_back, note_seats

ERASER = f"{RUN}/eraser.py"

SLOWEST = 40_000_000
"""Bytes a second that any disk writes, even a rotating one towards its inner tracks."""
LEAST_ERASE = timedelta(minutes=30)
"""What firmware may take that erases by itself, however small the disk."""


def wipe(ctx: Context) -> Iterator[Command]:
    """Swaps and holders stopped, then signatures and tables wiped, on the disks of the plan and on those alone.

    Where the layout asks for it, everything else on them is destroyed as well; then there is nothing left to be found
    again, and so nothing that an erase broken off in the middle could leave half.
    """
    yield from give_back(ctx)
    # What an attempt before this one may have left mounted would keep the disks busy.
    yield run("sh", "-c", f"findmnt {TARGET} >/dev/null || exit 0; umount --recursive --lazy {TARGET}")
    for disk in ctx.plan.disks:
        yield _call(render.release(disk))
    for disk in ctx.plan.disks:
        yield _call(render.wipe(disk))
    yield _call(render.SETTLE)
    if ctx.plan.secure_erase:
        yield write_file(ERASER, eraser_script())
        yield run("python3", ERASER, *ctx.plan.erased)
        yield _call(render.SETTLE)


def _call(call: render.Call) -> Run:
    return run(*call.argv, stdin=call.stdin)


def eraser_script() -> str:
    """The text of the program that erases disks."""
    return Path(erasure.__file__).with_name("eraser.py").read_text()


def erase_time(plan: Plan) -> timedelta:
    """How much longer a wipe may take that erases all there is: the largest disk written once, by the slowest way."""
    if not plan.secure_erase:
        return timedelta(0)
    return LEAST_ERASE + timedelta(seconds=max(disk.size for disk in plan.disks) // SLOWEST)


def wipe_disks(control: Control) -> Outcome:
    """Wiped; and what became of the licences of the system that was there."""
    return Done(note_seats(control, control.run_job(result=True)))


WIPE = Step(
    "wipe",
    title="Wipe",
    timeout=timedelta(minutes=5),
    longer=erase_time,
    retries=2,
    after_crash="wipe",
    cancellable=False,
    perform=wipe_disks,
    commands=wipe,
)

"""Steps 3 to 5: the plan, and then the disks as it says."""

from collections.abc import Iterator
from datetime import timedelta

from servers.facts import from_json
from servers.storage import render
from servers.storage.refusal import PlanImpossible

from ..commands import Command, Run, run
from ..step import TARGET, Context, Control, Done, Outcome, Step, failed, run_commands
from .rescue import INSPECT


def plan(control: Control) -> Outcome:
    """The plan that was approved fits the machine that was inspected; the last check before anything is lost."""
    facts = from_json(control.state.result(INSPECT.name)["facts"])
    try:
        fresh = control.replan(facts)
    except PlanImpossible as error:
        raise failed("plan-impossible", error.why, fix=error.fix) from error
    if not control.context.plan.agrees_with(fresh):
        raise failed("disks-changed")
    for sentence in (*fresh.summary(), *fresh.notes):
        control.say(sentence)
    return Done({"erased": list(fresh.erased)})


PLAN = Step(
    "plan",
    title="Plan",
    timeout=timedelta(minutes=1),
    retries=0,
    after_crash="plan",
    cancellable=True,
    perform=plan,
)


def _call(call: render.Call) -> Run:
    return run(*call.argv, stdin=call.stdin)


def wipe(ctx: Context) -> Iterator[Command]:
    """Holders stopped, then signatures and tables wiped, on the disks of the plan and on those alone."""
    # What an attempt before this one may have left mounted would keep the disks busy.
    yield run("sh", "-c", f"findmnt {TARGET} >/dev/null || exit 0; umount --recursive --lazy {TARGET}")
    yield run("swapoff", "--all")
    for disk in ctx.plan.disks:
        yield _call(render.release(disk))
    for disk in ctx.plan.disks:
        yield _call(render.wipe(disk))
    yield run("udevadm", "settle", "--timeout=30")


WIPE = Step(
    "wipe",
    title="Wipe",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="wipe",
    cancellable=False,
    perform=run_commands,
    commands=wipe,
)


def partition(ctx: Context) -> Iterator[Command]:
    """Partition tables, arrays and file systems of the plan, in that order."""
    for disk in ctx.plan.disks:
        yield _call(render.write_table(disk))
    # udev creates the partitions' device nodes some time after sfdisk has returned
    yield run("udevadm", "settle", "--timeout=30")
    for array in ctx.plan.arrays:
        yield _call(render.create_array(array))
    if ctx.plan.arrays:
        yield run("udevadm", "settle", "--timeout=30")
        yield _call(render.HOLD_RESYNC)
    for filesystem in (*ctx.plan.filesystems, *ctx.plan.esps):
        yield _call(render.mkfs(filesystem))
    for swap in ctx.plan.swaps:
        yield _call(render.mkswap(swap))
    yield run("lsblk", "--output", "NAME,SIZE,TYPE,FSTYPE,LABEL,UUID", *ctx.plan.erased)


PARTITION = Step(
    "partition",
    title="Lay out the disks",
    timeout=timedelta(minutes=10),
    retries=2,
    after_crash=WIPE.name,
    cancellable=False,
    perform=run_commands,
    commands=partition,
)

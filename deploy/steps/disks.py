"""Steps 3 and 5: the plan, and then the disks as it says; between them they are wiped (`erase`)."""

from collections.abc import Iterator
from datetime import timedelta

from servers.facts import from_json
from servers.storage import render
from servers.storage.refusal import PlanImpossible

from ..commands import Command, Run, run
from ..step import Context, Control, Done, Outcome, Step, failed, run_commands
from .erase import WIPE
from .rescue import INSPECT


def plan(control: Control) -> Outcome:
    """The plan that was approved fits the machine that was inspected; the last check before anything is lost."""
    facts = from_json(control.state.result(INSPECT.name)["facts"])
    try:
        fresh = control.replan(facts)
    except PlanImpossible as error:
        raise failed("plan-impossible", error.why, fix=error.fix) from error
    context = control.context
    if not context.plan.agrees_with(fresh):
        raise failed("disks-changed")
    list(context.config_drive)  # made now: documents that cannot be made are found out before anything is wiped
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


def partition(ctx: Context) -> Iterator[Command]:
    """Partition tables, arrays, containers, volumes and file systems of the plan, in that order."""
    for call in render.lay_out(ctx.plan, ctx.disk_passphrase):
        yield _call(call)
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

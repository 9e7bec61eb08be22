"""Step 7: the plan's tree mounted."""

from collections.abc import Iterator
from datetime import timedelta

from servers.storage import render

from ..commands import Command, run
from ..step import TARGET, Context, Step, run_commands


def mount(ctx: Context) -> Iterator[Command]:
    """The plan's file systems, each mounted in the one it lies in."""
    yield run("sh", "-c", f"findmnt {TARGET} >/dev/null || exit 0; umount --recursive --lazy {TARGET}")
    # a mount that is repeated after a crash finds them open
    for call in render.reopen(ctx.plan, ctx.disk_passphrase):
        yield run(*call.argv, stdin=call.stdin)
    for filesystem in ctx.plan.mounts:
        where = TARGET + filesystem.mount.rstrip("/")
        yield run("mkdir", "-p", where)
        yield run("mount", "--types", filesystem.type.value, filesystem.device, where)
    yield run("findmnt", "--submounts", TARGET)


MOUNT = Step(
    "mount",
    title="Mount",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="mount",
    cancellable=False,
    perform=run_commands,
    commands=mount,
)

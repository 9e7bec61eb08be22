"""`python -m tests.deploy.a_worker NAME`: a real worker process whose step *copy* touches no disk.

The step appends to the file `began`, then prints lines 1 to 10, 11 to 20 once the file `frozen` is there, and the rest
once `thawed` is.
"""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace

import django


def main() -> None:
    django.setup()
    from deploy.commands import Command, run
    from deploy.step import Context, run_commands
    from deploy.steps import STEPS
    from deploy.worker import Worker

    folder = os.environ["A_WORKERS_FOLDER"]

    def gated(ctx: Context) -> Iterator[Command]:
        yield run("sh", "-c", f"echo >> {folder}/began")
        yield run("seq", "--format=line %g", "10")
        yield run("sh", "-c", f"while [ ! -e {folder}/frozen ]; do sleep 0.1; done")
        yield run("seq", "--format=line %g", "11", "20")
        yield run("sh", "-c", f"while [ ! -e {folder}/thawed ]; do sleep 0.1; done")
        yield run("seq", "--format=line %g", "21", "40")

    copy = STEPS["copy"]
    assert isinstance(STEPS, dict)
    STEPS["copy"] = replace(copy, perform=run_commands, commands=gated, tokens=frozenset())
    worker = Worker(slots=2, name=sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


if __name__ == "__main__":
    main()

"""An install whose rescue system is an sshd on loopback, and the process that drives it.

Its one step is the bench's own and prints lines: the steps of the product are never run against this machine.
`python -m bench.rescued` drives the install once it reads a line from standard input; with a port it serves the pages
as well, in the same process, as `manage.py serve` does.
"""

import sys
import threading
from collections.abc import Iterator
from datetime import timedelta

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Project
from deploy import journal, queue
from deploy.commands import Command, run
from deploy.driver import Driver
from deploy.events import Kind
from deploy.models import Install
from deploy.step import Context, Step, run_commands
from tests.builders import make_install, make_server
from tests.sshd import Sshd

LINES = 400
PRINT = f"for number in $(seq {LINES}); do echo line $number $EPOCHREALTIME; sleep 0.05; done"


def _print_lines(ctx: Context) -> Iterator[Command]:
    yield run("bash", "-c", PRINT)


# It bears the name of a step that the page knows; what it does is ours.
STEP = Step("copy", "Print lines", timedelta(minutes=5), 0, "copy", False, run_commands, _print_lines)


def make_rescued(sshd: Sshd, project: Project) -> Install:
    """An install that has nothing but this step to do, and whose rescue system has called."""
    server = make_server(project, address="127.0.0.1", ssh_port=sshd.port, power_driver="manual")
    install = make_install(server, private_key=sshd.private_key, public_key=sshd.public_key)
    journal.append(install, Kind.PLANNED, {"steps": [STEP.name]})
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "bench"})
    return install


def drive_when_told() -> None:
    """Drives the install that is due to its end."""
    sys.stdin.readline()
    claimed = queue.claim("bench", timezone.now())
    if claimed:
        Driver(*claimed, threading.Event(), {STEP.name: STEP}).drive()
    connection.close()


def main() -> None:
    if len(sys.argv) == 1:
        drive_when_told()
        return
    threading.Thread(target=drive_when_told, daemon=True).start()
    call_command("serve", no_worker=True, port=int(sys.argv[1]))


if __name__ == "__main__":
    main()

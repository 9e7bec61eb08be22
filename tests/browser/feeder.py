"""A process that writes installs and logs into a site's database, as a worker on another machine would.

It reads one JSON command a line, [name, arguments...], and answers each with one line of JSON. Nothing tells the web
server of what it writes: a page hears of it because its watcher looks once a second.
"""

import json
import sys
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.utils import timezone  # noqa: E402

from accounts.models import Project, Role  # noqa: E402
from deploy import limits  # noqa: E402
from deploy.events import Kind  # noqa: E402
from deploy.models import Install  # noqa: E402
from tests import builders  # noqa: E402
from tests.deploy import histories  # noqa: E402


def people() -> dict[str, str]:
    """A customer with a project, and somebody of ops; their password is `builders.PASSWORD`."""
    project = builders.make_project("Shop")
    builders.make_user(projects=[project], name="carla")
    builders.make_user(Role.OPS, name="otto")
    builders.make_key(project, name="carla@laptop")
    builders.make_image(name="Debian 12")
    return {"customer": "carla", "ops": "otto"}


def server(name: str) -> str:
    """A free server with two disks."""
    return builders.make_server(Project.objects.get(), name=name, disks=2).name


def running(step: str, name: str, minutes: float = 0) -> str:
    """An install in the middle of a step; its UUID."""
    machine = builders.make_server(Project.objects.get(), name=name, disks=2)
    began = timezone.now() - timedelta(minutes=minutes) if minutes else None
    return str(histories.running(step, server=machine, began=began)[0].uuid)


def queued(name: str) -> str:
    """An install that no worker has looked at yet; its UUID."""
    machine = builders.make_server(Project.objects.get(), name=name, disks=2)
    return str(builders.make_install(machine).uuid)


def line(name: str, count: int) -> list[str]:
    """Installs of one image: two that run, and behind them `count` that stand in line; their UUIDs."""
    image = builders.make_image(name=name)
    machines = [builders.make_server(Project.objects.get(), name=f"{name}-{n}.example.net", disks=2) for n in range(2)]
    runs = [histories.running("copy", server=machine, image=image)[0] for machine in machines]
    waits = [
        builders.make_install(builders.make_server(Project.objects.get(), disks=2), image=image) for _ in range(count)
    ]
    return [str(one.uuid) for one in [*runs, *waits]]


def admit() -> int:
    """Lets in who has a place, as a worker does; how many."""
    return limits.admit(timezone.now())


def feed(uuid: str, text: str, step: str = "copy", attempt: int = 1) -> int:
    """Stores a piece of log; its key."""
    return histories.feed(_install(uuid), text, step, attempt).pk


def lines(uuid: str, step: str = "copy", attempt: int = 1) -> list[str]:
    """What a page should show of a log, from the rows."""
    return histories.shown_lines(_install(uuid), step, attempt)


def past(uuid: str, act: str, *given: Any, **more: Any) -> None:
    """Something happens: `finish`, `fail`, `start`, ... of a Past."""
    getattr(histories.Past(_install(uuid)), act)(*given, **more)


def happen(uuid: str, kind: str, **data: Any) -> None:
    """An event is appended, now."""
    histories.Past(_install(uuid)).event(Kind(kind), **data)


def count() -> int:
    """How many installs there are."""
    return Install.objects.count()


def _install(uuid: str) -> Install:
    return Install.objects.get(uuid=uuid)


COMMANDS = {
    command.__name__: command
    for command in (people, server, running, queued, line, admit, feed, lines, past, happen, count)
}

if __name__ == "__main__":
    for asked in sys.stdin:
        name, given, more = json.loads(asked)
        print(json.dumps(COMMANDS[name](*given, **more)), flush=True)

"""What a page costs: SQL queries and milliseconds, with 10 servers that have an install each, and with 200."""

import statistics
import time
from collections.abc import Mapping

from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Project, Role
from bench.report import table
from deploy.events import Status
from deploy.models import Install
from tests.builders import make_image, make_key, make_project, make_server, make_user
from tests.deploy.histories import command, feed, installed, running

SIZES = (10, 200)
VISITS = 15
LOG = command(1, "rsync -aHAXS /run/landfall/image/ /run/landfall/target/", [f"usr/lib/file-{n}" for n in range(198)])


def grow(project: Project, size: int) -> None:
    """Adds servers until there are that many: every second one is being installed; an image for every ten."""
    with transaction.atomic():
        keys = [project.ssh_keys.first() or make_key(project)]
        image = make_image()
        for number in range(project.servers.count(), size):
            image = make_image() if number % 10 == 0 else image
            server = make_server(project, disks=2)
            if number % 2:
                installed(server=server, image=image, keys=keys)
            else:
                feed(running("copy", server=server, image=image, keys=keys)[0], LOG)


def addresses() -> Mapping[str, str]:
    """The pages; those of one server or install are of the newest ones."""
    live = Install.objects.filter(status=Status.RUNNING).latest("pk")
    done = Install.objects.filter(status=Status.SUCCEEDED).latest("pk")
    return {
        "servers": reverse("servers"),
        "server": done.server.get_absolute_url(),
        "install, with 200 lines of log": live.get_absolute_url(),
        "board": reverse("board"),
        "images": reverse("images"),
        "reinstall": reverse("reinstall", args=[done.server.name]),
    }


def cost(client: Client, address: str) -> tuple[int, float]:
    """Queries of a visit that finds nothing cached, and the milliseconds of the median visit."""
    visit(client, address)
    cache.clear()
    with CaptureQueriesContext(connection) as queries:
        visit(client, address)
    return len(queries), statistics.median(visit(client, address) for _ in range(VISITS))


def visit(client: Client, address: str) -> float:
    """How many milliseconds of processor time the page takes, SQLite's among them; what else runs is not counted."""
    began = time.process_time()
    status = client.get(address).status_code
    took = 1000 * (time.process_time() - began)
    if status != 200:
        raise SystemExit(f"{address} gives status {status}, so it cannot be measured.")
    return took


def main() -> None:
    call_command("migrate", verbosity=0)
    project = make_project()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(make_user(Role.OPS))
    found: dict[str, list[tuple[int, float]]] = {}
    for size in SIZES:
        grow(project, size)
        for page, address in addresses().items():
            found.setdefault(page, []).append(cost(client, address))
    head = ["page", *(f"queries, {size} servers" for size in SIZES), *(f"ms, {size} servers" for size in SIZES)]
    rows = [(page, *(n for n, _ in costs), *(f"{ms:.0f}" for _, ms in costs)) for page, costs in found.items()]
    print(table(head, rows))


if __name__ == "__main__":
    main()

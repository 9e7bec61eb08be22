"""`python -m tests.chaos.kills`: every worker killed while thirteen installs are each in another of the thirteen steps.

Prints what happened, as `python -m tests.chaos` does. Every install must end as if nothing had happened.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.simulation.processes import environment
from tests import postgres
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.chaos.house import House

LONG = 60.0
"""Seconds that each install spends in its own step: all have come there by the time of the kill. `--long` on machines
that are busy with something else."""

SLOW_COMMANDS = {
    "inspect": "ip -brief link",
    "wipe": " release /dev/",
    "partition": "lsblk --output NAME,SIZE,TYPE,FSTYPE,LABEL,UUID",
    "config-drive": "umount /run/landfall/config-drive",
    "mount": "findmnt --submounts",
    "copy": "rsync -aHAXS",
    "bootable": "dracut --force",
    "licence": " forget /run/landfall/target",
    "reboot": "umount --recursive --lazy /run/landfall/target/proc",
}
"""By the step, a command of it that is made to take long."""

SLOW_INSERT = """
CREATE FUNCTION slow_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM deploy_install JOIN servers_server ON servers_server.id = deploy_install.server_id
        WHERE deploy_install.id = NEW.install_id AND (servers_server.name, NEW.step) IN {slow}
    ) THEN
        PERFORM pg_sleep({seconds});
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER slow_insert BEFORE INSERT ON deploy_logchunk
    FOR EACH ROW WHEN (NEW.first_line = 1) EXECUTE FUNCTION slow_insert()
"""
"""These two steps run no command; the first line that they write takes long instead, in a transaction of the worker."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kills", description=__doc__)
    parser.add_argument("--long", type=float, default=LONG, help="seconds that each install spends in its own step")
    long = parser.parse_args().long
    with tempfile.TemporaryDirectory(prefix="landfall-kills-") as name, postgres.cluster() as cluster:
        folder, port = Path(name), free_port()
        os.environ |= environment(folder, cluster.url("postgres"), port)
        import django

        django.setup()
        from deploy.steps import steps_for
        from tests.chaos.house import house

        steps = list(steps_for(licensed=True))
        with house(folder, cluster, port, "1", servers=len(steps), workers=2, slots=20, seed=1, slower=1) as made:
            report = run(made, steps, long)
    print(json.dumps(report, indent=1))
    sys.exit(1 if report["wrong"] else 0)


def run(house: "House", steps: list[str], long: float) -> dict[str, Any]:
    """What was wrong, and in which steps the workers died."""
    from django.db import connection

    from deploy.models import Event, Install
    from tests.chaos import people, proofs

    names = [record["name"] for record in house.remote.records()]
    server_of = dict(zip(steps, names, strict=True))
    for step, server in server_of.items():
        slow_down(house, step, server, long)
    with connection.cursor() as cursor:
        slow = ", ".join(f"('{server_of[step]}', '{step}')" for step in ("plan", "verify"))
        cursor.execute(SLOW_INSERT.format(slow=f"({slow})", seconds=long * 0.4))
    request_all(server_of)
    deadline = time.monotonic() + long * 2
    while (where := standing()) != (wanted := {server: step for step, server in server_of.items()}):
        if time.monotonic() > deadline:
            missing = {server: where.get(server) for server in wanted if where.get(server) != wanted[server]}
            return {"wrong": [f"not every install came into its step: {missing}"]}
        time.sleep(0.05)
    for worker in house.workers:
        worker.send_signal(signal.SIGKILL)
    house.workers.clear()
    killed = time.time()
    held = Install.objects.exclude(lease_worker="").count()
    for _ in range(2):
        house.add_worker()
    ended = people.wait_for_ends(time.monotonic() + long * 2.5)
    time.sleep(1)
    taken = Event.objects.filter(kind="taken_over").values_list("install__server__name", "at").order_by("at")
    # What the database was still at for a dead worker is locked until it notices.
    locked = {server_of["plan"], server_of["verify"]}
    waited = [at.timestamp() - killed for server, at in taken if server not in locked]
    wrong = list(proofs.complaints(house.remote, frozenset(names), frozenset()))
    return {
        "killed in": server_of,
        "held then": held,
        "taken over": len(taken),
        "last taken over after seconds": round(max(waited, default=0.0), 1),
        "ended": {status: ended.count(status) for status in set(ended)},
        "wrong": wrong,
        "what happened there": {name: proofs.account(house.remote, name) for name in names if name in " ".join(wrong)},
    }


def slow_down(house: "House", step: str, server: str, long: float) -> None:
    """The server takes long in its step."""
    if step in SLOW_COMMANDS:
        house.remote.order(server, "script", match=SLOW_COMMANDS[step], seconds=long, lines=["slow\n"] * 40, times=1)
    elif step == "rescue":
        house.remote.order(server, "ready", delay=long)
    elif step == "phone-home":
        house.remote.order(server, "phone_home", delay=long)


def request_all(server_of: dict[str, str]) -> None:
    """An install of an image with a licence on every server.

    The last two steps to be reached are short: that of the last is begun when it can be seen that they meet.
    """
    from accounts.secret import Secret
    from images.models import Licence, LicenceKind
    from lab.simulation.inventory import image, request
    from servers.models import Server

    licence = Licence.objects.create(
        name="RHEL", kind=LicenceKind.RHEL, organisation="42", activation_key=Secret("simulated")
    )
    of = image("Simulated RHEL 8", flavour="rhel-8", licence=licence)
    for step in sorted(server_of, key="plan".__eq__):
        while step == "plan" and standing().get(server_of["verify"]) != "verify":
            time.sleep(0.05)
        request(Server.objects.get(name=server_of[step]), of)


def standing() -> dict[str, str]:
    """The step that each server's install is in."""
    from deploy.models import Install

    return dict(Install.objects.exclude(step="").values_list("server__name", "step"))


if __name__ == "__main__":
    main()

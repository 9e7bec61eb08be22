"""A Landfall in processes of its own on a PostgreSQL of its own, for benches that kill it or crowd it."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import ROOT
from deploy.events import LIVE
from deploy.models import Install
from lab.simulation import Landfall
from lab.simulation.processes import environment
from tests import postgres
from tests.ports import free_port


def inside() -> bool:
    """Whether this process was started by `again`."""
    return os.environ.get("DATABASE_URL", "").startswith("postgres:")


def again(module: str, *arguments: str, folder: str = "house") -> "subprocess.CompletedProcess[str]":
    """The bench, run once more in a process whose Django is on a fresh PostgreSQL; what it printed."""
    with postgres.cluster() as cluster:
        env = environment(Path(os.environ["BENCH_FOLDER"]) / folder, cluster.url("postgres"), free_port())
        command = [sys.executable, "-m", module, *arguments]
        # On files its processes say only what is wrong; the lines of a thousand installs would be a load of their own.
        return subprocess.run(
            command,
            cwd=ROOT,
            env=env | {"LANDFALL_LOG_LEVEL": "WARNING"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )


def landfall() -> Landfall:
    """This process' Landfall: same settings, same database, which is made now."""
    port = urlsplit(os.environ["LANDFALL_URL"]).port
    assert port
    made = Landfall(Path(os.environ["LANDFALL_VAR"]), os.environ["DATABASE_URL"], port)
    made.manage("migrate", "--verbosity=0")
    return made


def live() -> Counter[str]:
    """How many installs are under way, by their step."""
    return Counter(Install.objects.filter(status__in=LIVE).values_list("step", flat=True))


def wait_until(true: Callable[[], object], seconds: float) -> bool:
    """Whether it came true in that time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True

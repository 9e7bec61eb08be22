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


def again(module: str) -> int:
    """The exit status of the bench, run once more in a process whose Django is on a fresh PostgreSQL."""
    folder = Path(os.environ["BENCH_FOLDER"])
    with postgres.cluster() as cluster:
        env = environment(folder, cluster.url("postgres"), free_port())
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, env=env | {"LANDFALL_LOG_LEVEL": "WARNING"}, check=False).returncode


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

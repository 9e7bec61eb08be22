"""How long every step takes: both servers of the lab, reinstalled one after the other from the command line.

Takes a few minutes where there is KVM, half an hour where processors are emulated; the first time also the minutes that
it takes to build the rescue system and the image. Writes its table into the docs itself.

`python -m bench.installs --of FOLDER` reads the installs that a Landfall has done already, out of its var/ folder: the
demo's, or that of the end-to-end tests (`bin/test tests/e2e --basetemp=FOLDER`).
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench import report
from deploy.steps import STEPS
from tests.e2e.house import House, running

SERVERS: Mapping[str, str] = {"oak": "oak: UEFI, two disks, RAID1", "elm": "elm: BIOS, one disk"}


def reinstall(house: House, server: str) -> Mapping[str, float]:
    """Seconds of every step by its name, and under 'all' those from the command to its end."""
    print(f"reinstalling {server}", file=sys.stderr)
    began = time.monotonic()
    done = house.manage(
        "reinstall", server, "--image", "Debian 12", "--as", "customer", "--yes", "--follow", check=False
    )
    took = time.monotonic() - began
    print(done.stdout, file=sys.stderr)
    if done.returncode != 0:
        raise SystemExit(f"{server} could not be reinstalled; the logs are in {house.var}.\n{done.stderr}")
    seconds = house.history(server)["seconds"]
    assert isinstance(seconds, dict)
    return {**seconds, "all": took}


def measured() -> dict[str, Mapping[str, float]]:
    """Seconds of every step of both servers' installs, done now, one after the other."""
    var = Path(tempfile.mkdtemp(prefix="landfall-bench-installs-"))
    with running(var) as house:
        taken = {title: reinstall(house, server) for server, title in SERVERS.items()}
    shutil.rmtree(var)  # after a failure it stays: its logs tell why
    return taken


def done_in(var: Path) -> dict[str, Mapping[str, float]]:
    """Seconds of every step of the installs that succeeded in a Landfall's folder, oldest first."""
    keys = {"LANDFALL_SECRET_KEY": "reads only", "LANDFALL_SEAL_KEYS": "cmVhZHMgb25seSwgYW5kIG9wZW5zIG5vIHNlYWwuLi4="}
    own = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    house = House("", var, {**own, **keys, "LANDFALL_VAR": str(var)})
    taken: dict[str, Mapping[str, float]] = {}
    for server, title in SERVERS.items():
        for number in range(house.count(server)):
            history = house.history(server, number)
            seconds = history["seconds"]
            assert isinstance(seconds, dict)
            if history["status"] == "succeeded":
                taken[f"{title}, no. {number + 1}"] = {**seconds, "all": sum(seconds.values())}
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.installs")
    parser.add_argument("--of", type=Path, help="the var/ folder of a Landfall that has done its installs already")
    folder = parser.parse_args().of
    taken = done_in(folder) if folder else measured()
    titles = {name: step.title for name, step in STEPS.items()} | {"all": "All, from the command to the login"}
    done = [name for name in titles if any(name in seconds for seconds in taken.values())]
    rows = [(titles[name], *(f"{seconds[name]:.1f}" for seconds in taken.values())) for name in done]
    figures = report.table(("step, in seconds", *taken), rows)
    print(figures)
    report.put("installs", f"{figures}\n\n{report.machine()}")


if __name__ == "__main__":
    main()

"""How long every step takes: both servers of the lab, reinstalled one after the other from the command line.

Takes a few minutes where there is KVM, half an hour where processors are emulated; the first time also the minutes that
it takes to build the rescue system and the image. Writes its table into the docs itself.
"""

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


def main() -> None:
    var = Path(tempfile.mkdtemp(prefix="landfall-bench-installs-"))
    with running(var) as house:
        taken = {server: reinstall(house, server) for server in SERVERS}
    shutil.rmtree(var)  # after a failure it stays: its logs tell why
    titles = {name: step.title for name, step in STEPS.items()} | {"all": "All, from the command to the login"}
    done = [name for name in titles if any(name in seconds for seconds in taken.values())]
    rows = [(titles[name], *(f"{seconds[name]:.1f}" for seconds in taken.values())) for name in done]
    figures = report.table(("step, in seconds", *SERVERS.values()), rows)
    print(figures)
    report.put("installs", f"{figures}\n\n{report.machine()}")


if __name__ == "__main__":
    main()

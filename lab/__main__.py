"""`python -m lab`: some virtual servers and their BMC, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Literal

from rescue.build import ensure
from rescue.workshop import BuildFailed

from . import GIB, Lab, LabUnusable, MachineSpec

EXAMPLE = "name=oak,firmware=uefi,disks=8G+8G,ssh=2201,memory=2048"
FIRMWARE: dict[str, Literal["bios", "uefi"]] = {"bios": "bios", "uefi": "uefi"}
UNITS = {"G": GIB, "M": 1 << 20}


def machine(text: str) -> MachineSpec:
    """What such a text says, as a specification; refused with EXAMPLE when it makes no sense."""
    try:
        words = dict(word.split("=", 1) for word in text.split(","))
        return MachineSpec(
            name=words["name"],
            firmware=FIRMWARE[words["firmware"]],
            disks=tuple(size(disk) for disk in words["disks"].split("+")),
            ssh_port=int(words["ssh"]),
            memory_mib=int(words.get("memory", "2048")),
        )
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no machine ({error}); write e.g. {EXAMPLE}") from error


def size(text: str) -> int:
    """Bytes of `8G` or `512M`."""
    return int(text[:-1]) * UNITS[text[-1:]]


def parser() -> argparse.ArgumentParser:
    """The command line of the lab."""
    result = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    result.add_argument("--folder", type=Path, default=Path("var/lab"), help="disks, firmware variables and consoles")
    result.add_argument("--http-url", default="http://10.0.2.2:8000", help="the controller, as machines see it")
    result.add_argument("--bmc-port", type=int, default=8001)
    result.add_argument("--bmc-user", default="admin")
    result.add_argument(
        "--bmc-password",
        default=os.environ.get("LANDFALL_LAB_BMC_PASSWORD", "calvin"),
        help="or LANDFALL_LAB_BMC_PASSWORD",
    )
    result.add_argument("--on", action="store_true", help="switch the machines on at once")
    result.add_argument(
        "machines", nargs="+", type=machine, metavar="MACHINE", help=f"{EXAMPLE} (firmware: bios, uefi; sizes: M, G)"
    )
    return result


def main() -> int:
    """0 after Ctrl-C or SIGTERM, with every machine stopped; 1 when the lab cannot start."""
    options = parser().parse_args()
    stop = threading.Event()
    # not by masking them: QEMU would inherit the mask, and never be told to end
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        rescue = ensure(lambda line: print(line, file=sys.stderr))
        with Lab(
            options.folder, options.machines, options.http_url,
            options.bmc_port, options.bmc_user, options.bmc_password, rescue,
        ) as lab:  # fmt: skip
            for name, one in lab.machines.items():
                if options.on:
                    one.power_on()
                print(f"{name}: {lab.bmc_url(name)} mac {one.spec.mac} ssh port {one.spec.ssh_port} {one.console}")
            sys.stdout.flush()
            stop.wait()
    except (BuildFailed, LabUnusable) as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

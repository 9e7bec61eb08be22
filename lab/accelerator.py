"""Whether this host really runs virtual machines by hardware: found out by booting one."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from rescue.workshop import cache_folder

from .spec import Accelerator

TRIAL_SECONDS = 20


@cache
def accelerator(kernel: Path) -> Accelerator:
    """KVM if this kernel boots under it, else TCG; tried once per boot of the host, then remembered.

    /dev/kvm alone says little: inside some containers and clouds it is there, opens, runs the firmware, and stops
    with an emulation failure as soon as a kernel unpacks itself.
    """
    memory = cache_folder() / "accelerator.json"
    this_host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        remembered = json.loads(memory.read_text())
        if remembered["host"] == this_host:
            return Accelerator(remembered["accelerator"])
    except (OSError, ValueError, KeyError):
        pass  # never tried, or nothing readable: try
    found = Accelerator.KVM if kvm_boots(kernel) else Accelerator.TCG
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps({"host": this_host, "accelerator": found.value}))
    return found


def kvm_boots(kernel: Path) -> bool:
    """Whether the kernel, given no root file system, reaches its panic under KVM within the time of a trial."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        console = Path(scratch) / "console"
        argv = [
            *("qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "512", "-nodefaults"),
            *("-display", "none", "-no-reboot", "-serial", f"file:{console}"),
            *("-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"),
        ]
        try:
            subprocess.run(argv, timeout=TRIAL_SECONDS, check=True, capture_output=True)
        except (subprocess.SubprocessError, OSError):
            return False
        return "Kernel panic" in console.read_text(errors="replace")

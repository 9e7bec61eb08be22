"""Whether this host really runs virtual machines by hardware: found out by booting one."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from enum import Enum
from functools import cache
from pathlib import Path

from rescue.workshop import cache_folder


class Accelerator(Enum):
    """How the processor of a machine is made."""

    KVM = "kvm"  # by the host's processor
    TCG = "tcg"  # by translation: ten to twenty times slower, works everywhere


def processor(how: Accelerator) -> list[str]:
    """QEMU's arguments for the processor of every machine that we start but the trial's."""
    if how is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    # One processor: a second one makes every fork wait for the other's translations (22 ms a fork against 7, measured),
    # and an install is mostly forks. la57 makes every page walk a level deeper; svm makes kernels load KVM, of no use
    # inside a translation; with AVX libraries choose code that is slow to translate (SHA-256: 21 MB/s against 41);
    # with ERMS the kernel copies with `rep movsb`, which is emulated byte by byte (1,000 MB through a pipe: 38 s of
    # processor time against 21).
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,svm=off,avx=off,erms=off", "-smp", "1"]


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

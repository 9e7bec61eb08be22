"""Looks at an image file before anything is done with it, and refuses what is dangerous, damaged or not what it claims.

It is somebody else's file. So a process of its own reads it, with limits on memory, time and output, without the
settings and keys of this one, and without a network where the kernel lets it go: a hostile file costs seconds and no
more. That process is `images.look`.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .formats import Format
from .inspection import LIMITS, Inspection, Limits
from .refusal import ImageRefused

_ROOT: Final = Path(__file__).resolve().parent.parent
_MOST_OUTPUT: Final = 2**20
_ENDINGS: Final = {
    ".qcow2": Format.QCOW2, ".qcow": Format.QCOW2, ".raw": Format.RAW, ".vmdk": Format.VMDK, ".vhd": Format.VHD,
    ".vhdx": Format.VHDX, ".ova": Format.OVA, ".tar": Format.TAR, ".tgz": Format.TAR, ".txz": Format.TAR,
    ".tzst": Format.TAR,
}  # fmt: skip


def inspect(path: Path, claimed: Format | None = None, limits: Limits = LIMITS) -> Inspection:
    """What the file is; ImageRefused when it may not become an image, such as one that is not what it claims."""
    more = path.stat().st_size // limits.rate
    command = [
        "prlimit", f"--as={limits.memory}", f"--cpu={limits.cpu_seconds + more}", f"--nofile={256}", "--core=0", "--",
        sys.executable, "-m", "images.look", str(path.absolute()), claimed or "", json.dumps(asdict(limits)),
    ]  # fmt: skip
    bare = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd=_ROOT, env=bare, check=False,
            timeout=limits.seconds + 2 * more,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ImageRefused("Looking at the file takes far too long.", "Do not use this file.") from None
    if done.returncode or len(done.stdout) > _MOST_OUTPUT:
        raise ImageRefused(
            f"Looking at the file takes more memory or time than any image needs, or fails ({_last(done.stderr)}).",
            "Do not use this file; if you trust it, make it anew with: qemu-img convert -O qcow2 OLD NEW",
        )
    answer = done.stdout.decode()
    if (refusal := json.loads(answer)).get("why"):
        raise ImageRefused(refusal["why"], refusal["fix"])
    return Inspection.from_json(answer)


def claimed_format(name: str) -> Format | None:
    """What a file's name says that it is; `.img` says nothing, it is used for many."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes[-2:-1] == [".tar"]:
        return Format.TAR
    return _ENDINGS.get(suffixes[-1]) if suffixes else None


def _last(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "ended by its limits"

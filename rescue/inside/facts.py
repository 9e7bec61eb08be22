"""The raw facts of this machine, as `landfall-facts` prints them: measured here, judged by the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LSBLK_COLUMNS = "NAME,PATH,TYPE,SIZE,LOG-SEC,PHY-SEC,ROTA,MODEL,SERIAL,WWN,TRAN,FSTYPE,LABEL,UUID,PARTTYPE,RO,RM,PKNAME"


def gather() -> dict[str, object]:
    """Everything the controller wants to know about this machine, in the form of schema 1."""
    dmi = Path("/sys/class/dmi/id")
    return {
        "schema": 1,
        "firmware": "uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        "vendor": _text(dmi / "sys_vendor"),
        "product": _text(dmi / "product_name"),
        "serial": _text(dmi / "product_serial"),
        "cpus": os.cpu_count() or 1,
        "memory_bytes": memory_bytes(Path("/proc/meminfo").read_text()),
        "lsblk": _json_of(["lsblk", "--json", "--bytes", "--tree", "--output", LSBLK_COLUMNS], {"blockdevices": []}),
        "by_id": links_of(Path("/dev/disk/by-id")),
        "ip": _json_of(["ip", "-json", "link"], []),
    }


def memory_bytes(meminfo: str) -> int:
    """The bytes of memory that /proc/meminfo reports as usable in total; 0 if it does not say."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def links_of(folder: Path) -> dict[str, list[str]]:
    """Device node -> the names udev gave it in this folder, sorted; empty when there is no such folder."""
    found: dict[str, list[str]] = {}
    for link in sorted(folder.glob("*")):
        found.setdefault(os.path.realpath(link), []).append(str(link))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _json_of(argv: list[str], otherwise: object) -> object:
    """What the command printed as JSON; `otherwise` when it had nothing to show: lsblk on a machine without disks."""
    output = subprocess.run(argv, stdout=subprocess.PIPE, check=False).stdout
    return json.loads(output) if output.strip() else otherwise


if __name__ == "__main__":
    json.dump(gather(), sys.stdout, indent=1)
    print()

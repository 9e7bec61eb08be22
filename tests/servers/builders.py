"""Disks, machines and plans for the tests, as plain functions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from servers.facts import Disk, Facts, Firmware, Nic
from servers.storage.layout import Layout
from servers.storage.plan import Plan
from servers.storage.planner import ImageNeeds, plan
from servers.storage.sizes import GIB

SEED = UUID("6f1a3c52-0d0e-4a1b-9c7e-2f6f3f9b8a10")
IMAGE = ImageNeeds(root_bytes=2 * GIB)


def make_disk(number: int = 0, size: int = 20 * GIB, **given: Any) -> Disk:
    """The disk /dev/vda, /dev/vdb, ... with a serial number of its own."""
    path = f"/dev/vd{chr(ord('a') + number)}"
    return Disk(**{"path": path, "size": size, "serial": f"SERIAL{number}", "model": "QEMU HARDDISK", **given})


def make_facts(*disks: Disk, firmware: Firmware = Firmware.UEFI, **given: Any) -> Facts:
    """A machine with these disks, or with one of 20 GiB."""
    nics = (Nic("enp1s0", "52:54:00:00:00:01"),)
    return Facts(**{"firmware": firmware, "disks": disks or (make_disk(),), "nics": nics, "serial": "SN-1", **given})


def make_plan(layout: Layout, *disks: Disk, firmware: Firmware = Firmware.UEFI, image: ImageNeeds = IMAGE) -> Plan:
    """The plan of the layout for a machine with these disks."""
    return plan(layout, make_facts(*disks, firmware=firmware), image, SEED)

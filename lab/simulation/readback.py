"""What the probe of the read-back certificate prints on a machine whose disks are exactly as they were planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.storage.plan import CONFIG_DRIVE_LABEL, Plan, PlannedDisk
from servers.storage.render import crypttab, fstab, md_uuid, mdadm_conf

KERNEL = "6.1.0-40-amd64"


def as_planned(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The document that `deploy.certificate.probe` would print when it is asked this and nothing has gone wrong."""
    plan = Plan.from_json(asked["plan"])
    return {
        "schema": 2,
        "errors": {},
        "tables": {disk.path: _table(disk) for disk in plan.disks},
        "signatures": _signatures(plan),
        "boot_code": dict.fromkeys(plan.boot_group, True),
        "arrays": {
            array.path: {
                "level": array.level.value, "uuid": md_uuid(array.uuid), "members": sorted(array.members),
                "state": "clean", "degraded": 0,
            }
            for array in plan.arrays
        },
        "containers": {
            one.path: {"uuid": str(one.uuid), "version": "2", "open": True} for one in plan.containers
        },
        "volume_groups": {group.name: sorted(group.devices) for group in plan.volume_groups},
        "volumes": {volume.path: volume.size for volume in plan.volumes},
        "fstab": _rows(fstab(plan)),
        "crypttab": _rows(crypttab(plan, asked["early"])),
        "mdadm_conf": _rows(mdadm_conf(plan)),
        "cards": {"eth0": "virtio_net"},
        "kernels": {
            KERNEL: {
                "drivers": dict.fromkeys(asked["drivers"], "inside"), "tools": ["cryptsetup", "lvm", "mdadm"],
                "without_network": [],
            }
        },
        "esps": {esp.mount: {"sha256": "5e" * 32, "files": 4, "loader": "10" * 32} for esp in plan.esps},
        "config_drive": dict(asked["config_drive"]),
    }  # fmt: skip


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if not line.startswith("#")]


def _table(disk: PlannedDisk) -> dict[str, Any]:
    return {
        "label": "gpt",
        "id": str(disk.uuid).upper(),
        "device": disk.path,
        "sectorsize": disk.sector,
        "partitions": [
            {
                "node": one.path, "start": one.start // disk.sector, "size": one.size // disk.sector,
                "type": one.type.value.upper(), "uuid": str(one.uuid).upper(), "name": one.name,
            }
            for one in disk.partitions
        ],
    }  # fmt: skip


def _signatures(plan: Plan) -> dict[str, dict[str, str]]:
    signatures = {
        one.device: {"type": one.type.value, "uuid": one.uuid, "label": one.label}
        for one in (*plan.filesystems, *plan.esps)
    }
    signatures |= {one.device: {"type": "swap", "uuid": one.uuid, "label": one.label} for one in plan.swaps}
    drive = plan.config_drive
    return signatures | {drive.partition: {"type": drive.kind.value, "label": CONFIG_DRIVE_LABEL}}

"""What is really on the disks of a machine, read by the tools of its rescue system, and where that is not the plan.

`LOOK` runs there; what it prints is compared here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.step import TARGET
from servers.storage.plan import Array, Luks, Plan, PlannedDisk
from servers.storage.render import md_uuid
from servers.storage.sizing import LVM_EXTENT
from servers.storage.wanted import FsType

LOOK = r"""
import json, os, subprocess, sys
told = json.load(sys.stdin)

def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""

def pairs(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

def size(device):
    return int(run("blockdev", "--getsize64", device) or 0)

def array(path):
    sys_md = f"/sys/block/{os.path.basename(os.path.realpath(path))}/md/"
    read = lambda name: open(sys_md + name).read().strip()
    told = pairs(run("mdadm", "--detail", "--export", path))
    members = sorted(value for key, value in told.items() if key.endswith("_DEV"))
    return {
        "size": size(path), "level": read("level"), "uuid": told["MD_UUID"], "name": told.get("MD_NAME", ""),
        "metadata": told["MD_METADATA"], "members": members, "chunk": int(read("chunk_size")), "layout": read("layout"),
        "degraded": read("degraded") if os.path.exists(sys_md + "degraded") else "0", "bitmap": read("bitmap/location"),
        "features": run("mdadm", "--examine", members[0]),
    }

def container(device, path):
    dump = json.loads(run("cryptsetup", "luksDump", "--dump-json-metadata", device) or "{}")
    return {"uuid": run("cryptsetup", "luksUUID", device).strip(), "size": size(path), "dump": dump,
            "below": run("lsblk", "--noheadings", "--inverse", "--list", "--paths", "--output", "NAME", path).split()}

def report(*argv):
    words = ("--reportformat", "json", "--units", "b", "--nosuffix")
    return next(iter(json.loads(run(*argv, *words))["report"][0].values()))

def disks_below(device):
    rows = run("lsblk", "--noheadings", "--inverse", "--list", "--paths", "--output", "NAME,TYPE", device).splitlines()
    return sorted({row.split()[0] for row in rows if row.split()[1] == "disk"})

def arrays():
    return [name for name in os.listdir("/sys/block") if os.path.isdir(f"/sys/block/{name}/md")]

def physical_volumes():
    return [one | {"disks": disks_below(one["pv_name"])} for one in report("pvs", "-o", "pv_name,vg_name,pe_start")]

def device(path):
    os.sync()
    found = pairs(run("blkid", "--probe", "--output", "export", path))
    return found | {"size": size(path), "xfs": run("xfs_info", path) if found.get("TYPE") == "xfs" else ""}

print(json.dumps({
    "tables": {disk: json.loads(run("sfdisk", "--json", disk) or '{"partitiontable": {}}')["partitiontable"]
               for disk in told["disks"]},
    "arrays": {path: array(path) for path in told["arrays"]},
    "all_arrays": {name: disks_below(f"/dev/{name}") for name in arrays()},
    "containers": {path: container(device, path) for path, device in told["containers"].items()},
    "pvs": physical_volumes(),
    "vgs": report("vgs", "-o", "vg_name,vg_extent_size,vg_extent_count"),
    "lvs": report("lvs", "-o", "vg_name,lv_name,lv_size"),
    "devices": {path: device(path) for path in told["devices"]},
    "mounts": json.loads(run("findmnt", "--json", "--list", "--output", "TARGET,SOURCE,FSTYPE")),
    "real": {path: os.path.realpath(path) for path in told["devices"]},
}))
"""


def wanted_of(plan: Plan) -> dict[str, Any]:
    """What `LOOK` is told to look at."""
    devices = [one.device for one in (*plan.mounts, *plan.swaps)]
    return {
        "disks": [disk.path for disk in plan.disks],
        "arrays": [one.path for one in plan.arrays],
        "containers": {one.path: one.device for one in plan.containers},
        "devices": [*devices, plan.config_drive.partition],
    }


def differences(plan: Plan, found: dict[str, Any]) -> list[str]:
    """Everything in which the disks are not as the plan says. What lies on other disks alone is no business of it."""
    ours = {disk.path for disk in plan.disks}
    arrays = [name for name, disks in found["all_arrays"].items() if ours.intersection(disks)]
    groups = {one["vg_name"] for one in found["pvs"] if ours.intersection(one["disks"])}
    return [
        *(line for disk in plan.disks for line in _table(disk, found["tables"][disk.path])),
        *(line for array in plan.arrays for line in _array(array, found["arrays"][array.path])),
        *_differ("number of arrays", len(plan.arrays), len(arrays)),
        *(line for one in plan.containers for line in _container(one, found["containers"][one.path])),
        *_volume_groups(plan, found, groups),
        *_devices(plan, found["devices"]),
        *_mounts(plan, found),
    ]


def _differ(what: str, planned: object, found: object) -> Iterator[str]:
    if planned != found:
        yield f"{what}: planned {planned!r}, found {found!r}"


def _table(disk: PlannedDisk, table: dict[str, Any]) -> Iterator[str]:
    sector = disk.sector
    seen = [
        (one["node"], one["start"] * sector, one["size"] * sector, one["type"].lower(), one["uuid"].lower(),
         one["name"])
        for one in table.get("partitions", [])
    ]  # fmt: skip
    planned = [(one.path, one.start, one.size, one.type.value, str(one.uuid), one.name) for one in disk.partitions]
    yield from _differ(f"label of {disk.path}", ("gpt", str(disk.uuid), sector),
                       (table.get("label"), table.get("id", "").lower(), table.get("sectorsize")))  # fmt: skip
    yield from _differ(f"partitions of {disk.path}", planned, seen)


def _array(array: Array, found: dict[str, Any]) -> Iterator[str]:
    name = array.path
    yield from _differ(f"{name} size", array.size, found["size"])
    yield from _differ(f"{name} level", array.level.value, found["level"])
    yield from _differ(f"{name} UUID", md_uuid(array.uuid), found["uuid"])
    yield from _differ(f"{name} members", sorted(array.members), found["members"])
    yield from _differ(f"{name} metadata", "1.2", found["metadata"])
    yield from _differ(f"{name} degraded", "0", found["degraded"])
    yield from _differ(f"{name} chunk", 0 if array.level.value == "raid1" else 512 << 10, found["chunk"])
    yield from _differ(f"{name} bitmap", array.level.redundant, found["bitmap"] not in ("none", ""))
    offset = f"Data Offset : {array.data_offset // 512} sectors"
    yield from _differ(f"{name} offset", True, offset in found["features"])


def _container(container: Luks, found: dict[str, Any]) -> Iterator[str]:
    segment, slot = found["dump"]["segments"]["0"], found["dump"]["keyslots"]["0"]
    yield from _differ(f"{container.path} UUID", str(container.uuid), found["uuid"])
    yield from _differ(f"{container.path} size", container.size, found["size"])
    yield from _differ(f"{container.path} sector", container.sector, segment["sector_size"])
    yield from _differ(f"{container.path} cipher", "aes-xts-plain64", segment["encryption"])
    kdf = (slot["kdf"]["type"], slot["kdf"]["memory"], slot["kdf"]["time"])
    yield from _differ(f"{container.path} key derivation", ("argon2id", 262144, 4), kdf)


def _volume_groups(plan: Plan, found: dict[str, Any], ours: set[str]) -> Iterator[str]:
    groups = {one["vg_name"]: int(one["vg_extent_size"]) * int(one["vg_extent_count"]) for one in found["vgs"]}
    planned = {one.name: one.size for one in plan.volume_groups}
    yield from _differ("volume groups", planned, {name: size for name, size in groups.items() if name in ours})
    extents = {int(one["vg_extent_size"]) for one in found["vgs"] if one["vg_name"] in ours}
    yield from _differ("extents", {LVM_EXTENT} if planned else set(), extents)
    volumes = {(one["vg_name"], one["lv_name"]): int(one["lv_size"]) for one in found["lvs"]}
    yield from _differ(
        "volumes",
        {(one.group, one.name): one.size for one in plan.volumes},
        {name: size for name, size in volumes.items() if name[0] in ours},
    )
    starts = {one["pe_start"] for one in found["pvs"] if one["vg_name"] in ours}
    yield from _differ("starts of the extents", {str(1 << 20)} if planned else set(), starts)


def _devices(plan: Plan, devices: dict[str, Any]) -> Iterator[str]:
    for one in plan.mounts:
        seen = devices[one.device]
        yield from _differ(
            f"{one.mount} on {one.device}",
            (one.type.value, one.uuid, one.label, one.size),
            (seen.get("TYPE"), seen.get("UUID"), seen.get("LABEL"), seen["size"]),
        )
        if one.type is FsType.XFS:
            for feature in one.features:
                if feature not in seen["xfs"].replace("  ", " ") and not feature.endswith("=0"):
                    yield f"{one.mount} has no {feature}"
                if feature.endswith("=0") and feature.replace("=0", "=1") in seen["xfs"]:
                    yield f"{one.mount} has {feature.replace('=0', '=1')}"
    for swap in plan.swaps:
        seen = devices[swap.device]
        yield from _differ(
            f"swap on {swap.device}",
            ("swap", swap.uuid, "swap", swap.size),
            (seen.get("TYPE"), seen.get("UUID"), seen.get("LABEL"), seen["size"]),
        )
    drive = devices[plan.config_drive.partition]
    # its files are written by a later step: nothing old may be found in it before
    yield from _differ("config drive", (plan.config_drive.size, None), (drive["size"], drive.get("TYPE")))


def _mounts(plan: Plan, found: dict[str, Any]) -> Iterator[str]:
    below = {one["target"].removeprefix(TARGET) or "/": one for one in found["mounts"]["filesystems"]
             if one["target"].startswith(TARGET)}  # fmt: skip
    yield from _differ("mounts", {one.mount: one.type.value for one in plan.mounts},
                       {mount: one["fstype"] for mount, one in below.items()})  # fmt: skip

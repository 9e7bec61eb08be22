"""What the probe has read, and what the new system has said, set beside the plan. Pure: values in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from images.flavours import EFI_LOADER, Flavour
from servers.facts import Firmware
from servers.storage.layout import Raid
from servers.storage.plan import (
    CONFIG_DRIVE_LABEL,
    Array,
    Filesystem,
    LogicalVolume,
    Luks,
    Partition,
    PartitionType,
    Plan,
    PlannedDisk,
    Swap,
    VolumeGroup,
)
from servers.storage.sizes import human
from servers.values import to_plain

from .finding import SAME, Certificate, Finding
from .look import Json, Look
from .tables import tables

_RAID_DRIVERS: Final = {
    Raid.RAID0: "raid0", Raid.RAID1: "raid1", Raid.RAID5: "raid456", Raid.RAID6: "raid456", Raid.RAID10: "raid10",
}  # fmt: skip
# With the hour of a first check still to come an array may be in any of these; all of them are whole.
_GOOD_STATES: Final = ("clean", "active", "active-idle", "write-pending", "read-auto")


def wanted(
    plan: Plan, target: str, flavour: Flavour, early: Iterable[str], config_drive: Mapping[str, str]
) -> dict[str, Any]:
    """What the probe is told: where to look. `config_drive` has each file's SHA-256.

    `early` are the containers that crypttab marks as the initramfs's to open.
    """
    return {
        "target": target,
        "plan": to_plain(plan),
        "drivers": sorted({*flavour.server_drivers, *_drivers_of(plan)}),
        "network_drivers": sorted(flavour.network_drivers),
        "mdadm_conf": flavour.mdadm_conf,
        "early": list(early),
        "config_drive": dict(config_drive),
    }


def before_reboot(asked: Json, plan: Plan, seen: Json) -> Certificate:
    """The certificate of what the probe has seen when it was asked this."""
    look = Look(seen)
    return Certificate(
        (
            *(finding for disk in plan.disks for finding in _disk(disk, look)),
            *(_array(array, look) for array in plan.arrays),
            *(_container(container, look) for container in plan.containers),
            *(_volume_group(group, look) for group in plan.volume_groups),
            *(_volume(volume, look) for volume in plan.volumes),
            *(_filesystem(one, look) for one in (*plan.filesystems, *plan.esps)),
            *(_swap(one, look) for one in plan.swaps),
            *tables(plan, asked, look),
            *_initramfs(plan, asked["drivers"], look),
            *_network(look),
            *_boot(plan, look),
            *_config_drive(plan, asked["config_drive"], look),
        )
    )


def running_system(plan: Plan, call: Json) -> tuple[Finding, ...]:
    """What the new system has said of itself when it called; nothing where its script said nothing of the kind."""
    return tuple(_running(plan, call))


# Disks


def _disk(disk: PlannedDisk, look: Look) -> Iterator[Finding]:
    def label(tables: Json) -> str:
        return f"GPT {tables[disk.path]['id'].lower()} with {_count(len(tables[disk.path].get('partitions', ())))}"

    expected = f"GPT {disk.uuid} with {_count(len(disk.partitions))}"
    yield look.finding("partitions", disk.path, expected, "tables", label)
    for partition in disk.partitions:
        yield look.finding("partitions", partition.path, _partition(partition), "tables", _found(disk, partition))


def _found(disk: PlannedDisk, partition: Partition) -> Callable[[Json], str]:
    def read(tables: Json) -> str:
        rows = {row["node"]: row for row in tables[disk.path]["partitions"]}
        if partition.path not in rows:
            return "no such partition"
        row, sector = rows[partition.path], int(tables[disk.path].get("sectorsize", disk.sector))
        return _as_text(
            row["type"].lower(), int(row["start"]) * sector, int(row["size"]) * sector, row["uuid"].lower()
        )  # fmt: skip

    return read


def _partition(partition: Partition) -> str:
    return _as_text(partition.type.value, partition.start, partition.size, str(partition.uuid))


def _as_text(kind: str, start: int, size: int, uuid: str) -> str:
    known = {one.value: one.name.replace("_", " ") for one in PartitionType}
    return f"{known.get(kind, kind)}, {human(size)} ({size:,} bytes) from byte {start:,}, {uuid}"


def _count(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"


def _array(array: Array, look: Look) -> Finding:
    expected = f"{array.level.title} {array.uuid.hex} on {', '.join(sorted(array.members))}, whole"

    def read(arrays: Json) -> str:
        one = arrays[array.path]
        # mdadm makes RAID5 and 6 with a last member that is filled from the others: all are there, and one is not ready
        whole = one["state"] in _GOOD_STATES and (not one["degraded"] or one.get("sync") == "recover")
        state = "whole" if whole else f"{one['state']}, {one['degraded']} members missing"
        uuid = one["uuid"].replace(":", "").lower()
        return f"{one['level'].upper()} {uuid} on {', '.join(sorted(one['members']))}, {state}"

    return look.finding("arrays", array.path, expected, "arrays", read)


def _container(container: Luks, look: Look) -> Finding:
    def read(containers: Json) -> str:
        one = containers[container.path]
        return (
            f"LUKS{one['version']} {one['uuid'].lower()} on {container.device}, {'open' if one['open'] else 'closed'}"
        )

    expected = f"LUKS2 {container.uuid} on {container.device}, open"
    return look.finding("encryption", container.path, expected, "containers", read)


def _volume_group(group: VolumeGroup, look: Look) -> Finding:
    def read(groups: Json) -> str:
        return _on(groups[group.name])

    return look.finding("volumes", group.name, _on(group.devices), "volume_groups", read)


def _on(devices: Iterable[str]) -> str:
    return f"volume group on {', '.join(sorted(devices)) or 'nothing'}"


def _volume(volume: LogicalVolume, look: Look) -> Finding:
    def read(volumes: Json) -> str:
        return _bytes(int(volumes[volume.path]))

    return look.finding("volumes", volume.path, _bytes(volume.size), "volumes", read)


def _bytes(size: int) -> str:
    return f"{human(size)} ({size:,} bytes)"


# File systems


def _filesystem(filesystem: Filesystem, look: Look) -> Finding:
    what = f"{filesystem.mount} on {filesystem.device}"
    return _signed(what, filesystem.device, filesystem.type.value, filesystem.uuid, filesystem.label, look)


def _swap(swap: Swap, look: Look) -> Finding:
    return _signed(f"swap on {swap.device}", swap.device, "swap", swap.uuid, swap.label, look)


def _signed(what: str, device: str, kind: str, uuid: str, label: str, look: Look) -> Finding:
    def read(signatures: Json) -> str:
        seen = signatures[device]
        return _signature(seen["type"], seen.get("uuid", ""), seen.get("label", "")) if seen.get("type") else "nothing"

    return look.finding("filesystems", what, _signature(kind, uuid, label), "signatures", read)


def _signature(kind: str, uuid: str, label: str) -> str:
    return f"{kind} {uuid}, label {label}" if label else f"{kind} {uuid}"


# The new system's kernels


def _initramfs(plan: Plan, drivers: Iterable[str], look: Look) -> Iterator[Finding]:
    kernels = look.part("kernels")
    if not kernels:
        yield look.finding("initramfs", "kernels", "one with an initramfs", "kernels", lambda _: "none")
        return
    for version in kernels:
        yield from _kernel(version, plan, drivers, look)


def _kernel(version: str, plan: Plan, drivers: Iterable[str], look: Look) -> Iterator[Finding]:
    needed, tools = _drivers_of(plan), _tools_of(plan)

    def lacking(kernels: Json) -> str:
        return _lacking(kernels[version]["drivers"], drivers)

    def present(kernels: Json) -> str:
        fates = kernels[version]["drivers"]
        return ", ".join(one for one in needed if fates.get(one) in ("inside", "built in")) or "none of them"

    def among(kernels: Json) -> str:
        return ", ".join(tool for tool in tools if tool in kernels[version]["tools"]) or "none of them"

    yield look.finding("initramfs", f"drivers for {version}", _ALL_DRIVERS, "kernels", lacking)
    what = f"what the root file system needs in {version}"
    yield look.finding("initramfs", what, ", ".join(needed), "kernels", present)
    if tools:
        yield look.finding("initramfs", f"tools in {version}", ", ".join(tools), "kernels", among)


_ALL_DRIVERS: Final = "all that this kernel has"


def _lacking(fates: Json, drivers: Iterable[str]) -> str:
    lacking = [driver for driver in drivers if fates.get(driver, "missing") == "missing"]
    return f"without {', '.join(lacking)}" if lacking else _ALL_DRIVERS


def _network(look: Look) -> Iterator[Finding]:
    """What each kernel has no driver for, of the network cards that servers have; nothing where that was not asked.

    Wrong is only what this very server lacks, and even that ends no install: a driver may have changed its name since
    the rescue system's kernel.
    """
    kernels = look.part("kernels")
    for version, kernel in kernels.items() if isinstance(kernels, Mapping) else ():
        if isinstance(kernel, Mapping) and "without_network" in kernel:
            yield look.judgement("network", version, _ALL_CARDS, "cards", _cards_without(kernel["without_network"]))


_ALL_CARDS: Final = "drivers of the network cards that servers have"


def _cards_without(lacking: Iterable[str]) -> Callable[[Json], tuple[str, bool]]:
    def judged(cards: Json) -> tuple[str, bool]:
        here = [f"{card} ({driver})" for card, driver in sorted(cards.items()) if driver in lacking]
        if here:
            return f"none for this server's {', '.join(here)}", False
        return (f"all but {', '.join(lacking)}, which this server does without" if lacking else SAME), True

    return judged


def _drivers_of(plan: Plan) -> tuple[str, ...]:
    """The drivers without which the root file system cannot be mounted, whatever the disks are."""
    below = _below(plan, plan.root.device)
    levels = [_RAID_DRIVERS[array.level] for array in plan.arrays if array.path in below]
    encrypted = ["dm_crypt"] if any(one.path in below for one in plan.containers) else []
    mapped = ["dm_mod"] if encrypted or any(one.path in below for one in plan.volumes) else []
    return tuple(dict.fromkeys([plan.root.type.value, *levels, *mapped, *encrypted]))


def _tools_of(plan: Plan) -> tuple[str, ...]:
    below = _below(plan, plan.root.device)
    stacks = {
        "mdadm": [one.path for one in plan.arrays],
        "lvm": [one.path for one in plan.volumes],
        "cryptsetup": [one.path for one in plan.containers],
    }
    return tuple(tool for tool, stack in stacks.items() if below.intersection(stack))


def _below(plan: Plan, device: str) -> frozenset[str]:
    """The device and all that it lies on."""
    under: dict[str, tuple[str, ...]] = {one.path: (one.device,) for one in plan.containers}
    under |= {one.path: one.members for one in plan.arrays}
    groups = {one.name: one.devices for one in plan.volume_groups}
    under |= {one.path: groups[one.group] for one in plan.volumes}
    return frozenset({device}.union(*(_below(plan, one) for one in under.get(device, ()))))


# What it starts from


def _boot(plan: Plan, look: Look) -> Iterator[Finding]:
    if plan.firmware is Firmware.BIOS:
        yield from (_boot_sector(disk, look) for disk in plan.boot_group)
        return
    yield from (_loader(esp.mount, look) for esp in plan.esps)
    if len(plan.esps) > 1:
        yield look.judgement("boot", "all ESPs", "equal", "esps", _equality)


def _boot_sector(disk: str, look: Look) -> Finding:
    def read(sectors: Json) -> str:
        return "GRUB in its first sector" if sectors[disk] else "no GRUB in its first sector"

    return look.finding("boot", disk, "GRUB in its first sector", "boot_code", read)


def _loader(mount: str, look: Look) -> Finding:
    def judged(esps: Json) -> tuple[str, bool]:
        loader = esps[mount]["loader"]
        # a former version's probe says no more than that it is there
        return (f"SHA-256 {loader}" if loader is not True else SAME, True) if loader else ("no boot loader", False)

    return look.judgement("boot", mount, f"a boot loader, {EFI_LOADER}", "esps", judged)


def _equality(esps: Json) -> tuple[str, bool]:
    sums = {mount: f"SHA-256 {one['sha256']} over {one['files']} files" for mount, one in esps.items()}
    if len(set(sums.values())) == 1:
        return next(iter(sums.values())), True
    return "; ".join(f"{mount} {text}" for mount, text in sums.items()), False


def _config_drive(plan: Plan, files: Mapping[str, str], look: Look) -> Iterator[Finding]:
    partition = plan.config_drive.partition

    def read(signatures: Json) -> str:
        return f"{signatures[partition]['type']}, label {signatures[partition]['label']}"

    expected = f"{plan.config_drive.kind.value}, label {CONFIG_DRIVE_LABEL}"
    yield look.finding("config-drive", partition, expected, "signatures", read)
    yield from (_file(name, checksum, look) for name, checksum in sorted(files.items()))


def _file(name: str, checksum: str, look: Look) -> Finding:
    def read(files: Json) -> str:
        return f"SHA-256 {files[name]}" if files[name] else "no such file"

    return look.finding("config-drive", name, f"SHA-256 {checksum}", "config_drive", read)


# What the new system says


def _running(plan: Plan, call: Json) -> Iterator[Finding]:
    mounted = call.get("mounts")
    if isinstance(mounted, Mapping):
        for one in plan.mounts:
            uuid = mounted.get(one.mount)
            # a file system that may be missing is mounted when it comes, which may be after the call
            if uuid is not None or "nofail" not in one.options:
                said = str(uuid or "not mounted")
                yield Finding("running", one.mount, one.uuid, SAME if said == one.uuid else said, said == one.uuid)
    degraded = call.get("degraded_arrays")
    if plan.arrays and isinstance(degraded, list):
        said = ", ".join(map(str, degraded)) or "none"
        yield Finding("running", "arrays that lack a member", "none", SAME if not degraded else said, not degraded)


def is_another_system(plan: Plan, findings: Iterable[Finding]) -> bool:
    """Whether the system that has called runs from another root file system than the one that was installed."""
    return any(finding.what == plan.root.mount and not finding.ok for finding in findings)

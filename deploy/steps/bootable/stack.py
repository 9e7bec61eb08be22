"""What lies below a device of the plan: what must be there before it is, at the start of the system too."""

from __future__ import annotations

from dataclasses import dataclass

from servers.storage.plan import Array, LogicalVolume, Luks, Plan


@dataclass(frozen=True, slots=True)
class Stack:
    """Arrays, containers and volumes, each in the plan's order."""

    arrays: tuple[Array, ...]
    containers: tuple[Luks, ...]
    volumes: tuple[LogicalVolume, ...]


def below(plan: Plan, *devices: str) -> Stack:
    """Everything that these devices are, or lie on."""
    found: set[str] = set()
    pending = list(devices)
    while pending:
        device = pending.pop()
        if device not in found:
            found.add(device)
            pending += _next(plan, device)
    return Stack(
        tuple(one for one in plan.arrays if one.path in found),
        tuple(one for one in plan.containers if one.path in found),
        tuple(one for one in plan.volumes if one.path in found),
    )


def _next(plan: Plan, device: str) -> list[str]:
    groups = {one.group for one in plan.volumes if one.path == device}
    return [
        *(one.device for one in plan.containers if one.path == device),
        *(path for one in plan.volume_groups if one.name in groups for path in one.devices),
    ]


def of_root(plan: Plan) -> Stack:
    """What the initramfs has to put together before the system itself can be mounted."""
    return below(plan, *(one.device for one in plan.filesystems if one.mount in ("/", "/usr")))

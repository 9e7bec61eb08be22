"""Plain values for the tests of metadata/."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from metadata.documents import Instance, Link

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice@example.org"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAVYo2rQoyKQ4WmbZv6v3r3cVg1bUJ9p3Gm1xq0l9f3d bob@example.org"


def make_instance(**changes: Any) -> Instance:
    """An instance with one NIC on DHCP and one key, but for the `changes`."""
    plain = Instance(
        uuid=UUID("6f0a9f2e-7d0f-4d0b-8f4e-2f7a3b1c9d10"),
        hostname="web1.example.org",
        keys=(("alice", KEY),),
        links=(Link("nic0", "52:54:00:12:34:56"),),
        project_id="acme",
        availability_zone="hall-2",
    )
    return replace(plain, **changes)

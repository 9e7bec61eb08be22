"""Rows for tests, each with one call: `make_server(disks=2)`, `make_install(server=server)`.

Whatever a builder is not told it makes up, so that two calls never collide.
"""

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.utils import timezone

from accounts.models import Membership, Project, Role, SSHKey, User
from accounts.secret import Secret
from accounts.sshkeys import parse_public_key
from deploy import journal
from deploy.events import Kind
from deploy.models import Install
from images.models import Format, Image, ImageState
from servers import facts
from servers.models import Disk, Nic, Server
from servers.storage.layout import Layout, default_layout
from servers.storage.planner import ImageNeeds, plan
from servers.values import to_plain

PASSWORD = "correct horse"
"""Everybody's password."""

GIB = 2**30
_number = count(1)


def make_user(role: Role | str = Role.CUSTOMER, *, name: str = "", projects: Sequence[Project] = ()) -> User:
    """Somebody with a role, member of the projects; logs in with `PASSWORD`."""
    role = Role(role)
    user = User.objects.create_user(name or f"{role.value}-{next(_number)}", password=PASSWORD, role=role)
    Membership.objects.bulk_create(Membership(user=user, project=project) for project in projects)
    return user


def make_project(name: str = "") -> Project:
    """A project; its slug is its name in lower case."""
    name = name or f"Project {next(_number)}"
    return Project.objects.create(name=name, slug=name.lower().replace(" ", "-"))


def public_key(comment: str = "alice@example.org") -> str:
    """The line of a fresh Ed25519 key."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}"


def make_key(project: Project, *, name: str = "", line: str = "") -> SSHKey:
    """A key of the project."""
    key = parse_public_key(line or public_key())
    return SSHKey.objects.create(
        project=project,
        name=name or f"key {next(_number)}",
        public_key=key.line,
        key_type=key.key_type,
        fingerprint=key.fingerprint,
    )


def make_disk(path: str = "/dev/vda", *, size: int = 20 * GIB, **changes: Any) -> facts.Disk:
    """A disk with a serial number of its own."""
    return facts.Disk(path, size, **{"serial": f"disk-{next(_number)}", "model": "QEMU HARDDISK", **changes})


def make_server(
    project: Project | None = None,
    *,
    disks: int | Sequence[facts.Disk] = 1,
    firmware: facts.Firmware | str = facts.Firmware.UEFI,
    mac: str = "",
    **columns: Any,
) -> Server:
    """A server with that many disks of 20 GiB (or the given ones), one NIC, and a Redfish account."""
    number = next(_number)
    server = Server.objects.create(
        **{
            "project": project or make_project(),
            "name": f"web-{number}.example.net",
            "serial": f"SN{number:06}",
            "firmware": facts.Firmware(firmware).value,
            "cpus": 4,
            "memory_bytes": 16 * GIB,
            "address": f"192.0.2.{number % 250 + 1}",
            "bmc_url": "https://192.0.2.250",
            "bmc_user": "landfall",
            "bmc_password": Secret("of the BMC"),
            "facts_at": timezone.now(),
            **columns,
        }
    )
    Nic.objects.create(server=server, name="eth0", mac=mac or f"52:54:00:00:{number >> 8 & 255:02x}:{number & 255:02x}")
    seen = [make_disk(f"/dev/vd{'abcdefgh'[index]}") for index in range(disks)] if isinstance(disks, int) else disks
    Disk.objects.bulk_create(Disk(server=server, path=d.path, size=d.size, detail=to_plain(d)) for d in seen)
    return server


def make_image(**columns: Any) -> Image:
    """An offered Debian 12, without a file."""
    number = next(_number)
    sha256 = hashlib.sha256(f"image {number}".encode()).hexdigest()
    return Image.objects.create(
        **{
            "name": f"Debian 12 ({number})",
            "flavour": "debian-12",
            "format": Format.QCOW2,
            "path": f"/nowhere/{sha256}",
            "sha256": sha256,
            "size": 300 * 2**20,
            "virtual_size": 2 * GIB,
            "root_bytes": GIB,
            "state": ImageState.OFFERED,
            **columns,
        }
    )


def make_install(
    server: Server | None = None,
    *,
    image: Image | None = None,
    by: User | None = None,
    layout: Layout | None = None,
    keys: Sequence[SSHKey] = (),
    **columns: Any,
) -> Install:
    """An install that was just requested: queued, its history one event long."""
    server = server or make_server(disks=2)
    image = image or make_image()
    layout = layout or default_layout(server.facts())
    keys = keys or [make_key(server.project)]
    approved = plan(layout, server.facts(), ImageNeeds(image.root_bytes), UUID(int=next(_number)))
    install = Install.objects.create(
        **{
            "project": server.project,
            "server": server,
            "image": image,
            "hostname": server.name,
            "layout": layout.to_json(),
            "approved_plan": approved.to_json(),
            "ssh_keys": [[key.name, key.public_key] for key in keys],
            "requested_by": by,
            **columns,
        }
    )
    journal.append(install, Kind.REQUESTED, {"passphrase": "made"} if columns.get("disk_passphrase") else {})
    install.refresh_from_db()
    return install

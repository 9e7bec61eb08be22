"""Rows that the tests of what machines call start from."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from accounts.models import Project
from images.models import Image
from metadata.boot import direct_to_rescue
from metadata.models import Purpose
from metadata.tokens import mint
from servers.models import Server

MAC = "52:54:00:12:34:56"
LIFETIME = timedelta(hours=1)
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
INSTALL_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAVYo2rQoyKQ4WmbZv6v3r3cVg1bUJ9p3Gm1xq0l9f3d landfall"
READY = {"host_keys": [HOST_KEY], "boot_id": "b0071d", "facts": {"schema": 1}}
PHONE_HOME = {
    "boot_id": "b0071d",
    "machine_id": "abc",
    "host_keys": [HOST_KEY],
    "kernel": "6.1.0",
    "cloud_init": "done",
    "hostname": "web1",
}


def make_server(mac: str = MAC, firmware: str = "bios") -> Server:
    """A server of a project of its own, with one NIC."""
    project = Project.objects.create(name="Acme", slug=f"acme-{uuid4()}")
    server = Server.objects.create(project=project, name=f"web-{uuid4()}", firmware=firmware, address="192.0.2.14")
    server.nics.create(mac=mac)
    return server


def make_install(server: Server) -> UUID:
    """The id of an install whose server is directed to the rescue system."""
    install = uuid4()
    direct_to_rescue(server, install, INSTALL_KEY, LIFETIME)
    return install


def make_token(server: Server, install: UUID, purpose: Purpose, lifetime: timedelta = LIFETIME) -> str:
    return mint(install, server, purpose, lifetime).reveal()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_rescue(folder: Path, files: dict[str, bytes] | None = None, kernel_args: str = "quiet") -> Path:
    """A folder as the build of the rescue system leaves it."""
    folder.mkdir(exist_ok=True)
    contents = files if files is not None else {"vmlinuz": b"kernel", "initrd.img": b"initramfs"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    listed = {name: {"sha256": hashlib.sha256(c).hexdigest(), "size": len(c)} for name, c in contents.items()}
    (folder / "manifest.json").write_text(json.dumps({"id": "1", "files": listed, "kernel_args": kernel_args}))
    return folder


def make_image(folder: Path, content: bytes, **changes: Any) -> Image:
    """An image in the catalogue, its file in `folder`."""
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / sha256).write_bytes(content)
    values = {"name": sha256[:8], "flavour": "debian-12", "format": "qcow2", "path": sha256, "sha256": sha256}
    return Image.objects.create(**values, size=len(content), virtual_size=len(content), **changes)

"""Rows for simulated servers: what an admin would have entered, and the installs that a customer would request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.db import transaction
from django.utils import timezone

from accounts.models import Project, Role, SSHKey, User
from accounts.secret import Secret
from accounts.sshkeys import parse_public_key
from deploy.actions import InstallRequest, request_install
from deploy.models import Install
from images.models import Format, Image, ImageState
from servers.facts import parse_facts
from servers.inventory import record_facts
from servers.models import Nic, Server
from servers.storage.layout import default_layout

from ..spec import GIB
from .spec import BMC_PASSWORD, BMC_USER, SSH_PORT, ServerSpec

PROJECT = "simulated"
IMAGE = "Simulated Debian 12"
OPERATOR = "simulated-ops"


def register(specs: Sequence[ServerSpec], bmc_url: str, project: Project | None = None) -> list[Server]:
    """The servers in the inventory, their facts known; those that are there already get the BMC's new address.

    With them comes what an install needs: a project with a key, an image, somebody of ops.
    """
    project = project or Project.objects.get_or_create(slug=PROJECT, defaults={"name": "Simulated"})[0]
    key(project), image(), operator()
    with transaction.atomic():
        return [_register(spec, bmc_url, project) for spec in specs]


def _register(spec: ServerSpec, bmc_url: str, project: Project) -> Server:
    server, is_new = Server.objects.update_or_create(
        name=spec.name,
        defaults={
            "project": project,
            "serial": spec.serial,
            "firmware": spec.firmware,
            "address": spec.address,
            "ssh_port": SSH_PORT,
            "bmc_url": bmc_url,
            "bmc_system": f"/redfish/v1/Systems/{spec.name}",
            "bmc_user": BMC_USER,
            "bmc_password": Secret(BMC_PASSWORD),
        },
    )
    if is_new:
        Nic.objects.create(server=server, name="eth0", mac=spec.mac)
        record_facts(server, parse_facts(spec.facts()), timezone.now())
    return server


def image(name: str = IMAGE, **columns: object) -> Image:
    """An offered image; there is no file, because no simulated server fetches it."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    found, _ = Image.objects.get_or_create(
        name=name,
        defaults={
            "flavour": "debian-12",
            "format": Format.QCOW2,
            "path": f"/nowhere/{sha256}",
            "sha256": sha256,
            "size": 300 * 2**20,
            "virtual_size": 2 * GIB,
            "root_bytes": GIB,
            "state": ImageState.OFFERED,
            **columns,
        },
    )
    return found


def operator(name: str = OPERATOR) -> User:
    """Somebody of ops, who requests the installs."""
    user, _ = User.objects.get_or_create(username=name, defaults={"role": Role.OPS})
    return user


def key(project: Project) -> SSHKey:
    """A key of the project."""
    if found := project.ssh_keys.first():
        return found
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    parsed = parse_public_key(f"{line} simulated")
    return SSHKey.objects.create(
        project=project,
        name="simulated",
        public_key=parsed.line,
        key_type=parsed.key_type,
        fingerprint=parsed.fingerprint,
    )


def request(server: Server, of: Image | None = None, by: User | None = None) -> Install:
    """An install of the server, requested as from the page."""
    wanted = InstallRequest(
        server=server,
        image=of or image(),
        layout=default_layout(server.facts()),
        hostname=f"{server.name}.example.net",
        ssh_keys=(key(server.project),),
    )
    return request_install(wanted, by or operator())

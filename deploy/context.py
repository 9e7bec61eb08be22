"""What the steps of an install are about, put together from its row, its image and its server."""

from collections.abc import Container
from datetime import timedelta
from ipaddress import ip_address, ip_interface
from uuid import UUID

from django.conf import settings

from accounts.secret import Secret
from images.flavours import flavour
from images.models import Image, LicenceKind
from metadata import tokens
from metadata.documents import Documents, Instance, Link, Static, documents, only_seen
from metadata.models import Purpose
from servers.facts import Facts
from servers.models import Nic
from servers.storage.layout import Layout
from servers.storage.plan import Plan
from servers.storage.planner import ImageNeeds
from servers.storage.planner import plan as plan_storage

from .models import Install
from .step import Context, ImageSource, Registration

TOKEN_LIFETIME = timedelta(hours=2)
"""How long a machine may use what it was given; many times what an install takes."""


def image_needs(image: Image) -> ImageNeeds:
    """What the image asks of a plan."""
    kind = flavour(image.flavour)
    return ImageNeeds(
        root_bytes=image.root_bytes or image.virtual_size,
        filesystems=kind.filesystems,
        raid=bool(image.capabilities.get("raid", True)),
        ext4_features=kind.ext4_features,
    )


def storage_plan(layout: Layout, facts: Facts, image: Image, seed: UUID) -> Plan:
    """The plan for a layout on a machine with these facts; PlanImpossible when there is none."""
    return plan_storage(layout, facts, image_needs(image), seed)


def describe(install: Install, facts: Facts) -> Documents:
    """The config drive's files: the NICs that were seen, the keys and the user data as they were confirmed."""
    links = (_link(number, nic) for number, nic in enumerate(install.server.nics.all()))
    seen = [nic.mac for nic in facts.nics]
    nameservers = [nic.nameservers for nic in install.server.nics.all()]
    return documents(
        Instance(
            uuid=install.uuid,
            hostname=install.hostname,
            keys=tuple((name, line) for name, line in install.ssh_keys),
            links=only_seen(links, seen),
            project_id=install.project.slug,
            user_data=bytes(install.user_data),
            dns=tuple(address.strip() for line in nameservers for address in line.split(",") if address.strip()),
        )
    )


def _link(number: int, nic: Nic) -> Link:
    static = None
    if nic.address_cidr:
        static = Static(ip_interface(nic.address_cidr), ip_address(nic.gateway) if nic.gateway else None)
    return Link(id=nic.name or f"nic{number}", mac=nic.mac, static=static)


def context_for(install: Install, facts: Facts, *, fetch: Secret, phone_home: Secret) -> Context:
    """Everything that the commands of the install depend on."""
    image = install.image
    url = f"{settings.LANDFALL_MACHINE_URL}/machine/images/{image.sha256}"
    return Context(
        install=install.uuid,
        hostname=install.hostname,
        plan=install.plan(),
        image=ImageSource(image.name, url, image.sha256, image.size, image.format),
        flavour=flavour(image.flavour),
        config_drive=describe(install, facts),
        machine_url=settings.LANDFALL_MACHINE_URL,
        fetch_token=fetch,
        phone_home_token=phone_home,
        registration=_registration(image),
    )


def dry_context(install: Install, facts: Facts) -> Context:
    """The same without any token that opens something: for the review and for dry runs."""
    return context_for(install, facts, fetch=Secret("fetch token"), phone_home=Secret("phone-home token"))


def armed_context(install: Install, facts: Facts, purposes: Container[str]) -> Context:
    """The same with fresh tokens for these purposes, for commands that are about to run."""

    def token(purpose: Purpose) -> Secret:
        if purpose.value not in purposes:
            return Secret("")
        return tokens.mint(install.uuid, install.server, purpose, TOKEN_LIFETIME)

    return context_for(install, facts, fetch=token(Purpose.FETCH), phone_home=token(Purpose.PHONE_HOME))


def is_licensed(image: Image) -> bool:
    """Whether the image is registered by us; its owner may bring the own licence."""
    return image.licence is not None and image.licence.kind != LicenceKind.BYOL


def _registration(image: Image) -> Registration | None:
    licence = image.licence
    if licence is None or not is_licensed(image):
        return None
    return Registration(licence.organisation, licence.activation_key or Secret(""))

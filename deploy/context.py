"""What the steps of an install are about, put together from its row, its image and its server."""

import json
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import timedelta
from functools import cache
from ipaddress import ip_address, ip_interface
from uuid import UUID

from django.conf import settings

from accounts.secret import Secret
from images import mirrors
from images.capabilities import storage
from images.flavours import FLAVOURS, flavour
from images.inputs import Answers
from images.models import Image, LicenceKind
from images.own import is_own
from metadata import tokens
from metadata.documents import Documents, Instance, Link, Static, documents, only_seen
from metadata.models import Purpose
from servers.facts import Facts
from servers.models import Nic
from servers.storage.layout import Layout
from servers.storage.plan import Plan
from servers.storage.planner import ImageNeeds
from servers.storage.planner import plan as plan_storage

from . import seats
from .models import Install
from .step import Context, Hook, ImageSource, OwnSource, Registration, StreamSource
from .steps import steps_for

TOKEN_LIFETIME = timedelta(hours=2)
"""How long a machine may use what it was given; many times what an install takes."""


def image_needs(image: Image) -> ImageNeeds:
    """What the image asks of a plan."""
    kind = flavour(image.flavour)
    can = storage(image.capabilities, kind.filesystems, kind.raid_levels, kind.lvm)
    return ImageNeeds(
        root_bytes=image.root_bytes or image.virtual_size,
        filesystems=can.filesystems,
        raid=can.raid,
        raid_levels=can.raid_levels,
        lvm=can.lvm,
        ext4_features=kind.ext4_features,
        xfs_features=kind.xfs_features,
        btrfs_features=kind.btrfs_features,
        luks=kind.luks,
        grub_reads=kind.filesystems,
    )


def unseen_image(kind: str = "") -> Image:
    """An image of a flavour that nobody has looked into yet, for plans until then: it needs no room and asks nothing.

    Where the flavour is not known either, it is one whose tools can do everything.
    """
    return Image(flavour=kind if kind in FLAVOURS else "debian-12", root_bytes=1)


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
            meta=answers_of(install).meta,
            dns=tuple(address.strip() for line in nameservers for address in line.split(",") if address.strip()),
        )
    )


def answers_of(install: Install) -> Answers:
    """What was answered to the image's questions, the secret answers opened."""
    secrets = json.loads(install.secret_inputs.reveal()) if isinstance(install.secret_inputs, Secret) else {}
    return Answers(plain=install.inputs, secrets={name: Secret(value) for name, value in secrets.items()})


def _link(number: int, nic: Nic) -> Link:
    static = None
    if nic.address_cidr:
        static = Static(ip_interface(nic.address_cidr), ip_address(nic.gateway) if nic.gateway else None)
    return Link(id=nic.name or f"nic{number}", mac=nic.mac, static=static)


class _Later(Mapping[str, bytes]):
    """Documents that are made when somebody asks for them: one step of thirteen does."""

    def __init__(self, make: Callable[[], Documents]) -> None:
        self._make = cache(make)

    def __getitem__(self, path: str) -> bytes:
        return self._make()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())


def context_for(
    install: Install, facts: Facts, *, fetch: Secret, phone_home: Secret, passphrase: Secret | None = None
) -> Context:
    """Everything that the commands of the install depend on."""
    return Context(
        install=install.uuid,
        hostname=install.hostname,
        plan=install.plan(),
        image=_source(install),
        flavour=flavour(install.image.flavour),
        config_drive=_Later(lambda: describe(install, facts)),
        machine_url=settings.LANDFALL_MACHINE_URL,
        fetch_token=fetch,
        phone_home_token=phone_home,
        registration=_registration(install.image),
        disk_passphrase=passphrase or Secret(""),
        seats=lambda: seats.held(install.server),
        hook=Hook(install.hook, answers_of(install).environment),
    )


def _source(install: Install) -> ImageSource:
    """Where the rescue system finds the image."""
    image = install.image
    url = f"{settings.LANDFALL_MACHINE_URL}/machine/images/{image.sha256}"
    return ImageSource(
        image.name, url, image.sha256, image.size, image.format,
        disk=image.capabilities.get("disk"), stream=_stream(install), own=_own(image),
    )  # fmt: skip


def _stream(install: Install) -> StreamSource | None:
    """The image's stream, at the mirror that the install was given first; None where it is not published."""
    publication = mirrors.publication_of(install.image)
    if publication is None:
        return None
    bases = mirrors.bases(install.image.project_id is not None, install.mirror, install.uuid.int)
    return StreamSource(
        urls=tuple(f"{base}/{publication.sha256}" for base in bases or (mirrors.own_base(),)),
        sha256=publication.sha256,
        size=publication.size,
        with_token=not bases,
        rate=settings.LANDFALL_MIRROR_RATE,
    )


def _own(image: Image) -> OwnSource | None:
    if not is_own(image):
        return None
    own = image.own
    networks = ",".join(str(network) for network in settings.LANDFALL_IMAGE_NETWORKS)
    return OwnSource(own.url or Secret(""), own.shown_url, own.headers or Secret(""), own.checksum, networks)


def steps_of(image: Image) -> tuple[str, ...]:
    """The names of the steps of an install of this image."""
    return steps_for(licensed=is_licensed(image), own=is_own(image))


def dry_context(install: Install, facts: Facts) -> Context:
    """The same without any token that opens something: for the review, for dry runs, for the plan step's checks."""
    return context_for(
        install, facts, fetch=Secret("fetch token"), phone_home=Secret("phone-home token"),
        passphrase=Secret("passphrase") if install.disk_passphrase else None,
    )  # fmt: skip


def armed_context(install: Install, facts: Facts, purposes: Container[str]) -> Context:
    """The same with fresh tokens for these purposes, for commands that are about to run."""

    def token(purpose: Purpose) -> Secret:
        if purpose.value not in purposes:
            return Secret("")
        return tokens.mint(install.uuid, install.server, purpose, TOKEN_LIFETIME)

    return context_for(
        install, facts, fetch=token(Purpose.FETCH), phone_home=token(Purpose.PHONE_HOME),
        passphrase=install.disk_passphrase or None,
    )  # fmt: skip


def is_licensed(image: Image) -> bool:
    """Whether the image is registered by us; its owner may bring the own licence."""
    return image.licence is not None and image.licence.kind != LicenceKind.BYOL


def _registration(image: Image) -> Registration | None:
    licence = image.licence
    if licence is None or not is_licensed(image):
        return None
    return Registration(licence.organisation, licence.activation_key or Secret(""))

"""Contexts of installs as values: what the commands of the steps depend on."""

from uuid import UUID

from accounts.secret import Secret
from deploy.step import Context, ImageSource, Registration
from images.flavours import flavour
from metadata.documents import Instance, Link, documents
from servers.facts import Disk, Facts, Firmware
from servers.storage.layout import Layout, plain, raid1
from servers.storage.planner import ImageNeeds, plan

INSTALL = UUID("11111111-2222-4333-8444-555555555555")
GIB = 2**30
ACTIVATION_KEY = "the-activation-key"
TOKENS = ("the-fetch-token", "the-phone-home-token")


def make_context(
    *, firmware: str = "uefi", disks: int = 2, layout: Layout | None = None, of: str = "debian-12",
    licensed: bool = False, block: int = 512, user_data: bytes = b"#cloud-config\n",
) -> Context:  # fmt: skip
    """The context of an install of a machine with that many disks of 20 GiB."""
    kind = flavour(of)
    facts = Facts(
        Firmware(firmware),
        disks=tuple(
            Disk(f"/dev/vd{'abcd'[number]}", 20 * GIB, logical_block=block, physical_block=4096, serial=f"D{number}")
            for number in range(disks)
        ),
    )
    instance = Instance(
        INSTALL, "web-14.example.net", (("alice", "ssh-ed25519 AAAA alice"),),
        (Link("eth0", "52:54:00:00:00:01"),), "example", user_data=user_data,
    )  # fmt: skip
    needs = ImageNeeds(GIB, kind.filesystems, ext4_features=kind.ext4_features)
    return Context(
        install=INSTALL,
        hostname="web-14.example.net",
        plan=plan(layout or (raid1() if disks > 1 else plain()), facts, needs, INSTALL),
        image=ImageSource(
            kind.title, "http://10.0.2.2:8600/machine/images/" + "ab" * 32, "ab" * 32, 300 << 20, "qcow2"
        ),
        flavour=kind,
        config_drive=documents(instance),
        machine_url="http://10.0.2.2:8600",
        fetch_token=Secret(TOKENS[0]),
        phone_home_token=Secret(TOKENS[1]),
        registration=Registration("12345", Secret(ACTIVATION_KEY)) if licensed else None,
    )

"""What a server starts next: decided here, asked for by the machine at every start."""

import re
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from metadata import rescuefiles, tokens
from metadata.bootscript import disk_script, rescue_script
from metadata.models import Boot, Purpose, Target
from servers.facts import Firmware
from servers.models import Nic, Server

_MAC = re.compile(r"[0-9a-f]{2}(?:(:|-)[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}", re.ASCII)


def direct_to_rescue(server: Server, install: UUID, public_key: str, lifetime: timedelta) -> None:
    """From its next start the server boots the rescue system, which lets in `public_key` alone.

    Every time it asks, it is given a new rescue token that lives for `lifetime`.
    """
    _decide(server, target=Target.RESCUE, install=install, public_key=public_key, token_lifetime=lifetime)


def direct_to_disk(server: Server, efi_loader: str = "") -> None:
    """From its next start the server boots what is on its disks; `efi_loader` is the image's, for UEFI machines."""
    disk_script(Firmware.UEFI, efi_loader)  # a loader that cannot be asked for is refused now, not at the next start
    _decide(server, target=Target.DISK, efi_loader=efi_loader)


def parse_mac(text: str) -> str | None:
    """The MAC address as the inventory writes it (aa:bb:cc:dd:ee:ff); None when the text is none."""
    lower = text.lower()
    return lower.replace("-", ":") if _MAC.fullmatch(lower) else None


def script_for(mac: str) -> str | None:
    """The iPXE script for the machine that has this NIC; None when the inventory has no such NIC.

    Raises rescuefiles.NoRescueSystem when it should start one and none is built.
    """
    nic = Nic.objects.filter(mac=mac).select_related("server").first()
    if nic is None:
        return None
    # Outside: that it has asked stays true when there is no rescue system to give it.
    Boot.objects.filter(server=nic.server).update(asked_at=timezone.now())
    with transaction.atomic():
        # Locked, so that no token is made for an install that is ended by force just now.
        boot = Boot.objects.select_for_update().filter(server=nic.server).first()
        if boot is None:
            return disk_script(Firmware(nic.server.firmware))
        if boot.target == Target.DISK or boot.install is None or boot.token_lifetime is None:
            return disk_script(Firmware(nic.server.firmware), boot.efi_loader)
        kernel_args = f"{rescuefiles.manifest().kernel_args} {settings.LANDFALL_RESCUE_ARGS}".strip()
        token = tokens.mint(boot.install, nic.server, Purpose.RESCUE, boot.token_lifetime)
        return rescue_script(settings.LANDFALL_MACHINE_URL, kernel_args, token, mac)


def _decide(server: Server, **decision: object) -> None:
    blank: dict[str, object] = {"install": None, "public_key": "", "token_lifetime": None, "efi_loader": ""}
    Boot.objects.update_or_create(server=server, defaults={**blank, "asked_at": None, **decision})

"""Keeps the inventory as the rescue system saw it."""

from datetime import datetime

from django.db import transaction

from . import facts
from .models import Disk, Nic, Server
from .values import to_plain


def record_facts(server: Server, seen: facts.Facts, at: datetime) -> None:
    """The server's rows say what was seen at that time: its disks are replaced, its cards added to.

    A card that an admin entered stays, with its address, whether it was seen or not; a card whose MAC is on record
    for another server stays there. The serial number is filled in only where none is on record: it tells machines
    apart, so a machine does not get to change it.
    """
    with transaction.atomic():
        row = Server.objects.select_for_update(no_key=True).get(pk=server.pk)
        row.firmware = seen.firmware.value
        row.vendor = seen.vendor[:100]
        row.product = seen.product[:100]
        row.serial = row.serial or seen.serial[:100]
        row.cpus = seen.cpus
        row.memory_bytes = seen.memory_bytes
        row.facts_at = at
        row.save(update_fields=["firmware", "vendor", "product", "serial", "cpus", "memory_bytes", "facts_at"])
        row.disks.all().delete()
        Disk.objects.bulk_create(
            Disk(server=row, path=disk.path, size=disk.size, detail=to_plain(disk)) for disk in seen.disks
        )
        _record_nics(row, seen.nics)
    server.refresh_from_db()


def _record_nics(server: Server, seen: tuple[facts.Nic, ...]) -> None:
    known = {nic.mac: nic for nic in Nic.objects.filter(mac__in=[nic.mac for nic in seen])}
    for card in seen:
        if card.mac not in known:
            Nic.objects.create(server=server, name=card.name[:32], mac=card.mac)
        elif known[card.mac].server_id == server.pk and not known[card.mac].name:
            Nic.objects.filter(pk=known[card.mac].pk).update(name=card.name[:32])

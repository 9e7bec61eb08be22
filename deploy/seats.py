"""Seats at vendors: which registrations the servers' systems hold, and with what they are given back.

The licence step keeps what identifies the system to the vendor; the next wipe gives the seat back with it, even when
the old system can no longer be read. What opens it is sealed, and forgotten once the seat is back.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models

from accounts.sealing import SealedField
from accounts.secret import Secret
from servers.models import Server

from .step import Seat

if TYPE_CHECKING:
    from .models import Install


class VendorSeat(models.Model):
    """One registration of a system that was installed here."""

    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="seats")
    install = models.ForeignKey("deploy.Install", on_delete=models.PROTECT, related_name="seats")
    identity = models.CharField(max_length=100, help_text="the consumer's UUID at the vendor")
    service = models.CharField(max_length=500)
    credentials = SealedField(blank=True, default="", help_text="certificate and private key; empty once it is back")
    authority = models.TextField(blank=True)
    taken_at = models.DateTimeField()
    returned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["taken_at"]
        constraints = [models.UniqueConstraint(fields=["server", "identity"], name="one_row_per_registration")]

    def __str__(self) -> str:
        return self.identity


def keep(install: "Install", seat: Seat, now: datetime) -> None:
    """Remembers it; twice is once, as the step may be repeated."""
    VendorSeat.objects.update_or_create(
        server=install.server,
        identity=seat.identity,
        defaults={
            "install": install, "service": seat.service, "credentials": seat.credentials, "authority": seat.authority,
            "taken_at": now, "returned_at": None,
        },
    )  # fmt: skip


def held(server: Server) -> tuple[Seat, ...]:
    """The registrations of the server that are not back yet, oldest first."""
    rows = VendorSeat.objects.filter(server=server, returned_at=None)
    return tuple(Seat(row.identity, row.service, row.credentials or Secret(""), row.authority) for row in rows)


def forget(server: Server, identity: str, now: datetime) -> None:
    """The seat is back: what opened it is deleted."""
    VendorSeat.objects.filter(server=server, identity=identity).update(returned_at=now, credentials=Secret(""))

"""The inventory: physical machines, and what was last seen inside them."""

from django.db import models
from django.urls import reverse

from accounts.models import Project
from accounts.sealing import SealedField

from . import facts
from .values import from_plain


class PowerControl(models.TextChoices):
    """How a server is switched on and off."""

    REDFISH = "redfish", "Redfish: the BMC does it"
    MANUAL = "manual", "By hand: somebody is told what to do"


class Server(models.Model):
    """A physical machine: NICs, disks, firmware mode, BMC."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="servers")
    name = models.CharField(max_length=253, unique=True, help_text="Host name, for instance web-14.example.net")
    vendor = models.CharField(max_length=100, blank=True)
    product = models.CharField(max_length=100, blank=True)
    serial = models.CharField(
        max_length=100,
        blank=True,
        help_text="As the firmware reports it. An install stops when another machine answers.",
    )
    firmware = models.CharField(max_length=4, choices=[(f.value, f.value.upper()) for f in facts.Firmware])
    cpus = models.PositiveIntegerField(default=0)
    memory_bytes = models.PositiveBigIntegerField(default=0)
    address = models.CharField(max_length=253, help_text="Where SSH reaches it: an IP address or a name")
    ssh_port = models.PositiveIntegerField(default=22)
    power_driver = models.CharField(max_length=10, choices=PowerControl.choices, default=PowerControl.REDFISH)
    bmc_url = models.URLField(blank=True, help_text="For instance https://192.0.2.40")
    bmc_system = models.CharField(
        max_length=200,
        blank=True,
        help_text="Redfish system, for instance /redfish/v1/Systems/1; blank where there is one",
    )
    bmc_user = models.CharField(max_length=100, blank=True)
    bmc_password = SealedField(blank=True, default="")
    bmc_verify_tls = models.BooleanField(default=True)
    facts_at = models.DateTimeField(null=True, blank=True, help_text="When the rescue system last looked inside")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("server", args=[self.name])

    def facts(self) -> facts.Facts:
        """What is known of the machine: as last seen by the rescue system, or as entered by an admin."""
        return facts.Facts(
            firmware=facts.Firmware(self.firmware),
            vendor=self.vendor,
            product=self.product,
            serial=self.serial,
            cpus=self.cpus,
            memory_bytes=self.memory_bytes,
            disks=tuple(disk.fact() for disk in self.disks.all()),
            nics=tuple(facts.Nic(name=nic.name, mac=nic.mac) for nic in self.nics.all()),
        )


class Nic(models.Model):
    """A network card. Its MAC is what a server says of itself when it boots from the network."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="nics")
    name = models.CharField(max_length=32, blank=True)
    mac = models.CharField(max_length=17, unique=True)
    address_cidr = models.CharField(max_length=64, blank=True, help_text="For instance 192.0.2.14/24; blank for DHCP")
    gateway = models.GenericIPAddressField(null=True, blank=True)
    nameservers = models.CharField(max_length=200, blank=True, help_text="Addresses, separated by commas")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.mac


class Disk(models.Model):
    """A disk as it was last seen: replaced whole at every inspection."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="disks")
    path = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(help_text="bytes")
    detail = models.JSONField(default=dict, help_text="the rest of servers.facts.Disk as JSON")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["server", "path"], name="one_row_per_disk")]

    def __str__(self) -> str:
        return self.path

    def fact(self) -> facts.Disk:
        """The disk as the planner takes it."""
        return from_plain(facts.Disk, self.detail)

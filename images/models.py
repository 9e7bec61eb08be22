"""The catalogue: cloud-ready images, and the licences some of them need."""

from django.db import models
from django.urls import reverse

from accounts.models import Project
from accounts.sealing import SealedField


class Format(models.TextChoices):
    """What kind of file an image is."""

    RAW = "raw", "RAW"
    QCOW2 = "qcow2", "QCOW2"


class ImageState(models.TextChoices):
    """Where an image stands in its life."""

    CANDIDATE = "candidate", "Candidate: seen by admins alone"
    OFFERED = "offered", "Offered to customers"
    RETIRED = "retired", "Retired: no longer offered"


class LicenceKind(models.TextChoices):
    """Who pays for the operating system's licence."""

    RHEL = "rhel", "Red Hat: organisation and activation key"
    BYOL = "byol", "Bring your own: registered by its owner"


class Licence(models.Model):
    """What an image needs to be registered."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=LicenceKind.choices)
    organisation = models.CharField(max_length=100, blank=True)
    activation_key = SealedField(blank=True, default="")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Image(models.Model):
    """One cloud-ready file, its SHA-256, its flavour, its capabilities."""

    name = models.CharField(max_length=100, unique=True, help_text="As customers read it, for instance Debian 12")
    flavour = models.CharField(max_length=40, help_text="How it is made bootable, for instance debian-12")
    format = models.CharField(max_length=10, choices=Format.choices)
    path = models.CharField(max_length=500, help_text="The file in the image store, named by its SHA-256")
    source = models.CharField(max_length=1000, blank=True, help_text="The path or URL it was imported from")
    sha256 = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField(help_text="bytes of the file")
    virtual_size = models.PositiveBigIntegerField(help_text="bytes of the disk inside")
    root_bytes = models.PositiveBigIntegerField(default=0, help_text="bytes that its files take; 0 when not known")
    capabilities = models.JSONField(default=dict, blank=True)
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, null=True, blank=True, related_name="images")
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, help_text="Whose own image it is; blank: everybody's"
    )
    state = models.CharField(max_length=10, choices=ImageState.choices, default=ImageState.CANDIDATE)
    end_of_life = models.DateField(null=True, blank=True, help_text="Until when its distribution mends it")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["flavour", "name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("image", args=[self.pk])

"""The catalogue: cloud-ready images, and the licences some of them need."""

from django.db import models
from django.urls import reverse

from accounts.models import Project
from accounts.sealing import SealedField

from .formats import Format as Format
from .formats import choices


class ImageState(models.TextChoices):
    """Where an image stands in its life."""

    CANDIDATE = "candidate", "Candidate: seen by admins alone"
    OFFERED = "offered", "Offered to customers"
    RETIRED = "retired", "Retired: no longer offered"
    OWN = "own", "A customer's own: fetched from its address, in no catalogue"


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


class Catalogue(models.Manager["Image"]):
    """The images that Landfall keeps: not those that customers bring to an install of their own."""

    def get_queryset(self) -> models.QuerySet["Image"]:
        """Every image but customers' own."""
        return super().get_queryset().exclude(state=ImageState.OWN)


class Image(models.Model):
    """One cloud-ready file, its SHA-256, its flavour, its capabilities."""

    name = models.CharField(max_length=100, help_text="As customers read it, for instance Debian 12")
    flavour = models.CharField(max_length=40, help_text="How it is made bootable, for instance debian-12")
    format = models.CharField(max_length=10, choices=choices())
    path = models.CharField(max_length=500, blank=True, help_text="The file in the image store, named by its SHA-256")
    source = models.CharField(max_length=1000, blank=True, help_text="The path or URL it was imported from")
    sha256 = models.CharField(max_length=64, blank=True)
    size = models.PositiveBigIntegerField(help_text="bytes of the file; 0 when not known")
    virtual_size = models.PositiveBigIntegerField(help_text="bytes of the disk inside; 0 when not known")
    root_bytes = models.PositiveBigIntegerField(default=0, help_text="bytes that its files take; 0 when not known")
    capabilities = models.JSONField(default=dict, blank=True)
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, null=True, blank=True, related_name="images")
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, help_text="Whose own image it is; blank: everybody's"
    )
    state = models.CharField(max_length=10, choices=ImageState.choices, default=ImageState.CANDIDATE)
    end_of_life = models.DateField(null=True, blank=True, help_text="Until when its distribution mends it")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = Catalogue()
    every = models.Manager["Image"]()
    """Customers' own images too."""

    class Meta:
        ordering = ["flavour", "name"]
        constraints = [
            # Nothing of a customer's own image is unique: two may bring the same, and neither learns of the other.
            models.UniqueConstraint(
                fields=["name"], condition=~models.Q(state="own"), name="one_image_of_a_name",
                violation_error_message="There is an image of this name already.",
            ),
            models.UniqueConstraint(fields=["sha256"], condition=~models.Q(state="own"), name="one_image_of_a_file"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("image", args=[self.pk])


class OwnImage(models.Model):
    """Where a customer's own image is fetched from, and by what it is known. The address may hold a signature."""

    image = models.OneToOneField(Image, on_delete=models.CASCADE, related_name="own")
    url = SealedField()
    headers = SealedField(blank=True, default="")
    checksum = models.CharField(max_length=140, help_text="sha256: or sha512:, and the hexadecimal digits")
    shown_url = models.CharField(max_length=1000, help_text="the address without what may be secret in it")

    def __str__(self) -> str:
        return self.shown_url


class PublicationState(models.TextChoices):
    """How far an image is on its way to the mirror."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Being published"
    DONE = "done", "Published"
    FAILED = "failed", "Not published"


class Publication(models.Model):
    """An image as the mirror serves it: its tree as one stream. The row is the queue too, as with installs."""

    image = models.OneToOneField(Image, on_delete=models.CASCADE, related_name="publication")
    state = models.CharField(max_length=10, choices=PublicationState.choices, default=PublicationState.QUEUED)
    requested_by = models.CharField(max_length=150, blank=True)
    requested_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    message = models.TextField(blank=True, help_text="what is being done, or why it could not be done")

    sha256 = models.CharField(max_length=64, blank=True, help_text="of the compressed stream; its name in the store")
    size = models.PositiveBigIntegerField(default=0, help_text="bytes of the compressed stream")
    tar_bytes = models.PositiveBigIntegerField(default=0, help_text="bytes of the tar inside")
    root_bytes = models.PositiveBigIntegerField(default=0, help_text="bytes that its files take on a disk")
    files = models.PositiveBigIntegerField(default=0, help_text="files, folders and links in it")

    # Who turns it into a stream now, and until when others leave it alone.
    lease_worker = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.image.name}: {self.get_state_display()}"

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in (PublicationState.QUEUED, PublicationState.RUNNING)


class ImportState(models.TextChoices):
    """How far a file is on its way into the catalogue."""

    QUEUED = "queued", "Waiting to be fetched"
    RUNNING = "running", "On its way"
    FOUND = "found", "Here: say what it is"
    REFUSED = "refused", "Refused"


class Import(models.Model):
    """A file that is fetched from an address, until it is described and entered. The row is the queue too."""

    url = SealedField(blank=True, default="", help_text="forgotten when it has ended: a signature may be in it")
    shown_url = models.CharField(max_length=1000)
    checksum = models.CharField(max_length=140, help_text="sha256: or sha512:, and the hexadecimal digits")
    state = models.CharField(max_length=10, choices=ImportState.choices, default=ImportState.QUEUED)
    requested_by = models.CharField(max_length=150, blank=True)
    requested_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    done = models.PositiveBigIntegerField(default=0, help_text="bytes that have come")
    total = models.PositiveBigIntegerField(default=0, help_text="bytes that will come; 0 when not known")
    message = models.TextField(blank=True, help_text="what is being done, or why it was refused")
    found = models.JSONField(default=dict, blank=True, help_text="what is inside, once it is here")

    # Who fetches it now, and until when others leave it alone.
    lease_worker = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["requested_at"]

    def __str__(self) -> str:
        return self.shown_url

    def get_absolute_url(self) -> str:
        return reverse("image-import", args=[self.pk])

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in (ImportState.QUEUED, ImportState.RUNNING)

    @property
    def percent(self) -> int | None:
        """How much of it has come; None when it is not known how much will."""
        return min(100 * self.done // self.total, 100) if self.total else None

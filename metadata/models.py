"""What machines are told at boot, and the tokens by which they are known when they call."""

from django.db import models
from django.utils import timezone

from servers.models import Server


class Target(models.TextChoices):
    """What a machine starts when it boots from the network."""

    RESCUE = "rescue", "The rescue system"
    DISK = "disk", "What is installed on its disks"


class Boot(models.Model):
    """The one decision what a server starts next; a server without a row starts from disk."""

    server = models.OneToOneField(Server, on_delete=models.CASCADE, related_name="boot")
    target = models.CharField(max_length=10, choices=Target.choices)
    install = models.UUIDField(null=True, blank=True, help_text="Whose rescue system it is")
    public_key = models.TextField(blank=True, help_text="The one key that the rescue system lets in")
    token_lifetime = models.DurationField(null=True, blank=True)
    efi_loader = models.CharField(max_length=200, blank=True)
    asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When the machine last asked since the decision; null: it has not come yet"
    )

    def __str__(self) -> str:
        return f"{self.server}: {self.target}"


class Purpose(models.TextChoices):
    """What a token is good for."""

    RESCUE = "rescue", "The rescue system's calls; `ready` uses it up"
    PHONE_HOME = "phone-home", "The installed system's one call"
    FETCH = "fetch", "Download of the image, any number of times"


class Token(models.Model):
    """What is left of a token once it is handed out: nothing in this row lets anybody in."""

    install = models.UUIDField()
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="tokens")
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["install", "purpose"], name="token_by_install")]

    def __str__(self) -> str:
        return f"{self.purpose} token of install {self.install}"

    @property
    def is_spent(self) -> bool:
        """Whether it no longer opens anything."""
        return self.used_at is not None or self.expires_at <= timezone.now()

"""The engine's tables. The events and the log are append-only: triggers in the database see to it."""

import uuid
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from accounts.models import Project
from accounts.sealing import SealedField
from images.models import Image
from servers.models import Server
from servers.storage.plan import Plan

from .events import GENESIS, LIVE, Failure, Kind, State, Status, fold
from .events import Event as Happened


class Install(models.Model):
    """One (re)install of one server: what was asked for, and a projection of its history."""

    # What was asked for; never changed afterwards.
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="installs")
    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="installs")
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="installs")
    hostname = models.CharField(max_length=253)
    layout = models.JSONField()
    approved_plan = models.JSONField()
    ssh_keys = models.JSONField(help_text="[[name, public key line], ...] as they were when it was confirmed")
    user_data = models.BinaryField(default=b"")
    inputs = models.JSONField(default=dict, help_text="{name: value} of what the image asks for, secrets apart")
    secret_inputs = SealedField(blank=True, default="", help_text="the secret ones, as JSON")
    disk_passphrase = SealedField(
        blank=True, default="", help_text="of encrypted disks; forgotten once the install has succeeded and it is known"
    )
    mirror = models.CharField(max_length=200, blank=True, help_text="where it reads the stream; given as it is let in")
    hook = models.TextField(blank=True, help_text="a script that runs in the new system's tree before its first start")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # The key pair with which the rescue system is entered: made for this install, forgotten when it ends.
    private_key = SealedField(blank=True, default="")
    public_key = models.TextField(blank=True)

    # The projection of the history: `journal.append` alone writes it.
    status = models.CharField(max_length=10, default=Status.QUEUED, choices=[(s.value, s.value) for s in Status])
    step = models.CharField(max_length=40, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    failure = models.JSONField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    hold_before = models.CharField(max_length=40, blank=True)
    quiet_since = models.DateTimeField(null=True, blank=True)
    step_started_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    last_seq = models.PositiveIntegerField(default=0)
    digest = models.CharField(max_length=64, default=GENESIS)

    # The queue: since when it stands in line, when a worker should look, and who may write meanwhile.
    queued_at = models.DateTimeField(null=True, blank=True)
    admitted_at = models.DateTimeField(null=True, blank=True, help_text="null: the limits have not let it pass yet")
    wake_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_worker = models.CharField(max_length=100, blank=True)
    lease_since = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    # Once its history and logs were moved out of the database: where to, and what pages still need of them.
    archive = models.ForeignKey(
        "Archive", on_delete=models.PROTECT, null=True, blank=True, related_name="archived_installs"
    )
    outcome = models.JSONField(null=True, blank=True, help_text="{wiped: was any disk touched, verify: its result}")

    _read: tuple[Any, Plan] | None = None

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            # Two installs of one machine at the same time would wipe each other's disks.
            models.UniqueConstraint(
                fields=["server"], condition=models.Q(status__in=LIVE), name="one_live_install_per_server"
            ),
        ]
        indexes = [
            # The worker's question, asked every second: what is due?
            models.Index(fields=["wake_at"], condition=models.Q(status__in=LIVE), name="install_due"),
        ]

    def __str__(self) -> str:
        return f"install {self.uuid} of {self.server_id}"

    def get_absolute_url(self) -> str:
        return reverse("install", args=[self.uuid])

    @property
    def is_live(self) -> bool:
        """Whether something can still happen by itself."""
        return Status(self.status).is_live

    @property
    def last_failure(self) -> Failure | None:
        """Why it failed, when it has."""
        return Failure.from_json(self.failure) if self.failure else None

    def plan(self) -> Plan:
        """What was approved to be done to the disks; read once, it is never changed."""
        if self._read is None or self._read[0] is not self.approved_plan:
            self._read = self.approved_plan, Plan.from_json(self.approved_plan)
        return self._read[1]

    def history(self) -> list[Happened]:
        """Every event, oldest first; one query."""
        return [row.value() for row in self.events.order_by("seq")]

    def state(self) -> State:
        """What the history adds up to; one query."""
        return fold(self.history())


class Event(models.Model):
    """One immutable row of an install's history."""

    install = models.ForeignKey(Install, on_delete=models.PROTECT, related_name="events")
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in Kind])
    at = models.DateTimeField()
    data = models.JSONField(default=dict)
    digest = models.CharField(max_length=64)

    class Meta:
        ordering = ["install_id", "seq"]
        constraints = [
            # The optimistic lock: of two writers that saw the same history, one writes.
            models.UniqueConstraint(fields=["install", "seq"], name="one_event_per_number"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"

    def value(self) -> Happened:
        """The row as the value that `fold` takes."""
        return Happened(self.seq, Kind(self.kind), self.at, self.data)


class LogChunk(models.Model):
    """Whole lines of a step's log, as they came: one row per batch, a few a second at most."""

    install = models.ForeignKey(Install, on_delete=models.PROTECT, related_name="log")
    step = models.CharField(max_length=40)
    attempt = models.PositiveIntegerField()
    offset = models.PositiveBigIntegerField(help_text="of its first byte in the job's log file")
    size = models.PositiveIntegerField(help_text="bytes in that file")
    first_line = models.PositiveIntegerField(help_text="number of its first line within the attempt, from 1")
    text = models.TextField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            # A byte of the log is stored once, whoever follows the job.
            models.UniqueConstraint(fields=["install", "step", "attempt", "offset"], name="one_chunk_per_offset"),
        ]
        indexes = [
            # Every watcher's question, several times a second: what came behind my cursor?
            models.Index(fields=["install", "id"], name="log_behind_a_cursor"),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.attempt} at {self.offset}"


# Tables that stand beside what uses them; Django looks for all of them here.
from .heartbeat import WorkerProcess  # noqa: E402, F401
from .seats import VendorSeat  # noqa: E402, F401
from .webhooks.models import Delivery, Webhook  # noqa: E402, F401


class Archive(models.Model):
    """A signed file that histories and logs were moved into: `manage.py purge` writes it, and proves it first."""

    file = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField(help_text="bytes")
    signature = models.CharField(max_length=128, help_text="Ed25519, of its manifest, in hex")
    public_key = models.CharField(max_length=64, help_text="of the key that signed it, in hex")
    installs = models.PositiveIntegerField()
    events = models.PositiveIntegerField()
    chunks = models.PositiveIntegerField()
    older_than = models.PositiveIntegerField(help_text="days since the installs in it had ended, at least")
    by = models.CharField(max_length=200)
    written_at = models.DateTimeField()
    emptied_at = models.DateTimeField(
        null=True, blank=True, help_text="when all that is in it was deleted here; null: it has not been finished"
    )

    class Meta:
        ordering = ["-written_at"]

    def __str__(self) -> str:
        return self.file

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return PurePath(self.file).name

"""The sign of life of a worker process: a row that it renews every few seconds."""

import logging
import os
import socket
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models

log = logging.getLogger(__name__)

GONE_AFTER = timedelta(seconds=20)
"""A worker that has been silent this long has lost its leases: somebody else may go on with its installs."""

FORGOTTEN_AFTER = timedelta(days=1)
"""How long a worker that is gone is still shown."""


class WorkerProcess(models.Model):
    """A process that drives installs, as it last said of itself. One that stops in order takes its row with it."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=100)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=60)
    slots = models.PositiveIntegerField()
    held = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopping = models.BooleanField(default=False)

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def is_gone(self, now: datetime) -> bool:
        """Whether it has been silent for so long that its leases have run out; or is from a time that never was."""
        return not now - GONE_AFTER <= self.seen_at <= now + GONE_AFTER


class Heartbeat:
    """Keeps the row of one worker process. The row is written again when somebody has removed it."""

    def __init__(self, name: str, slots: int) -> None:
        self.uuid = uuid.uuid4()
        self._about = {
            "name": name,
            "host": socket.gethostname()[:100],
            "pid": os.getpid(),
            "version": settings.LANDFALL_VERSION,
            "slots": slots,
        }
        self._started_at: datetime | None = None

    def beat(self, held: int, now: datetime, *, stopping: bool = False) -> None:
        """Says that the process lives and holds that many installs; one statement, three the first time."""
        alive = {"held": held, "seen_at": now, "stopping": stopping}
        if WorkerProcess.objects.filter(uuid=self.uuid).update(**alive):
            return
        self._started_at = self._started_at or now
        # whoever had this name before has died: its successor stands where it stood
        WorkerProcess.objects.filter(name=self._about["name"], seen_at__lt=now - GONE_AFTER).delete()
        WorkerProcess.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()
        WorkerProcess.objects.create(uuid=self.uuid, started_at=self._started_at, **self._about, **alive)

    def stop(self) -> None:
        """Takes the row away: the process ends in order, and holds nothing any more."""
        WorkerProcess.objects.filter(uuid=self.uuid).delete()

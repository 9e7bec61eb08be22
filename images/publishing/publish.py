"""Publishing as people and workers do it: asked for, claimed, done, entered. The row is the queue."""

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from images import chores
from images.chores import NOBODY, Chore
from images.models import Image, Publication, PublicationState
from images.own import is_own
from images.refusal import ImageRefused
from images.store import Arrival, Store

from .machine import Packed, Rescue, Source, pack

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""So long after its last sign of life a publisher is taken for dead."""
RENEW_EVERY: Final = 15.0
FORMAT: Final = "pax tar in zstd"


def ask(image: Image, by: str) -> Publication:
    """The image queued to be published, anew if it was before; one that is on its way already stays as it is."""
    if is_own(image):
        raise ImageRefused(f"{image.name} is a customer's own.", "Import it into the catalogue first.")
    fresh: dict[str, Any] = {
        "state": PublicationState.QUEUED, "requested_by": by, "requested_at": timezone.now(), "message": "",
    }  # fmt: skip
    found, is_new = Publication.objects.get_or_create(image=image, defaults=fresh)
    if not is_new:
        over = [PublicationState.DONE, PublicationState.FAILED]
        Publication.objects.filter(pk=found.pk, state__in=over).update(**fresh, ended_at=None)
        found.refresh_from_db()
    return found


def claim(worker: str, now: datetime, image: Image | None = None) -> Publication | None:
    """One that waits, or whose publisher has died, now this worker's; None when there is none."""
    rows = Publication.objects.select_related("image")
    return chores.claim(rows.filter(image=image) if image else rows, worker, now, LEASE)


class Claimed:
    """A publication in a worker's hands: renewed while it is worked on, and written by nobody else meanwhile."""

    def __init__(self, publication: Publication, stopping: threading.Event, echo: Callable[[str], None]) -> None:
        self._row = publication
        self._stopping = stopping
        self._echo = echo
        self._renewed = time.monotonic()

    def say(self, text: str) -> None:
        """Shows what is being done on the image's page."""
        self._echo(text)
        self._write(message=text[:500], lease_until=timezone.now() + LEASE)

    def goes_on(self) -> bool:
        """Whether nobody has stopped it or taken it over; renews the lease now and then."""
        if time.monotonic() - self._renewed > RENEW_EVERY:
            self._renewed = time.monotonic()
            if not self._write(lease_until=timezone.now() + LEASE):
                self._stopping.set()
        return not self._stopping.is_set()

    def publish(self) -> bool:
        """The stream made and entered; False when it was stopped before. ImageRefused says why there can be none."""
        try:
            packed = _make(self._row.image, self)
        except ImageRefused as refused:
            if self._stopping.is_set():
                self._let_go()
                return False
            self._write(state=PublicationState.FAILED, message=str(refused), **self._over())
            raise
        except BaseException:
            self._let_go()
            raise
        Image.objects.filter(pk=self._row.image_id).update(root_bytes=packed.root_bytes)
        return self._write(state=PublicationState.DONE, message="", **asdict(packed), **self._over())

    def _let_go(self) -> None:
        """Somebody else may go on with it at once."""
        self._write(state=PublicationState.QUEUED, message="", **NOBODY)

    def _over(self) -> dict[str, Any]:
        return {"ended_at": timezone.now(), **NOBODY}

    def _write(self, **columns: Any) -> bool:
        """Whether the row was still this worker's to write."""
        mine = Publication.objects.filter(pk=self._row.pk, lease_worker=self._row.lease_worker)
        return bool(mine.update(**columns))


def _make(image: Image, claimed: Claimed) -> Packed:
    """The image's stream in the store, beside a manifest that says what it is."""
    store = Store(settings.LANDFALL_IMAGES_DIR)
    path = store.folder / image.path
    if not path.is_file():
        raise ImageRefused(f"The file of {image.name} is missing in the store.", "Import the image anew.")
    if settings.LANDFALL_RESCUE_DIR is None:
        raise ImageRefused(
            "No rescue system is set up, and its kernel is what packs images.",
            "Run `python -m rescue` and set LANDFALL_RESCUE_DIR.",
        )
    disk = image.capabilities.get("disk") if image.format == "ova" else None
    source = Source(path, image.format, image.size, image.virtual_size, disk)
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=store.folder) as scratch:
        packed = pack(source, Rescue(settings.LANDFALL_RESCUE_DIR), Path(scratch), claimed)
        claimed.say("comparing the stream's checksum")
        found = _sha256(Path(scratch) / "stream", claimed)
        if found != packed.sha256:
            raise ImageRefused("The stream is not the one that was packed.", "Look at the disk of the image store.")
        store.keep(Arrival(Path(scratch) / "stream", packed.sha256, packed.size))
    _write_manifest(store.folder, image, packed)
    return packed


def manifest_path(folder: Path, image: Image) -> Path:
    """Where the manifest of an image's stream lies."""
    return folder / f"{image.sha256}.stream.json"


def _write_manifest(folder: Path, image: Image, packed: Packed) -> None:
    said = {"image": image.sha256, "name": image.name, "format": FORMAT, **asdict(packed)}
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".manifest-", delete=False) as file:
        file.write(json.dumps(said, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)
    Path(file.name).replace(manifest_path(folder, image))


def _sha256(path: Path, claimed: Claimed) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while (piece := file.read(1 << 24)) and claimed.goes_on():
            digest.update(piece)
        os.fsync(file.fileno())
    return digest.hexdigest()


class Publisher(Chore):
    """The thread that publishes what was asked for, one at a time. Every web process has one: they have the store."""

    title = "publishing"
    poll = 5.0

    def work_once(self) -> bool:
        """Whether something was published; what failed or was let go is waited for, as where there was nothing."""
        publication = claim(self.name, timezone.now())
        if publication is None:
            return False
        name = publication.image.name
        try:
            done = Claimed(publication, _Either(self.stopping), lambda text: None).publish()
        except (ImageRefused, OSError) as error:
            log.warning("%s was not published: %s", name, error)
            return False  # what was let go waits again: not to be taken up in the same moment
        log.info("%s %s", name, "is published" if done else "is left to somebody else")
        return done


class _Either(threading.Event):
    """Set when it is set itself, or the other one is: a lost lease stops one publication, `stop` all."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """Whether either of them is."""
        return super().is_set() or self._other.is_set()

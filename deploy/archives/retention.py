"""Moves what ended long ago out of the database: into a file that is proved, and only then, install by install, away.

Killed at any moment, nothing is lost: a history is deleted only once the file that holds it was read again and is on
record, and what was begun is gone on with by the next run. The row of an install stays, with what its pages need.
"""

import fcntl
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from deploy import appendonly, proof, stored
from deploy.events import LIVE, State
from deploy.models import Archive, Event, Install, LogChunk
from deploy.proof import Proof
from deploy.timeline import past_no_return

from . import file, signing
from .file import ArchiveBroken, Entry, Proved

log = logging.getLogger(__name__)

BATCH = 20
"""Installs deleted in one transaction: nobody else can write history meanwhile, so it has to be short."""
PAUSE = 0.05
"""Seconds between two of them, in which whoever waits to write can."""


class PurgeRefused(Exception):
    """Nothing more is moved; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a run has done: the archives that are finished now, and the installs that were left where they are."""

    archives: tuple[Archive, ...] = ()
    doubtful: tuple[str, ...] = ()
    """Installs whose history does not hold: it stays, for the doctor."""
    changed: tuple[str, ...] = ()
    """Installs that were retried between writing and deleting: they stay, in the archive is an old copy."""


def old(days: int) -> QuerySet[Install]:
    """The installs that ended more than so many days ago and are still here; live ones are never among them."""
    before = timezone.now() - timedelta(days=days)
    ended = Install.objects.filter(ended_at__lt=before, archive=None, lease_token=None)
    return ended.exclude(status__in=LIVE).order_by("pk")


def sizes(days: int) -> dict[str, int]:
    """How many installs, events and pieces of logs a run would move."""
    installs = old(days).values("pk")
    return {
        "installs": installs.count(),
        "events": Event.objects.filter(install__in=installs).count(),
        "chunks": LogChunk.objects.filter(install__in=installs).count(),
    }


def purge(days: int, folder: Path, by: str) -> Moved:
    """Moves what ended more than `days` ago into a new archive in the folder, after finishing what was begun before."""
    key = signing.own_key()
    with _alone(folder):
        begun = _resume(folder, key)
        archive, entries, doubtful = _write(days, folder, key, by)
        if archive is None:
            return Moved(begun.archives, tuple(doubtful), begun.changed)
        changed = _empty(archive, entries)
    return Moved((*begun.archives, archive), tuple(doubtful), (*begun.changed, *changed))


def resume(folder: Path) -> Moved:
    """Finishes what earlier runs had begun, and no more."""
    key = signing.own_key()
    with _alone(folder):
        return _resume(folder, key)


def moved(path: Path) -> Archive:
    """The archive that this file is, now on record at this place."""
    known = [signing.from_hex(digits) for digits in Archive.objects.values_list("public_key", flat=True).distinct()]
    archive = Archive.objects.filter(sha256=file.prove(path, known).sha256).first()
    if archive is None:
        raise PurgeRefused("This archive is whole, but not one that this database knows.")
    archive.file = str(path.resolve())
    archive.save(update_fields=["file"])
    return archive


# --- writing


def _write(days: int, folder: Path, key: Ed25519PrivateKey, by: str) -> tuple[Archive | None, list[Entry], list[str]]:
    """The archive of all old installs, proved and on record, and what is in it; None when there is nothing to move.

    Last, the installs that were left out because their history does not hold.
    """
    now = timezone.now()
    records, part = folder / "records.part", folder / "archive.part"
    doubtful: list[str] = []
    with file.writing(records) as writer:
        for install in _light(old(days)).iterator(chunk_size=100):
            history = [event for _, events in stored.histories([install.pk]) for event in events]
            if _is_whole(install, proof.prove(history)):
                writer.put(_record(install), history, stored.log_of(install.pk))
            else:
                doubtful.append(str(install.uuid))
    if not writer.entries:
        records.unlink()
        return None, [], doubtful
    manifest = file.describe(records, writer.entries, written_at=now, by=by, older_than=days)
    file.bind(part, manifest, records, key)
    records.unlink()
    proved = file.prove(part, [key.public_key()])
    path = folder / f"landfall-{now:%Y%m%dT%H%M%S}-{proved.sha256[:8]}.tar"
    part.rename(path)
    _sync(folder)
    return _recorded(path, proved), writer.entries, doubtful


def _light(installs: QuerySet[Install]) -> QuerySet[Install]:
    """With what their records need, without columns that may be large or secret."""
    related = installs.select_related("server", "project", "image", "requested_by")
    return related.defer("user_data", "layout", "approved_plan", "private_key", "server__bmc_password")


def _record(install: Install) -> dict[str, Any]:
    return {
        "uuid": str(install.uuid),
        "project": install.project.slug,
        "server": install.server.name,
        "image": {"name": install.image.name, "sha256": install.image.sha256},
        "hostname": install.hostname,
        "requested_by": install.requested_by.get_username() if install.requested_by else None,
        "created_at": install.created_at.isoformat(),
        "ended_at": install.ended_at.isoformat() if install.ended_at else None,
        "status": install.status,
        "failure": install.failure,
        "digest": install.digest,
    }


def _is_whole(install: Install, proved: Proof) -> bool:
    return proved.holds and proved.seq == install.last_seq and proved.digest == install.digest


def _recorded(path: Path, proved: Proved) -> Archive:
    """The archive's row; from here on what is in it may be deleted."""
    manifest = proved.manifest
    archive, _ = Archive.objects.get_or_create(
        sha256=proved.sha256,
        defaults={
            "file": str(path.resolve()), "size": proved.size, "signature": proved.signature.hex(),
            "public_key": signing.public_hex(proved.key), "installs": len(manifest.installs),
            "events": manifest.events, "chunks": manifest.chunks, "older_than": manifest.older_than,
            "by": manifest.by, "written_at": datetime.fromisoformat(manifest.written_at),
        },
    )  # fmt: skip
    log.info("%s holds %s installs now, put there by %s", archive, archive.installs, archive.by)
    return archive


# --- deleting


def _resume(folder: Path, key: Ed25519PrivateKey) -> Moved:
    """What was killed before a file was on record, or before all that is in it was deleted, is finished."""
    for part in folder.glob("*.part"):
        part.unlink()
    on_record = set(Archive.objects.values_list("file", flat=True))
    for path in folder.glob("landfall-*.tar"):
        if str(path.resolve()) not in on_record:
            try:
                _recorded(path, file.prove(path, [key.public_key()]))
            except ArchiveBroken as error:
                log.warning("%s is left alone: %s", path, error)  # another Landfall's, or somebody's copy
    finished, changed = [], []
    for archive in Archive.objects.filter(emptied_at=None).order_by("pk"):
        proved = file.proved_as(Path(archive.file), archive.sha256, archive.public_key)
        changed += _empty(archive, proved.manifest.installs)
        finished.append(archive)
    return Moved(tuple(finished), changed=tuple(changed))


def _empty(archive: Archive, entries: Sequence[Entry]) -> list[str]:
    """Deletes here what is in the archive, a few installs at a time; those that are not the same any more stay."""
    changed: list[str] = []
    for start in range(0, len(entries), BATCH):
        changed += _delete(archive, entries[start : start + BATCH])
        time.sleep(PAUSE)
    archive.emptied_at = timezone.now()
    archive.save(update_fields=["emptied_at"])
    log.info("%s: %s installs deleted here, %s stay", archive, len(entries) - len(changed), len(changed))
    return changed


def _delete(archive: Archive, entries: Sequence[Entry]) -> list[str]:
    """One transaction. The rows are locked before the tables, as by everybody who writes."""
    wanted = {entry.uuid: entry for entry in entries}
    with transaction.atomic():
        _be_impatient()
        locked = Install.objects.select_for_update().filter(uuid__in=wanted, archive=None).order_by("pk")
        rows = list(locked.only("uuid", "status", "last_seq", "digest", "lease_token"))
        proofs = {pk: proof.prove(events) for pk, events in stored.histories([row.pk for row in rows])}
        chunks = Counter(LogChunk.objects.filter(install__in=rows).values_list("install_id", flat=True))
        same = [
            row for row in rows if _is_same(row, wanted[str(row.uuid)], proofs.get(row.pk, Proof()), chunks[row.pk])
        ]
        if same:
            with appendonly.lifted(connection):
                Event.objects.filter(install__in=same).delete()
                LogChunk.objects.filter(install__in=same).delete()
        for row in same:
            outcome = _outcome(proofs[row.pk].state or State())
            Install.objects.filter(pk=row.pk).update(archive=archive, outcome=outcome)
    return [str(row.uuid) for row in rows if row not in same]


def _be_impatient() -> None:
    """Whoever waits long for a lock on a table keeps all others waiting who come after."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")


def _is_same(row: Install, entry: Entry, proved: Proof, chunks: int) -> bool:
    """Whether all that is here of an install that has ended is in the archive too."""
    is_over = not row.is_live and row.lease_token is None
    return is_over and _is_whole(row, proved) and (proved.digest, chunks) == (entry.digest, entry.chunks)


def _outcome(state: State) -> dict[str, Any]:
    """What pages need to know of a history that is not here any more."""
    return {"wiped": past_no_return(state), "verify": dict(state.result("verify"))}


# --- the folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes archives into the folder meanwhile; it is made when it is not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PurgeRefused(f"Another purge writes into {folder} right now: let it finish.") from error
        yield


def _sync(folder: Path) -> None:
    """Sees the names in the folder onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""An archive: a tar file that anybody can open, with the records, what they are, and a signature.

    manifest.json      which installs are in it, with the digest of each one's last event; the SHA-256 of the records
    manifest.sig       Ed25519 signature of manifest.json
    public-key.pem     of the key that signed; to be believed only when it is the one that was kept elsewhere
    records.jsonl.gz   a JSON object a line: an install, its events with their digests, the pieces of its logs; the next

Without Landfall: `openssl pkeyutl -verify -pubin -inkey KEPT.pem -rawin -in manifest.json -sigfile manifest.sig`, then
`sha256sum records.jsonl.gz`. No database here: what is written comes in as values, and is read back as values.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from deploy import proof
from deploy.proof import Stored

from . import signing

FORMAT = "landfall-archive-1"
MANIFEST, SIGNATURE, PUBLIC_KEY, RECORDS = "manifest.json", "manifest.sig", "public-key.pem", "records.jsonl.gz"
LONGEST_MANIFEST = 256 * 2**20


class ArchiveBroken(Exception):
    """The file is not, or not any more, what was signed; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An install in the manifest: how much of it is in the archive, and the digest of its last event."""

    uuid: str
    server: str
    events: int
    chunks: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds, and how it came about."""

    written_at: str
    by: str
    older_than: int
    records_sha256: str
    records_size: int
    installs: tuple[Entry, ...]
    format: str = FORMAT

    @property
    def events(self) -> int:
        return sum(entry.events for entry in self.installs)

    @property
    def chunks(self) -> int:
        return sum(entry.chunks for entry in self.installs)

    def to_bytes(self) -> bytes:
        """The manifest as it is signed."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """The manifest out of an archive."""
        fields = json.loads(data)
        if fields["format"] != FORMAT:
            raise ArchiveBroken(f"It has the format {fields['format']!r}; this Landfall reads {FORMAT}.")
        return cls(**fields | {"installs": tuple(Entry(**entry) for entry in fields["installs"])})


@dataclass(frozen=True, slots=True)
class Proved:
    """An archive in which everything fits: its manifest, and what the database remembers of the file."""

    manifest: Manifest
    sha256: str
    size: int
    signature: bytes
    key: Ed25519PublicKey


# --- writing


@dataclass(slots=True)
class Writer:
    """Takes the installs one by one, and remembers what the manifest will say of them."""

    out: IO[bytes]
    entries: list[Entry] = field(default_factory=list)

    def put(self, install: Mapping[str, Any], history: Iterable[Stored], log: Iterable[Mapping[str, Any]]) -> None:
        """One install: its record, its events, the pieces of its logs."""
        self._line({"record": "install", **install})
        events = chunks = 0
        digest = ""
        for stored in history:
            self._line({"record": "event", **asdict(stored), "at": stored.at.isoformat()})
            events, digest = events + 1, stored.digest
        for piece in log:
            self._line({"record": "log", **piece})
            chunks += 1
        self.entries.append(Entry(install["uuid"], install["server"], events, chunks, digest))

    def _line(self, record: Mapping[str, Any]) -> None:
        self.out.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")


@contextmanager
def writing(records: Path) -> Iterator[Writer]:
    """Compresses what the writer is given into this file."""
    with gzip.open(records, "wb", compresslevel=6) as out:
        yield Writer(cast(IO[bytes], out))


def describe(records: Path, entries: Iterable[Entry], *, written_at: datetime, by: str, older_than: int) -> Manifest:
    """The manifest for records that are written."""
    with records.open("rb") as file:
        sha256 = _sha256(file)
    return Manifest(written_at.isoformat(), by, older_than, sha256, records.stat().st_size, tuple(entries))


def bind(path: Path, manifest: Manifest, records: Path, key: Ed25519PrivateKey) -> None:
    """Writes the archive and sees it onto the disk."""
    text = manifest.to_bytes()
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in (
                (MANIFEST, text), (SIGNATURE, key.sign(text)), (PUBLIC_KEY, signing.public_pem(key.public_key())),
            ):  # fmt: skip
                tar.addfile(_member(name, len(data)), io.BytesIO(data))
            with records.open("rb") as source:
                tar.addfile(_member(RECORDS, manifest.records_size), source)
        file.flush()
        os.fsync(file.fileno())
        # whoever proves it next is to read what is on the disk, not what is still in memory
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


# --- proving


def prove(path: Path, keys: Iterable[Ed25519PublicKey]) -> Proved:
    """Everything in the archive, read again: signature, checksum, every chain of digests; `ArchiveBroken` says why not.

    One of `keys` must have signed it. Memory: the manifest, and one install's events.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            manifest, signature, key = _signed(tar, list(keys))
            with _opened(tar, RECORDS) as records:
                if _sha256(records) != manifest.records_sha256:
                    raise ArchiveBroken(f"The checksum of {RECORDS} is not the one in the manifest.")
                records.seek(0)
                _prove_records(records, manifest)
        with path.open("rb") as file:
            return Proved(manifest, _sha256(file), path.stat().st_size, signature, key)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ArchiveBroken(f"It cannot be read: {error}") from error
    except (LookupError, TypeError, ValueError, signing.KeyUnusable) as error:
        raise ArchiveBroken(f"It is not written as an archive is: {error!r}") from error


def proved_as(path: Path, sha256: str, public_key: str) -> Proved:
    """The archive, proved, which must be exactly the file that the database remembers."""
    proved = prove(path, [signing.from_hex(public_key)])
    if proved.sha256 != sha256:
        raise ArchiveBroken(f"{path} is whole, but not the file that was written.")
    return proved


def _signed(tar: tarfile.TarFile, keys: list[Ed25519PublicKey]) -> tuple[Manifest, bytes, Ed25519PublicKey]:
    """The manifest, once it is known whose it is."""
    text, signature = _read(tar, MANIFEST, LONGEST_MANIFEST), _read(tar, SIGNATURE, 64)
    for key in keys:
        if signing.is_signed_by(key, signature, text):
            return Manifest.from_bytes(text), signature, key
    claimed = signing.from_pem(_read(tar, PUBLIC_KEY, 4096))
    if signing.is_signed_by(claimed, signature, text):
        raise ArchiveBroken(
            f"It is signed by another key ({signing.public_hex(claimed)}). If you know that key, give its public half."
        )
    raise ArchiveBroken("The signature is not one of this manifest.")


def _read(tar: tarfile.TarFile, name: str, most: int) -> bytes:
    if tar.getmember(name).size > most:
        raise ArchiveBroken(f"{name} is larger than it can be.")
    with _opened(tar, name) as file:
        return file.read()


@contextmanager
def _opened(tar: tarfile.TarFile, name: str) -> Iterator[IO[bytes]]:
    file = tar.extractfile(tar.getmember(name))
    if file is None:
        raise ArchiveBroken(f"{name} is not a file.")
    with file:
        yield file


def _sha256(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while data := file.read(2**20):
        found.update(data)
    return found.hexdigest()


def _prove_records(records: IO[bytes], manifest: Manifest) -> None:
    with gzip.open(records, "rb") as lines:
        group: list[dict[str, Any]] = []
        expected = iter(manifest.installs)
        chunks = 0
        for line in lines:
            record = json.loads(line)
            if record["record"] == "log":
                chunks += 1
                continue
            if record["record"] == "install" and group:
                _prove_install(group, chunks, next(expected, None))
                group, chunks = [], 0
            group.append(record)
        if group:
            _prove_install(group, chunks, next(expected, None))
    if missing := next(expected, None):
        raise ArchiveBroken(f"The install {missing.uuid} is in the manifest, and not in the records.")


def _prove_install(group: list[dict[str, Any]], chunks: int, entry: Entry | None) -> None:
    """The record of the install and its events: they must fold, carry their digests, and be what the manifest says."""
    install, *events = group
    proved = proof.prove(_stored(event) for event in events)
    found = (install["uuid"], proved.seq, chunks, proved.digest)
    if entry is None or found != (entry.uuid, entry.events, entry.chunks, entry.digest):
        raise ArchiveBroken(f"The install {install['uuid']} is not as the manifest describes it.")
    if not proved.holds or proved.digest != install["digest"]:
        raise ArchiveBroken(f"The history of the install {install['uuid']} does not hold.")


def _stored(record: Mapping[str, Any]) -> Stored:
    at = datetime.fromisoformat(record["at"])
    return Stored(record["seq"], record["kind"], at, record["data"], record["digest"])

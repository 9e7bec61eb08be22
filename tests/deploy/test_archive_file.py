"""An archive is what was signed, or it is refused with a sentence. No database: archives of made-up histories."""

import gzip
import shutil
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.archives import file, signing
from deploy.archives.file import ArchiveBroken
from deploy.events import GENESIS, Event, digest
from deploy.proof import Stored
from tests.deploy.happenings import START, both, broken, requested, started

OURS = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
Lines = list[bytes]


def stored(history: list[Event]) -> list[Stored]:
    """The history with its digests, as it lies in the database."""
    link, found = GENESIS, []
    for event in history:
        link = digest(link, event)
        found.append(Stored(event.seq, event.kind.value, event.at, event.data, link))
    return found


def make(folder: Path, installs: int = 3, key: Ed25519PrivateKey = OURS) -> Path:
    """An archive of installs that failed."""
    records, path = folder / "records", folder / "made.tar"
    with file.writing(records) as writer:
        for number in range(installs):
            history = stored(requested(*both("rescue"), started("wipe"), broken("wipe")))
            log = [{"step": "wipe", "attempt": 1, "offset": at, "text": "a line\n" * 50} for at in range(20)]
            install = {"uuid": f"install-{number}", "server": "web-1", "digest": history[-1].digest}
            writer.put(install, history, log)
    manifest = file.describe(records, writer.entries, written_at=START, by="ops", older_than=90)
    file.bind(path, manifest, records, key)
    return path


def prove(path: Path, key: Ed25519PrivateKey = OURS) -> file.Proved:
    return file.prove(path, [key.public_key()])


def rewritten(path: Path, change: Callable[[Lines], Lines], key: Ed25519PrivateKey = OURS) -> Path:
    """An archive with other records under the same manifest but for their checksum, signed by this key."""
    with tarfile.open(path) as tar:
        manifest = file.Manifest.from_bytes(_content(tar, "manifest.json"))
        lines = gzip.decompress(_content(tar, "records.jsonl.gz")).splitlines()
    records, made = path.with_suffix(".records"), path.with_suffix(".other")
    records.write_bytes(gzip.compress(b"".join(line + b"\n" for line in change(lines))))
    fresh = file.describe(records, manifest.installs, written_at=START, by="ops", older_than=90)
    file.bind(made, fresh, records, key)
    return made


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member
    return member.read()


def test_an_archive_says_what_is_in_it(tmp_path: Path) -> None:
    path = make(tmp_path)
    proved = prove(path)
    assert [entry.uuid for entry in proved.manifest.installs] == ["install-0", "install-1", "install-2"]
    assert (proved.manifest.events, proved.manifest.chunks) == (3 * 6, 60)
    assert (proved.manifest.by, proved.manifest.older_than) == ("ops", 90)
    assert proved.size == path.stat().st_size


def test_two_bytes_that_were_changed_anywhere_are_noticed(tmp_path: Path) -> None:
    path = make(tmp_path)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        spots = [
            member.offset_data + member.size * part // 20
            for member in tar.getmembers() if member.name != "public-key.pem"
            for part in range(20)
        ]  # fmt: skip
    for spot in spots:
        path.write_bytes(whole[:spot] + bytes(byte ^ 0x5A for byte in whole[spot : spot + 2]) + whole[spot + 2 :])
        with pytest.raises(ArchiveBroken):
            prove(path)
    path.write_bytes(whole)
    assert prove(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_an_archive_that_was_cut_is_refused(part: float, tmp_path: Path) -> None:
    path = make(tmp_path)
    with tarfile.open(path) as tar:
        records = tar.getmember("records.jsonl.gz")
    path.write_bytes(path.read_bytes()[: int((records.offset_data + records.size) * part)])
    with pytest.raises(ArchiveBroken):
        prove(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: [line.replace(b'"attempt":1', b'"attempt":1,"forged":1', 1) for line in lines], "does not hold"),
        (lambda lines: [line.replace(b'"digest":"', b'"digest":"00', 1) for line in lines], "not as the manifest"),
        (lambda lines: [line for line in lines if b'"seq":4,' not in line], "not as the manifest"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "does not hold"),
        (lambda lines: lines[:-1], "not as the manifest"),
        (lambda lines: [*lines, lines[-1]], "not as the manifest"),
        (lambda lines: lines * 2, "not as the manifest"),
        (lambda lines: lines[: len(lines) * 2 // 3], "not in the records"),
        (lambda lines: lines[3:], "not written as"),
        (lambda lines: [], "not in the records"),
        (lambda lines: [b"not json"], "not written as"),
        (lambda lines: [b"{}"], "not written as"),
        (lambda lines: [b"[1]"], "not written as"),
    ],
    ids=[
        "forged", "other digests", "an event less", "two exchanged", "a piece less", "a piece twice", "all twice",
        "an install less", "no beginning", "empty", "no JSON", "no record", "a list",
    ],
)  # fmt: skip
def test_records_that_are_signed_and_do_not_hold_are_refused(
    change: Callable[[Lines], Lines], why: str, tmp_path: Path
) -> None:
    """Even whoever has the key cannot pass off a history whose chain is broken as one that was recorded."""
    with pytest.raises(ArchiveBroken, match=why):
        prove(rewritten(make(tmp_path), change))


def test_who_else_signed_it_is_told(tmp_path: Path) -> None:
    theirs = Ed25519PrivateKey.generate()
    path = make(tmp_path, key=theirs)
    with pytest.raises(ArchiveBroken, match=f"another key .{signing.public_hex(theirs.public_key())}"):
        prove(path)
    assert prove(path, theirs)


def test_a_key_in_the_archive_is_not_believed(tmp_path: Path) -> None:
    """Somebody writes an archive with a key of their own, and puts our public key beside it."""
    path = make(tmp_path, key=Ed25519PrivateKey.generate())
    theirs, ours = path.read_bytes(), signing.public_pem(OURS.public_key())
    at = theirs.index(b"-----BEGIN PUBLIC KEY")
    path.write_bytes(theirs[:at] + ours + theirs[at + len(ours) :])
    with pytest.raises(ArchiveBroken, match="signature is not one of this manifest"):
        prove(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello" * 1000, b"PK\x03\x04" + bytes(2000), bytes(10240)], ids=["empty", "text", "zip", "zeros"]
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ArchiveBroken, match=r"cannot be read|not written as"):
        prove(path)
    with pytest.raises(ArchiveBroken, match="cannot be read"):
        prove(tmp_path / "nowhere")
    with pytest.raises(ArchiveBroken, match="cannot be read"):
        prove(tmp_path)


def test_a_file_that_is_a_link_out_of_the_archive_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ArchiveBroken):
        prove(path)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_anybody_can_prove_the_signature_with_openssl(tmp_path: Path) -> None:
    with tarfile.open(make(tmp_path)) as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "kept.pem").write_bytes(signing.public_pem(OURS.public_key()))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "kept.pem", "-rawin", "-in", "manifest.json",
               "-sigfile", "manifest.sig"]  # fmt: skip
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "manifest.json").write_text("{}")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """400 pieces of 100 kB pass through; what is held at once is a small part of them."""
    records, path = tmp_path / "records", tmp_path / "large.tar"
    history = stored(requested())
    piece = {"step": "wipe", "attempt": 1, "text": "usr/lib/file\n" * 8000}
    tracemalloc.start()
    with file.writing(records) as writer:
        install = {"uuid": "large", "server": "web-1", "digest": history[-1].digest}
        writer.put(install, history, (piece for _ in range(400)))
    manifest = file.describe(records, writer.entries, written_at=START, by="ops", older_than=90)
    file.bind(path, manifest, records, OURS)
    prove(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20

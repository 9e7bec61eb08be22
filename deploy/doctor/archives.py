"""Whether the files that histories were moved into are still there, and still what was signed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from deploy.archives.file import ArchiveBroken, proved_as
from deploy.models import Archive

from .finding import Code, Finding


def examine(counts: Counter[str], *, whole: bool) -> Iterator[Finding]:
    """What is wrong with any archive. Looks at names and sizes; with `whole` every byte of them is read and proved."""
    for archive in Archive.objects.order_by("pk"):
        counts["archives"] += 1
        if found := _missing(archive) or _broken(archive, whole):
            yield found
        if archive.emptied_at is None:
            yield Finding(
                Code.ARCHIVE_UNFINISHED, f"Not all that is in {archive} was deleted here: a purge runs, or was killed.",
                "If none runs, `manage.py purge --resume` finishes it.",
            )  # fmt: skip


def _missing(archive: Archive) -> Finding | None:
    if Path(archive.file).is_file():
        return None
    return Finding(
        Code.ARCHIVE_MISSING, f"{archive} is not there: the histories of {archive.installs} installs are in it.",
        "Get it back from a backup. If it was moved, tell where it is: `manage.py purge --moved FILE`.",
    )  # fmt: skip


def _broken(archive: Archive, whole: bool) -> Finding | None:
    path, why = Path(archive.file), ""
    if path.stat().st_size != archive.size:
        why = f"it has {path.stat().st_size} bytes, and had {archive.size}"
    elif whole:
        try:
            proved_as(path, archive.sha256, archive.public_key)
        except ArchiveBroken as error:
            why = str(error)
    fix = f"Get it back from a backup: its SHA-256 is {archive.sha256}, and `manage.py purge --verify FILE` proves it."
    return Finding(Code.ARCHIVE_BROKEN, f"{archive} is not what was written: {why}", fix) if why else None

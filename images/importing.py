"""Brings an image into the catalogue: fetched, compared, inspected, stored, and entered; or nothing of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import Project

from .checksums import check_checksum
from .flavours import UnknownFlavour, flavour
from .inspect import claimed_format, inspect
from .inspection import LIMITS, Inspection, Limits
from .models import Image, ImageState, Licence
from .packing import is_ovf, packed
from .refusal import ImageRefused
from .store import Arrival, Progress, Store, is_url, public_source


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted: a file at a path or URL, and what to say of it. No name: the flavour's title."""

    source: str
    flavour: str
    name: str = ""
    sha256: str = ""
    sha512: str = ""
    state: ImageState = ImageState.CANDIDATE
    end_of_life: date | None = None
    licence: Licence | None = None
    project: Project | None = None


def silent(done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def import_image(wish: Wish, progress: Progress = silent, limits: Limits = LIMITS) -> tuple[Image, bool]:
    """The catalogue's entry, and whether it is new: a file that is there already is not entered twice.

    ImageRefused says what is wrong; then neither the catalogue nor the store has changed.
    """
    store = Store(settings.LANDFALL_IMAGES_DIR)
    sha256, sha512 = _checked(wish.sha256, "sha256"), _checked(wish.sha512, "sha512")
    wanted = sha256.removeprefix("sha256:")
    if wanted and (known := _known(wanted)) and store.path(wanted).exists():
        return known, False
    title = _flavour_title(wish.flavour)
    with (
        _one_file(wish.source, store, has_checksum=bool(sha256 or sha512)) as source,
        store.receive(source, limits.file_size, progress, sha512=bool(sha512)) as arrival,
    ):
        for checksum in filter(None, (sha256, sha512)):
            arrival.refuse_other(checksum)
        if known := _known(arrival.sha256):
            store.keep(arrival)  # the entry may have outlived its file
            return known, False
        _refuse_taken(wish.name or title)
        found = inspect(arrival.path, claimed_format(file_name(source)), limits)
        return _enter(wish, wish.name or title, arrival, found, store)


@contextmanager
def _one_file(source: str, store: Store, *, has_checksum: bool) -> Iterator[str]:
    """What is to be fetched: the source, or the OVA that it becomes where it is an OVF in a folder with its disks."""
    if not is_ovf(source):
        yield source
        return
    if has_checksum:
        raise ImageRefused(
            "A checksum of an OVF says nothing of its disks.",
            "Leave it away: the manifest beside the OVF has one of each file, and all are compared.",
        )
    store.folder.mkdir(parents=True, exist_ok=True)
    with packed(Path(source), store.folder) as ova:
        yield str(ova)


def _enter(wish: Wish, name: str, arrival: Arrival, found: Inspection, store: Store) -> tuple[Image, bool]:
    try:
        with transaction.atomic():
            image = Image.objects.create(
                name=name,
                flavour=wish.flavour,
                format=found.format,
                path=arrival.sha256,
                source=public_source(wish.source)[:1000],
                sha256=arrival.sha256,
                size=found.size,
                virtual_size=found.virtual_size,
                root_bytes=found.root_bytes,
                capabilities=found.capabilities(),
                licence=wish.licence,
                project=wish.project,
                state=wish.state,
                end_of_life=wish.end_of_life,
            )
            # Before the commit: whoever sees the entry finds the file. A file without an entry does no harm.
            store.keep(arrival)
            return image, True
    except IntegrityError:
        # Somebody was faster while we fetched.
        if known := _known(arrival.sha256):
            return known, False
        _refuse_taken(name)
        raise


def _known(sha256: str) -> Image | None:
    return Image.objects.filter(sha256=sha256).first()


def _checked(text: str, kind: str) -> str:
    """The checksum as it is kept, or empty when none is wanted."""
    if not text.strip():
        return ""
    with suppress(ImageRefused):
        if (checksum := check_checksum(text)).startswith(kind):
            return checksum
    raise ImageRefused(
        f"{text!r} is no {kind.upper().replace('SHA', 'SHA-')}.",
        f"Give its {64 if kind == 'sha256' else 128} hexadecimal digits, as {kind}sum prints them.",
    )


def _flavour_title(name: str) -> str:
    try:
        return flavour(name).title
    except UnknownFlavour as error:
        raise ImageRefused(f"There is no flavour {name!r}.", str(error).partition(". ")[2]) from error


def _refuse_taken(name: str) -> None:
    if Image.objects.filter(name=name).exists():
        raise ImageRefused(f"There is an image named {name!r} already, with another file.", "Choose another name.")


def file_name(source: str) -> str:
    """The last part of a path or URL."""
    return PurePosixPath(urlsplit(source).path if is_url(source) else source).name

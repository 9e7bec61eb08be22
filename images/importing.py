"""Brings an image into the catalogue: fetched, compared, inspected, stored, and entered; or nothing of it."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import Project

from .flavours import UnknownFlavour, flavour
from .inspect import LIMITS, Inspection, Limits, claimed_format, inspect
from .models import Image, ImageState, Licence
from .refusal import ImageRefused
from .store import Arrival, Progress, Store, is_url


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted: a file at a path or URL, and what to say of it. No name: the flavour's title."""

    source: str
    flavour: str
    name: str = ""
    sha256: str = ""
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
    wanted = _checked_sha256(wish.sha256)
    if wanted and (known := _known(wanted)) and store.path(wanted).exists():
        return known, False
    title = _flavour_title(wish.flavour)
    with store.receive(wish.source, limits.file_size, progress) as arrival:
        if wanted and arrival.sha256 != wanted:
            raise ImageRefused(
                f"The file's SHA-256 is {arrival.sha256}, not {wanted}.",
                "Fetch it again; if it stays different, do not use it.",
            )
        if known := _known(arrival.sha256):
            store.keep(arrival)  # the entry may have outlived its file
            return known, False
        _refuse_taken(wish.name or title)
        found = inspect(arrival.path, claimed_format(file_name(wish.source)), limits)
        return _enter(wish, wish.name or title, arrival, found, store)


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


def _checked_sha256(text: str) -> str:
    sha256 = text.strip().lower().removeprefix("sha256:")
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ImageRefused(f"{text!r} is no SHA-256.", "Give its 64 hexadecimal digits, as sha256sum prints them.")
    return sha256


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


def public_source(source: str) -> str:
    """The source as it may be shown: an address without the password or the signature that may be in it."""
    if not is_url(source):
        return source
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

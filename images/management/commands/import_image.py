import time
from argparse import ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Project
from images.flavours import FLAVOURS
from images.importing import Wish, import_image
from images.models import Image, ImageState, Licence
from images.refusal import ImageRefused
from servers.storage.sizes import human


class Command(BaseCommand):
    help = "Fetches an image from a path or URL, inspects it, and enters it into the catalogue."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="a file, or a URL that begins with http:// or https://")
        parser.add_argument("--flavour", required=True, help=f"how it is made bootable: {', '.join(sorted(FLAVOURS))}")
        parser.add_argument("--name", default="", help="as customers read it; default: the flavour's title")
        parser.add_argument("--sha256", default="", help="what the file's SHA-256 must be")
        parser.add_argument("--sha512", default="", help="what its SHA-512 must be, where that is published instead")
        parser.add_argument("--state", choices=ImageState.values, default=ImageState.CANDIDATE.value)
        parser.add_argument(
            "--end-of-life", type=_day, metavar="YYYY-MM-DD", help="from that day on it is not installed"
        )
        parser.add_argument("--licence", help="name of the licence that it needs")
        parser.add_argument("--project", help="slug of the project whose own image it is; default: everybody's")

    def handle(self, *args: Any, **options: Any) -> None:
        wish = Wish(
            source=options["source"],
            flavour=options["flavour"],
            name=options["name"],
            sha256=options["sha256"],
            sha512=options["sha512"],
            state=ImageState(options["state"]),
            end_of_life=options["end_of_life"],
            licence=_named(Licence, "licence", name=options["licence"]),
            project=_named(Project, "project", slug=options["project"]),
        )
        try:
            image, is_new = import_image(wish, Progress(self))
        except ImageRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        except OSError as error:
            raise CommandError(f"{error.filename or 'The image store'}: {error.strerror}.") from error
        self.stdout.write(_summary(image) if is_new else f"This file is in the catalogue already, as {image.name}.")


class Progress:
    """Tells every few seconds how far the file has come."""

    def __init__(self, command: BaseCommand, every: float = 2) -> None:
        self._command = command
        self._every = every
        self._next = time.monotonic() + every

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            of = f" of {human(total)}, {100 * done // max(total, 1)} %" if total else ""
            self._command.stderr.write(f"{human(done)}{of}", self._command.style.NOTICE)


def _summary(image: Image) -> str:
    return (
        f"{image.name} is in the catalogue ({image.state}): {image.get_format_display()} of {human(image.size)}, "
        f"a disk of {human(image.virtual_size)} inside, its files take {human(image.root_bytes)}.\n"
        f"SHA-256 {image.sha256}"
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day: write it as 2028-06-30") from None


def _named(model: Any, what: str, **field: str | None) -> Any:
    """The row of that name; None when none was asked for."""
    ((name, value),) = field.items()
    if value is None:
        return None
    if found := model.objects.filter(**field).first():
        return found
    there = ", ".join(model.objects.values_list(name, flat=True)) or "none yet"
    raise CommandError(f"There is no {what} {value!r}. There is: {there}.")

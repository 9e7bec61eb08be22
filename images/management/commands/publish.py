import os
import socket
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from images.models import Image, PublicationState
from images.publishing.publish import Claimed, ask, claim
from images.refusal import ImageRefused
from servers.storage.sizes import human


class Command(BaseCommand):
    help = "Turns an image into the stream that mirrors serve: installs copy it in one pass. Takes some minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("image", help="its name, or the beginning of its SHA-256")
        parser.add_argument("--queue", action="store_true", help="only ask for it: a web process does it")

    def handle(self, *args: Any, image: str, queue: bool, **options: Any) -> None:
        found = self._image(image)
        try:
            publication = ask(found, os.environ.get("USER", "") or "manage.py")
            if queue:
                self.stdout.write(f"{found.name} is queued: a web process publishes it.")
                return
            mine = claim(f"{socket.gethostname()}-{os.getpid()}", timezone.now(), found)
            if mine is None:
                raise CommandError(f"{found.name} is being published by {publication.lease_worker or 'somebody'} now.")
            Claimed(mine, threading.Event(), self.stderr.write).publish()
        except ImageRefused as refused:
            raise CommandError(str(refused)) from refused
        mine.refresh_from_db()
        if mine.state != PublicationState.DONE:
            raise CommandError(f"{found.name} was taken over by another publisher.")
        self.stdout.write(
            f"{found.name} is published: {mine.files} files, {human(mine.root_bytes)} of them, "
            f"a stream of {human(mine.size)}.\nSHA-256 {mine.sha256}"
        )

    def _image(self, text: str) -> Image:
        found = Image.objects.filter(name=text).first()
        by_sum = list(Image.objects.filter(sha256__startswith=text.lower())[:2]) if len(text) >= 6 else []
        if found is None and len(by_sum) == 1:
            found = by_sum[0]
        if found is None:
            there = ", ".join(Image.objects.values_list("name", flat=True)[:20]) or "none yet"
            raise CommandError(f"There is no image {text!r}. There are: {there}.")
        return found

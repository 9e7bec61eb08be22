import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import SSHKey, User
from accounts.secret import Secret
from deploy.actions import InstallRequest, Refused, preview, request_install
from deploy.context import image_needs, unseen_image
from deploy.events import Status
from deploy.terminal import Follower
from images.flavours import FLAVOURS
from images.importing import file_name
from images.inspect import claimed_format
from images.models import Format, Image
from images.own import OwnImageWish
from servers.models import Server
from servers.storage.layout import Layout
from servers.storage.named import NAMES, encrypted, suiting
from servers.storage.refusal import StorageRefused
from servers.storage.written import TextRefused, read_layout


class Command(BaseCommand):
    help = "Reinstalls a server. Everything on the disks that the plan names is lost."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("server", help="its name")
        parser.add_argument("--image", help="name of an offered image")
        parser.add_argument("--image-url", metavar="URL", help="instead: where an image of your own is fetched from")
        parser.add_argument("--image-url-file", type=Path, help="the same out of a file, for an address that is secret")
        parser.add_argument("--checksum", default="", help="SHA-256 or SHA-512 of your own image")
        parser.add_argument("--format", choices=list(Format), help="of your own image; default: by the URL's ending")
        parser.add_argument("--flavour", default="", help=f"of your own image: {', '.join(sorted(FLAVOURS))}")
        parser.add_argument("--header-file", type=Path, help="headers that its server wants, one a line: Name: value")
        parser.add_argument("--hook", type=Path, help="a script that runs in the new system's tree")
        layout = parser.add_mutually_exclusive_group()
        layout.add_argument("--layout", choices=sorted(NAMES), help="default: what fits the image and the disks")
        layout.add_argument("--layout-file", type=Path, help="a layout of your own, as JSON")
        parser.add_argument("--encrypt", action="store_true", help="everything but /boot; a passphrase is made")
        parser.add_argument("--passphrase-file", type=Path, help="the passphrase of encrypted disks, in one line")
        parser.add_argument("--secure-erase", action="store_true", help="destroy the old data, not only what names it")
        parser.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", help="an answer to the image")
        parser.add_argument("--inputs-file", type=Path, help="answers as a JSON object, secret ones among them")
        parser.add_argument("--hostname", help="default: the server's name")
        parser.add_argument(
            "--key", action="append", default=[], help="name of an SSH key; default: all of the project"
        )
        parser.add_argument("--user-data", type=Path, help="a file for cloud-init, taken as it is")
        parser.add_argument("--as", dest="by", required=True, help="user name of who asks for it")
        parser.add_argument("--yes", action="store_true", help="erase: without it only the plan is shown")
        parser.add_argument(
            "--follow", action="store_true", help="stay until it has ended; exit status 0 when one can log in"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            request = self._request(options)
            shown = preview(request)
            self.stdout.write("\n".join((*shown.plan.summary(), shown.erased, *shown.notes)))
            if not options["yes"]:
                raise CommandError("Nothing was done. Add --yes to erase and reinstall.")
            install = request_install(request, self._one(User, username=options["by"]))
        except Refused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"install {install.uuid}")
        if options["follow"] and Follower(install, sys.stdout).follow() is not Status.SUCCEEDED:
            raise CommandError(f"Nobody can log in. Its log: /installs/{install.uuid}/")

    def _request(self, options: dict[str, Any]) -> InstallRequest:
        server = self._one(Server, name=options["server"])
        keys = SSHKey.objects.filter(project=server.project)
        chosen = tuple(self._one(SSHKey, project=server.project, name=name) for name in options["key"]) or tuple(keys)
        own = self._own(options)
        image = None if own else self._one(Image, name=options["image"] or "")
        return InstallRequest(
            server=server,
            image=image,
            layout=self._layout(options, server, image or unseen_image(own.flavour if own else "")),
            hostname=options["hostname"] or server.name,
            ssh_keys=chosen,
            user_data=self._read("user data", options["user_data"]),
            own=own,
            hook=self._text("hook script", options["hook"]),
            passphrase=Secret(self._text("passphrase", options["passphrase_file"]).rstrip("\r\n")),
            inputs=self._inputs(options),
        )

    def _own(self, options: dict[str, Any]) -> OwnImageWish | None:
        """The image that the customer brings; None when one of the catalogue is named."""
        url = options["image_url"] or self._text("address", options["image_url_file"]).strip()
        if not url:
            return None
        if options["image"]:
            raise CommandError("Give --image or --image-url, not both.")
        found = options["format"] or claimed_format(file_name(url))
        if not found:
            raise CommandError(f"The format cannot be told from the URL. Add --format: {', '.join(Format)}.")
        headers = Secret(self._text("headers", options["header_file"]))
        return OwnImageWish(Secret(url), options["checksum"], Format(found), options["flavour"], headers)

    def _layout(self, options: dict[str, Any], server: Server, image: Image) -> Layout:
        try:
            layout = self._chosen_layout(options, server, image)
            layout = encrypted(layout) if options["encrypt"] else layout
            return replace(layout, secure_erase=layout.secure_erase or options["secure_erase"])
        except TextRefused as refusal:
            where = f"{options['layout_file']}, line {refusal.place.line}: " if refusal.place else ""
            raise CommandError(f"{where}{refusal}") from refusal
        except StorageRefused as refusal:
            raise CommandError(str(refusal)) from refusal

    def _chosen_layout(self, options: dict[str, Any], server: Server, image: Image) -> Layout:
        """What the file says, or the layout of that name where it fits; without either, the one to begin with."""
        if options["layout_file"]:
            return read_layout(self._text("layout", options["layout_file"]))
        found = suiting(server.facts(), image_needs(image))
        # where none fits, the one that needs least says why
        name = options["layout"] or found.default or "plain"
        if name in found.refused:
            raise found.refused[name]
        return found.layouts[name]

    def _inputs(self, options: dict[str, Any]) -> dict[str, str]:
        """The answers, those of the command line before those of the file."""
        text = self._text("answers", options["inputs_file"])
        try:
            kept = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise CommandError(f"The answers are not JSON: {error}.") from error
        if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
            raise CommandError('Write the answers as a JSON object of texts: {"port": "8443"}.')
        if wrong := [one for one in options["input"] if "=" not in one]:
            raise CommandError(f"{wrong[0]!r} is no answer. Write --input NAME=VALUE.")
        return {**kept, **dict(one.split("=", 1) for one in options["input"])}

    def _one(self, model: Any, **which: Any) -> Any:
        """The row that is meant; a CommandError that names those that there are."""
        found = model.objects.filter(**which).first()
        if found is None:
            field, value = list(which.items())[-1]
            there = ", ".join(model.objects.values_list(field, flat=True)[:20]) or "none yet"
            raise CommandError(f"There is no {model._meta.verbose_name} {value!r}. There are: {there}.")
        return found

    def _read(self, what: str, path: Path | None) -> bytes:
        """What is in the file; nothing when none is named."""
        try:
            return path.read_bytes() if path else b""
        except OSError as error:
            raise CommandError(f"The {what} cannot be read: {error}.") from error

    def _text(self, what: str, path: Path | None) -> str:
        try:
            return self._read(what, path).decode()
        except UnicodeDecodeError as error:
            raise CommandError(f"{path} is no text: the {what} must be UTF-8.") from error

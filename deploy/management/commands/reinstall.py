import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import SSHKey, User
from deploy.actions import InstallRequest, Refused, preview, request_install
from deploy.events import Status
from deploy.terminal import Follower
from images.models import Image
from servers.models import Server
from servers.storage.layout import NAMED, default_layout


class Command(BaseCommand):
    help = "Reinstalls a server. Everything on the disks that the plan names is lost."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("server", help="its name")
        parser.add_argument("--image", required=True, help="name of an offered image")
        parser.add_argument("--layout", choices=sorted(NAMED), help="default: what fits the server's disks")
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
        layout = NAMED[options["layout"]]() if options["layout"] else default_layout(server.facts())
        keys = SSHKey.objects.filter(project=server.project)
        chosen = tuple(self._one(SSHKey, project=server.project, name=name) for name in options["key"]) or tuple(keys)
        return InstallRequest(
            server=server,
            image=self._one(Image, name=options["image"]),
            layout=layout,
            hostname=options["hostname"] or server.name,
            ssh_keys=chosen,
            user_data=self._read(options["user_data"]) if options["user_data"] else b"",
        )

    def _one(self, model: Any, **which: Any) -> Any:
        """The row that is meant; a CommandError that names those that there are."""
        found = model.objects.filter(**which).first()
        if found is None:
            field, value = list(which.items())[-1]
            there = ", ".join(model.objects.values_list(field, flat=True)[:20]) or "none yet"
            raise CommandError(f"There is no {model._meta.verbose_name} {value!r}. There are: {there}.")
        return found

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise CommandError(f"The user data cannot be read: {error}.") from error

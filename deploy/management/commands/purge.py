import getpass
import socket
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from deploy.archives import file, retention, signing
from deploy.archives.file import ArchiveBroken
from deploy.archives.retention import Moved, PurgeRefused
from deploy.archives.signing import KeyUnusable


class Command(BaseCommand):
    help = (
        "Moves the histories and logs of installs that ended long ago into a signed archive file, and proves the file "
        "before anything is deleted. Killed half way, it goes on when it is run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--older-than", type=int, metavar="DAYS", help="move installs that ended so long ago")
        what.add_argument("--resume", action="store_true", help="finish what an earlier run has begun, and no more")
        what.add_argument("--verify", type=Path, metavar="FILE", help="prove an archive; needs no database")
        what.add_argument("--moved", type=Path, metavar="FILE", help="prove an archive, and remember that it is there")
        what.add_argument("--public-key", action="store_true", help="print the key with which archives are proved")
        parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: LANDFALL_ARCHIVES_DIR")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be moved")
        parser.add_argument(
            "--key", type=Path, metavar="PEM", help="with --verify: the public key that must have signed"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(options)
        except (ArchiveBroken, PurgeRefused, KeyUnusable) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Nothing was deleted that is not in an archive: {error}") from error
        except OperationalError as error:
            raise CommandError(
                f"The database was busy: {error} Nothing is lost; `manage.py purge --resume` goes on."
            ) from error

    def _handle(self, options: dict[str, Any]) -> None:
        folder = options["to"] or settings.LANDFALL_ARCHIVES_DIR
        if options["public_key"]:
            self.stdout.write(signing.public_pem(signing.own_key().public_key()).decode().strip())
        elif options["verify"]:
            self._verify(options["verify"], options["key"])
        elif options["moved"]:
            self.stdout.write(f"{retention.moved(options['moved'])} is whole, and is on record there now.")
        elif options["resume"]:
            self._tell(retention.resume(folder))
        elif options["older_than"] < 1:
            raise CommandError("What ended today stays: --older-than is 1 at least.")
        elif options["dry_run"]:
            self._tell_sizes(options["older_than"])
        else:
            self._tell(retention.purge(options["older_than"], folder, f"{getpass.getuser()}@{socket.gethostname()}"))

    def _verify(self, path: Path, key: Path | None) -> None:
        known = signing.from_pem(key.read_bytes()) if key else signing.own_key().public_key()
        proved = file.prove(path, [known])
        manifest = proved.manifest
        self.stdout.write(
            f"{path} is whole: {len(manifest.installs):,} installs with {manifest.events:,} events and "
            f"{manifest.chunks:,} pieces of logs, written {manifest.written_at} by {manifest.by}.\n"
            f"SHA-256 {proved.sha256}, signed by {signing.public_hex(proved.key)}."
        )

    def _tell_sizes(self, days: int) -> None:
        found = retention.sizes(days)
        counts = "{installs:,} installs with {events:,} events and {chunks:,} pieces of logs".format(**found)
        self.stdout.write(f"Would move {counts}.")

    def _tell(self, moved: Moved) -> None:
        for archive in moved.archives:
            self.stdout.write(
                f"Moved {archive.installs:,} installs with {archive.events:,} events and {archive.chunks:,} pieces of "
                f"logs into {archive} ({archive.size:,} bytes, SHA-256 {archive.sha256})."
            )
        if not moved.archives:
            self.stdout.write("There was nothing to move.")
        for uuid in moved.changed:
            self.stderr.write(f"Install {uuid} has changed meanwhile and stays.")
        for uuid in moved.doubtful:
            self.stderr.write(f"Install {uuid} stays: its history does not hold. `manage.py doctor` says why.")

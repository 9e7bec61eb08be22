import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from deploy.worker import Worker


class Command(BaseCommand):
    help = "Drives installs. Any number of workers may run, on any hosts, against one PostgreSQL database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--slots", type=int, default=settings.LANDFALL_SLOTS, help="installs driven at once")

    def handle(self, *args: Any, slots: int, **options: Any) -> None:
        worker = Worker(slots)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()

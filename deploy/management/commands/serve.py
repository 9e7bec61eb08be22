import gc
import threading
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from deploy.worker import Worker
from images.imports import Importer
from images.publishing.publish import Publisher
from metadata.backpressure import PacedServer


class Command(BaseCommand):
    help = "Serves the pages and the machines' calls, and drives installs, in one process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8600)
        parser.add_argument("--no-worker", action="store_true", help="pages only; `manage.py worker` drives installs")
        parser.add_argument("--slots", type=int, default=settings.LANDFALL_SLOTS, help="installs driven at once")

    def handle(self, *args: Any, bind: str, port: int, no_worker: bool, slots: int, **options: Any) -> None:
        settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise complains of a folder that is not there
        # Named by the settings, as any ASGI server would find it: config/ is above us, and not ours to import.
        application = import_string(settings.ASGI_APPLICATION)
        # All that is loaded stays for good: to look through it for garbage would stop everything for 0.1 s or more.
        gc.freeze()
        worker = None if no_worker else Worker(slots)
        thread = threading.Thread(target=worker.run, name="worker") if worker else None
        if thread:
            thread.start()
        # Here and not in the worker: it is web hosts that have the image store.
        importer = Importer()
        importer.start()
        publisher = Publisher()
        publisher.start()
        self.stdout.write(f"Landfall listens on {settings.LANDFALL_URL}")
        server = PacedServer(
            application=application,
            endpoints=build_endpoint_description_strings(host=bind, port=port),
            server_name="landfall",
            # A page that is being served when the process is told to stop gets this long to finish.
            application_close_timeout=3,
            proxy_forwarded_address_header="X-Forwarded-For" if settings.LANDFALL_BEHIND_PROXY else None,
            verbosity=0,
        )
        try:
            server.run()
        finally:
            importer.stop()
            publisher.stop()
            if worker and thread:
                worker.stop()
                thread.join()
        if not server.listening_addresses:
            raise CommandError(f"{bind} port {port} cannot be listened on. Is another Landfall running there?")

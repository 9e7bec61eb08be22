"""Run as a process of its own: the machine endpoints behind the real server. argv: folder of the rescue files, port."""

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.asgi import get_asgi_application

from metadata.backpressure import PacedServer

if __name__ == "__main__":
    folder, port = sys.argv[1:]
    django.setup()
    settings.LANDFALL_RESCUE_DIR = Path(folder)
    settings.ROOT_URLCONF = "metadata.urls"
    PacedServer(get_asgi_application(), endpoints=[f"tcp:{port}:interface=127.0.0.1"]).run()

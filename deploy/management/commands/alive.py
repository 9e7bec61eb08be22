import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from deploy.heartbeat import WorkerProcess


class Command(BaseCommand):
    help = "Exit status 0 when a worker on this host has shown within 20 seconds that it lives: for supervisors."

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        here = WorkerProcess.objects.filter(host=socket.gethostname()[:100])
        alive = [worker.name for worker in here if not worker.is_gone(now)]
        if not alive:
            raise CommandError("No worker on this host is alive.")
        self.stdout.write(f"alive: {', '.join(alive)}")

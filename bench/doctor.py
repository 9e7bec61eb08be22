"""What the doctor costs, and what it costs to archive: with 100 and with 1,000 installs that have ended."""

import base64
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from bench.report import table
from deploy import doctor
from deploy.archives import file, retention, signing
from tests.deploy.crowds import crowd

SIZES = (100, 1000)
CHUNKS = 20


def cost(work: Callable[[], object]) -> float:
    """Seconds of processor time, SQLite's among them; what else runs is not counted."""
    began = time.process_time()
    work()
    return time.process_time() - began


def held(work: Callable[[], object]) -> float:
    """The most MiB that Python holds at once for it; with the bookkeeping it takes longer, so this is a run apart."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def examine() -> None:
    """The whole examination, which must find nothing."""
    if findings := doctor.examine():
        raise SystemExit(f"There is something to find, so this measures nothing: {findings[0]}")


def measure(size: int) -> tuple[str, ...]:
    """Seconds to examine so many installs, to move them and to prove their archive; MiB held; bytes of the archive."""
    installs = crowd(size, ended=timezone.now() - timedelta(days=100), chunks=CHUNKS)
    folder = Path(tempfile.mkdtemp(dir=settings.VAR_DIR))
    examined, memory = cost(examine), held(examine)
    moved = cost(lambda: retention.purge(90, folder, "bench"))
    (archive,) = folder.glob("*.tar")
    own = [signing.own_key().public_key()]
    proved = cost(lambda: file.prove(archive, own))
    events = f"{size * installs[0].last_seq:,}"
    figures = f"{examined:.1f}", f"{memory:.0f}", f"{moved:.1f}", f"{proved:.1f}", f"{archive.stat().st_size / 1e6:.1f}"
    return f"{size:,}", events, f"{size * CHUNKS:,}", *figures


def main() -> None:
    settings.LANDFALL_ARCHIVE_KEY = base64.b64encode(bytes(32)).decode()
    call_command("migrate", verbosity=0)
    measure(10)  # what is imported and cached the first time is not to be measured
    head = [
        "installs", "events", "pieces of log", "doctor, s", "doctor holds, MiB", "purge, s", "verify, s", "archive, MB",
    ]  # fmt: skip
    print(table(head, [measure(size) for size in SIZES]))


if __name__ == "__main__":
    main()

"""`python -m bench.metered_worker FILE --slots N`: the worker command, with a meter at what it calls.

The meters count processor time of the thread that calls, and of paramiko's own threads: time spent waiting, for the
network or for the interpreter's lock, is not in it. When the worker has ended they are written into the file.
"""

import functools
import json
import resource
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import paramiko
from django.core.management import call_command

_seconds: defaultdict[str, float] = defaultdict(float)
_calls: Counter[str] = Counter()
_lock = threading.Lock()


def metered(meter: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its processor time counted."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time() - began
            with _lock:
                _seconds[meter] += took
                _calls[meter] += 1

    return counted


def install_meters() -> None:
    """Puts a meter at SSH, Redfish, and what the engine does for every install."""
    from deploy import control, journal, leased, limits, live, logbook, models, pglayer, queue, scribe, transport
    from metadata import boot
    from servers import inventory
    from servers.power.redfish import Redfish

    ssh = {
        paramiko.Transport: ("run",),
        transport: ("connect", "host_key"),
        transport.SSH: ("run", "stream", "close"),
        transport._ChannelStream: ("read", "status", "close"),
    }
    places: dict[str, dict[Any, tuple[str, ...]]] = {
        "SSH": ssh,
        "Redfish": {Redfish: ("state", "boot_from", "power_on", "power_off", "reset")},
        "log": {scribe: ("_stored",), leased: ("store_now",), logbook.Logbook: ("open",)},
        "events": {journal: ("append",)},
        "scripts": {control: ("armed_context", "dry_context", "script")},
        "histories": {models.Install: ("state",)},
        "facts": {
            inventory: ("record_facts",),
            control: ("storage_plan",),
            control.StepControl: ("boot_into_rescue",),
            boot: ("direct_to_disk",),
        },
        "hints": {live._Crier: ("_send",), pglayer.Line: ("_say_pending",), pglayer.PostgresChannelLayer: ("_heard",)},
        "queue": {queue: ("claim_all", "notices", "renew", "release"), limits: ("admit",)},
    }
    for meter, owners in places.items():
        for owner, names in owners.items():
            for name in names:
                setattr(owner, name, _metered(meter, owner, name))


def _metered(meter: str, owner: Any, name: str) -> Any:
    is_of_class = isinstance(vars(owner).get(name), classmethod)
    return staticmethod(metered(meter, getattr(owner, name))) if is_of_class else metered(meter, getattr(owner, name))


def main() -> None:
    file, *arguments = sys.argv[1:]
    django.setup()
    install_meters()
    began = time.process_time()
    call_command("worker", *arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "cpu": time.process_time() - began,
        "peak_mib": used.ru_maxrss / 1024,
        "seconds": dict(_seconds),
        "calls": dict(_calls),
    }
    Path(file).write_text(json.dumps(measured))


if __name__ == "__main__":
    main()

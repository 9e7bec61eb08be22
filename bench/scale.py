"""One worker process with 100, 300, and 1,000 simulated installs at once: what an install costs, and what pages take.

For each number a fresh PostgreSQL, web process, simulation process and `worker --slots 1000`; all installs are
requested before the worker starts. While they run, the pages are asked for one after the other, with a session.
Writes its table into the docs itself. `python -m bench.scale 20` measures and prints that number alone, and publishes
it with `--write`. No number takes longer than half an hour.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from django.db import connection
from django.test import Client
from django.urls import reverse

from bench import house, report
from deploy.events import Kind, Status
from deploy.logs import count as lines_in
from deploy.models import Event, Install, LogChunk
from lab.simulation import Process, inventory
from servers.models import Server

SIZES = (100, 300, 1000)
SLOTS = 1000
PACE = (
    '{"firmware": [5, 30], "system": [5, 20], "command": 0.3, "copy": 20, "copy_lines": 100, "build": 10,'
    ' "retry": [2, 60]}'
)
"""Some two minutes an install, most of them in rescue: firmware, commands, a copy that tells how far it is, GRUB.

A call that was not taken is repeated as real machines do it (metadata/phonehome.sh): a thousand that ask anew every few
seconds would keep a web process busy with saying no."""
WORKER_NICE = 5
"""As packaging/systemd has it."""
SIMULATION_NICE = 10
"""The servers are machines of their own, and take no processor from Landfall."""
BETWEEN_VISITS = 0.25
LONGEST = 1800.0

OWN = (
    ("events", "writing events"),
    ("log", "storing the log"),
    ("queue", "claims, leases, limits"),
    ("scripts", "making scripts"),
    ("histories", "reading histories"),
    ("facts", "facts, plans, boot decisions"),
    ("hints", "hints to the pages"),
)

Figures = dict[str, Any]


@dataclass(slots=True)
class Visitor:
    """Somebody who looks at the pages all the time; milliseconds of every visit by page."""

    port: int
    cookie: str
    pages: Mapping[str, str]
    took: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    _leaves: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def come(self) -> None:
        self._thread = threading.Thread(target=self._look, name="visitor")
        self._thread.start()

    def leave(self) -> None:
        self._leaves.set()
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        for page in cycle(self.pages):
            if self._leaves.wait(BETWEEN_VISITS):
                return
            began = time.monotonic()
            status = self._visit(self.pages[page])
            self.took.setdefault(page, []).append(1000 * (time.monotonic() - began))
            if status != 200:
                self.refused[status] += 1

    def _visit(self, address: str) -> int:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            line.request("GET", address, headers={"Cookie": f"sessionid={self.cookie}"})
            answer = line.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            line.close()


def main() -> None:
    if house.inside():
        print(json.dumps(measured(int(sys.argv[1]))))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="how many installs at once")
    parser.add_argument("--write", action="store_true", help="put the table into the docs, as a run of all sizes does")
    options = parser.parse_args()
    sizes = tuple(options.sizes)
    found = {size: run(size) for size in sizes}
    text = f"{table(found)}\n\n{report.machine()}"
    print(text)
    if sizes == SIZES or options.write:
        report.put("scale", text)


def run(size: int) -> Figures:
    """The figures for that many installs, measured in a Landfall of their own."""
    print(f"measuring {size} installs", file=sys.stderr)
    done = house.again("bench.scale", str(size), folder=str(size))
    if done.returncode:
        raise SystemExit(f"The run with {size} installs failed.")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(figures, indent=1), file=sys.stderr)
    return figures


def measured(size: int) -> Figures:
    """Everything about one run."""
    landfall = house.landfall()
    meter = landfall.folder / "worker.json"
    try:
        web = landfall.web()
        remote = landfall.simulation("--servers", str(size), "--pace", PACE)
        simulation = landfall.processes[-1]
        os.setpriority(os.PRIO_PROCESS, simulation.pid, SIMULATION_NICE)
        installs = [inventory.request(server) for server in Server.objects.order_by("name")]
        visitor = a_visitor(landfall.port, installs[0])
        idle = {name: cpu(process) for name, process in (("web", web), ("simulation", simulation))}
        began = time.time()
        worker = landfall.spawn("worker", "-m", "bench.metered_worker", str(meter), "--slots", str(SLOTS))
        os.setpriority(os.PRIO_PROCESS, worker.pid, WORKER_NICE)
        visitor.come()
        peaks = watch(worker)
        took = time.time() - began
        visitor.leave()
        used = {name: cpu(process) - idle[name] for name, process in (("web", web), ("simulation", simulation))}
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
        complaints = [sentence for record in remote.records() for sentence in record["complaints"]]
    finally:
        landfall.stop()
    said = (landfall.folder / "worker.log").read_text()
    return {
        **outcome(size, took),
        **json.loads(meter.read_text()),
        **peaks,
        "web_cpu": used["web"],
        "simulation_cpu": used["simulation"],
        "pages": {page: percentiles(times) for page, times in visitor.took.items()},
        "refused": dict(visitor.refused),
        "errors": sum(word in said for word in ("ERROR", "Traceback", "CRITICAL")) + len(complaints),
    }


def a_visitor(port: int, install: Install) -> Visitor:
    """Somebody of ops, logged in."""
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(inventory.operator())
    pages = {
        "list of servers": reverse("servers"),
        "board": reverse("board"),
        "install": install.get_absolute_url(),
    }
    return Visitor(port, client.cookies["sessionid"].value, pages)


def watch(worker: Process) -> Figures:
    """The most that were in flight and in jobs, and the most threads, until all installs have ended."""
    most = {"in_flight": 0, "in_jobs": 0, "threads": 0}
    deadline = time.monotonic() + LONGEST
    while (steps := house.live()) and time.monotonic() < deadline:
        if worker.poll() is not None:
            raise SystemExit("The worker has ended; its last words are in worker.log.")
        in_jobs = steps.total() - sum(steps[name] for name in ("", "rescue", "phone-home"))
        now = {"in_flight": steps.total(), "in_jobs": in_jobs, "threads": threads_of(worker)}
        most = {name: max(most[name], number) for name, number in now.items()}
        time.sleep(1)
    return most


def outcome(size: int, took: float) -> Figures:
    """What the database says of the run."""
    ended = sorted(at.timestamp() for at in Install.objects.values_list("ended_at", flat=True) if at)
    lines = sum(lines_in(text) for text in LogChunk.objects.values_list("text", flat=True).iterator())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM deploy_logchunk GROUP BY floor(extract(epoch FROM at) / 10)")
        busiest = max((number for (number,) in cursor.fetchall()), default=0) / 10
    return {
        "size": size,
        "took": took,
        "succeeded": Install.objects.filter(status=Status.SUCCEEDED).count(),
        "attempts_failed": Event.objects.filter(kind=Kind.STEP_FAILED).count(),
        "median_ended": statistics.median(ended) - (ended[-1] - took) if ended else 0,
        "lines": lines,
        "chunks": LogChunk.objects.count(),
        "busiest": busiest,
        "events": Event.objects.count(),
    }


def threads_of(process: Process) -> int:
    """How many threads it has now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def cpu(process: Process) -> float:
    """Seconds of processor time that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    ordered = sorted(times)
    return tuple(ordered[len(ordered) * part // 100] for part in (50, 95, 99))  # type: ignore[return-value]


def table(found: Mapping[int, Figures]) -> str:
    """What is published: a column for each number of installs."""
    rows: list[tuple[str, Callable[[Figures], str]]] = [
        ("succeeded", lambda f: f"{f['succeeded']} of {f['size']}"),
        ("attempts that failed; errors in the worker's log", lambda f: f"{f['attempts_failed']}; {f['errors']}"),
        ("seconds until the last had ended", lambda f: f"{f['took']:.0f}"),
        ("installs a minute", lambda f: f"{60 * f['size'] / f['took']:.0f}"),
        ("most in flight; most in a job at once", lambda f: f"{f['in_flight']}; {f['in_jobs']}"),
        ("worker: CPU ms an install", lambda f: per_install(f, f["cpu"])),
        ("of it the engine's own", lambda f: per_install(f, f["cpu"] - external(f))),
        *((f"— {words}", lambda f, meter=meter: per_install(f, f["seconds"].get(meter, 0))) for meter, words in OWN),
        ("of it SSH (paramiko)", lambda f: per_install(f, f["seconds"].get("SSH", 0))),
        ("of it Redfish (sushy)", lambda f: per_install(f, f["seconds"].get("Redfish", 0))),
        ("worker: peak memory, MiB", lambda f: f"{f['peak_mib']:.0f}"),
        ("worker: most threads", lambda f: f"{f['threads']}"),
        ("web process: processor, % of one core", lambda f: f"{100 * f['web_cpu'] / f['took']:.0f}"),
        ("lines of log; a second", lambda f: f"{f['lines']:,}; {f['lines'] / f['took']:,.0f}"),
        ("rows of log an install; most a second", lambda f: f"{f['chunks'] / f['size']:.0f}; {f['busiest']:.0f}"),
        *(
            (f"{page}: p50, p95, p99, ms", lambda f, page=page: ", ".join(f"{ms:.0f}" for ms in f["pages"][page]))
            for page in next(iter(found.values()))["pages"]
        ),
    ]
    head = ("", *(f"{size:,} at once" for size in found))
    return report.table(head, [(name, *(show(figures) for figures in found.values())) for name, show in rows])


def external(figures: Figures) -> float:
    """Seconds that went into talking to machines."""
    return float(figures["seconds"].get("SSH", 0) + figures["seconds"].get("Redfish", 0))


def per_install(figures: Figures, seconds: float) -> str:
    """Milliseconds of it for each install."""
    return f"{1000 * seconds / figures['size']:.0f}"


if __name__ == "__main__":
    main()

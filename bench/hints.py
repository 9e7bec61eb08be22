"""What hints from one process to another cost over PostgreSQL, and how many arrive; and whether a restart is survived.

`python -m bench.hints` measures Landfall's own layer; `--layer channels_postgres.core.PostgresChannelLayer` another one
that is installed. Thirty watchers in one process, three thousand hints from another, at 100 a second.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from channels.layers import get_channel_layer
from django.core.management import call_command

from bench.report import table
from tests import postgres

OURS = "deploy.pglayer.PostgresChannelLayer"
GROUP = "install.bench"
_CONNECTIONS = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = 'postgres'"


async def watch(viewers: int) -> None:
    """Tells on standard output what has arrived, whenever it is asked on standard input."""
    layer = get_channel_layer()
    heard: list[list[float]] = [[] for _ in range(viewers)]

    async def viewer(number: int) -> None:
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        while True:
            message = await layer.receive(channel)
            if "at" in message:
                heard[number].append(1000 * (time.time() - message["at"]))

    tasks = [asyncio.create_task(viewer(number)) for number in range(viewers)]
    await asyncio.sleep(2)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        spent = sum(os.times()[:2])
        print(json.dumps({"heard": heard, "cpu": spent}), flush=True)
    for task in tasks:
        task.cancel()


async def tell(hints: int, rate: float) -> None:
    """Sends that many hints at an even pace; how long the calls took."""
    layer = get_channel_layer()
    began, failed = time.time(), 0
    for number in range(hints):
        await asyncio.sleep(max(0.0, began + number / rate - time.time()))
        try:
            await layer.group_send(GROUP, {"type": "more", "at": time.time()})
        except Exception:
            failed += 1
    await asyncio.sleep(1)
    print(json.dumps({"failed": failed, "cpu": sum(os.times()[:2])}))


class Measured:
    """One layer on one fresh cluster."""

    def __init__(self, layer: str, cluster: postgres.Cluster, viewers: int) -> None:
        self.layer, self.cluster = layer, cluster
        self._command = [sys.executable, "-m", "bench.hints"]
        self._env = os.environ | {"DATABASE_URL": cluster.url("postgres")}
        if layer != OURS:
            self._env |= {"DJANGO_SETTINGS_MODULE": "bench.hints_settings", "BENCH_LAYER": layer}
            subprocess.run([*self._command, "--role", "migrate"], env=self._env, check=True)
        self.watching = subprocess.Popen(
            [*self._command, "--role", "watch", "--viewers", str(viewers)],
            env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.watching.stdout
        self.watching.stdout.readline()

    def heard(self) -> dict[str, Any]:
        assert self.watching.stdin
        assert self.watching.stdout
        self.watching.stdin.write("\n")
        self.watching.stdin.flush()
        return dict(json.loads(self.watching.stdout.readline()))

    def tell(self, hints: int, rate: float) -> dict[str, Any]:
        command = [*self._command, "--role", "tell", "--hints", str(hints), "--rate", str(rate)]
        return dict(json.loads(subprocess.run(command, env=self._env, stdout=subprocess.PIPE, check=True).stdout))

    def query(self, sql: str) -> Any:
        with psycopg.connect(host=str(self.cluster.folder), user=postgres.USER, dbname="postgres") as connection:
            row = connection.execute(sql).fetchone()
            return row[0] if row else None

    def server_cpu(self) -> float:
        """Seconds of processor time of PostgreSQL and all that it has started."""
        ticks, server = 0, int((self.cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (found := _stat(int(entry.name))) and server in (int(entry.name), found[1]):
                ticks += sum(found[11:15]) if int(entry.name) == server else sum(found[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/pid/stat behind the state, so that [1] is the parent; empty when it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [0, *map(int, words[1:])]


def measure(layer: str, viewers: int, hints: int, rate: float) -> list[tuple[str, str]]:
    with postgres.cluster() as cluster:
        run = Measured(layer, cluster, viewers)
        written, spent = run.query("SELECT pg_current_wal_lsn() - '0/0'"), run.server_cpu()
        told = run.tell(hints, rate)
        after = run.heard()
        written = run.query("SELECT pg_current_wal_lsn() - '0/0'") - written
        spent = run.server_cpu() - spent
        late = sorted(delay for viewer in after["heard"] for delay in viewer)
        counts = [len(viewer) for viewer in after["heard"]]
        lines = [
            (
                "heard by the median and by the worst watcher",
                f"{statistics.median(counts):.0f}, {min(counts)} of {hints}",
            ),
            ("late by, median and p99", f"{statistics.median(late):.1f} ms, {late[len(late) * 99 // 100]:.1f} ms"),
            ("CPU of the teller", f"{told['cpu']:.1f} s"),
            ("CPU of the watchers' process", f"{after['cpu']:.1f} s"),
            ("CPU of PostgreSQL", f"{spent:.1f} s"),
            ("written ahead by PostgreSQL", f"{int(written) / 2**20:.2f} MiB"),
            (
                "connections in use",
                str(run.query("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = 'postgres'")),
            ),
        ]
        run.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(5)
        before = sum(map(len, run.heard()["heard"]))
        again = run.tell(50, 10)
        back = sum(map(len, run.heard()["heard"])) - before
        lines.append(("after its connections were cut, heard", f"{back} of {50 * viewers}, {again['failed']} not sent"))
        run.watching.kill()
        return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", default=OURS)
    parser.add_argument("--role", default="measure", choices=["measure", "migrate", "watch", "tell"])
    parser.add_argument("--viewers", type=int, default=30)
    parser.add_argument("--hints", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=100)
    options = parser.parse_args()
    if options.role == "measure":
        print(table(("what", options.layer), measure(options.layer, options.viewers, options.hints, options.rate)))
    elif options.role == "migrate":
        call_command("migrate", verbosity=0)
    elif options.role == "watch":
        asyncio.run(watch(options.viewers))
    else:
        asyncio.run(tell(options.hints, options.rate))


if __name__ == "__main__":
    main()

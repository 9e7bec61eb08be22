"""A whole Landfall in processes of its own, each of which can be killed: web, workers and simulation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from .remote import Remote

ROOT = Path(__file__).resolve().parent.parent.parent
Process = subprocess.Popen[bytes]


def environment(folder: Path, database_url: str, port: int) -> dict[str, str]:
    """The settings of a Landfall of its own in this folder, whose web process is at this port of 127.0.0.1."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("LANDFALL_", "DJANGO_"))}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": database_url,
        "LANDFALL_VAR": str(folder),
        "LANDFALL_URL": f"http://127.0.0.1:{port}",
        "LANDFALL_MACHINE_URL": f"http://127.0.0.1:{port}",
        "LANDFALL_RESCUE_DIR": str(folder / "rescue"),
        "LANDFALL_HOSTS": "127.0.0.1",
        "LANDFALL_SECRET_KEY": "of simulated servers alone",
        "LANDFALL_SEAL_KEYS": "c2ltdWxhdGVkIHNlcnZlcnMnIG93biBrZXksIGJhc2U=",
        "LANDFALL_LOG_LEVEL": os.environ.get("LANDFALL_LOG_LEVEL", "INFO"),
        "no_proxy": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }


class Landfall:
    """Processes that share a database and a folder; every one writes its log there, and all end with `stop`."""

    def __init__(self, folder: Path, database_url: str, port: int) -> None:
        self.folder, self.port = folder, port
        self.env: Mapping[str, str] = environment(folder, database_url, port)
        self.url = f"http://127.0.0.1:{port}"
        self.processes: list[Process] = []
        self._make_rescue_dir()

    def manage(self, *arguments: str, check: bool = True) -> str:
        """What a `manage.py` command printed."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=dict(self.env), capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def web(self, *arguments: str) -> Process:
        """The web process, answering when this returns; it drives no installs unless `--slots` is among the rest."""
        own = arguments or ("--no-worker",)
        process = self.spawn("web", "manage.py", "serve", "--port", str(self.port), *own)
        deadline = time.monotonic() + 60
        while not _answers(f"{self.url}/login/"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the web process does not answer; see {self.folder}/web.log")
            time.sleep(0.1)
        return process

    def worker(self, slots: int, name: str = "worker", *arguments: str) -> Process:
        """A worker process, begun."""
        return self.spawn(name, "manage.py", "worker", "--slots", str(slots), *arguments)

    def simulation(self, *arguments: str) -> Remote:
        """A simulation process whose servers are in the inventory, ready to be switched on."""
        process = self.spawn("simulation", "-m", "lab.simulation", "--landfall", self.url, "--register", *arguments,
                             stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdout
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"the simulation did not start; see {self.folder}/simulation.log")
        return Remote(json.loads(said)["url"])

    def spawn(self, name: str, *command: str, stdout: int | None = None) -> Process:
        """A Python process of this Landfall, its output in `name`.log.

        The kernel kills it when the thread that calls this ends, so that nothing is left of a test that was killed.
        """
        ours = ["setpriv", "--pdeathsig=KILL", sys.executable, *command]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ours, cwd=ROOT, env=dict(self.env), stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Ends every process that still runs: asked first, and after ten seconds no longer asked."""
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)  # one that a test has stopped could not end
            process.terminate()
        deadline = time.monotonic() + 10
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _make_rescue_dir(self) -> None:
        """A rescue system of no use to anybody: simulated servers read the boot script, and load nothing."""
        rescue = self.folder / "rescue"
        rescue.mkdir(parents=True, exist_ok=True)
        (self.folder / "static").mkdir(exist_ok=True)  # whitenoise warns where there is none
        files = {"vmlinuz": b"kernel\n", "initrd.img": b"initramfs\n"}
        for name, content in files.items():
            (rescue / name).write_bytes(content)
        manifest = {"files": {name: {} for name in files}, "kernel_args": "console=ttyS0"}
        (rescue / "manifest.json").write_text(json.dumps(manifest))


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=2).close()
    except OSError:
        return False
    return True

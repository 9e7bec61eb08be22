"""A whole Landfall for the end-to-end tests: web app, worker and two virtual servers, as `bin/demo` starts them.

The worker is a process of its own, so that it can be killed. On SQLite, as the demo; LANDFALL_TEST_DATABASE=postgres
puts it all on PostgreSQL.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.factory import variants
from lab.demo import BMC_USER
from rescue import build as rescue
from tests import postgres
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

# What is asked of an installed system, over SSH with the customer's key. Each answer is printed after its name.
QUESTIONS: Mapping[str, str] = {
    "hostname": "hostname",
    "cloud_init": "cloud-init status --long",
    "datasource": "cat /run/cloud-init/cloud-id /run/cloud-init/result.json",
    "mdstat": "cat /proc/mdstat",
    "esps": "for esp in /boot/efi /boot/efi2; do ! mountpoint -q $esp || "
    "(cd $esp && find . -type f -exec sha256sum {} + | sort | sha256sum); done",
    "firmware": "[ -d /sys/firmware/efi ] && echo uefi || echo bios",
    "fstab": "findmnt --verify --verbose && awk '$1 ~ /^UUID=/ { print $2 }' /etc/fstab",
    "mounted": "findmnt --noheadings --list --output TARGET,FSTYPE --types ext4,vfat",
    "units": "find /etc /usr/local -name '*landfall-phone*'",
    "config_drive": "mkdir -p /mnt/c && mount -o ro /dev/disk/by-label/config-2 /mnt/c && "
    "cat /mnt/c/openstack/latest/meta_data.json; umount /mnt/c",
    "first_boot": "cat /var/lib/first-boot; ls -d /etc/cloud /var/lib/cloud /usr/bin/cloud-init",
    "failed_units": "systemctl --failed --plain --no-legend",
}


PATIENCE = os.environ.get("LANDFALL_TEST_PATIENCE", "3")
"""An emulated processor is ten to twenty times slower than a real one; on a busy machine even slower."""


STREAMED = "Debian 12, published"
"""The image, as a RAW file, that is copied as a stream once it is published; the demo's own is copied by rsync."""


@dataclass(frozen=True, slots=True)
class House:
    """Where a running Landfall is."""

    url: str
    var: Path
    env: Mapping[str, str]
    bmc: str = ""
    commands: "list[subprocess.Popen[str]]" = field(default_factory=list)
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def password(self, role: str) -> str:
        """What the demo's person of this role logs in with."""
        return (self.var / f"demo-{role}").read_text()

    # Commands

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """A `manage.py` command, begun; what it prints comes line by line."""
        process = subprocess.Popen(
            [sys.executable, "-u", "manage.py", *arguments],
            cwd=ROOT, env=dict(self.env), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.commands.append(process)
        return process

    def manage(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """A `manage.py` command, run to its end."""
        process = self.begin(*arguments)
        output, errors = process.communicate()
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check and done.returncode != 0:
            raise AssertionError(f"manage.py {arguments[0]} ended with {done.returncode}:\n{output}{errors}")
        return done

    def end_commands(self) -> None:
        """Ends the commands that still run: when a test has failed, nobody waits for the others' installs."""
        for process in self.commands:
            if process.poll() is None:
                process.terminate()

    def inside(self, question: str, **arguments: Any) -> Any:
        """The answer of a function of `tests.e2e.inside`, which has the database."""
        code = f"from tests.e2e import inside; inside.answer({question!r}, {json.dumps(arguments)!r})"
        return json.loads(self.manage("shell", "--verbosity=0", "-c", code).stdout)

    def count(self, server: str) -> int:
        """How many installs the server has had."""
        return int(self.inside("count", server=server))

    def history(self, server: str, install: int = -1) -> dict[str, Any]:
        """What Landfall itself has of the server's latest install (or an earlier one)."""
        return dict(self.inside("history", server=server, install=install))

    # Processes and power

    def hire(self, patience: str = PATIENCE) -> None:
        """Starts a worker."""
        env = {**self.env, "LANDFALL_PATIENCE": patience}
        with (self.var / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.workers.append(worker)

    def kill_worker(self) -> float:
        """`kill -9` of the worker, and another one in its place; the time at which it died."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()
        died = time.time()
        self.hire()
        return died

    def relieve_worker(self, patience: str = PATIENCE) -> None:
        """The worker asked to end, as at an update, and another one in its place."""
        self.dismiss()
        self.hire(patience)

    def dismiss(self) -> None:
        """No worker any more."""
        while self.workers:
            end(self.workers.pop())

    def cut_power(self, server: str) -> float:
        """The server without power, at once; the time at which it was."""
        account = base64.b64encode(f"{BMC_USER}:{(self.var / 'demo-bmc').read_text()}".encode()).decode()
        request = urllib.request.Request(
            f"{self.bmc}/redfish/v1/Systems/{server}/Actions/ComputerSystem.Reset",
            b'{"ResetType": "ForceOff"}',
            {"Authorization": f"Basic {account}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=60).close()
        return time.time()

    def console(self, server: str) -> str:
        """Everything that the server ever wrote to its serial port; nothing before it was switched on."""
        log = self.var / "lab" / server / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def ask(self, port: int) -> dict[str, str]:
        """The answers of an installed system to all questions."""
        # What is mounted late, because it may be missing, is mounted when the system says that it is up.
        script = "systemctl is-system-running --wait >/dev/null\n" + "".join(
            f"echo '### {name}'; {{ {question}; }} 2>&1\n" for name, question in QUESTIONS.items()
        )
        parts = self.say(port, script).split("### ")[1:]
        return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}

    def say(self, port: int, script: str, patience: float = 300) -> str:
        """What a script prints, run as root on an installed system."""
        return subprocess.run(
            ["ssh", "-i", str(self.var / "demo_key"), "-p", str(port), *_SSH, "debian@127.0.0.1", "sudo", "bash", "-s"],
            input=script, text=True, capture_output=True, timeout=patience, check=True,
        ).stdout  # fmt: skip


_SSH = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
)  # fmt: skip


@contextmanager
def running(var: Path) -> Iterator[House]:
    """Landfall with its two servers, oak (UEFI, two disks) and elm (BIOS, one disk); all of it stopped at the end."""
    web, bmc = free_port(), free_port()
    script = (
        "import signal, threading\nfrom contextlib import ExitStack\nfrom pathlib import Path\nfrom lab import demo\n"
        "stop = threading.Event()\nsignal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
        f"ports = demo.Ports({web}, {bmc}, {_two_free_ports()})\n"
        "with ExitStack() as house:\n"
        f"    demo.start(house, Path({str(var)!r}), ports, '--no-worker')\n"
        "    print('ready', ports.ssh, flush=True)\n    stop.wait()\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LANDFALL_", "DJANGO_", "DATABASE_"))}
    env |= {"LANDFALL_VAR": str(var), "LANDFALL_SECRET_KEY": "of the tests alone", "LANDFALL_SEAL_KEYS": SEAL_KEY}
    with ExitStack() as stack:
        if os.environ.get("LANDFALL_TEST_DATABASE", "").startswith("postgres"):
            env["DATABASE_URL"] = stack.enter_context(postgres.cluster()).url("postgres")
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        stack.callback(end, process)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError(f"the demo did not start; see {var}/serve.log")
        settings = {
            "LANDFALL_URL": f"http://127.0.0.1:{web}",
            "LANDFALL_MACHINE_URL": f"http://10.0.2.2:{web}",
            "OAK_PORT": line.split()[1],
            "LANDFALL_RESCUE_DIR": str(rescue.ensure(print)),
            "ELM_PORT": str(int(line.split()[1]) + 1),
        }
        house = House(settings["LANDFALL_URL"], var, env | settings, f"http://127.0.0.1:{bmc}")
        stack.callback(house.dismiss)
        file = variants.ensure("debian-12", variants.Form.RAW, print)
        house.manage("import_image", str(file), "--name", STREAMED, "--flavour", "debian-12", "--state", "offered")
        house.hire()
        yield house


def _two_free_ports() -> int:
    """The first of two neighbours that nobody listens on."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


SEAL_KEY = "dGhlIHRlc3RzIG93biBrZXksIGZvciBub3RoaW5nLiA="


def end(process: "subprocess.Popen[Any]") -> None:
    """The process, stopped: asked first, and after a minute no longer asked."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

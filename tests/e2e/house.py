"""A whole Landfall for the end-to-end tests: web app, worker and two virtual servers, as `bin/demo` starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class House:
    """Where a running Landfall is."""

    url: str
    var: Path
    env: Mapping[str, str]
    commands: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def password(self, role: str) -> str:
        """What the demo's person of this role logs in with."""
        return (self.var / f"demo-{role}").read_text()

    def manage(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """A `manage.py` command, run to its end."""
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=dict(self.env), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.commands.append(process)
        output, errors = process.communicate()
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check:
            done.check_returncode()
        return done

    def end_commands(self) -> None:
        """Ends the commands that still run: when a test has failed, nobody waits for the others' installs."""
        for process in self.commands:
            if process.poll() is None:
                process.terminate()

    def count(self, server: str) -> int:
        """How many installs the server has had."""
        return int(self.manage("shell", "--verbosity=0", "-c", _COUNT % server).stdout)

    def history(self, server: str, install: int = -1) -> dict[str, object]:
        """What Landfall itself has of the server's latest install (or an earlier one)."""
        return dict(json.loads(self.manage("shell", "--verbosity=0", "-c", _HISTORY % (server, install)).stdout))

    def ask(self, port: int) -> dict[str, str]:
        """The answers of an installed system to all questions."""
        # What is mounted late, because it may be missing, is mounted when the system says that it is up.
        script = "systemctl is-system-running --wait >/dev/null\n" + "".join(
            f"echo '### {name}'; {{ {question}; }} 2>&1\n" for name, question in QUESTIONS.items()
        )
        answer = subprocess.run(
            ["ssh", "-i", str(self.var / "demo_key"), "-p", str(port), *_SSH, "debian@127.0.0.1", "sudo", "bash", "-s"],
            input=script, text=True, capture_output=True, timeout=300, check=True,
        ).stdout  # fmt: skip
        parts = answer.split("### ")[1:]
        return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


_SSH = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
)  # fmt: skip

_COUNT = "from deploy.models import Install; print(Install.objects.filter(server__name=%r).count())"

_HISTORY = """
import json
from deploy import journal
from deploy.events import GENESIS, digest
from deploy.models import Install
install = list(Install.objects.filter(server__name=%r).order_by("created_at"))[%d]
history, state, link = install.history(), install.state(), GENESIS
for row in install.events.order_by("seq"):
    link = digest(link, row.value())
print(json.dumps({
    "status": install.status, "uuid": str(install.uuid), "steps": list(state.steps),
    "succeeded": [e.data["step"] for e in history if e.kind == "step_succeeded"],
    "started": [[e.data["step"], e.data["attempt"]] for e in history if e.kind == "step_started"],
    "seconds": {name: (p.ended_at - p.started_at).total_seconds() for name, p in state.progress.items()},
    "verified": state.result("verify").get("verified"), "host_keys": state.result("verify").get("host_keys"),
    "refold_equals_row": all(getattr(install, k) == v for k, v in journal.projection(state).items()),
    "chain_holds": link == install.digest,
    "failure": install.failure,
}))
"""


@contextmanager
def running(var: Path) -> Iterator[House]:
    """Landfall with its two servers, oak (UEFI, two disks) and elm (BIOS, one disk); all of it stopped at the end."""
    web = free_port()
    script = (
        "import signal, threading\nfrom contextlib import ExitStack\nfrom pathlib import Path\nfrom lab import demo\n"
        "stop = threading.Event()\nsignal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
        f"ports = demo.Ports({web}, {free_port()}, {_two_free_ports()})\n"
        "with ExitStack() as house:\n"
        f"    demo.start(house, Path({str(var)!r}), ports)\n"
        "    print('ready', ports.ssh, flush=True)\n    stop.wait()\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LANDFALL_", "DJANGO_", "DATABASE_"))}
    env |= {"LANDFALL_VAR": str(var), "LANDFALL_SECRET_KEY": "of the tests alone", "LANDFALL_SEAL_KEYS": _SEAL_KEY}
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        stack.callback(_end, process)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError(f"the demo did not start; see {var}/serve.log")
        url = f"http://127.0.0.1:{web}"
        settings = {
            "LANDFALL_URL": url,
            "LANDFALL_MACHINE_URL": f"http://10.0.2.2:{web}",
            "OAK_PORT": line.split()[1],
            "ELM_PORT": str(int(line.split()[1]) + 1),
        }
        yield House(url, var, env | settings)


def _two_free_ports() -> int:
    """The first of two neighbours that nobody listens on."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


_SEAL_KEY = "dGhlIHRlc3RzIG93biBrZXksIGZvciBub3RoaW5nLiA="


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

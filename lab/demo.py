"""`bin/demo`: Landfall on this machine with two virtual servers, ready to be reinstalled in a browser.

Builds what is missing, fills the database once, starts the lab and the web app, and stops all of it on Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from images.factory import build as factory
from rescue import build as rescue
from rescue.workshop import BuildFailed

from . import GIB, Lab, LabUnusable, MachineSpec

ROOT = Path(__file__).resolve().parent.parent
BMC_USER = "landfall"
IMAGE = "Debian 12"


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of a demo: the web app, the BMC, and from `ssh` on one for each server."""

    web: int
    bmc: int
    ssh: int


def specs(ports: Ports) -> tuple[MachineSpec, ...]:
    """The two virtual servers: one with UEFI and two disks, one with BIOS and one."""
    return (
        MachineSpec("oak", "uefi", (6 * GIB, 6 * GIB), ports.ssh),
        MachineSpec("elm", "bios", (6 * GIB,), ports.ssh + 1),
    )


def main() -> int:
    """0 after Ctrl-C; with --reinstall 0 only when the server has phoned home and was verified."""
    options = parser().parse_args()
    var = Path(os.environ.get("LANDFALL_VAR", ROOT / "var")).resolve()
    ports = Ports(options.port, options.port + 1, options.port + 10)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as house:
            start(house, var, ports)
            if options.reinstall:
                return follow(stop, options)
            say(f"Open http://127.0.0.1:{ports.web} and log in. Ctrl-C stops everything.")
            stop.wait()
            say("stopping")
            return 0
    except (BuildFailed, LabUnusable, DemoFailed) as error:
        print(error, file=sys.stderr)
        return 1


class DemoFailed(Exception):
    """The demo cannot run; the message says what to do."""


def parser() -> argparse.ArgumentParser:
    """The command line of bin/demo."""
    result = argparse.ArgumentParser(prog="bin/demo", description="Landfall with two virtual servers, on this machine.")
    result.add_argument("--port", type=int, default=8600, help="of the web app; the next ones are used as well")
    result.add_argument("--reinstall", action="store_true", help="start an install at once and follow it here")
    result.add_argument("--server", default="oak", choices=("oak", "elm"), help="which one, with --reinstall")
    return result


def start(house: ExitStack, var: Path, ports: Ports, *serving: str) -> None:
    """Everything of the demo, running; `house` stops it. `serving` goes to `manage.py serve`."""
    var.mkdir(parents=True, exist_ok=True)
    rescue_dir = rescue.ensure(say)
    image = factory.ensure("debian-12", say)
    configure(var, ports, rescue_dir)
    bmc_password = kept_secret(var / "demo-bmc")
    project, logins = people(var)
    for spec in specs(ports):
        add_server(spec, project, ports, bmc_password)
    offer(IMAGE, "debian-12", image, "2028-06-30")
    lab = Lab(var / "lab", specs(ports), f"http://10.0.2.2:{ports.web}", ports.bmc, BMC_USER, bmc_password, rescue_dir)
    house.enter_context(lab)
    serve(house, ports, *serving)
    say("two virtual servers: oak (UEFI, two disks) and elm (BIOS, one disk)")
    for login in logins:
        say(login)


def configure(var: Path, ports: Ports, rescue_dir: Path) -> None:
    """The settings of the demo, for this process and those that it starts."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="config.settings",
        LANDFALL_VAR=str(var),
        LANDFALL_URL=f"http://127.0.0.1:{ports.web}",
        LANDFALL_MACHINE_URL=f"http://10.0.2.2:{ports.web}",
        LANDFALL_RESCUE_DIR=str(rescue_dir),
        # QEMU translates a program anew at every address that it is loaded to: without address randomisation an
        # emulated machine starts a program in 52 ms instead of 153 (measured), and an install is mostly that.
        LANDFALL_RESCUE_ARGS="norandmaps",
        # An emulated processor is ten to twenty times slower than a real one.
        LANDFALL_PATIENCE=os.environ.get("LANDFALL_PATIENCE", "3"),
    )
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def people(var: Path) -> tuple[int, list[str]]:
    """People, a project and its key, as far as they are not there yet; the project's number, and the logins."""
    from accounts.models import Membership, Project, Role, User

    project, _ = Project.objects.get_or_create(slug="example", defaults={"name": "Example Inc."})
    logins = []
    for role in Role:
        user, _ = User.objects.get_or_create(username=role.value, defaults={"role": role})
        password = kept_secret(var / f"demo-{role.value}")
        user.role = role
        user.set_password(password)
        user.save()
        logins.append(f"log in as {role.value:<9} password {password}")
        if role is Role.CUSTOMER:
            Membership.objects.get_or_create(user=user, project=project)
    remember_key(var, project.pk)
    return project.pk, logins


def offer(name: str, flavour: str, image: Path, end_of_life: str) -> None:
    """The image in the catalogue under this name; another file that had it is retired."""
    from django.core.management import call_command

    from images.models import Image

    if not Image.objects.filter(name=name, sha256=image_sha256(image)).exists():
        Image.objects.filter(name=name).update(name=f"{name} (before {time.strftime('%F %T')})", state="retired")
        call_command(
            "import_image", str(image), name=name, flavour=flavour, state="offered", end_of_life=end_of_life
        )  # fmt: skip


def image_sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember_key(var: Path, project: int) -> None:
    """A key pair of the demo's own in var/demo_key, its public half in the project."""
    from accounts.models import SSHKey
    from accounts.sshkeys import parse_public_key

    private = var / "demo_key"
    if not private.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(private)], check=True)
    key = parse_public_key(private.with_suffix(".pub").read_text())
    SSHKey.objects.update_or_create(
        project_id=project,
        name="demo",
        defaults={"public_key": key.line, "key_type": key.key_type, "fingerprint": key.fingerprint},
    )


def add_server(spec: MachineSpec, project: int, ports: Ports, bmc_password: str) -> None:
    """A virtual machine in the inventory, with the disks that its specification gives it."""
    from django.utils import timezone

    from accounts.secret import Secret
    from servers.facts import Disk, Facts, Firmware, Nic
    from servers.inventory import record_facts
    from servers.models import Nic as NicRow
    from servers.models import Server

    server, is_new = Server.objects.update_or_create(
        name=spec.name,
        defaults={
            "project_id": project,
            "serial": spec.serial,
            "firmware": spec.firmware,
            "address": "127.0.0.1",
            "ssh_port": spec.ssh_port,
            "bmc_url": f"http://127.0.0.1:{ports.bmc}",
            "bmc_system": f"/redfish/v1/Systems/{spec.name}",
            "bmc_user": BMC_USER,
            "bmc_password": Secret(bmc_password),
        },
    )
    if is_new:
        NicRow.objects.create(server=server, name="eth0", mac=spec.mac)
        disks = tuple(
            Disk(
                path=spec.disk_path(number), size=size, logical_block=spec.disk_blocks(number)[0],
                physical_block=spec.disk_blocks(number)[1], rotational=False, serial=spec.disk_serial(number),
            )
            for number, size in enumerate(spec.disks)
        )  # fmt: skip
        facts = Facts(
            Firmware(spec.firmware), "Landfall", "Virtual bare metal", spec.serial, 2, spec.memory_mib << 20,
            disks, (Nic("eth0", spec.mac),),
        )  # fmt: skip
        record_facts(server, facts, timezone.now())


def kept_secret(file: Path) -> str:
    """A password that is the same at the next start, in a file for its owner alone."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(9))
    return file.read_text()


def serve(house: ExitStack, ports: Ports, *options: str) -> None:
    """The web app with its worker (unless told otherwise), in a process of its own; returns once it answers."""
    log = house.enter_context((Path(os.environ["LANDFALL_VAR"]) / "serve.log").open("ab"))
    # A session of its own: Ctrl-C reaches this process alone, which then stops the others in order.
    server = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--port", str(ports.web), *options],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    house.callback(end, server)
    for _ in range(150):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ports.web}/login/", timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise DemoFailed(f"The web app does not answer on port {ports.web}. Its last words are in {log.name}")


def end(process: subprocess.Popen[bytes]) -> None:
    """The process, stopped: asked first, and after ten seconds no longer asked."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def follow(stop: threading.Event, options: argparse.Namespace) -> int:
    """The exit status of `manage.py reinstall --follow`; 130 when it was interrupted."""
    command = [sys.executable, "manage.py", "reinstall", options.server, "--image", IMAGE]
    command += ["--as", "customer", "--yes", "--follow"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        while process.poll() is None:
            if stop.wait(0.3):
                return 130
        return process.returncode
    finally:
        end(process)


def say(line: str) -> None:
    """A line for whoever watches."""
    print(f"==> {line}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

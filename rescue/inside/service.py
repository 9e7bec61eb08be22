"""The rescue system's call home: fetch the install's key, open SSH for it alone, report ready.

Reads the controller's URL and this boot's token from the kernel command line. The token is never printed.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import facts

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
ANSWER_TIMEOUT = 30.0


class Refused(Exception):
    """The controller said no, and asking again will not change it."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Where to call, and the one-time token that says which install is calling."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class System:
    """What the service touches: the real root, commands and clock inside the rescue, others in a test."""

    root: Path = Path("/")
    start_ssh: tuple[str, ...] = ("systemctl", "start", "ssh.service")
    settle: tuple[str, ...] = ("udevadm", "settle", "--timeout=30")
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep


def parse_command_line(text: str) -> Controller | None:
    """The controller named on the kernel's command line; None when this boot names none."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    url, token = words.get("landfall.url", ""), words.get("landfall.token", "")
    return Controller(url.rstrip("/"), token) if url and token else None


def pauses() -> Iterator[float]:
    """Seconds to wait before each next try: doubling, up to a ceiling, for ever."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)


def worth_another_try(error: Exception) -> bool:
    """Whether the same request may succeed later: the network, a busy controller, but not a refusal."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, (OSError, http.client.HTTPException))


def one_key(text: str) -> str:
    """The single public key line of an answer; Refused if it is anything else, as it goes into authorized_keys."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1 or not lines[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise Refused("the controller's answer is not one public key")
    return lines[0]


def call(system: System, controller: Controller, path: str, body: object = None) -> str:
    """The controller's answer, however often it takes to get one; Refused on any other 4xx."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {controller.token}", "Content-Type": "application/json"}
    for pause in pauses():
        try:
            request = urllib.request.Request(controller.url + path, data, headers)
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as answer:
                return str(answer.read().decode())
        except Exception as error:
            if not worth_another_try(error):
                raise Refused(f"{path} answered: {error}") from error
            system.say(f"{path}: {error}; next try in {pause:g} s")
        system.sleep(pause)
    raise AssertionError("pauses() never ends")


def admit(system: System, key: str) -> None:
    """Root's authorized_keys hold this key and no other."""
    folder = system.root / "root/.ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "authorized_keys").write_text(key + "\n")
    (folder / "authorized_keys").chmod(0o600)


def make_host_key(system: System) -> str:
    """The public half (type and key) of a host key made for this boot alone."""
    path = system.root / "etc/ssh/ssh_host_ed25519_key"
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def open_and_report(system: System, controller: Controller) -> None:
    """SSH open for the install's key, and the controller told so. Until the key is here, nothing listens."""
    system.say(f"calling {controller.url}")
    admit(system, one_key(call(system, controller, "/machine/key")))
    host_key = make_host_key(system)
    subprocess.run(system.start_ssh, check=True)
    # disks that udev has not named yet would be missing from the facts
    subprocess.run(system.settle, check=False)
    boot_id = (system.root / "proc/sys/kernel/random/boot_id").read_text().strip()
    report = {"host_keys": [host_key], "boot_id": boot_id, "facts": facts.gather()}
    call(system, controller, "/machine/ready", report)
    system.say("ready: the controller was told")


def consoles(active: str) -> list[Path]:
    """The device nodes of /sys/class/tty/console/active: a person may sit at any of them."""
    return [Path("/dev") / name for name in active.split()]


def say_everywhere(text: str) -> None:
    """One line on every console, and in the journal."""
    print(text, flush=True)
    for console in consoles(Path("/sys/class/tty/console/active").read_text()):
        try:
            descriptor = os.open(console, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.write(descriptor, f"landfall: {text}\r\n".encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)


def main() -> int:
    """Exit status 0 when the controller knows, 1 when it refused, 2 when nothing names a controller."""
    controller = parse_command_line(Path("/proc/cmdline").read_text())
    if controller is None:
        say_everywhere("no landfall.url and landfall.token on the kernel command line; nothing to do")
        return 2
    try:
        open_and_report(System(say=say_everywhere), controller)
    except Refused as refusal:
        say_everywhere(f"stopped: {refusal}. Start the install again from Landfall.")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

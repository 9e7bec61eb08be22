"""What copying an image costs: by rsync, as a stream, and the limit of the machine, on one disk in one run.

Each way goes once per round, and every other round in the opposite order: what a machine that grows warm or a cache
that fills does to the later ones, it does to all. A way is compared with the limit of its own round.

The limit is the same bytes through the same network and decompression onto the same partition, by dd: nothing that
makes files can be quicker. One virtual machine in its rescue system runs the steps' own commands; the image is the
lab's Debian 12, published by the machine that publishes. `bench.copy_here` measures without a virtual machine.
"""

import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from uuid import UUID

from accounts.secret import Secret
from bench.report import table
from deploy.commands import Command, run, script
from deploy.step import TARGET, Context, ImageSource, StreamSource
from deploy.steps.copying import copy
from deploy.steps.disks import partition
from deploy.steps.erase import wipe
from deploy.steps.mounting import mount
from images.factory.build import ensure as ensure_image
from images.flavours import flavour
from images.publishing.machine import Packed, Rescue, Source, pack
from lab import Lab
from lab.spec import GIB, MachineSpec
from rescue.build import ensure
from servers.facts import parse_facts
from servers.storage.layout import plain
from servers.storage.planner import ImageNeeds, plan
from tests.lab.controller import Controller
from tests.ports import free_port

INSTALL = UUID("5f0c1f0a-3b4e-4d65-9d0c-0c0f6ab31e55")
READY_WITHIN = 1800
ROUNDS = 2
RSYNC, STREAM, LIMIT = "rsync", "stream", "limit (dd)"
DROP_CACHES = run("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
MOST_TIMES_THE_LIMIT = 1.5
LEAST_TIMES_RSYNC = 2
"""The two aims: a stream is no slower than this many limits, and this many times as fast as rsync."""


class Teller:
    """Waits for the stream, and says on standard error what is being done."""

    def say(self, text: str) -> None:
        print(f"publishing: {text}", file=sys.stderr)

    def goes_on(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a step's commands are run: a booted rescue system, or what stands in for one."""

    enter: tuple[str, ...]
    """What a shell there is started with."""

    def seconds(self, commands: Iterator[Command] | list[Command]) -> float:
        """How long the commands of a step take there; ends the bench with what they said when one fails."""
        text = script(commands)
        begun = time.monotonic()
        done = subprocess.run([*self.enter, "bash", "-s"], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"The commands failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        return time.monotonic() - begun


@contextmanager
def served(folder: Path, host: str = "10.0.2.2") -> Iterator[str]:
    """The address of a web server with the folder's files; `host` is how this machine is called, as virtual ones do."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def booted(spec: MachineSpec, folder: Path, files: Path) -> Iterator[tuple[Machine, dict[str, object]]]:
    """A machine in its rescue system, and what that has seen of it."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    controller = Controller(files, key.with_suffix(".pub").read_text())
    with Lab(folder / "lab", [spec], controller.url_for_machines, 0, "admin", "secret", files) as lab:
        machine = lab.machines[spec.name]
        machine.power_on()
        if not controller.told.wait(READY_WITHIN):
            raise SystemExit(f"The rescue system never called; see {machine.console}.")
        options = ("StrictHostKeyChecking=no", f"UserKnownHostsFile={folder / 'known'}", "BatchMode=yes")
        ssh = ("ssh", "-F", "none", "-i", str(key), "-p", str(spec.ssh_port), *(w for o in options for w in ("-o", o)))
        yield Machine((*ssh, "root@127.0.0.1")), controller.ready[0]["facts"]
    controller.stop()


def published(image: Path, files: Path, folder: Path) -> Packed:
    """The image's stream, in the folder under its SHA-256."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        size = image.stat().st_size
        packed = pack(Source(image, "qcow2", size, 4 * GIB), Rescue(files), Path(scratch), Teller())
        (Path(scratch) / "stream").rename(folder / packed.sha256)
    return packed


def limit(ctx: Context) -> list[Command]:
    """The stream onto the bare partition, without making files."""
    assert ctx.image.stream
    return [run("umount", "--recursive", TARGET), bare(ctx.image.stream.urls[0], ctx.plan.root.device)]


def bare(url: str, device: str) -> Command:
    """Fetches and unpacks the stream, and writes its bytes onto the device."""
    unpacked = f"curl --fail --silent {url} | zstd -dc --no-check"
    return run("bash", "-c", f"set -o pipefail; {unpacked} | dd of={device} bs=1M iflag=fullblock conv=fsync")


def afresh(ctx: Context) -> list[Command]:
    """The plan's file systems, empty and mounted, and nothing of the one before in memory."""
    return [*wipe(ctx), *partition(ctx), *mount(ctx), DROP_CACHES]


@dataclass(frozen=True, slots=True)
class Took:
    """The seconds of each way, a figure per round."""

    seconds: dict[str, list[float]]

    def best(self, way: str) -> float:
        """Of all rounds the quickest: what else the machine did only ever makes it slower."""
        return min(self.seconds[way])

    def median(self, way: str) -> float:
        """Of all rounds; of two it is their mean."""
        return median(self.seconds[way])

    def times(self, way: str, other: str) -> float:
        """How many times as long as the other: by the median of the rounds, each compared with itself.

        A virtual host may have twice the speed an hour later, but hardly a minute later.
        """
        return median(one / another for one, another in zip(self.seconds[way], self.seconds[other], strict=True))

    def aims(self) -> Iterator[str]:
        """Whether the aims hold that it tells of, a sentence each."""
        limits = self.times(STREAM, LIMIT)
        held = _held(limits <= MOST_TIMES_THE_LIMIT)
        yield f"That a stream takes at most {MOST_TIMES_THE_LIMIT} times the limit {held}: it takes {limits:.2f}."
        if RSYNC in self.seconds:
            faster = self.times(RSYNC, STREAM)
            held = _held(faster >= LEAST_TIMES_RSYNC)
            yield f"That it is at least {LEAST_TIMES_RSYNC} times as fast as rsync {held}: it is {faster:.2f} times."


def _held(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def in_turn(ways: Sequence[str], rounds: int) -> list[str]:
    """The ways, once per round, every other round backwards."""
    return [way for number in range(rounds) for way in (reversed(ways) if number % 2 else ways)]


def measure(folder: Path) -> tuple[Took, Packed, int]:
    """The seconds of each way, the stream, and the bytes of the image's file."""
    files, image = ensure(say), ensure_image("debian-12", say)
    packed = published(image, files, folder)
    (folder / "image").symlink_to(image)
    spec = MachineSpec("copy", "bios", (8 * GIB,), free_port(), memory_mib=2048)
    took: dict[str, list[float]] = {way: [] for way in (RSYNC, STREAM, LIMIT)}
    with ExitStack() as stack:
        base = stack.enter_context(served(folder))
        machine, facts = stack.enter_context(booted(spec, folder, files))
        made = plan(plain(), parse_facts(facts), ImageNeeds(packed.root_bytes), INSTALL)
        size = image.stat().st_size
        with image.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        ctx = Context(
            install=INSTALL, hostname="copy", plan=made, flavour=flavour("debian-12"), config_drive={}, machine_url="",
            image=ImageSource("Debian 12", f"{base}/image", sha256, size, "qcow2"), fetch_token=Secret("t"),
            phone_home_token=Secret(""),
        )  # fmt: skip
        stream = StreamSource((f"{base}/{packed.sha256}",), packed.sha256, packed.size, with_token=False)
        streaming = replace(ctx, image=replace(ctx.image, stream=stream))
        commands: dict[str, Callable[[], Iterator[Command] | list[Command]]] = {
            RSYNC: lambda: copy(ctx), STREAM: lambda: copy(streaming), LIMIT: lambda: limit(streaming),
        }  # fmt: skip
        for way in in_turn(list(commands), ROUNDS):
            machine.seconds(afresh(ctx))
            took[way].append(machine.seconds(commands[way]()))
            print(f"{way}: {took[way][-1]:.0f} s", file=sys.stderr)
    return Took(took), packed, image.stat().st_size


def say(line: str) -> None:
    print(line, file=sys.stderr)


def _seconds(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def shown(took: Took, packed: Packed, size: int) -> str:
    """The table, and below it whether the aims hold."""
    head = ("way", "bytes fetched, MB", "seconds, best", "seconds, median", "times the limit")
    rows = [
        (
            way,
            f"{(size if way == RSYNC else packed.size) / 1e6:.0f}",
            _seconds(took.best(way)),
            _seconds(took.median(way)),
            f"{took.times(way, LIMIT):.2f}",
        )
        for way in took.seconds
    ]
    rounds = f"{len(took.seconds[LIMIT])} rounds, every other one in the opposite order."
    image = f"{packed.files} files of Debian 12, {packed.tar_bytes / 1e6:.0f} MB unpacked; {rounds}"
    return "\n\n".join((table(head, rows), " ".join(took.aims()), image))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(shown(*measure(Path(folder))))


if __name__ == "__main__":
    main()

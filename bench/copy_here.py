"""What copying a stream costs on this machine's own processors, beside the limit: `bench.copy` without emulation.

Where virtual machines are emulated, code that computes (checksums) and code that changes between programs and kernel
(17,000 files) are slowed down by different factors, and the ratio says more of the emulator than of a server. Here the
step's own commands run on this machine, as root, on a loop device: in mount namespaces of their own, where /run is
empty, so that they find a rescue system's folders and nothing of this machine's. By rsync is not measured: it opens
the image by NBD, which takes a module that not every kernel has.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from accounts.secret import Secret
from bench.copy import DROP_CACHES, INSTALL, LIMIT, STREAM, Machine, Took, bare, in_turn, published, say, served, shown
from deploy.commands import Command, run
from deploy.step import TARGET, Context, ImageSource, StreamSource
from deploy.steps.copying import copy
from images.factory.build import ensure as ensure_image
from images.flavours import flavour
from lab.spec import GIB
from rescue.build import ensure
from servers.facts import Firmware
from servers.storage import render
from servers.storage.layout import plain
from servers.storage.planner import ImageNeeds
from tests.servers.builders import make_disk, make_plan

ROUNDS = 5
DISK = 6 * GIB
HERE = Machine(("unshare", "--mount", "--propagation", "private"))


@contextmanager
def loop_device(folder: Path) -> Iterator[str]:
    """A disk of this machine's: a file with all its blocks, written past the memory that caches files."""
    file = folder / "disk"
    with file.open("wb") as disk:
        os.posix_fallocate(disk.fileno(), 0, DISK)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", file], check=True, text=True, capture_output=True
    )
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def set_up(device: str) -> list[Command]:
    """The folders of a rescue system, and the device mounted as the new one."""
    tmpfs = run("mount", "--types", "tmpfs", "tmpfs", "/run")
    return [tmpfs, run("mkdir", "-p", TARGET), run("mount", device, TARGET)]


def main() -> None:
    if os.geteuid():
        raise SystemExit("A loop device, a file system on it and a mount namespace are root's: run this as root.")
    files, image = ensure(say), ensure_image("debian-12", say)
    took: dict[str, list[float]] = {STREAM: [], LIMIT: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = published(image, files, folder)
        made = make_plan(plain(), make_disk(size=DISK), firmware=Firmware.BIOS, image=ImageNeeds(packed.root_bytes))
        with served(folder, "127.0.0.1") as base, loop_device(folder) as device:
            stream = StreamSource((f"{base}/{packed.sha256}",), packed.sha256, packed.size, with_token=False)
            ctx = Context(
                install=INSTALL, hostname="copy", plan=made, flavour=flavour("debian-12"), config_drive={},
                machine_url="", image=ImageSource("Debian 12", "", "", 0, "qcow2", stream=stream),
                fetch_token=Secret(""), phone_home_token=Secret(""),
            )  # fmt: skip
            for way in in_turn(list(took), ROUNDS):
                HERE.seconds([run(*render.mkfs(replace(made.root, device=device)).argv), DROP_CACHES])
                done = [*set_up(device), *copy(ctx)] if way == STREAM else [bare(stream.urls[0], device)]
                took[way].append(HERE.seconds(done))
                say(f"{way}: {took[way][-1]:.1f} s")
        print(shown(Took(took), packed, image.stat().st_size))


if __name__ == "__main__":
    main()

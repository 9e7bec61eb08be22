"""A Landfall for whole installs of machines and images of a test's own choice, its lab in the test's own process.

So a test can do to a machine what no BMC can: pull a disk.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from images.factory import variants
from lab import Lab, MachineSpec
from lab.demo import BMC_USER
from rescue import build as rescue
from tests.e2e.house import ROOT, SEAL_KEY, House, end
from tests.ports import free_port

LONGEST = 60 * 60
"""Seconds for one install on a busy machine that emulates its processor."""

# What the process does that has the database: the demo's own parts, with other servers and images.
_PROCESS = """\
import json, signal, sys, threading
from contextlib import ExitStack
from pathlib import Path
from lab import Bus, MachineSpec, demo
told = json.loads(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
var, ports = Path(told["var"]), demo.Ports(told["web"], told["bmc"], 0)
demo.configure(var, ports, Path(told["rescue"]))
project, _ = demo.people(var)
for spec in told["specs"]:
    spec = MachineSpec(**(spec | {"bus": Bus(spec["bus"]), "disks": tuple(spec["disks"])}))
    demo.add_server(spec, project, ports, told["password"])
for offer in told["offers"]:
    demo.offer(offer["name"], offer["flavour"], Path(offer["file"]), offer["end_of_life"])
with ExitStack() as house:
    demo.serve(house, ports, "--no-worker")
    print("ready", flush=True)
    stop.wait()
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """An image of the factory, under a name in the catalogue."""

    name: str
    flavour: str
    form: variants.Form = variants.Form.QCOW2
    end_of_life: str = "2031-06-30"
    is_published: bool = False
    """Whether it is turned into a stream, which is then what is copied; else its files are, by rsync."""


@dataclass(frozen=True, slots=True)
class Yard:
    """The running Landfall, and the machines themselves."""

    house: House
    lab: Lab
    unpublished: set[str]
    """Names of images that become a stream before they are first installed, which takes minutes."""

    def reinstall(self, server: str, image: str, layout: Mapping[str, Any] | str, *options: str) -> None:
        """The server reinstalled by the customer, to the verified login; AssertionError with the whole log if not.

        The image is the name of an offered one, or the address of one of the customer's own.
        """
        if image in self.unpublished:
            self.house.manage("publish", image)
            self.unpublished.remove(image)
        which = "--image-url" if "://" in image else "--image"
        where = ["--layout", layout] if isinstance(layout, str) else ["--layout-file", self._file(server, layout)]
        words = ("reinstall", server, which, image, *where, "--as", "customer", "--yes", "--follow", *options)
        done = self.house.manage(*words, check=False)
        (ROOT / "test-results").mkdir(exist_ok=True)
        (ROOT / "test-results" / f"{server}.log").write_text(done.stdout + done.stderr)
        history = self.house.history(server)
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}{json.dumps(history, indent=1)}"

    def ask(self, server: str) -> dict[str, str]:
        """What the installed system says, over SSH with the customer's key, once it answers."""
        deadline = time.monotonic() + LONGEST / 4
        while True:
            try:
                return self.house.ask(self._spec(server).ssh_port)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                if time.monotonic() > deadline:
                    console = self.lab.machines[server].console.read_text(errors="replace")[-3000:]
                    raise AssertionError(f"{server} does not let anybody in: {error}\n{console}") from error
                time.sleep(5)

    def say(self, server: str, script: str, patience: float = 600) -> str:
        """What a script prints, run as root on the installed system."""
        return self.house.say(self._spec(server).ssh_port, script, patience)

    @contextmanager
    def somebody_at_the_console(self, server: str, prompt: str, text: str) -> Iterator[None]:
        """Meanwhile somebody types the text, once, when the server's console prompts for it."""
        gone = threading.Event()

        def watch() -> None:
            while prompt not in self.house.console(server):
                if gone.wait(1):
                    return
            self.lab.machines[server].type(text)

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                yield
            finally:
                gone.set()
        watching.result()

    def shut_down(self, server: str) -> None:
        """The installed system ended in order, and the machine without power."""
        with suppress(subprocess.CalledProcessError):
            self.say(server, "sync; systemctl poweroff")
        deadline = time.monotonic() + 300
        while self.lab.machines[server].is_on() and time.monotonic() < deadline:
            time.sleep(1)
        self.lab.machines[server].power_off()

    def start_without(self, server: str, *disks: int) -> None:
        """The machine started, those disks gone and all others there."""
        machine = self.lab.machines[server]
        for number in range(len(machine.spec.disks)):
            machine.pull_disk(number) if number in disks else machine.plug_disk(number)
        machine.power_on()

    def _spec(self, server: str) -> MachineSpec:
        return self.lab.machines[server].spec

    def _file(self, server: str, layout: Mapping[str, Any]) -> str:
        path = self.house.var / f"{server}-layout.json"
        path.write_text(json.dumps(layout))
        return str(path)


@contextmanager
def running(var: Path, specs: Sequence[MachineSpec], offers: Sequence[Offer]) -> Iterator[Yard]:
    """Landfall with a worker, these servers and these images; all of it stopped at the end.

    Images that were never built are built first, which takes minutes.
    """
    web, password = free_port(), "of the yard"
    rescue_dir = rescue.ensure(print)
    files = [str(variants.ensure(offer.flavour, offer.form, print)) for offer in offers]
    with ExitStack() as stack:
        lab = Lab(var / "lab", specs, f"http://10.0.2.2:{web}", 0, BMC_USER, password, rescue_dir)
        stack.enter_context(lab)
        bmc = lab.bmc_url("").partition("/redfish")[0]
        told = {
            "var": str(var), "web": web, "bmc": int(bmc.rpartition(":")[2]), "rescue": str(rescue_dir),
            "password": password, "specs": [asdict(spec) | {"bus": spec.bus.value} for spec in specs],
            "offers": [
                {"name": offer.name, "flavour": offer.flavour, "file": file, "end_of_life": offer.end_of_life}
                for offer, file in zip(offers, files, strict=True)
            ],
        }  # fmt: skip
        env = {key: one for key, one in os.environ.items() if not key.startswith(("LANDFALL_", "DJANGO_", "DATABASE_"))}
        env |= {"LANDFALL_VAR": str(var), "LANDFALL_SECRET_KEY": "of the tests alone", "LANDFALL_SEAL_KEYS": SEAL_KEY}
        env |= {"LANDFALL_RESCUE_DIR": str(rescue_dir)}  # its kernel is what packs an image that is published
        env |= {"LANDFALL_IMAGE_NETWORKS": "10.0.2.2/32"}  # where machines find a web server of this host
        process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, json.dumps(told)],
            cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        stack.callback(end, process)
        assert process.stdout
        if not any(line.startswith("ready") for line in process.stdout):
            raise RuntimeError(f"Landfall did not start; see {var}/serve.log")
        env |= {"LANDFALL_URL": f"http://127.0.0.1:{web}", "LANDFALL_MACHINE_URL": f"http://10.0.2.2:{web}"}
        house = House(f"http://127.0.0.1:{web}", var, env, bmc)
        stack.callback(house.dismiss)
        house.hire()
        yield Yard(house, lab, {offer.name for offer in offers if offer.is_published})

"""Simulated servers against the real thing: Landfall's own power driver, views, transport and workers."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.secret import Secret
from deploy import transport
from deploy.commands import Command, run, script, write_file
from deploy.jobs import LOST, ROOT, Job
from deploy.transport import SSH, Refused, Stream, Unreachable
from lab import simulation
from lab.simulation import Landfall, Pace, Remote, Simulation, inventory
from lab.simulation.jobs import VOCABULARY
from lab.simulation.proof import LogProof, Piece, compare
from lab.simulation.spec import SSH_PORT
from metadata import boot, tokens
from metadata.models import Purpose
from servers.power import PowerError, PowerState, Target, power_of
from servers.power.redfish import Redfish
from tests.ports import free_port
from tests.sshd import Cut, HungUp

PACE = Pace(firmware=(0.01, 0.02), system=(0.01, 0.02), copy=0.2, build=0.1, retry=(0.1, 0.5))
NAME = "sim-0000"


def eventually(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


@dataclass(frozen=True)
class House:
    """Simulated servers that are in the inventory, and a Landfall that answers their calls."""

    remote: Remote
    servers: list[Any]

    def boot_into_rescue(self, number: int = 0) -> tuple[Secret, uuid.UUID]:
        """Switches the server on for an install of its own; its private key."""
        private, public = transport.new_key_pair()
        install = uuid.uuid4()
        boot.direct_to_rescue(self.servers[number], install, public, timedelta(hours=1))
        self.remote.order(self.servers[number].name, "power_on")
        eventually(lambda: self.answers("/machine/ready", number))
        return private, install

    def answers(self, path: str, number: int = 0, kind: str = "real") -> list[int]:
        """How the server's calls were answered."""
        calls = self.remote.record(self.servers[number].name)["calls"]
        return [call["status"] for call in calls if call["path"] == path and call["kind"] == kind]

    def connect(self, key: Secret, number: int = 0) -> SSH:
        """A connection to whatever answers there."""
        server = self.servers[number]
        return transport.connect(
            server.address, server.ssh_port, key, (transport.host_key(server.address, server.ssh_port),)
        )


@pytest.fixture
def house(
    request: pytest.FixtureRequest, live_server: LiveServer, settings: Settings, tmp_path: Path
) -> Iterator[House]:
    """Two servers; with the parameter 'faithful' their jobs are bash's."""
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {}, "kernel_args": "quiet"}))
    settings.LANDFALL_RESCUE_DIR = tmp_path
    settings.LANDFALL_MACHINE_URL = live_server.url
    faithful = getattr(request, "param", "") == "faithful"
    chosen = simulation.specs(2, simulation.free_network())
    made = Simulation(live_server.url, chosen, tmp_path / "sim", pace=PACE, faithful=len(chosen) if faithful else 0)
    with simulation.running(made) as remote:
        yield House(remote, inventory.register(chosen, remote.url))


def test_a_network_that_a_simulation_has_taken_is_free_to_nobody_else() -> None:
    number = simulation.free_network()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((f"127.{number}.255.254", SSH_PORT))


@pytest.mark.django_db
def test_the_power_driver_for_real_machines_drives_it(house: House) -> None:
    power = power_of(house.servers[0])
    assert power.state() is PowerState.OFF
    power.boot_from(Target.NETWORK)
    power.reset()
    assert power.state() is PowerState.ON
    power.boot_from(Target.DISK, persistent=True)
    power.reset()
    power.power_off()
    power.power_off()
    assert power.state() is PowerState.OFF
    record = house.remote.record(NAME)
    assert [reset for reset, _ in record["power_cycles"]] == ["On", "ForceRestart"]
    assert house.remote.record("sim-0001")["power_cycles"] == []


@pytest.mark.django_db
def test_its_bmc_can_be_busy_and_can_fail(house: House) -> None:
    power = power_of(house.servers[0])
    assert isinstance(power, Redfish)
    pauses: list[float] = []
    power._pause = pauses.append
    house.remote.order(NAME, "bmc", statuses=[409, 409])
    power.power_on()
    assert len(pauses) == 2
    house.remote.order(NAME, "bmc", statuses=[500])
    with pytest.raises(PowerError):
        power.power_off()
    assert power.state() is PowerState.ON
    house.remote.order(NAME, "bmc", statuses=[500], acted=True)
    power.power_off()
    assert power.state() is PowerState.OFF


@pytest.mark.django_db(transaction=True)
def test_in_rescue_it_lets_in_the_key_of_the_install_and_no_other(house: House) -> None:
    key, _ = house.boot_into_rescue()
    assert house.answers("/machine/key") == [200]
    assert house.answers("/machine/ready") == [204]
    house.connect(key).close()
    with pytest.raises(Refused):
        house.connect(transport.new_key_pair()[0])


COMMANDS: tuple[Command, ...] = (
    run("udevadm", "settle"),
    write_file("/run/landfall/it's there", "a text\n"),
    run("landfall-facts", result=True),
    run("umount", "/nowhere", may_fail=True),
    run("sh", "-c", "echo one\necho two"),
    run("rsync", "-a", "/from/", "/to/"),
    run("mkfs", "/dev/vda1"),
    run("sync"),
)


def read_all(stream: Stream) -> tuple[bytes, int]:
    data = b""
    while (more := stream.read(timeout=1.0)) is not None:
        data += more
    return data, stream.status()


def without_times(log: bytes) -> bytes:
    """The log with the one thing left out in which two runs may differ."""
    log = re.sub(rb"(\x1e> \d+) \d+\.\d{6} ", rb"\1 TIME ", log)
    return re.sub(rb"(\x1e< \d+ \d+) \d+\.\d{3}\n", rb"\1 TIME\n", log)


def conversation(house: House) -> dict[str, object]:
    """All that a worker asks of a rescue system, and the answers."""
    key, _ = house.boot_into_rescue()
    order = house.remote.order
    order(NAME, "script", match="rsync", lines=["a\n", " 10%\r", "b\n", "no line break"], seconds=1.0)
    order(NAME, "script", match="umount", lines=["umount: no mount point\n"], status=32)
    order(NAME, "script", match="mkfs", lines=["mkfs: I/O error\n"], status=5)
    order(NAME, "script", match="slow", lines=["slow\n"], seconds=30)
    with closing(house.connect(key)) as connection:
        job, slow, next_one = (Job(connection, f"{ROOT}/11111111/{name}") for name in ("copy-1", "slow-1", "slow-2"))
        found: dict[str, object] = {"exists before": job.exists()}
        with pytest.raises(Unreachable):
            Job(Cut(connection), job.folder).start(script(COMMANDS))
        found["begun though cut off"] = job.exists()
        job.start(script(COMMANDS))
        job.start("a second start begins nothing")
        log, status = read_all(job.follow(0))
        found |= {
            "log": without_times(log),
            "status": status,
            "followed later": without_times(read_all(job.follow(0))[0]) == without_times(log),
            "from the middle": read_all(job.follow(len(log) - 50))[0] == log[-50:],
            "beyond the end": read_all(job.follow(len(log))),
            "result": json.loads(job.result())["serial"],
            "exists": job.exists(),
            "no such job": read_all(next_one.follow(0)),
        }
        slow.start(script([run("slow")]))
        killer = threading.Timer(0.5, slow.kill)
        killer.start()
        log, found["killed"] = read_all(slow.follow(0))
        found |= {"log of the killed": without_times(log), "killed, followed": read_all(slow.follow(0))[1]}
        killer.join()
        another = Job(connection, f"{ROOT}/11111111/slow-3")
        another.start(script([run("slow")]))
        next_one.start(script([run("sync")]))
        found |= {"ended by the next": read_all(another.follow(0))[1], "the next": read_all(next_one.follow(0))[1]}
    jobs = house.remote.record(NAME)["jobs"]
    eventually(lambda: house.remote.record(NAME)["jobs"][-1]["status"] == 0)
    found["executed"] = [job["executed"] for job in jobs[:2]]
    found["starts"] = [job["starts"] for job in jobs]
    return found


EXPECTED = {
    "exists before": False,
    "begun though cut off": False,
    "status": 5,
    "followed later": True,
    "from the middle": True,
    "beyond the end": (b"", 5),
    "result": "SIM000000",
    "exists": True,
    "no such job": (b"", LOST),
    "killed": LOST,
    "killed, followed": LOST,
    "log of the killed": b"\x1e> 1 TIME slow\n",
    "ended by the next": LOST,
    "the next": 0,
    "executed": [{str(number): 1 for number in range(1, 8)}, {"1": 1}],
    "starts": [2, 1, 1, 1],
    "log": b"\x1e> 1 TIME udevadm settle\n\n\x1e< 1 0 TIME\n"
    b"\x1e> 2 TIME write '/run/landfall/it'\"'\"'s there' (7 bytes, mode 644)\n\n\x1e< 2 0 TIME\n"
    b"\x1e> 3 TIME landfall-facts\n\n\x1e< 3 0 TIME\n"
    b"\x1e> 4 TIME umount /nowhere\numount: no mount point\n\n\x1e< 4 32 TIME\n"
    b"\x1e> 5 TIME sh -c '\xe2\x80\xa6'\n\n\x1e< 5 0 TIME\n"
    b"\x1e> 6 TIME rsync -a /from/ /to/\na\n 10%\rb\nno line break\n\x1e< 6 0 TIME\n"
    b"\x1e> 7 TIME mkfs /dev/vda1\nmkfs: I/O error\n\n\x1e< 7 5 TIME\n",
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("house", ["scripted", "faithful"], indirect=True)
def test_jobs_in_python_and_in_bash_answer_the_worker_alike(house: House) -> None:
    assert conversation(house) == EXPECTED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("house", ["scripted", "faithful"], indirect=True)
def test_a_job_whose_worker_dies_while_it_is_started_is_there_for_the_next_one(house: House) -> None:
    key, _ = house.boot_into_rescue()
    folder = f"{ROOT}/11111111/copy-1"
    with pytest.raises(Unreachable):
        Job(HungUp(house.connect(key)), folder).start(script([run("sync")]))
    with closing(house.connect(key)) as connection:
        job = Job(connection, folder)
        eventually(job.exists)
        assert read_all(job.follow(0))[1] == 0


def test_the_protocol_is_the_one_that_the_simulation_speaks() -> None:
    """When this fails: bring lab/simulation/jobs.py in step with deploy/jobs.py, see that the test above says so too
    (give it whatever is new), and only then write the new number here."""
    texts = "\n".join(VOCABULARY)
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "133aa781ff60e6ed"


@pytest.mark.django_db(transaction=True)
def test_what_was_in_memory_is_gone_after_a_power_loss(house: House) -> None:
    key, _ = house.boot_into_rescue()
    house.remote.order(NAME, "script", match="slow", seconds=30)
    connection = house.connect(key)
    job = Job(connection, f"{ROOT}/11111111/copy-1")
    job.start(script([run("slow")]))
    stream = job.follow(0)
    house.remote.order(NAME, "power_loss", seconds=0.1)
    with pytest.raises(Unreachable):
        read_all(stream)
    eventually(lambda: len(house.answers("/machine/ready")) == 2)
    with closing(house.connect(key)) as connection:
        assert not Job(connection, f"{ROOT}/11111111/copy-1").exists()
    record = house.remote.record(NAME)
    assert [boot["system"] for boot in record["boots"]] == ["rescue", "rescue"]
    assert (record["power_cycles"], len(record["outages"])) == ([], 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("order", "breaks"), [("drop", True), ("deaf", True), ("freeze", False)])
def test_a_job_outlives_its_connection(house: House, order: str, breaks: bool) -> None:
    key, _ = house.boot_into_rescue()
    lines = [f"line {number}\n" for number in range(20)]
    house.remote.order(NAME, "script", match="slow", lines=lines, seconds=2)
    job = Job(house.connect(key), f"{ROOT}/11111111/copy-1")
    job.start(script([run("slow")]))
    stream = job.follow(0)
    first = stream.read(1.0) or b""
    house.remote.order(NAME, order, **({} if order == "drop" else {"seconds": 1.0}))
    if breaks:
        with pytest.raises(Unreachable):
            read_all(stream)
        eventually(lambda: can_connect(house, key))
        stream = Job(house.connect(key), job.folder).follow(len(first))
    log = first + read_all(stream)[0]
    assert [line for line in log.decode().splitlines(keepends=True) if line.startswith("line")] == lines
    assert log == house.remote.log(NAME, 0)


def can_connect(house: House, key: Secret) -> bool:
    try:
        house.connect(key).close()
    except Unreachable:
        return False
    return True


@pytest.mark.django_db(transaction=True)
def test_calls_can_be_made_twice_forged_and_made_again(house: House) -> None:
    house.remote.order(NAME, "ready", copies=[0.5], forged=1)
    house.boot_into_rescue()
    eventually(lambda: house.answers("/machine/ready", kind="copy"))
    house.remote.order(NAME, "replay")
    eventually(lambda: house.answers("/machine/ready", kind="replayed"))
    answers = {kind: house.answers("/machine/ready", kind=kind) for kind in ("real", "forged", "copy", "replayed")}
    assert answers == {"real": [204], "forged": [404], "copy": [410], "replayed": [410]}


@pytest.mark.django_db(transaction=True)
def test_what_was_installed_calls_with_the_token_that_was_written(house: House, settings: Settings) -> None:
    key, install = house.boot_into_rescue()
    token = tokens.mint(install, house.servers[0], Purpose.PHONE_HOME, timedelta(hours=1))
    target = "/run/landfall/target"
    unit = f"URL={settings.LANDFALL_MACHINE_URL}/machine/phone-home"
    made = [
        run("mount", "--types", "ext4", "/dev/vda1", target),
        write_file(f"{target}/etc/landfall-phone-home.token", token),
        write_file(f"{target}/usr/local/sbin/landfall-phone-home", unit),
        run("chroot", target, "update-grub"),
    ]  # fmt: skip
    connection = house.connect(key)
    job = Job(connection, f"{ROOT}/11111111/bootable-1")
    job.start(script(made))
    read_all(job.follow(0))
    power = power_of(house.servers[0])
    power.boot_from(Target.DISK)
    power.reset()
    eventually(lambda: house.answers("/machine/phone-home") == [204])
    power.reset()
    eventually(lambda: len(house.remote.record(NAME)["boots"]) == 3)
    assert [boot["system"] for boot in house.remote.record(NAME)["boots"]] == ["rescue", "new", "rescue"]


OUTCOME = """
import json
from deploy.models import Install, LogChunk
install = Install.objects.get()
chunks = LogChunk.objects.filter(install=install).values_list("step", "attempt", "offset", "size", "text")
print(json.dumps({"status": install.status, "chunks": list(chunks)}))
"""


def test_a_whole_install_of_a_simulated_server_succeeds(tmp_path: Path) -> None:
    landfall = Landfall(tmp_path, f"sqlite:///{tmp_path / 'landfall.sqlite3'}", free_port())
    try:
        landfall.manage("migrate", "--verbosity=0")
        landfall.web("--slots", "2")
        remote = landfall.simulation("--servers", "1")
        wanted = ("--image", inventory.IMAGE, "--as", inventory.OPERATOR)
        landfall.manage("reinstall", NAME, *wanted, "--yes", "--follow")
        outcome = json.loads(landfall.manage("shell", "--verbosity=0", "-c", OUTCOME))
        record = remote.record(NAME)
        logs = [remote.log(NAME, number) for number in range(len(record["jobs"]))]
    finally:
        landfall.stop()
    assert outcome["status"] == "succeeded"
    assert [boot["system"] for boot in record["boots"]] == ["rescue", "new"]
    assert (len(record["power_cycles"]), record["complaints"]) == (2, [])
    assert len({job["step"] for job in record["jobs"]}) == len(record["jobs"]) == 8
    for job, log in zip(record["jobs"], logs, strict=True):
        assert set(job["executed"].values()) == {1}
        stored = [Piece(*rest) for step, attempt, *rest in outcome["chunks"] if step == job["step"]]
        proof = compare(log, stored)
        assert proof.holds and proof.lines >= 10


WRITTEN = b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("pieces", "proof"),
    [
        ([Piece(0, 4, "one\n"), Piece(4, 10, "two\nthree\n")], LogProof(3)),
        ([Piece(0, 14, "one\ntwo\nthree\n"), Piece(14, 9, "\x1e! ours\n")], LogProof(3)),
        ([Piece(0, 4, "one\n"), Piece(8, 6, "three\n")], LogProof(3, lost=1)),
        ([Piece(0, 8, "one\ntwo\n"), Piece(4, 10, "two\nthree\n")], LogProof(3, doubled=1)),
        ([Piece(0, 4, "one\n")], LogProof(3, lost=2)),
        ([Piece(0, 14, "one\nfour\nthree\n")], LogProof(3, wrong=1)),
    ],
)
def test_a_line_that_is_lost_or_doubled_is_found(pieces: list[Piece], proof: LogProof) -> None:
    assert compare(WRITTEN, pieces) == proof

"""Thirty layouts, each really laid out by the steps of an install inside one booted rescue system, and read back.

Each begins on its disks as the ones before have left them: mounted, arrays and volumes up, containers open.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from accounts.secret import Secret
from deploy.commands import script
from deploy.step import Context, ImageSource
from deploy.steps.disks import partition
from deploy.steps.erase import wipe
from deploy.steps.mounting import mount
from images.flavours import flavour
from lab import Lab
from lab.machine import Machine
from rescue.build import ensure
from servers.facts import Facts, parse_facts
from servers.storage.layout import FsType, Layout
from servers.storage.plan import Plan
from servers.storage.planner import ImageNeeds, plan
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB
from tests.lab.controller import Controller
from tests.lab.matrix import CASES, KEEP, KEPT, SPEC, Case
from tests.lab.readback import LOOK, differences, wanted_of

pytestmark = [pytest.mark.qemu, pytest.mark.long, pytest.mark.xdist_group("layouts")]

READY_WITHIN = 1200
SEED = UUID("3f0c1f0a-3b4e-4d65-9d0c-0c0f6ab31e11")
PASSPHRASE = "correct horse battery staple"
NEEDS = ImageNeeds(GIB, frozenset(kind.value for kind in FsType))

# Somebody's data: a table with a file system and a volume group whose volume is in use.
_KEPT_DATA = """\
set -eu
disk=$1
printf 'label: gpt\\nsize=200MiB\\nsize=200MiB,type=E6D6D379-F507-44C2-A23C-238F2A3DF928\\n' | sfdisk --quiet "$disk"
udevadm settle
mkfs.ext4 -q -F -L precious "${disk}1"
mkdir -p /run/precious
mount "${disk}1" /run/precious
dd if=/dev/urandom of=/run/precious/data bs=1M count=64 status=none
umount /run/precious
vgcreate --yes keeper "${disk}2"
lvcreate --yes --size 100m --name kept keeper
dd if=/dev/urandom of=/dev/keeper/kept bs=1M count=50 status=none
sync
"""


@dataclass(frozen=True, slots=True)
class Rescue:
    """The booted rescue system, and how to have it do something."""

    machine: Machine
    ssh: tuple[str, ...]

    def run(self, text: str, *arguments: str) -> str:
        """The output of a bash script; the test fails with all that it said when it does."""
        done = subprocess.run(
            [*self.ssh, "bash", "-s", "--", *arguments], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def look(self, made: Plan) -> dict[str, Any]:
        """What is on the disks of the plan."""
        argv = [*self.ssh, "cat > /run/look.json; python3 /run/look.py < /run/look.json"]
        told = json.dumps(wanted_of(made))
        done = subprocess.run(argv, input=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def sum_of(self, number: int) -> str:
        """The checksum of a disk, as the host sees it: without what the machine has not written yet."""
        with self.machine.disk(number).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def seen(self, *numbers: int) -> Facts:
        """The facts, as they are now, of a machine that has only these disks."""
        serials, facts = {SPEC.disk_serial(number) for number in numbers}, parse_facts(self.run("landfall-facts"))
        return replace(facts, disks=tuple(disk for disk in facts.disks if disk.serial in serials))


@pytest.fixture(scope="module")
def rescue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rescue]:
    folder, files = tmp_path_factory.mktemp("layouts"), ensure(print)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    controller = Controller(files, key.with_suffix(".pub").read_text())
    with Lab(folder / "lab", [SPEC], controller.url_for_machines, 0, "admin", "secret", files) as lab:
        machine = lab.machines[SPEC.name]
        machine.power_on()
        assert controller.told.wait(READY_WITHIN), machine.console.read_text(errors="replace")[-3000:]
        made = prepared(machine, controller.ready[0], key)
        yield made
        subprocess.run([*made.ssh[:-1], "-O", "exit", made.ssh[-1]], check=False, capture_output=True)
    controller.stop()


def prepared(machine: Machine, ready: dict[str, Any], key: Path) -> Rescue:
    """The rescue system with somebody's data on the disk that is kept."""
    known = key.with_name("known_hosts")
    known.write_text(f"[127.0.0.1]:{SPEC.ssh_port} {ready['host_keys'][0]}\n")
    options = ("-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes")
    # one login for all: each costs an emulated machine seconds
    shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={key.with_name('mux')}", "-o", "ControlPersist=yes")
    ssh = ("ssh", "-F", "none", "-i", str(key), "-p", str(SPEC.ssh_port), *options, *shared, "root@127.0.0.1")
    made = Rescue(machine, ssh)
    made.run(_KEPT_DATA, SPEC.disk_path(KEPT))
    subprocess.run([*ssh, "cat > /run/look.py"], input=LOOK, text=True, check=True)
    return made


def context(made: Plan) -> Context:
    """As much of an install as the steps that lay out disks look at."""
    return Context(
        install=SEED, hostname="layouts", plan=made, image=ImageSource("none", "", "", 0, "raw"),
        flavour=flavour("debian-12"), config_drive={}, machine_url="", fetch_token=Secret(""),
        phone_home_token=Secret(""), disk_passphrase=Secret(PASSPHRASE),
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_disks_become_what_the_plan_says_and_a_kept_one_stays_as_it_was(case: Case, rescue: Rescue) -> None:
    empty_others(rescue, case)
    if case.before:
        rescue.run(script(wipe(context(whole(rescue.seen(*case.disks))))) + "\n" + case.before)
    facts = replace(rescue.seen(*case.disks), firmware=case.firmware)
    made = plan(case.layout, facts, NEEDS, uuid5(SEED, case.name))
    kept = rescue.sum_of(KEPT)
    ctx = context(made)
    began = time.monotonic()
    said = rescue.run(script([*wipe(ctx), *partition(ctx), *mount(ctx)]))
    print(f"{case.name}: laid out in {time.monotonic() - began:.0f} s")
    assert PASSPHRASE not in said
    assert differences(made, rescue.look(made)) == []
    # a mount that is repeated after a crash; the volume on the kept disk is still in use
    rescue.run(script(mount(ctx)) + "\ntest -b /dev/keeper/kept && sync")
    assert rescue.sum_of(KEPT) == kept


def empty_others(rescue: Rescue, case: Case) -> None:
    """Nothing runs on the disks that the case's machine does not have: arrays there would have names all the same."""
    facts = rescue.seen(*set(range(KEPT)).difference(case.disks))
    if any(disk.holders for disk in facts.disks):
        rescue.run(script(wipe(context(plan(Layout("custom", CASES[0].layout.filesystems), facts, NEEDS, SEED)))))


def whole(facts: Facts) -> Plan:
    """A plan that erases every disk of the machine but the kept one."""
    return plan(Layout("custom", CASES[0].layout.filesystems, keep=KEEP), facts, NEEDS, SEED)


def test_everything_is_torn_down_by_a_wipe_and_nothing_is_recognised_any_more(rescue: Rescue) -> None:
    made, kept = whole(rescue.seen(*range(KEPT + 1))), rescue.sum_of(KEPT)
    rescue.run(script(wipe(context(made))) + "\nsync")
    left = rescue.run(f"lsblk --noheadings --list --output NAME,FSTYPE,PTTYPE {' '.join(made.erased)}")
    assert [line.split() for line in left.splitlines()] == [[disk.removeprefix("/dev/")] for disk in made.erased]
    assert "md" not in rescue.run("grep ^md /proc/mdstat || true")
    assert rescue.run("vgs --noheadings -o vg_name").split() == ["keeper"]
    assert rescue.sum_of(KEPT) == kept


def test_a_config_drive_on_a_kept_disk_is_seen_and_refused(rescue: Rescue) -> None:
    rescue.run(f"mkfs.vfat -n config-2 {SPEC.disk_path(KEPT)}1; udevadm settle")
    facts = parse_facts(rescue.run("landfall-facts"))
    with pytest.raises(PlanImpossible, match="old config drive"):
        plan(CASES[0].layout, facts, NEEDS, SEED)

"""Secure erase: the program that runs on the rescue system, with files for disks and stand-ins for firmware."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy import erasure
from deploy.commands import shown
from deploy.logs import LineKind, parse
from deploy.steps import STEPS
from deploy.steps.erase import WIPE, erase_time, wipe
from tests.deploy.contexts import make_context

ERASER = Path(erasure.__file__).with_name("eraser.py")
MIB = 1 << 20
SECRET = b"what nobody shall read again. "

# What `hdparm -I` says of a drive that can be erased; the stand-in puts in what its state file says.
SECURITY = """\
/dev/sda:
Commands/features:
\t   *\tData Set Management TRIM supported (limit 8 blocks)
{trim}
Security:
\tMaster password revision code = 65534
\t\tsupported
\t{enabled}\tenabled
\t{locked}\tlocked
\t{frozen}\tfrozen
\tnot\texpired: security count
\t{enhanced}\tsupported: enhanced erase
\t114min for SECURITY ERASE UNIT. 116min for ENHANCED SECURITY ERASE UNIT.
"""

# A drive as its firmware behaves: it erases only by the password that it was given, and then has none.
HDPARM = """\
#!{python}
import json, pathlib, sys
state = pathlib.Path("{folder}/ata.json")
drive = json.loads(state.read_text())
words = sys.argv[1:]
disk = pathlib.Path(words[-1])
with open("{folder}/said", "a") as log:
    log.write("hdparm " + " ".join(words) + "\\n")
def no(text):
    sys.exit("SG_IO: " + text)
if words[0] == "-I":
    is_so = {{name: "" if drive[name] else "not" for name in ("enabled", "locked", "frozen", "enhanced")}}
    print(drive["text"].format(**is_so, trim=drive.get("trim", "")))
elif "--security-set-pass" in words:
    drive["frozen"] and no("frozen")
    drive.update(enabled=True, password=words[-2])
elif "--security-unlock" in words:
    drive["password"] == words[-2] or no("wrong password")
    drive["locked"] = False
elif "--security-disable" in words:
    drive["password"] == words[-2] or no("wrong password")
    drive["enabled"] = False
elif "--security-erase" in words or "--security-erase-enhanced" in words:
    (drive["enabled"] and drive["password"] == words[-2]) or no("no such password")
    drive.get("broken") and no("aborted")
    drive.get("lies") or disk.write_bytes(bytes(disk.stat().st_size))
    drive["enabled"] = False
state.write_text(json.dumps(drive))
"""

NVME = """\
#!{python}
import json, pathlib, sys
state = pathlib.Path("{folder}/nvme.json")
drive = json.loads(state.read_text())
words = sys.argv[1:]
with open("{folder}/said", "a") as log:
    log.write("nvme " + " ".join(words) + "\\n")
disk = pathlib.Path("{folder}/nvme0n1")
def erase():
    disk.write_bytes(bytes(disk.stat().st_size))
if words[0] == "id-ctrl":
    print(json.dumps({{name: drive[name] for name in ("sanicap", "oacs", "fna", "nn")}}))
elif words[0] == "list-ns" and (drive.get("no_lists") or drive.get("no_management") and "--all" in words):
    sys.exit("NVMe status: Invalid Field in Command: A reserved coded value or an unsupported value (0x2002)")
elif words[0] == "list-ns":
    print(json.dumps({{"nsid_list": [{{"nsid": number}} for number in range(drive["namespaces"])]}}))
elif words[0] == "id-ns":
    print(json.dumps({{"dlfeat": drive["dlfeat"]}}))
elif words[0] == "sanitize":
    drive.get("refuses") and sys.exit("NVMe status: Invalid Field in Command")
    drive["left"] = 2
elif words[0] == "sanitize-log":
    left = drive.get("left", 0)
    if left == 1:
        erase()
    print(json.dumps({{"sprog": 65536 * (2 - left) // 2, "sstat": 2 if left else 1 if drive.get("begun") else 0}}))
    drive.update(left=max(left - 1, 0), begun=drive.get("begun") or left > 0)
elif words[0] == "format":
    erase()
state.write_text(json.dumps(drive))
"""

BLKDISCARD = """\
#!{python}
import pathlib, sys
with open("{folder}/said", "a") as log:
    log.write("blkdiscard " + " ".join(sys.argv[1:]) + "\\n")
if "--secure" in sys.argv:
    sys.exit("blkdiscard: BLKSECDISCARD: ioctl failed: Operation not supported")
disk = pathlib.Path(sys.argv[-1])
disk.write_bytes(bytes(disk.stat().st_size))
"""

DRIVE: dict[str, Any] = {
    "text": SECURITY, "enabled": False, "locked": False, "frozen": False, "enhanced": True, "password": "",
}  # fmt: skip
CONTROLLER: dict[str, Any] = {"sanicap": 0, "oacs": 2, "fna": 0, "nn": 128, "namespaces": 1, "dlfeat": 0}


@dataclass
class Machine:
    """A folder with disks that are files, and tools that behave like firmware."""

    folder: Path
    sizes: dict[str, int] = field(default_factory=dict)

    def disk(self, name: str, size: int = 3 * MIB + 4096) -> Path:
        """A disk full of secrets."""
        path = self.folder / name
        path.write_bytes((SECRET * (size // len(SECRET) + 1))[:size])
        self.sizes[name] = size
        return path

    def ata(self, **state: Any) -> None:
        """hdparm and the drive behind it."""
        self._tool("hdparm", HDPARM)
        (self.folder / "ata.json").write_text(json.dumps(DRIVE | state))

    def nvme(self, **state: Any) -> None:
        """nvme-cli and the controller behind it."""
        self._tool("nvme", NVME)
        (self.folder / "nvme.json").write_text(json.dumps(CONTROLLER | state))

    def discards(self) -> None:
        """blkdiscard, where the disk can discard."""
        self._tool("blkdiscard", BLKDISCARD)

    def _tool(self, name: str, text: str) -> None:
        path = self.folder / "tools" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(python=sys.executable, folder=self.folder))
        path.chmod(0o755)

    def erase(self, *disks: Path) -> subprocess.CompletedProcess[str]:
        """The eraser, run to its end, with no other tools than these."""
        env = os.environ | {"PATH": str(self.folder / "tools"), "LANDFALL_ERASE_EVERY": "0"}
        argv = [sys.executable, str(ERASER), *map(str, disks)]
        return subprocess.run(argv, env=env, text=True, capture_output=True, timeout=60, check=False)

    @property
    def said(self) -> list[str]:
        """What was asked of the firmware, without looking."""
        lines = (self.folder / "said").read_text().splitlines() if (self.folder / "said").exists() else []
        looks = ("hdparm -I", "nvme id-", "nvme list-ns", "nvme sanitize-log")
        return [line.replace(f"{self.folder}/", "") for line in lines if not line.startswith(looks)]

    def is_erased(self, name: str) -> bool:
        """Whether nothing is left of a disk's content, and all of the disk is there."""
        return (self.folder / name).read_bytes() == bytes(self.sizes[name])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "tools").mkdir()
    return Machine(tmp_path)


def test_a_disk_that_can_nothing_is_overwritten_to_its_last_byte_with_word_of_how_far_it_is(machine: Machine) -> None:
    disk = machine.disk("vda", 20 * MIB + 512)
    done = machine.erase(disk)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.is_erased("vda")
    assert "vda: overwritten 39 %, " in done.stdout and "left" in done.stdout
    assert "vda: erased by overwriting in " in done.stdout
    assert "none of 64 places holds what it held" in done.stdout


def test_a_page_is_told_how_far_all_the_disks_are_together(machine: Machine) -> None:
    done = machine.erase(machine.disk("vda", 20 * MIB), machine.disk("vdb", 12 * MIB))
    told = [line for line in parse(done.stdout) if line.kind is LineKind.PROGRESS]
    assert told[-1].text == "32 of 32 MiB, 100 %, 0:00:00 left"
    of_both = [line.percent or 0 for line in told if "of 32 MiB" in line.text]
    assert of_both == sorted(of_both) and len(of_both) > 2
    machine.nvme(sanicap=3)
    sanitized = parse(machine.erase(machine.disk("nvme0n1")).stdout)
    assert any(line.kind is LineKind.PROGRESS for line in sanitized)


def test_all_disks_are_erased_and_one_that_cannot_be_hides_none(machine: Machine) -> None:
    disks = [machine.disk("vda"), machine.folder / "gone", machine.disk("vdb")]
    done = machine.erase(*disks)
    assert done.returncode == 1
    assert machine.is_erased("vda") and machine.is_erased("vdb")


def test_an_ata_drive_erases_itself_and_keeps_no_password(machine: Machine) -> None:
    machine.ata()
    disk = machine.disk("sda")
    done = machine.erase(disk)
    assert done.returncode == 0, done
    assert machine.said == [
        "hdparm --user-master u --security-set-pass landfall sda",
        "hdparm --user-master u --security-erase-enhanced landfall sda",
    ]
    assert machine.is_erased("sda")
    assert "sda: ATA secure erase, enhanced; the drive says 116 minutes" in done.stdout


def test_a_drive_without_the_enhanced_form_erases_itself_the_plain_way(machine: Machine) -> None:
    machine.ata(enhanced=False)
    done = machine.erase(machine.disk("sda"))
    assert "sda: ATA secure erase; the drive says 114 minutes" in done.stdout
    assert machine.said[-1] == "hdparm --user-master u --security-erase landfall sda"


def test_a_drive_that_a_power_failure_left_with_our_password_is_unlocked_and_erased(machine: Machine) -> None:
    machine.ata(enabled=True, locked=True, password="landfall")
    done = machine.erase(machine.disk("sda"))
    assert done.returncode == 0, done
    assert machine.said == [
        "hdparm --user-master u --security-unlock landfall sda",
        "hdparm --user-master u --security-erase-enhanced landfall sda",
    ]
    assert machine.is_erased("sda")


def test_a_drive_with_somebody_elses_password_is_told_and_nothing_else_is_tried(machine: Machine) -> None:
    machine.ata(enabled=True, locked=True, password="of somebody else")
    done = machine.erase(machine.disk("sda"))
    assert done.returncode == 1
    assert done.stderr == "sda: cannot be erased: it is locked by a password that is not ours\n"
    assert not machine.is_erased("sda")


def test_a_frozen_drive_is_overwritten(machine: Machine) -> None:
    machine.ata(frozen=True)
    done = machine.erase(machine.disk("sda"))
    assert done.returncode == 0
    assert "not by ATA secure erase: its firmware is frozen" in done.stdout
    assert machine.said == [] and machine.is_erased("sda")


def test_a_drive_whose_erase_fails_is_freed_of_the_password_and_overwritten(machine: Machine) -> None:
    machine.ata(broken=True)
    done = machine.erase(machine.disk("sda"))
    assert done.returncode == 0
    assert machine.said[-1] == "hdparm --user-master u --security-disable landfall sda"
    assert json.loads((machine.folder / "ata.json").read_text())["enabled"] is False
    assert machine.is_erased("sda")


def test_a_drive_that_lies_is_found_out_and_overwritten(machine: Machine) -> None:
    machine.ata(lies=True)
    done = machine.erase(machine.disk("sda"))
    assert "not by ATA secure erase: 64 of 64 places still hold what they held" in done.stdout
    assert "sda: erased by overwriting" in done.stdout
    assert machine.is_erased("sda")


def test_only_a_disk_that_promises_zeroes_is_discarded(machine: Machine) -> None:
    machine.discards()
    machine.ata(frozen=True, trim="\t   *\tDeterministic read ZEROs after TRIM")
    done = machine.erase(machine.disk("sda"))
    assert "sda: erased by discard" in done.stdout
    assert machine.said == ["blkdiscard --force --secure sda", "blkdiscard --force sda"]
    assert "not by discard: the disk does not promise zeroes" in machine.erase(machine.disk("vda")).stdout


def test_a_controller_that_can_is_sanitized_and_waited_for(machine: Machine) -> None:
    machine.nvme(sanicap=3)
    done = machine.erase(machine.disk("nvme0n1"))
    assert done.returncode == 0, done
    assert machine.said == ["nvme sanitize nvme0 --sanact=start-crypto-erase"]
    assert "nvme0n1: sanitized" in done.stdout
    assert machine.is_erased("nvme0n1")


def test_a_sanitize_that_is_under_way_is_waited_for_and_not_begun_again(machine: Machine) -> None:
    machine.nvme(sanicap=2, left=2)
    done = machine.erase(machine.disk("nvme0n1"))
    assert "a sanitize is under way already" in done.stdout
    assert machine.said == []
    assert machine.is_erased("nvme0n1")


@pytest.mark.parametrize(("fna", "how"), [(0, "1"), (4, "2")], ids=["user data", "crypto"])
def test_a_controller_that_cannot_sanitize_formats(machine: Machine, fna: int, how: str) -> None:
    machine.nvme(fna=fna)
    assert machine.erase(machine.disk("nvme0n1")).returncode == 0
    assert machine.said == [f"nvme format nvme0n1 --force --ses={how} --timeout=3600000"]


def test_a_controller_that_refuses_to_sanitize_formats(machine: Machine) -> None:
    machine.nvme(sanicap=2, refuses=True)
    done = machine.erase(machine.disk("nvme0n1"))
    assert "not by NVMe sanitize: NVMe status: Invalid Field in Command" in done.stdout
    assert machine.said[-1].startswith("nvme format")


def test_other_namespaces_of_a_controller_are_left_alone(machine: Machine) -> None:
    machine.nvme(sanicap=3, namespaces=2)
    done = machine.erase(machine.disk("nvme0n1"))
    assert machine.said == []
    assert "shares its controller" in done.stdout and "erased by overwriting" in done.stdout


def test_a_drive_without_namespace_management_is_sanitized_all_the_same(machine: Machine) -> None:
    machine.nvme(sanicap=3, no_management=True)
    done = machine.erase(machine.disk("nvme0n1"))
    assert machine.said == ["nvme sanitize nvme0 --sanact=start-crypto-erase"]
    assert "erased by NVMe sanitize" in done.stdout


def test_such_a_drive_with_more_namespaces_is_left_alone(machine: Machine) -> None:
    machine.nvme(sanicap=3, no_management=True, namespaces=2)
    assert "shares its controller" in machine.erase(machine.disk("nvme0n1")).stdout
    assert machine.said == []


def test_a_drive_that_lists_nothing_and_can_have_one_namespace_only_is_sanitized(machine: Machine) -> None:
    machine.nvme(sanicap=3, no_lists=True, nn=1)
    machine.erase(machine.disk("nvme0n1"))
    assert machine.said == ["nvme sanitize nvme0 --sanact=start-crypto-erase"]


@pytest.mark.parametrize("drive", [{"no_lists": True}, {"no_management": True, "oacs": 2 | 8}])
def test_a_drive_that_may_have_namespaces_which_it_does_not_list_is_overwritten(
    machine: Machine, drive: dict[str, Any]
) -> None:
    machine.nvme(sanicap=3, **drive)
    done = machine.erase(machine.disk("nvme0n1"))
    assert machine.said == []
    assert "does not say what it can" in done.stdout and "erased by overwriting" in done.stdout


# The step


def test_what_was_not_asked_for_is_not_done() -> None:
    assert not [line for line in map(shown, wipe(make_context())) if "eraser" in line]


def test_the_disks_of_the_plan_are_erased_together_once_nothing_holds_them() -> None:
    ctx = make_context()
    lines = [shown(command) for command in wipe(changed(ctx, plan=changed(ctx.plan, secure_erase=True)))]
    erased = lines.index("python3 /run/landfall/eraser.py /dev/vda /dev/vdb")
    assert max(index for index, line in enumerate(lines) if " wipe /dev/" in line) < erased


def test_a_wipe_may_take_as_long_as_its_largest_disk_needs() -> None:
    plan = make_context().plan
    assert WIPE.time_for(plan) == WIPE.timeout
    large = changed(plan.disks[1], size=20 * 10**12)
    erasing = changed(plan, secure_erase=True, disks=(plan.disks[0], large))
    assert erase_time(erasing) > timedelta(hours=5 * 24)
    assert all(step.time_for(erasing) == step.timeout for step in STEPS.values() if step is not WIPE)

"""Plans as commands: golden texts for people to read, and the real tools to say whether the commands mean it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accounts.secret import Secret
from servers.facts import Firmware
from servers.storage import render
from servers.storage.layout import DiskGroup, Filesystem, FsType, Layout, Raid, WantedVolumeGroup, plain, raid1
from servers.storage.plan import Plan, PlannedDisk, Swap
from servers.storage.sizes import GIB, MIB
from tests.servers.builders import IMAGE, make_disk, make_plan

GOLDEN = Path(__file__).parent / "golden"
PASSPHRASE = "correct horse battery staple"
PLANS = {
    "uefi-raid1": make_plan(raid1(swap=2 * GIB), make_disk(0), make_disk(1)),
    "bios-plain": make_plan(plain(swap=GIB), make_disk(), firmware=Firmware.BIOS),
    "uefi-4k": make_plan(plain(), make_disk(logical_block=4096)),
    "uefi-mixed": make_plan(
        Layout("custom", (Filesystem("/", size=8 * GIB), Filesystem("/srv/data", raid=Raid.RAID1)), keep=("SERIAL2",)),
        *(make_disk(number) for number in range(3)),
    ),
    "uefi-groups": make_plan(
        Layout(
            "custom",
            (
                Filesystem("/", FsType.XFS, 8 * GIB, volume_group="system"),
                Filesystem("/var/lib", size=4 * GIB, volume_group="system"),
                Filesystem("/srv", FsType.BTRFS, raid=Raid.RAID10, group="data"),
                Filesystem("/scratch", FsType.XFS, 10 * GIB, encrypted=True, group="data"),
            ),
            swap=2 * GIB,
            groups=(DiskGroup("data", ("SERIAL2", "SERIAL3", "SERIAL4", "SERIAL5")),),
            volume_groups=(WantedVolumeGroup("system", Raid.RAID1, encrypted=True),),
        ),
        *(make_disk(number) for number in range(6)),
        image=replace(IMAGE, filesystems=frozenset({"ext4", "xfs", "btrfs"})),
    ),
    "bios-raid6-lvm-4k": make_plan(
        Layout(
            "custom",
            (Filesystem("/", raid=Raid.RAID6, size=10 * GIB), Filesystem("/home", volume_group="data")),
            volume_groups=(WantedVolumeGroup("data", Raid.RAID5),),
        ),
        *(make_disk(number, logical_block=4096) for number in range(4)),
        firmware=Firmware.BIOS,
    ),
}

DATA_FIRST = make_plan(
    Layout(
        "custom",
        (Filesystem("/", group="system"), Filesystem("/srv", group="data")),
        groups=(DiskGroup("system", ("SERIAL1",)), DiskGroup("data", ("SERIAL0",))),
    ),
    make_disk(0),
    make_disk(1),
    firmware=Firmware.BIOS,
)


def everything(plan: Plan) -> str:
    """All that a plan becomes, as text: every command with its input, and the files."""
    calls = [
        *(call(disk) for call in (render.release, render.wipe) for disk in plan.disks),
        *render.lay_out(plan, Secret(PASSPHRASE)),
        *filter(None, [render.mkfs_config_drive(plan.config_drive)]),
    ]
    parts = [" ".join(call.argv) + (f"\n{call.stdin}" if call.stdin else "") for call in calls]
    parts += [f"/etc/fstab\n{render.fstab(plan)}", f"mdadm.conf\n{render.mdadm_conf(plan)}"]
    parts += [f"/etc/crypttab\n{render.crypttab(plan)}"] if plan.containers else []
    return "\n".join(parts)


@pytest.mark.parametrize("name", PLANS)
def test_the_commands_of_a_plan_are_those_that_were_read_and_approved(name: str) -> None:
    golden = GOLDEN / f"storage-{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(everything(PLANS[name]))
    assert everything(PLANS[name]) == golden.read_text()


def run(call: render.Call, *, file: Path, device: str) -> subprocess.CompletedProcess[str]:
    """The command, run for real on a file in the device's place."""
    argv = [str(file) if word == device else word for word in call.argv]
    stdin = call.stdin.reveal() if isinstance(call.stdin, Secret) else call.stdin
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=True)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def read_table(path: Path) -> dict[str, Any]:
    """The partition table as sfdisk finds it."""
    listed = subprocess.run(["sfdisk", "--json", str(path)], capture_output=True, text=True, check=True).stdout
    table: dict[str, Any] = json.loads(listed)["partitiontable"]
    return table


def assert_is_the_planned_table(table: dict[str, Any], disk: PlannedDisk) -> None:
    assert table["label"] == "gpt" and table["sectorsize"] == disk.sector
    assert table["id"].lower() == str(disk.uuid)
    found = [
        (one["start"] * disk.sector, one["size"] * disk.sector, one["type"].lower(), one["uuid"].lower(), one["name"])
        for one in table.get("partitions", [])
    ]
    assert found == [(one.start, one.size, one.type.value, str(one.uuid), one.name) for one in disk.partitions]


@pytest.mark.parametrize("name", [name for name, plan in PLANS.items() if plan.disks[0].sector == 512])
def test_sfdisk_makes_exactly_the_planned_table(name: str, tmp_path: Path) -> None:
    for disk in PLANS[name].disks:
        image = sparse(tmp_path / disk.path.removeprefix("/dev/"), disk.size)
        for _time in range(2):  # and again over itself, as after a crash
            run(render.write_table(disk), file=image, device=disk.path)
            assert_is_the_planned_table(read_table(image), disk)


def test_sfdisk_takes_an_odd_disk_to_its_last_mib(tmp_path: Path) -> None:
    plan = make_plan(plain(), make_disk(size=12 * GIB + 3 * 512))
    disk = plan.disks[0]
    image = sparse(tmp_path / "odd", disk.size)
    run(render.write_table(disk), file=image, device=disk.path)
    assert_is_the_planned_table(read_table(image), disk)
    assert disk.size - disk.partitions[-1].end < 2 * MIB


@contextmanager
def loop_device(image: Path, sector: int) -> Iterator[Path]:
    """The file as a block device with blocks of `sector` bytes; skips where that needs rights that we lack."""
    made = subprocess.run(
        ["losetup", "--find", "--show", "--partscan", "--sector-size", str(sector), str(image)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def test_sfdisk_makes_the_planned_table_on_4096_byte_blocks(tmp_path: Path) -> None:
    disk = PLANS["uefi-4k"].disks[0]
    with loop_device(sparse(tmp_path / "4k", disk.size), 4096) as device:
        run(render.write_table(disk), file=device, device=disk.path)
        assert_is_the_planned_table(read_table(device), disk)


def test_a_wipe_leaves_nothing_that_can_be_recognised(tmp_path: Path) -> None:
    disk = PLANS["bios-plain"].disks[0]
    with loop_device(sparse(tmp_path / "wiped", disk.size), 512) as device:
        run(render.write_table(disk), file=device, device=disk.path)
        assert probe(device)["PTTYPE"] == "gpt"
        run(render.release(disk), file=device, device=disk.path)
        run(render.wipe(disk), file=device, device=disk.path)
        assert probe(device) == {}


@pytest.mark.parametrize("call", [render.release, render.wipe])
def test_a_wipe_of_a_disk_that_is_not_there_fails(call: Any) -> None:
    missing = replace(PLANS["bios-plain"].disks[0], path="/dev/no-such-disk")
    done = subprocess.run(call(missing).argv, capture_output=True, text=True)
    assert done.returncode != 0 and "no-such-disk" in done.stderr


TOOLS = {"lsblk": "#!/bin/sh\ncat listing\n", "mdadm": "#!/bin/sh\necho mdadm $* >> calls\n"}
TOOLS["dmsetup"] = TOOLS["mdadm"].replace("mdadm", "dmsetup")
TOOLS["wipefs"] = TOOLS["mdadm"].replace("mdadm", "wipefs")
TOOLS["blockdev"] = TOOLS["mdadm"].replace("mdadm", "blockdev")


def calls_of(call: render.Call, listing: str, folder: Path) -> list[str]:
    """What the script runs when lsblk answers with `listing`; the tools are stand-ins that write it down."""
    for name, text in TOOLS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "listing").write_text(listing)
    shell, dash_c, script, *arguments = call.argv
    script = script.replace("[ -b ", "[ -n ").replace('exec 9<"$1"', "exec 9<listing")  # no such devices here
    argv = [shell, dash_c, script, *arguments]
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(argv, cwd=folder, env={**os.environ, "PATH": path}, check=True)
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


LISTING = """\
/dev/vda                disk
/dev/vda1               part
/dev/vda2               part
/dev/md127              raid1
/dev/mapper/vg-home     lvm
/dev/mapper/vg-root     lvm
/dev/vda3               part
/dev/md126
/dev/md126p1            part
"""


def test_what_lies_on_a_disk_is_stopped_from_the_top_down(tmp_path: Path) -> None:
    assert calls_of(render.release(PLANS["bios-plain"].disks[0]), LISTING, tmp_path) == [
        "mdadm --stop /dev/md126",
        "dmsetup remove --retry /dev/mapper/vg-root",
        "dmsetup remove --retry /dev/mapper/vg-home",
        "mdadm --stop /dev/md127",
    ]


def test_a_container_that_is_open_already_takes_the_passphrase_and_leaves_it_unused() -> None:
    call = render.open_container(PLANS["uefi-groups"].containers[0], Secret(PASSPHRASE))
    shell, dash_c, script, *arguments = call.argv
    # whoever writes the passphrase may come late, and would be ended by a pipe that nobody reads
    writer = f'(sleep 0.3; echo {PASSPHRASE!r}) | "$@"'
    argv = ["bash", "-o", "pipefail", "-c", writer, "open", shell, dash_c, script.replace("[ -b ", "[ -n "), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_passphrase_is_an_argument() -> None:
    for call in render.lay_out(PLANS["uefi-groups"], Secret(PASSPHRASE)):
        assert PASSPHRASE not in " ".join(call.argv)
        assert call.argv[0] != "cryptsetup" or isinstance(call.stdin, Secret)


def test_partitions_are_wiped_before_the_table_that_names_them(tmp_path: Path) -> None:
    listing = "/dev/vda  disk\n/dev/vda1 part\n/dev/vda2 part\n"
    assert calls_of(render.wipe(PLANS["bios-plain"].disks[0]), listing, tmp_path) == [
        "wipefs --all --force /dev/vda1",
        "wipefs --all --force /dev/vda2",
        "wipefs --all --force /dev/vda",
        "blockdev --rereadpt /dev/vda",
    ]


def probe(path: Path) -> dict[str, str]:
    """What blkid recognises in a file or device."""
    done = subprocess.run(["blkid", "--probe", "--output", "export", str(path)], capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr  # 2: nothing found
    return dict(
        line.split("=", 1) for line in done.stdout.splitlines() if "=" in line and not line.startswith("DEVNAME")
    )


def test_file_systems_and_swap_have_the_uuids_and_labels_that_fstab_expects(tmp_path: Path) -> None:
    plan = PLANS["uefi-raid1"]
    table = render.fstab(plan)
    for number, one in enumerate((*plan.filesystems, *plan.esps)):
        image = sparse(tmp_path / f"fs{number}", one.size)
        run(render.mkfs(one), file=image, device=one.device)
        found = probe(image)
        assert (found["TYPE"], found["UUID"], found["LABEL"]) == (one.type.value, one.uuid, one.label)
        assert f"UUID={found['UUID']} " in table
    swap = plan.swaps[0]
    image = sparse(tmp_path / "swap", swap.size)
    run(render.mkswap(swap), file=image, device=swap.device)
    assert probe(image)["UUID"] == swap.uuid and f"UUID={swap.uuid} " in table


def test_ext4_has_no_feature_that_older_boot_loaders_cannot_read(tmp_path: Path) -> None:
    root = PLANS["bios-plain"].root
    image = sparse(tmp_path / "root", 512 * MIB)
    run(render.mkfs(root), file=image, device=root.device)
    seen = subprocess.run(["dumpe2fs", "-h", str(image)], capture_output=True, text=True, check=True).stdout
    features = next(line for line in seen.splitlines() if line.startswith("Filesystem features:")).split()
    assert "extent" in features and not {"metadata_csum_seed", "orphan_file"} & set(features)


def test_a_vfat_config_drive_carries_the_label_that_cloud_init_looks_for(tmp_path: Path) -> None:
    drive = PLANS["uefi-4k"].config_drive
    call = render.mkfs_config_drive(drive)
    assert call
    with loop_device(sparse(tmp_path / "drive", drive.size), 4096) as device:
        run(call, file=device, device=drive.partition)
        found = probe(device)
        assert (found["TYPE"], found["LABEL"], found["BLOCK_SIZE"]) == ("vfat", "config-2", "4096")


@pytest.mark.skipif(not shutil.which("findmnt"), reason="findmnt is not installed")
@pytest.mark.parametrize("name", PLANS)
def test_findmnt_reads_every_line_of_fstab(name: str, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(render.fstab(PLANS[name]))
    argv = ["findmnt", "--tab-file", str(fstab), "--json", "--list", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS"]
    listed = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)["filesystems"]
    plan = PLANS[name]
    assert [(one["source"], one["target"], one["fstype"], one["options"]) for one in listed] == [
        *((f"UUID={fs.uuid}", fs.mount, fs.type.value, ",".join(fs.options) or "defaults") for fs in plan.mounts),
        *((f"UUID={swap.uuid}", "none", "swap", _swap_options(plan, swap)) for swap in plan.swaps),
    ]


def _swap_options(plan: Plan, swap: Swap) -> str:
    return "sw,x-systemd.device-timeout=0" if plan.tower_of(swap.device).container else "sw"


@pytest.mark.parametrize("encrypted", [True, False])
def test_an_encrypted_swap_is_waited_for_until_the_passphrase_is_typed(encrypted: bool) -> None:
    layout = Layout("custom", (Filesystem("/", encrypted=encrypted),), swap=GIB)
    (line,) = [one for one in render.fstab(make_plan(layout, make_disk())).splitlines() if " swap " in one]
    assert line.split()[3] == ("sw,x-systemd.device-timeout=0" if encrypted else "sw")


def test_a_disk_that_the_system_is_not_on_hands_the_bios_on_to_the_next(tmp_path: Path) -> None:
    plan = DATA_FIRST
    (call,) = [one for one in render.lay_out(plan, Secret("")) if one.argv[3:4] == ("hand-on",)]
    assert call.argv[4:] == ("/dev/vda",) and plan.boot_group == ("/dev/vdb",)
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 1024)
    run(call, file=disk, device="/dev/vda")
    assert disk.read_bytes() == b"\xcd\x18" + b"x" * 1022


def test_no_disk_is_told_to_hand_on_under_uefi_or_where_the_system_is_on_all() -> None:
    for plan in (PLANS["uefi-groups"], PLANS["bios-raid6-lvm-4k"], PLANS["bios-plain"]):
        assert not [one for one in render.lay_out(plan, Secret(PASSPHRASE)) if "hand-on" in one.argv]

"""Whole installs to the login: each on another machine, of another image, in another layout.

And the test that a mirror is for: each disk in turn is taken away, and the machine starts from the other.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.factory import variants
from images.factory.variants import Form
from lab import GIB, Bus, MachineSpec
from tests.e2e.yard import LONGEST, Offer, Yard, running
from tests.images.web import site
from tests.ports import free_port

pytestmark = [pytest.mark.qemu, pytest.mark.long]

RSYNCED = Offer("Debian 12", "debian-12")
OVA = Offer("Debian 11", "debian-11", Form.OVA)
RAW = Offer("Debian 13", "debian-13", Form.RAW)
STREAMED = Offer("Debian 13, published", "debian-13", is_published=True)

HAZEL = MachineSpec("hazel", "bios", (2 * GIB, 6 * GIB), free_port())
"""Its firmware tries the disk with the data first."""

PASSPHRASE = "four words nobody guesses"


@dataclass(frozen=True, slots=True)
class Case:
    """A machine that is installed with an image in a layout, and what must then be seen in the new system."""

    spec: MachineSpec
    image: Offer
    layout: Mapping[str, Any]
    seen: Mapping[str, str]
    """Of some questions, by their names in `house.QUESTIONS` or as shell text, what the answer must match."""


def cases() -> tuple[Case, ...]:
    """Every install but that of the mirror whose disks are lost."""
    return (
        Case(
            MachineSpec("birch", "bios", (8 * GIB,), free_port()),
            OVA,
            {
                "swap": "512 MiB",
                "filesystems": [{"mount": "/", "size": "4 GiB"}, {"mount": "/home", "size": "rest"}],
            },
            {"firmware": "bios", "mounted": "/home", "cat /proc/swaps": "partition", "cat /etc/debian_version": "^11"},
        ),
        Case(
            MachineSpec("cedar", "uefi", (8 * GIB, 8 * GIB), free_port()),
            RAW,
            {
                "filesystems": [
                    {"mount": "/", "type": "xfs", "volume_group": "vg0"},
                    {"mount": "/boot", "size": "1 GiB", "raid": "raid1"},
                ],
                "volume_groups": [{"name": "vg0", "raid": "raid1"}],
            },
            {
                "mdstat": r"\[UU\]", "findmnt -no FSTYPE,SOURCE /": "xfs .*vg0", "cat /etc/debian_version": "^13",
                "esps": r"^(\w+) .*\n\1 ",
            },
        ),
        Case(
            MachineSpec("fir", "uefi", (8 * GIB,), free_port(), bus=Bus.NVME, sector=4096),
            STREAMED,
            {"filesystems": [{"mount": "/"}], "secure_erase": True},
            {
                "cat /sys/block/nvme0n1/queue/logical_block_size": "4096", "cat /etc/debian_version": "^13",
                "blkid -o value -s TYPE /dev/disk/by-label/config-2": "vfat",
            },
        ),
        Case(
            HAZEL,
            STREAMED,
            {
                "groups": [
                    {"name": "data", "disks": [HAZEL.disk_serial(0)]}, {"name": "ssd", "disks": [HAZEL.disk_serial(1)]},
                ],
                "filesystems": [{"mount": "/srv", "type": "xfs", "group": "data"}, {"mount": "/", "group": "ssd"}],
            },
            {"firmware": "bios", "findmnt -no SOURCE /": "/dev/vdb", "findmnt -no FSTYPE,SOURCE /srv": "xfs +/dev/vda"},
        ),
    )  # fmt: skip


CASES = {case.spec.name: case for case in cases()}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    ash = MachineSpec("ash", "uefi", (6 * GIB, 6 * GIB), free_port())
    yew = MachineSpec("yew", "uefi", (6 * GIB,), free_port())
    elder = MachineSpec("elder", "bios", (6 * GIB,), free_port())
    specs = (ash, yew, elder, *(case.spec for case in CASES.values()))
    with running(tmp_path_factory.mktemp("yard"), specs, (RSYNCED, OVA, RAW, STREAMED)) as yard:
        yield yard


def assert_somebody_can_log_in(yard: Yard, name: str, *, config_drive_is_there: bool = True) -> dict[str, str]:
    """What the system says of itself. Without its config drive cloud-init has nothing to do, and stays off."""
    system = yard.ask(name)
    assert system["hostname"].strip() == name
    assert ("status: done" if config_drive_is_there else "status: disabled") in system["cloud_init"]
    assert "DataSourceConfigDrive" in system["datasource"] or not config_drive_is_there
    assert system["failed_units"].strip() == ""
    assert "landfall-phone" not in system["units"], system["units"]
    return system


def assert_the_disks_are_as_planned(yard: Yard, name: str) -> None:
    certificate = yard.house.history(name)["certificate"]
    assert certificate["ok"], certificate
    assert {finding["topic"] for finding in certificate["findings"]} >= {"partitions", "initramfs", "boot", "running"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CASES])
def test_a_machine_is_installed_to_the_login(yard: Yard, name: str) -> None:
    case = CASES[name]
    yard.reinstall(name, case.image.name, {"name": "custom", **case.layout})
    try:
        system = assert_somebody_can_log_in(yard, name)
        assert_the_disks_are_as_planned(yard, name)
        for question, pattern in case.seen.items():
            answer = system.get(question) or yard.say(name, question)
            assert re.search(pattern, answer), (question, answer)
    finally:
        yard.shut_down(name)


# elder: an image of the customer's own


@pytest.mark.xdist_group("elder")
def test_a_customers_own_image_is_fetched_with_a_header_hooked_and_installed_to_the_login(
    yard: Yard, tmp_path: Path
) -> None:
    image, key = variants.ensure("debian-12", Form.QCOW2, print).read_bytes(), "of the customer's store"
    (tmp_path / "headers").write_text(f"X-Key: {key}\n")
    (tmp_path / "hook").write_text('#!/bin/sh\necho "landed as $LANDFALL_HOSTNAME" | tee /etc/landed\n')
    with site({"/own.qcow2": image}) as store:
        store.wants["X-Key"] = key
        yard.reinstall(
            "elder", f"http://10.0.2.2:{store.server_address[1]}/own.qcow2", "plain", "--flavour", "debian-12",
            "--checksum", hashlib.sha512(image).hexdigest(), "--header-file", str(tmp_path / "headers"),
            "--hook", str(tmp_path / "hook"),
        )  # fmt: skip
        # before the wipe, and not once more after it
        assert store.asked == ["/own.qcow2"]
    try:
        assert_somebody_can_log_in(yard, "elder")
        assert_the_disks_are_as_planned(yard, "elder")
        assert yard.say("elder", "cat /etc/landed") == "landed as elder\n"
        log = yard.house.inside("log", server="elder", step="bootable", attempt=1)
        assert "\nlanded as elder\n" in log
        assert key not in "".join(yard.house.inside("whole_log", server="elder"))
    finally:
        yard.shut_down("elder")


# yew: an encrypted root, unlocked by somebody at the console


@pytest.mark.xdist_group("yew")
def test_a_machine_with_an_encrypted_root_starts_when_somebody_types_the_passphrase_at_its_console(yard: Yard) -> None:
    passphrase = yard.house.var / "passphrase"
    passphrase.write_text(PASSPHRASE)
    with yard.somebody_at_the_console("yew", "Please unlock disk", PASSPHRASE):
        yard.reinstall("yew", RSYNCED.name, "plain", "--encrypt", "--passphrase-file", str(passphrase))
    try:
        assert_somebody_can_log_in(yard, "yew")
        assert_the_disks_are_as_planned(yard, "yew")
        assert "crypto_LUKS" in yard.say("yew", "lsblk --noheadings --output FSTYPE")
        assert yard.say("yew", "findmnt --noheadings --output SOURCE /").startswith("/dev/mapper/")
        assert PASSPHRASE not in yard.house.console("yew")
    finally:
        yard.shut_down("yew")


# ash: RAID1 under UEFI, by rsync, and then without one of its disks


@pytest.fixture(scope="module")
def ash_installed(yard: Yard) -> Yard:
    """ash, installed on a mirror, and running."""
    yard.reinstall("ash", RSYNCED.name, "raid1")
    assert_somebody_can_log_in(yard, "ash")
    assert_the_disks_are_as_planned(yard, "ash")
    return yard


UPDATE_GRUB = """\
echo old >/boot/efi2/EFI/BOOT/BOOTX64.EFI
cd /usr/lib/grub/x86_64-efi
cp -p normal.mod normal.mod.dpkg-new
mv normal.mod.dpkg-new normal.mod
"""
"""What dpkg does to the modules of GRUB, on a machine whose second ESP is not as the first."""

UNTIL_EQUAL = """\
for _ in $(seq 120); do
    ! cmp -s /boot/efi/EFI/BOOT/BOOTX64.EFI /boot/efi2/EFI/BOOT/BOOTX64.EFI || exit 0
    sleep 5
done
journalctl --unit landfall-boot-sync --no-pager
exit 1
"""


@pytest.mark.xdist_group("ash")
def test_an_update_of_grub_reaches_the_other_disk_by_itself(ash_installed: Yard) -> None:
    ash_installed.say("ash", UPDATE_GRUB)
    ash_installed.say("ash", UNTIL_EQUAL, patience=900)
    assert "landfall-boot-sync" not in ash_installed.say("ash", "systemctl --failed --plain --no-legend")


@pytest.mark.xdist_group("ash")
def test_the_guard_can_read_a_system_on_a_mirror(ash_installed: Yard) -> None:
    read = ash_installed.house.inside("aftermath", server="ash", patience=LONGEST)
    assert re.search(r"active .*raid1 vd", read)
    assert "[UU]" in read
    assert "Landfall answered 2" in read
    assert all(word in read for word in ("EFI/BOOT/BOOTX64.EFI", "linux\t/boot/vmlinuz-", "/raid1.ko"))
    # a look, and no more: the system starts as before
    ash_installed.lab.machines["ash"].reset()
    assert_somebody_can_log_in(ash_installed, "ash")


@pytest.fixture(scope="module")
def ash(ash_installed: Yard) -> Iterator[Yard]:
    """ash, installed on a mirror whose halves are equal by now, and shut down."""
    yard = ash_installed
    # A half that was never filled cannot replace the other.
    yard.say("ash", "mdadm --wait /dev/md/*; true", patience=1800)
    yard.shut_down("ash")
    yield yard
    yard.lab.machines["ash"].power_off()


@pytest.mark.xdist_group("ash")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_machine_on_a_mirror_starts_to_login_whichever_disk_is_lost(ash: Yard, lost: int) -> None:
    ash.start_without("ash", lost)
    try:
        # the config drive lies on the first disk
        system = assert_somebody_can_log_in(ash, "ash", config_drive_is_there=lost != 0)
        assert re.search(r"\[2/1\] \[(U_|_U)\]", system["mdstat"]), system["mdstat"]
        present = ash.say("ash", "lsblk --nodeps --noheadings --output SERIAL")
        spec = ash.lab.machines["ash"].spec
        assert spec.disk_serial(1 - lost) in present and spec.disk_serial(lost) not in present
    finally:
        ash.shut_down("ash")

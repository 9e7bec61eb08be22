"""Real machines reinstalled, end to end: network boot, disks, image, GRUB, cloud-init, phone-home, login.

Two machines at the same time. oak (UEFI, two disks) is reinstalled by a customer who clicks, by rsync; elm (BIOS, one
disk) from the command line and from a stream, with user data whose first-boot script deletes cloud-init and all its
files. What else is done to them meanwhile is in `test_chaos.py`.
"""

import json
import re

import pytest

from tests.e2e.installs import Proof

pytestmark = [pytest.mark.qemu]

STEPS = [
    "rescue", "inspect", "plan", "wipe", "partition", "config-drive", "mount", "copy", "bootable", "reboot",
    "phone-home", "verify",
]  # fmt: skip


def assert_landfall_says_it_went_well(proof: Proof) -> None:
    landfall = proof.landfall
    assert landfall["status"] == "succeeded", landfall
    assert landfall["steps"] == STEPS
    assert landfall["verified"] in landfall["host_keys"]
    assert landfall["refold_equals_row"]
    assert landfall["chain_holds"]
    assert landfall["log_gaps"] == []


def assert_every_step_was_done_once(proof: Proof) -> None:
    assert proof.landfall["succeeded"] == STEPS
    assert proof.landfall["started"] == [[step, 1] for step in STEPS]


def assert_the_system_is_as_it_was_asked_for(proof: Proof, name: str) -> None:
    system = proof.system
    assert system["hostname"].strip() == name
    assert "landfall-phone" not in system["units"], system["units"]
    meta_data = json.loads(system["config_drive"])
    assert (meta_data["hostname"], meta_data["uuid"]) == (name, proof.landfall["uuid"])
    assert "no errors or warnings" in system["fstab"], system["fstab"]


def assert_cloud_init_is_done_from_the_config_drive(proof: Proof) -> None:
    assert "status: done" in proof.system["cloud_init"], proof.system["cloud_init"]
    assert "DataSourceConfigDrive" in proof.system["datasource"], proof.system["datasource"]
    assert proof.system["failed_units"].strip() == ""


def test_a_customer_reinstalls_a_uefi_machine_with_raid1_by_clicking(oak: Proof) -> None:
    assert_landfall_says_it_went_well(oak)
    assert_every_step_was_done_once(oak)
    assert_the_system_is_as_it_was_asked_for(oak, "oak")
    assert_cloud_init_is_done_from_the_config_drive(oak)
    assert oak.system["firmware"].strip() == "uefi"
    assert "[UU]" in oak.system["mdstat"]
    checksums = oak.system["esps"].split("-\n")
    assert len({line.strip() for line in checksums if line.strip()}) == 1
    assert oak.system["esps"].count("\n") == 2
    assert {"/", "/boot/efi", "/boot/efi2"} <= set(oak.system["fstab"].splitlines())
    assert {line.split()[0] for line in oak.system["mounted"].splitlines()} >= {"/", "/boot/efi", "/boot/efi2"}


def test_a_bios_machine_is_reinstalled_from_the_command_line(elm: Proof) -> None:
    assert [title in elm.output for title in ("Rescue", "Copy the image", "Phone-home")] == [True] * 3
    assert_landfall_says_it_went_well(elm)
    assert_the_system_is_as_it_was_asked_for(elm, "elm")
    assert "DataSourceConfigDrive" in elm.seen["aftermath"]
    assert elm.system["firmware"].strip() == "bios"
    assert "/" in elm.system["fstab"].splitlines()


def test_phone_home_comes_although_user_data_deletes_cloud_init(elm: Proof) -> None:
    assert elm.landfall["status"] == "succeeded"
    assert "removed by user data" in elm.system["first_boot"]
    # cloud-init itself may break over it, and leave a state file behind; the program is gone
    assert re.search(r"/usr/bin/cloud-init\W+No such file", elm.system["first_boot"]), elm.system["first_boot"]

"""Real machines reinstalled, end to end: network boot, disks, image, GRUB, cloud-init, phone-home, login.

Two machines at the same time. oak (UEFI, two disks) is reinstalled by a customer who clicks; elm (BIOS, one disk) from
the command line, and then once more, with user data whose first-boot script deletes cloud-init and all its files.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.house import House, running

pytestmark = [pytest.mark.qemu]

STEPS = [
    "rescue", "inspect", "plan", "wipe", "partition", "config-drive", "mount", "copy", "bootable", "reboot",
    "phone-home", "verify",
]  # fmt: skip
LONGEST = 45 * 60
"""Seconds for one reinstall on a busy machine that emulates its processor; 10 to 12 minutes are usual."""

WITHOUT_CLOUD_INIT = """#!/bin/sh
echo "removed by user data" > /var/lib/first-boot
rm -rf /etc/cloud /var/lib/cloud /usr/bin/cloud-init* /usr/lib/python3/dist-packages/cloudinit
rm -rf /lib/systemd/system/cloud-*  /etc/systemd/system/cloud-init.target.wants /run/cloud-init
systemctl daemon-reload
"""


@dataclass(frozen=True)
class Proof:
    """What an install left behind: in the installed system, and in Landfall."""

    system: dict[str, str]
    landfall: dict[str, object]
    output: str = ""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("landfall")) as house:
        yield house


@pytest.fixture(scope="module")
def elm(house: House) -> "Iterator[tuple[Future[Proof], Future[Proof]]]":
    """elm's two installs, one after the other, while oak is installed too."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(from_command_line, house)

        def once_more() -> Proof:
            first.result()
            user_data = house.var / "user-data"
            user_data.write_text(WITHOUT_CLOUD_INIT)
            return from_command_line(house, "--user-data", str(user_data))

        yield first, pool.submit(once_more)
        house.end_commands()


def from_command_line(house: House, *more: str) -> Proof:
    done = house.manage(
        "reinstall", "elm", "--image", "Debian 12", "--as", "customer", "--yes", "--follow", *more, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + json.dumps(house.history("elm"), indent=1)
    return Proof(house.ask(int(house.env["ELM_PORT"])), house.history("elm"), done.stdout)


@pytest.fixture(scope="module")
def oak(house: House, elm: object, chromium: Browser) -> Proof:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    reinstall_by_clicking(house, page, Path("test-results"))
    assert complaints == []
    return Proof(house.ask(int(house.env["OAK_PORT"])), house.history("oak"))


def reinstall_by_clicking(house: House, page: Page, shots: Path) -> None:
    """What a customer does, from the login to *You can log in.*"""
    page.goto(f"{house.url}/login/")
    page.fill("[name=username]", "customer")
    page.fill("[name=password]", house.password("customer"))
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="oak").first.click()
    page.get_by_role("link", name="Reinstall").first.click()
    page.get_by_role("radio", name="Debian 12").check()
    page.get_by_role("button", name="Continue to the disks").click()
    page.get_by_role("radio", name="RAID1").check()
    page.get_by_role("button", name="Continue to access").click()
    page.get_by_role("checkbox", name="demo").check()
    page.get_by_role("button", name="Continue to the review").click()
    expect(page.get_by_text("Both disks of oak will be erased")).to_be_visible()
    page.fill("[name=confirm]", "oak")
    page.get_by_role("button", name="Erase and reinstall oak").click()
    page.wait_for_url(re.compile(r"/installs/"))
    watch(page, shots)


def watch(page: Page, shots: Path) -> None:
    """Watches the install page, never reloaded, until it says that one can log in."""
    shots.mkdir(exist_ok=True)
    log = page.get_by_text("mdadm --create /dev/md/root")
    expect(log.first).to_be_visible(timeout=LONGEST * 1000)
    page.screenshot(path=shots / "installing.png", full_page=True)
    expect(page.get_by_text("You can log in").first).to_be_visible(timeout=LONGEST * 1000)
    page.screenshot(path=shots / "installed.png", full_page=True)


def assert_landfall_says_it_went_well(proof: Proof) -> None:
    landfall = proof.landfall
    assert landfall["status"] == "succeeded", landfall
    assert landfall["steps"] == STEPS
    assert landfall["succeeded"] == STEPS
    assert landfall["started"] == [[step, 1] for step in STEPS]
    assert landfall["verified"] in landfall["host_keys"]
    assert landfall["refold_equals_row"]
    assert landfall["chain_holds"]


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
    assert_the_system_is_as_it_was_asked_for(oak, "oak")
    assert_cloud_init_is_done_from_the_config_drive(oak)
    assert oak.system["firmware"].strip() == "uefi"
    assert "[UU]" in oak.system["mdstat"]
    checksums = oak.system["esps"].split("-\n")
    assert len({line.strip() for line in checksums if line.strip()}) == 1
    assert oak.system["esps"].count("\n") == 2
    assert {"/", "/boot/efi", "/boot/efi2"} <= set(oak.system["fstab"].splitlines())
    assert {line.split()[0] for line in oak.system["mounted"].splitlines()} >= {"/", "/boot/efi", "/boot/efi2"}


def test_a_bios_machine_is_reinstalled_from_the_command_line(elm: "tuple[Future[Proof], Future[Proof]]") -> None:
    proof = elm[0].result(timeout=LONGEST)
    assert_landfall_says_it_went_well(proof)
    assert_the_system_is_as_it_was_asked_for(proof, "elm")
    assert_cloud_init_is_done_from_the_config_drive(proof)
    assert proof.system["firmware"].strip() == "bios"
    assert "/" in proof.system["fstab"].splitlines()
    assert "You can log in" in proof.output
    assert [title in proof.output for title in ("Rescue", "Copy the image", "Verify")] == [True] * 3


def test_phone_home_comes_although_user_data_deletes_cloud_init(elm: "tuple[Future[Proof], Future[Proof]]") -> None:
    proof = elm[1].result(timeout=2 * LONGEST)
    assert_landfall_says_it_went_well(proof)
    assert_the_system_is_as_it_was_asked_for(proof, "elm")
    assert "removed by user data" in proof.system["first_boot"]
    # cloud-init itself may break over it, and leave a state file behind; the program is gone
    assert re.search(r"/usr/bin/cloud-init\W+No such file", proof.system["first_boot"]), proof.system["first_boot"]

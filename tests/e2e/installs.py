"""The installs of the end-to-end tests, from the first click to the login, with what is done to each on its way."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError, expect

from tests.e2e.house import PATIENCE, STREAMED, House

LONGEST = 45 * 60
"""Seconds for one reinstall on a busy machine that emulates its processor; 10 to 12 minutes are usual."""
IN_THE_MIDDLE = 20
"""Seconds after which a command that takes a minute or more is well under way."""
A_QUARTER = re.compile(r"█+░+ +\d+ %")
"""How the command tells that a quarter of the copy is done, where its output is no terminal."""
HOME_WITHIN = 15 * 60
"""Seconds that the new system may take to call, where patience is 1."""

# All that is taken away by the first boot: cloud-init for good, and the controller until the next start.
# The controller is the machine's gateway, too; nothing else answers there.
WITHOUT_CLOUD_INIT_AND_CONTROLLER = """#!/bin/sh
ip route add blackhole 10.0.2.2/32
echo "removed by user data" > /var/lib/first-boot
rm -rf /etc/cloud /var/lib/cloud /usr/bin/cloud-init* /usr/lib/python3/dist-packages/cloudinit
rm -rf /lib/systemd/system/cloud-*  /etc/systemd/system/cloud-init.target.wants /run/cloud-init
systemctl daemon-reload
"""


@dataclass(frozen=True)
class Proof:
    """What an install left behind: in the installed system, and in Landfall; and what was seen or done on its way."""

    system: dict[str, str]
    landfall: dict[str, Any]
    output: str = ""
    done_at: dict[str, float] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)


# elm: from the command line


def of_elm_with_all_taken_away(house: House) -> Proof:
    """An install whose server loses its power during the copy, and whose new system loses cloud-init for good and the
    way to Landfall at first. Its image is published before."""
    house.manage("publish", STREAMED)
    user_data = house.var / "without-cloud-init-and-controller"
    user_data.write_text(WITHOUT_CLOUD_INIT_AND_CONTROLLER)
    follower = house.begin(*_reinstall("elm"), "--user-data", str(user_data))
    assert follower.stdout and follower.stderr
    shown, done_at = "", {}
    for line in follower.stdout:
        shown += line
        if A_QUARTER.search(line) and "power cut" not in done_at:
            done_at["power cut"] = house.cut_power("elm")
        if "✓ Reboot" in line:
            done_at["phone-home"] = _let_the_guard_come_soon(house)
    assert follower.wait() == 1, shown + follower.stderr.read()
    seen: dict[str, Any] = {
        "failed": house.history("elm"),
        "aftermath": house.inside("log", server="elm", step="phone-home", attempt=1),
        "retry": house.inside("retry", server="elm"),
    }
    return Proof(house.ask(int(house.env["ELM_PORT"])), house.history("elm"), shown, done_at, seen)


def _let_the_guard_come_soon(house: House) -> float:
    """Once the new system has called in vain, its time is up: by a worker that has less patience, for that moment."""
    said = "Landfall did not take the call"
    deadline = time.monotonic() + LONGEST
    while said not in house.console("elm"):
        assert time.monotonic() < deadline, "the new system never tried to call"
        time.sleep(2)
    tried = time.time()
    passed = house.inside("wait_until_alone", server="elm", patience=LONGEST)
    cycles = len([event for event in house.history("elm")["events"] if event["kind"] == "power_cycled"])
    house.relieve_worker(str((passed + 10) / HOME_WITHIN))
    house.inside("wait_for_power_cycles", server="elm", number=cycles + 1, patience=300)
    house.relieve_worker(PATIENCE)
    return tried


def _reinstall(server: str) -> tuple[str, ...]:
    return ("reinstall", server, "--image", STREAMED, "--as", "customer", "--yes", "--follow")


# oak: in the browser


def of_oak_by_clicking(house: House, chromium: Browser) -> Proof:
    """An install that a customer asks for in the browser; its worker is killed during the copy and the next step."""
    # What moves on the page for half an hour is drawn by the processor that the machines need.
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    # two emulated machines leave a browser little of the processors
    page.set_default_timeout(600_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    reinstall_by_clicking(house, page)
    # Held for a moment, so that what the jobs have written can be compared with what is stored of it.
    house.inside("hold", server="oak", before="reboot")
    done_at, logs = watch(house, page, Path("test-results"))
    assert complaints == []
    return Proof(house.ask(int(house.env["OAK_PORT"])), house.history("oak"), "", done_at, {"logs": logs})


def reinstall_by_clicking(house: House, page: Page) -> None:
    """What a customer does, from the login to the page of the install."""
    page.goto(f"{house.url}/login/")
    page.fill("[name=username]", "customer")
    page.fill("[name=password]", house.password("customer"))
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="oak").first.click()
    page.get_by_role("link", name="Reinstall").first.click()
    page.get_by_role("radio", name=re.compile("^Debian 12(?!,)")).check()
    page.get_by_role("button", name="Continue to the disks").click()
    page.locator("[name=layout][value=raid1]").check()
    page.get_by_role("button", name="Continue to access").click()
    page.get_by_role("checkbox", name="demo").check()
    page.get_by_role("button", name="Continue to the review").click()
    expect(page.get_by_text("Both disks of oak will be erased")).to_be_visible()
    page.fill("[name=confirm]", "oak")
    page.get_by_role("button", name="Erase and reinstall oak").click()
    page.wait_for_url(re.compile(r"/installs/"))


def watch(house: House, page: Page, shots: Path) -> "tuple[dict[str, float], dict[str, list[int]]]":
    """Watches the install page, never reloaded, until it says that one can log in; kills the worker twice meanwhile.

    Returns when it was killed, and of each job how many bytes it wrote and how many of them were stored truly.
    """
    shots.mkdir(exist_ok=True)
    done_at: dict[str, float] = {}
    _see_in(page, "Lay out the disks", "mdadm --create /dev/md/root")
    _shoot(page, shots / "installing.png")
    for step, title, command in (
        ("copy", "Copy the image", "rsync -aHAXS"),
        ("bootable", "Make it bootable", "update-initramfs -u"),
    ):
        _see_in(page, title, command)
        time.sleep(IN_THE_MIDDLE)
        done_at[step] = house.kill_worker()
    logs = house.inside("compare_logs", server="oak", patience=LONGEST)
    house.inside("release", server="oak")
    _see(page, "You can log in")
    _shoot(page, shots / "installed.png")
    return done_at, logs


def _shoot(page: Page, path: Path) -> None:
    """A picture for whoever wants to look; that a busy machine does not draw it in time says nothing of the install."""
    with suppress(TimeoutError):
        page.screenshot(path=path, full_page=True)


def _see_in(page: Page, title: str, command: str) -> None:
    """The command comes into sight in the log of the step with this title, which may not have begun yet."""
    page.get_by_role("link", name=title).first.click()
    _see(page, command)


def _see(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible(timeout=LONGEST * 1000)

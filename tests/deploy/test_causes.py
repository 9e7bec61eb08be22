"""Why a new system never phoned home: told from what it left behind.

The logs in `aftermaths/` are those of real starts of Debian 12 in QEMU, shortened; the lines below are of that kind.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy import errors
from deploy.errors import new_system
from deploy.events import Blame

REAL = Path(__file__).with_name("aftermaths")

AT = "Nov 23 06:51:44 web-14"
BOOTED = f"{AT} kernel: Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)"
UNIT = f"{AT} systemd[1]: Started landfall-phone-home.service - Tell Landfall that this server can be logged into."
ADDRESS = f"{AT} systemd-networkd[408]: enp0s1: DHCPv4 address 10.0.2.15/24, gateway 10.0.2.2 acquired from 10.0.2.2"
CLOUD_INIT_DONE = f"{AT} cloud-init[531]: Cloud-init v. 22.4.2 finished at Mon, 23 Nov 2026 06:51:30 +0000."
WELL = (BOOTED, UNIT, ADDRESS, CLOUD_INIT_DONE)
NO_JOURNAL = "No journal files were found."
MENU = """/run/landfall/target/boot/grub/grub.cfg:
menuentry 'Debian GNU/Linux' --class debian {
\tlinux\t/boot/vmlinuz-6.1.0-56-amd64 root=UUID=0b49631d-8352-50c8-a484-5abe4060e806 ro console=ttyS0"""
DISKS = """NAME SIZE TYPE FSTYPE LABEL UUID
vda 4G disk
└─vda2 4G part ext4 root 0b49631d-8352-50c8-a484-5abe4060e806"""
INITRAMFS = "/run/landfall/target/boot/initrd.img-6.1.0-56-amd64: 32141313 bytes"


def aftermath(
    *journal: str, mount: tuple[str, int] = ("", 0), menu: str = MENU, initramfs: str = INITRAMFS, disks: str = DISKS,
    messages: str = "",
) -> str:  # fmt: skip
    """The log of the job that reads what a system left, with this in the system's journal."""
    folder = "/run/landfall/target"
    sections = [
        ("lsblk --output NAME,SIZE,TYPE,FSTYPE,LABEL,UUID", disks, 0),
        (f"mount --read-only --types ext4 UUID=0b49631d-8352-50c8-a484-5abe4060e806 {folder}", *mount),
        (f"journalctl --directory {folder}/var/log/journal --no-pager --boot", "\n".join(journal) or NO_JOURNAL, 0),
        (f"tail --lines=400 {folder}/var/log/messages", messages, 0),
        (f"sh -c '…' grub-entries {folder}", menu, 0),
        (f"sh -c '…' initramfs {folder}", initramfs, 0),
    ]
    return "".join(
        f"\x1e> {number} 1795416775.7 {command}\n{output}\n\n\x1e< {number} {status} 0.01\n"
        for number, (command, output, status) in enumerate(sections, 1)
    )


def said(*lines: str) -> str:
    """The aftermath of a system that came up well, and whose journal has these lines too."""
    return aftermath(*WELL, *(f"{AT} {line}" for line in lines))


CASES = {
    "phone-home-disk": said("kernel: I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x800"),
    "phone-home-unreadable": aftermath(
        mount=("mount: /run/landfall/target: wrong fs type, bad option, bad superblock on /dev/vda2.", 32)
    ),
    "phone-home-panic": said("kernel: Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
    "phone-home-no-root": aftermath(menu=MENU.replace("0b49631d", "ffffffff")),
    "phone-home-never-started": aftermath(),
    "phone-home-emergency": aftermath(
        BOOTED,
        f"{AT} systemd[1]: Dependency failed for local-fs.target - Local File Systems.",
        f"{AT} systemd[1]: Reached target emergency.target - Emergency Mode.",
    ),
    "phone-home-unknown": said("sh[462]: Landfall answered 410: done, removing myself"),
    "phone-home-refused": said("sh[462]: Landfall refused the call with 403: giving up until the next boot"),
    "phone-home-no-network": aftermath(
        BOOTED, UNIT, CLOUD_INIT_DONE, f"{AT} dhclient[512]: No DHCPOFFERS received.",
        f"{AT} sh[462]: Landfall did not take the call (000), next try in 2 s",
    ),
    "phone-home-no-name": said(
        "sh[637]: curl: (6) Could not resolve host: landfall.example.net",
        "sh[462]: Landfall did not take the call (000), next try in 2 s",
    ),
    "phone-home-unreachable": said(
        "sh[637]: curl: (7) Failed to connect to 10.0.2.2 port 1 after 58 ms: Couldn't connect to server",
        "sh[462]: Landfall did not take the call (no connection), next try in 2 s",
    ),
    "phone-home-turned-away": said("sh[462]: Landfall did not take the call (503), next try in 2 s"),
    "phone-home-no-sshd": said("systemd[1]: ssh.service: Failed with result 'exit-code'."),
    "phone-home-cloud-init": aftermath(
        BOOTED, UNIT, ADDRESS, f"{AT} cloud-init[531]: Cloud-init v. 22.4.2 running 'modules:final' at Mon, 23 Nov."
    ),
    "phone-home-unit-gone": aftermath(BOOTED, ADDRESS, CLOUD_INIT_DONE),
    "phone-home-missing": said(),
}  # fmt: skip


@pytest.mark.parametrize("code", [entry.code for entry in new_system.SILENT.entries])
def test_each_cause_shows_in_what_a_system_leaves_behind(code: str) -> None:
    failure = errors.likely_cause(CASES[code])
    assert failure.code == code, failure.message


@pytest.mark.parametrize("path", sorted(REAL.glob("*.log")), ids=lambda path: path.stem)
def test_the_cause_is_found_in_what_a_real_system_left_behind(path: Path) -> None:
    causes = {"no-root": "phone-home-never-started", "no-dhcp": "phone-home-no-network"}
    failure = errors.likely_cause(path.read_text())
    assert failure.code == causes.get(path.stem, f"phone-home-{path.stem}"), failure.message


def test_the_lines_that_tell_the_cause_are_shown_each_of_them_once() -> None:
    refused = f"{AT} sh[462]: Landfall refused the call with 403: giving up until the next boot"
    failure = errors.likely_cause(aftermath(*WELL, refused, refused))
    assert failure.tail == (refused,)
    assert failure.message.endswith(
        "It says: sh[462]: Landfall refused the call with 403: giving up until the next boot"
    )


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("no-sshd", "/etc/ssh/sshd_config.d/x.conf: line 1: Bad configuration option: NoSuchOption"),
        ("emergency", "systemd[1]: Dependency failed for srv.mount - /srv."),
        ("unreachable", "curl: (7) Failed to connect to 10.0.2.2 port 1 after 34 ms: Couldn't connect to server"),
    ],
)
def test_the_words_that_say_most_are_repeated(log: str, words: str) -> None:
    assert errors.likely_cause((REAL / f"{log}.log").read_text()).message.endswith(words)


def test_a_system_that_was_never_started_is_told_what_its_disks_lack_for_a_start() -> None:
    failure = errors.likely_cause(aftermath(menu="", initramfs=""))
    assert failure.code == "phone-home-never-started"
    assert failure.tail == ("GRUB's menu names no kernel.", "There is no initramfs in /boot.")


def test_a_system_without_a_lasting_journal_is_known_by_its_messages() -> None:
    running = f"{AT} cloud-init[912]: Cloud-init v. 23.4 finished at Mon, 23 Nov 2026."
    assert errors.likely_cause(aftermath(messages=running)).code == "phone-home-unit-gone"


def test_a_second_network_card_without_a_cable_is_not_the_cause() -> None:
    waiting = "systemd-networkd-wait-online[400]: Timeout occurred while waiting for network connectivity."
    away = "sh[462]: Landfall did not take the call (000), next try in 2 s"
    assert errors.likely_cause(said(waiting, away)).code == "phone-home-unreachable"


@pytest.mark.parametrize("drive", ["fd0", "sr0", "loop0"])
def test_a_drive_without_a_medium_is_no_failing_disk(drive: str) -> None:
    assert (
        errors.likely_cause(said(f"kernel: I/O error, dev {drive}, sector 0 op 0x0:(READ)")).code != "phone-home-disk"
    )


def test_a_failing_disk_is_meant_and_not_what_fails_with_it() -> None:
    failure = errors.likely_cause(
        said(
            "kernel: Buffer I/O error on dev sda2, logical block 7", "systemd[1]: ssh.service: Failed with result 'x'."
        )
    )
    assert (failure.code, failure.blame) == ("phone-home-disk", Blame.HARDWARE)


@pytest.mark.parametrize("log", ["", "\x1e> 1 1.0 true\n\x1e< 1 0 0.0\n", "nothing of the kind\n"])
def test_where_nothing_could_be_read_nothing_is_claimed(log: str) -> None:
    assert errors.likely_cause(log).code == "phone-home-missing"


@settings(deadline=None)  # a busy machine is slow, and no failure
@given(st.text())
def test_any_log_gives_a_failure_of_the_catalogue(log: str) -> None:
    assert errors.likely_cause(log).code in errors.CATALOGUE
    assert errors.likely_cause(said(log)).code in errors.CATALOGUE

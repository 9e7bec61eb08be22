"""The dnsmasq configuration: every kind of firmware is told what to load, and gets it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.daemons

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "packaging" / "dnsmasq"
FILES = {"undionly.kpxe": "iPXE for BIOS", "snponly.efi": "iPXE for UEFI"}
BOOT_SCRIPT = "http://landfall.example.net/boot/${net0/mac:hexhyp}"
Told = Mapping[str, Mapping[str, str]]


def in_own_network(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command in a network namespace of its own; without root in a user namespace as well."""
    become = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(["unshare", *become, "--net", *command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    tried = in_own_network("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
    if tried.returncode:
        pytest.skip(f"this machine lets us make no network of our own: {tried.stderr.strip()}")


def fitted(name: str, folder: Path) -> Path:
    """The configuration, with a folder of the test in place of /srv/tftp, and nothing else changed."""
    tftp = folder / "tftp"
    tftp.mkdir()
    for file, content in FILES.items():
        (tftp / file).write_text(content)
    text = (CONFIG / name).read_text()
    assert text.count("/srv/tftp\n") == 1
    config = folder / name
    config.write_text(text.replace("tftp-root=/srv/tftp\n", f"tftp-root={tftp}\n"))
    return config


def told(config: Path, *more: str) -> Told:
    """What each kind of firmware was told by a real dnsmasq."""
    done = in_own_network(sys.executable, "-m", "tests.packaging.pxe", "--config", str(config), *more)
    assert done.returncode == 0, done.stderr
    return {answer["who"]: answer for answer in json.loads(done.stdout)}


@pytest.fixture(scope="module", params=["full.conf", "proxy.conf"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What firmware is told under each of the two configurations."""
    config = fitted(request.param, tmp_path_factory.mktemp("dnsmasq"))
    return told(config, *(["--proxy"] if request.param == "proxy.conf" else []))


@pytest.mark.parametrize(
    ("who", "file"), [("BIOS", "undionly.kpxe"), ("UEFI", "snponly.efi"), ("UEFI as type 9", "snponly.efi")]
)
def test_firmware_is_sent_to_its_ipxe_and_gets_it_by_tftp(answers: Told, who: str, file: str) -> None:
    answer = answers[who]
    assert (answer["file"], answer["server"]) == (file, "192.0.2.10")
    assert answer["content"] == FILES[file]


@pytest.mark.parametrize("who", ["iPXE on BIOS", "iPXE on UEFI"])
def test_ipxe_is_sent_to_its_boot_script(answers: Told, who: str) -> None:
    assert answers[who]["file"] == BOOT_SCRIPT
    # iPXE passes over an answer without a server's address (seen with its ROM in QEMU), although it has no use for it
    assert answers[who]["server"] == "192.0.2.10"


def test_the_full_server_gives_addresses_and_the_proxy_none(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "proxy").mkdir()
    full = told(fitted("full.conf", tmp_path / "full"))
    proxy = told(fitted("proxy.conf", tmp_path / "proxy"), "--proxy")
    assert all(re.fullmatch(r"192\.0\.2\.[12]\d\d", answer["address"]) for answer in full.values())
    assert {answer["router"] for answer in full.values()} == {"192.0.2.1"}
    assert {answer["address"] for answer in proxy.values()} == {"0.0.0.0"}


def test_only_what_dnsmasq_owns_is_given_out(tmp_path: Path) -> None:
    config = fitted("full.conf", tmp_path)
    (tmp_path / "secret").write_text("not for the network")
    escape = "dhcp-boot=tag:!ipxe,tag:bios,../secret\n"
    config.write_text(config.read_text().replace("dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe\n", escape))
    assert told(config)["BIOS"]["content"].startswith("error:")


@pytest.mark.parametrize("name", ["full.conf", "proxy.conf"])
def test_dnsmasq_finds_no_fault(name: str) -> None:
    dnsmasq = shutil.which("dnsmasq", path=f"{os.environ['PATH']}:/usr/sbin")
    assert dnsmasq
    done = subprocess.run([dnsmasq, "--test", "-C", str(CONFIG / name)], capture_output=True, text=True, check=False)
    assert "syntax check OK" in done.stderr


def test_the_address_of_the_boot_script_is_one_that_landfall_answers() -> None:
    from django.urls import resolve

    assert resolve("/boot/52-54-00-12-34-56").url_name == "boot"
    for name in ("full.conf", "proxy.conf"):
        assert f"\ndhcp-boot=tag:ipxe,{BOOT_SCRIPT}" in (CONFIG / name).read_text()

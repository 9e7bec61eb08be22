"""The systemd units: systemd finds no fault, little is allowed to them, and what they start is there."""

import ctypes
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.packaging.browser import Visitor
from tests.packaging.conftest import ROOT, Hosts

pytestmark = pytest.mark.daemons

UNITS = ROOT / "packaging" / "systemd"
SERVICES = ("landfall-web.service", "landfall-worker@.service")
MOST_EXPOSED = 1.5
"""systemd's own measure: 10 is a service without any sandbox."""
PYTHON = "/opt/landfall/.venv/bin/python"
PR_SET_MDWE, PR_SET_NO_NEW_PRIVS = 65, 38


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the units, whose program is one that this machine has."""
    for unit in UNITS.iterdir():
        text = unit.read_text()
        assert text.count(PYTHON) == (1 if unit.name in SERVICES else 0)
        (tmp_path / unit.name).write_text(text.replace(PYTHON, sys.executable))
    return tmp_path


def test_systemd_finds_no_fault_in_the_units(installed: Path) -> None:
    units = ("landfall.target", "landfall-web.service", "landfall-worker@1.service")
    done = analyze("verify", "--man=no", *(str(installed / unit) for unit in units))
    ours = [line for line in done.stderr.splitlines() if "landfall" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_little_is_allowed_to_a_service(service: str, installed: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={round(10 * MOST_EXPOSED)}", str(installed / service))
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSED
    assert done.returncode == 0


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_starts_is_a_command_of_landfalls(service: str, hosts: Hosts) -> None:
    words = setting(service, "ExecStart").split()
    assert words[0] == PYTHON
    assert (ROOT / words[1]).exists()
    options = [word for word in words[3:] if word.startswith("--")]
    help_text = hosts.manage(words[2], "--help")
    assert all(option in help_text for option in options)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_comes_back_whatever_happens(service: str) -> None:
    assert setting(service, "Restart") == "always"
    assert setting(service, "StartLimitIntervalSec") == "0"


def setting(service: str, name: str) -> str:
    """The value of a unit's setting."""
    found = re.search(rf"^{name}=(.*)$", (UNITS / service).read_text(), re.MULTILINE)
    assert found, name
    return found[1]


def test_the_services_differ_in_what_they_run_and_in_nothing_of_their_sandbox() -> None:
    texts = [(UNITS / service).read_text() for service in SERVICES]
    sandboxes = [text[text.index("DynamicUser=") : text.index("[Install]")] for text in texts]
    assert sandboxes[0] == sandboxes[1]


def test_every_setting_of_the_example_is_one_that_landfall_reads() -> None:
    example = (ROOT / "packaging" / "landfall.env.example").read_text()
    names = re.findall(r"^(\w+)=", example, re.MULTILINE)
    read = (ROOT / "config" / "settings.py").read_text()
    told = (ROOT / "docs" / "settings.md").read_text()
    assert len(names) > 8
    assert [name for name in names if name not in read and name != "DATABASE_URL"] == []
    assert [name for name in names if f"`{name}`" not in told] == []


def no_new_code() -> None:
    """In the child: memory that can be written can never be run, as MemoryDenyWriteExecute= has it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)


def test_landfall_makes_no_code_while_it_runs(hosts: Hosts) -> None:
    """Some libraries do (compilers, callbacks): under MemoryDenyWriteExecute= they would break at the first call."""
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel cannot forbid it: it is older than 6.3")
    with (hosts.folder / "strict.log").open("ab") as log:
        both = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(hosts.port), "--slots", "4"],
            cwd=ROOT, env=dict(hosts.env), stdout=log, stderr=log, preexec_fn=no_new_code,
        )  # fmt: skip
    hosts.processes.append(both)
    hosts.simulation("--servers", "1")
    (install,) = hosts.request(0, 1)
    deadline = time.monotonic() + 120
    while hosts.status(install) != "succeeded":
        assert both.poll() is None, hosts.said("strict")
        assert time.monotonic() < deadline, hosts.said("strict")
        time.sleep(0.2)
    assert Visitor(hosts.port).ask("GET", "/login/")[0].status == 200
    both.send_signal(signal.SIGTERM)
    assert both.wait(30) == 0


def test_the_script_for_commands_uses_the_services_user_and_settings() -> None:
    script = (ROOT / "packaging" / "landfall-manage").read_text()
    web = (UNITS / "landfall-web.service").read_text()
    for wanted in ("EnvironmentFile=/etc/landfall/landfall.env", "DynamicUser=yes", "User=landfall",
                   "StateDirectory=landfall", "StateDirectoryMode=0700", "UMask=0077"):  # fmt: skip
        assert f"--property={wanted}" in script
        assert f"\n{wanted}\n" in web
    sh = shutil.which("sh")
    assert sh
    assert subprocess.run([sh, "-n", str(ROOT / "packaging" / "landfall-manage")], check=False).returncode == 0

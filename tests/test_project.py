"""What holds for the project as a whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.builders import make_install, make_server

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.django_db
def test_every_model_has_its_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_the_lock_file_names_no_place_to_download_from() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


@pytest.mark.django_db
def test_a_built_install_folds_to_its_row() -> None:
    install = make_install(make_server(disks=2, firmware="bios"))
    assert install.state().status == install.status
    assert install.plan().arrays


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "second"])
def test_tests_that_commit_start_with_empty_tables(time: str) -> None:
    install = make_install()
    assert [event.install_id for event in type(install.events.first()).objects.all()] == [install.pk]


TESTS_OF_A_MACHINE = """\
import time
import pytest
pytestmark = pytest.mark.xdist_group("a machine")
def test_one(): time.sleep(0.5)
def test_two(): time.sleep(0.5)
"""


def test_what_the_long_tests_do_to_one_machine_is_done_by_one_process(tmp_path: Path) -> None:
    """In `bin/test --all` each process has a yard of its own: what another one installed is not in it."""
    (tmp_path / "test_machine.py").write_text(TESTS_OF_A_MACHINE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:django", "-v", "-n", "2", "--dist", "loadgroup", "test_machine.py"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    workers = re.findall(r"^\[(gw\d)\] .*PASSED", done.stdout, re.MULTILINE)
    assert len(workers) == 2 and len(set(workers)) == 1, done.stdout

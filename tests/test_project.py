"""What holds for the project as a whole."""

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

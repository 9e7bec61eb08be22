"""A worker process that is frozen past its lease, and goes on: it writes nothing more. Real processes, real SSH."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import OperationalError, connection, transaction

from deploy import errors, journal
from deploy.events import Kind, Status
from deploy.models import Install, LogChunk
from deploy.steps import STEPS
from tests.deploy.situations import prove
from tests.deploy.test_driver import ALL_NUMBERS, install_in_rescue, log_of, numbers_in, wait_for
from tests.sshd import Sshd, as_root

pytestmark = [
    pytest.mark.django_db(transaction=True),
    as_root,
]

ROOT = Path(__file__).resolve().parents[2]
Begin = Callable[[str], subprocess.Popen[bytes]]


def database_url() -> str:
    """The test's database, as another process finds it."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{quote(str(settings['HOST']), safe='')}/{settings['NAME']}"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a worker process by its name; its output is in a file of that name."""
    processes: list[subprocess.Popen[bytes]] = []

    def started(name: str) -> subprocess.Popen[bytes]:
        settings = {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "config.settings"}
        command = [sys.executable, "-m", "tests.deploy.a_worker", name]
        with (tmp_path / name).open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | settings | {"A_WORKERS_FOLDER": str(tmp_path)}, stderr=output
            )
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def is_locked(install: Install) -> bool:
    """Whether somebody is in the middle of writing."""
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"], timeout=0.2, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        finally:
            other.close()
        return False
    try:
        with transaction.atomic():
            Install.objects.select_for_update(nowait=True).get(pk=install.pk)
    except OperationalError:
        return True
    return False


def freeze(process: subprocess.Popen[bytes], install: Install) -> None:
    """Stopped, and not in the middle of a transaction: others could not go on then until the database ends it."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if not is_locked(install):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)


def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_more_and_the_install_ends_as_if_nothing_had_happened(
    sshd: Sshd, begin: Begin, tmp_path: Path
) -> None:
    install, _ = install_in_rescue(sshd, STEPS["copy"])
    first = begin("first")
    wait_for(lambda: "line 10\n" in log_of(install, "copy"))
    freeze(first, install)
    seen = install.events.count()
    (tmp_path / "frozen").touch()
    begin("second")
    wait_for(lambda: "line 20\n" in log_of(install, "copy"))
    took = [event.data for event in install.history()[seen:]]
    assert took == [{"from": "first", "by": "second"}]
    stored = LogChunk.objects.count()

    first.send_signal(signal.SIGCONT)
    said = tmp_path / "first"
    wait_for(lambda: any(words in said.read_text() for words in ("is lost", "is held by second")))
    assert (install.events.count(), LogChunk.objects.count()) == (seen + 1, stored)
    assert Install.objects.get(pk=install.pk).lease_worker == "second"

    (tmp_path / "thawed").touch()
    wait_for(lambda: Install.objects.get(pk=install.pk).status == Status.SUCCEEDED)
    assert [event.kind for event in install.history()[seen:]] == [Kind.TAKEN_OVER, Kind.STEP_SUCCEEDED]
    assert numbers_in(log_of(install, "copy")) == ALL_NUMBERS
    assert (tmp_path / "began").read_text() == "\n"
    prove(install)
    assert first.poll() is None


def test_a_worker_that_was_frozen_lives_on_and_takes_the_next_install(sshd: Sshd, begin: Begin, tmp_path: Path) -> None:
    install, _ = install_in_rescue(sshd, STEPS["copy"])
    first = begin("first")
    wait_for(lambda: "line 10\n" in log_of(install, "copy"))
    freeze(first, install)
    journal.append(
        install,
        Kind.FORCE_RESET,
        {"by": "otto", "reason": "it hangs", "failure": errors.failure("force-reset").to_json()},
    )
    ended = install.events.count()
    first.send_signal(signal.SIGCONT)
    for name in ("frozen", "thawed"):
        (tmp_path / name).touch()
    another, _ = install_in_rescue(sshd, STEPS["copy"])
    wait_for(lambda: Install.objects.get(pk=another.pk).status == Status.SUCCEEDED)
    assert install.events.count() == ended
    assert "line 21" not in log_of(install, "copy")

"""Histories on their way out of the database: nothing is lost, whatever is killed. On SQLite and on PostgreSQL."""

import base64
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import Role
from accounts.secret import Secret
from deploy import actions, appendonly, doctor, journal, reading
from deploy.archives import file, retention, signing
from deploy.archives.file import ArchiveBroken
from deploy.events import IllegalEvent, Kind
from deploy.models import Archive, Event, Install, LogChunk
from tests.builders import make_image, make_install, make_server, make_user
from tests.deploy.crowds import crowd
from tests.deploy.histories import HOST_KEYS, Past, command, feed, installed, running
from tests.pages import browser, text

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent.parent
DAY = timedelta(days=1)
SEED = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def _key(settings: LazySettings) -> None:
    settings.LANDFALL_ARCHIVE_KEY = SEED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archives"


def ended(days: float = 100, *, lines: int = 3, **columns: Any) -> Install:
    """An install that succeeded so many days ago, with a log."""
    install = installed(began=timezone.now() - days * DAY, **columns)
    for number in range(lines):
        feed(install, command(number + 1, "rsync", [f"usr/lib/file-{number}", "ü\u2028"]))
    return install


def failed(step: str = "copy", days: float = 100, **columns: Any) -> Install:
    """An install that failed so many days ago."""
    install = make_install(**columns)
    past = Past(install, timezone.now() - days * DAY)
    past.until(step)
    past.fail(step)
    install.refresh_from_db()
    return install


def purge(folder: Path, days: int = 90) -> retention.Moved:
    return retention.purge(days, folder, "ops@host")


def run(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("purge", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def here(install: Install) -> tuple[int, int]:
    """How many events and pieces of logs of it are in the database."""
    return install.events.count(), install.log.count()


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.tar")
    assert not list(folder.glob("*.part"))
    return path


# --- moving


def test_what_ended_long_ago_is_moved_into_a_file_that_holds_all_of_it(folder: Path) -> None:
    install = ended()
    events, chunks = here(install)
    expected = list(install.events.order_by("seq").values_list("seq", "kind", "data", "digest"))
    log = list(install.log.order_by("offset").values_list("text", flat=True))
    (archive,) = purge(folder).archives
    assert here(install) == (0, 0)
    assert (archive.installs, archive.events, archive.chunks) == (1, events, chunks)
    assert archive.file == str(only_file(folder))
    assert archive.emptied_at
    with tarfile.open(archive.file) as tar:
        records = tar.extractfile("records.jsonl.gz")
        assert records
        lines = [json.loads(line) for line in gzip.decompress(records.read()).splitlines()]
    assert lines[0]["uuid"] == str(install.uuid)
    assert [(r["seq"], r["kind"], r["data"], r["digest"]) for r in lines if r["record"] == "event"] == expected
    assert [r["text"] for r in lines if r["record"] == "log"] == log


def test_live_installs_and_those_that_ended_lately_stay(folder: Path) -> None:
    stay = [ended(days=89), running("copy", began=timezone.now() - 200 * DAY)[0], make_install()]
    before = [here(install) for install in stay]
    old = ended(days=91)
    assert purge(folder).archives[0].installs == 1
    assert [here(install) for install in stay] == before
    assert here(old) == (0, 0)
    assert set(Install.objects.filter(archive=None)) == set(stay)


def test_an_install_that_somebody_holds_stays(folder: Path) -> None:
    install = ended()
    Install.objects.filter(pk=install.pk).update(lease_token=uuid4())
    assert purge(folder).archives == ()
    assert here(install)[0]


def test_failed_and_cancelled_installs_are_moved_too(folder: Path) -> None:
    install = failed()
    assert purge(folder).archives[0].installs == 1
    install.refresh_from_db()
    assert install.outcome == {"wiped": True, "verify": {}}


def test_afterwards_the_database_is_as_protected_as_before_and_the_doctor_finds_nothing(folder: Path) -> None:
    ended()
    ended(days=1)
    purge(folder)
    assert doctor.examine() == []
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Event.objects.all().delete()


def test_nothing_to_move_writes_no_file(folder: Path) -> None:
    ended(days=1)
    assert purge(folder).archives == ()
    assert not list(folder.glob("*.tar"))
    assert Archive.objects.count() == 0


def test_installs_are_deleted_a_few_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "PAUSE", 0.0)
    installs = [ended(lines=1) for _ in range(5)]
    assert purge(folder).archives[0].installs == 5
    assert [here(install) for install in installs] == [(0, 0)] * 5


def test_a_history_that_does_not_hold_stays_for_the_doctor(folder: Path) -> None:
    good, bad = ended(), ended()
    with appendonly.lifted(connection):
        bad.events.filter(seq=3).update(data={"step": "rescue", "attempt": 1, "forged": True})
    moved = purge(folder)
    assert moved.doubtful == (str(bad.uuid),)
    assert here(good) == (0, 0)
    assert here(bad)[0]
    assert doctor.examine()[0].install == bad.uuid


def test_an_install_that_is_retried_before_it_is_deleted_stays_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install, other = failed(), ended()
    real = retention._recorded

    def retried_meanwhile(*given: Any) -> Archive:
        actions.retry(install, make_user(Role.OPS))
        return real(*given)

    monkeypatch.setattr(retention, "_recorded", retried_meanwhile)
    events = here(install)[0]
    moved = purge(folder)
    assert moved.changed == (str(install.uuid),)
    assert here(install)[0] == events + 1
    assert here(other) == (0, 0)
    assert Install.objects.get(pk=install.pk).archive is None
    assert doctor.examine() == []


# --- killed half way


@pytest.mark.parametrize("where", ["bind", "prove", "_sync", "_recorded", "_empty"])
def test_what_breaks_half_way_loses_nothing_and_the_next_run_goes_on(
    where: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = ended()
    before = here(install)

    def breaks(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(file if where in ("bind", "prove") else retention, where, breaks)
        with pytest.raises(KeyboardInterrupt):
            purge(folder)
    assert here(install) == before
    assert doctor.examine() == [] or where == "_empty"
    purge(folder)
    assert here(install) == (0, 0)
    install.refresh_from_db()
    assert install.archive
    assert install.archive.file == str(only_file(folder))
    assert doctor.examine() == []


def test_what_was_deleted_in_part_is_finished_and_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    installs = [ended(lines=1) for _ in range(6)]
    real, calls = retention._delete, iter(range(10))

    def breaks(*given: Any) -> list[str]:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as broken:
        broken.setattr(retention, "_delete", breaks)
        with pytest.raises(KeyboardInterrupt):
            purge(folder)
    assert [here(install)[0] > 0 for install in installs] == [False] * 2 + [True] * 4
    assert [finding.code for finding in doctor.examine()] == [doctor.Code.ARCHIVE_UNFINISHED]
    assert "purge --resume" in doctor.examine()[0].fix
    run("--resume", "--to", folder)
    assert [here(install) for install in installs] == [(0, 0)] * 6
    assert Archive.objects.get().installs == Install.objects.exclude(archive=None).count() == 6
    assert doctor.examine() == []


@pytest.mark.parametrize("seconds", [0.0, 0.25])
def test_a_purge_that_is_killed_loses_nothing(seconds: float, folder: Path) -> None:
    """A real process, a real SIGKILL, some time after its file is there."""
    installs = crowd(200, ended=timezone.now() - 100 * DAY)
    total = Event.objects.count()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "purge", "--older-than", "90", "--to", str(folder)],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not list(folder.glob("*.tar")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    gone = Install.objects.exclude(archive=None)
    proved = file.prove(only_file(folder), [signing.own_key().public_key()])
    assert proved.manifest.events == sum(install.last_seq for install in installs)
    assert not Event.objects.filter(install__in=gone).exists()
    assert Event.objects.count() == total - sum(gone.values_list("last_seq", flat=True))
    assert {finding.code for finding in doctor.examine()} <= {doctor.Code.ARCHIVE_UNFINISHED}
    run("--older-than", 90, "--to", folder)
    assert not Event.objects.filter(install__in=installs).exists()
    assert doctor.examine() == []
    only_file(folder)


def environment(**changes: str) -> dict[str, str]:
    """For a Landfall of its own in this test's database."""
    database = connection.settings_dict
    url = f"sqlite:///{database['NAME']}"
    if connection.vendor == "postgresql":
        url = f"postgres://landfall@{str(database['HOST']).replace('/', '%2F')}/{database['NAME']}"
    return {
        **os.environ,
        "DATABASE_URL": url,
        "LANDFALL_ARCHIVE_KEY": SEED,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    } | changes


def test_a_file_that_cannot_be_proved_deletes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has kept something else than what was written."""
    install = ended()
    before, real = here(install), file.bind

    def rots(path: Path, *given: Any) -> None:
        real(path, *given)
        damage(path)

    monkeypatch.setattr(file, "bind", rots)
    with pytest.raises(ArchiveBroken):
        purge(folder)
    assert here(install) == before
    assert Archive.objects.count() == 0


def test_an_archive_that_was_lost_before_all_was_deleted_stops_the_next_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = ended()
    with monkeypatch.context() as broken:
        broken.setattr(retention, "_empty", lambda *_: [][0])
        with pytest.raises(IndexError):
            purge(folder)
    only_file(folder).unlink()
    with pytest.raises(CommandError, match="cannot be read"):
        run("--older-than", 90, "--to", folder)
    assert here(install)[0]


def test_two_at_a_time_are_refused(folder: Path) -> None:
    ended()
    with retention._alone(folder), pytest.raises(CommandError, match="Another purge"):
        run("--older-than", 90, "--to", folder)


def test_without_a_key_nothing_is_moved(folder: Path, settings: LazySettings) -> None:
    install = ended()
    for key in ("", "not base64!", base64.b64encode(b"short").decode()):
        settings.LANDFALL_ARCHIVE_KEY = key
        with pytest.raises(CommandError, match="bin/setup"):
            run("--older-than", 90, "--to", folder)
    assert here(install)[0]


# --- what is in it


def damage(path: Path) -> None:
    """Writes some bytes over the records."""
    with tarfile.open(path) as tar:
        records = tar.getmember("records.jsonl.gz")
    with path.open("r+b") as out:
        out.seek(records.offset_data + records.size // 2)
        out.write(b"\x55\xaa\x55")


@pytest.fixture
def archive(folder: Path) -> Path:
    """The file in which the only install there is was archived."""
    ended()
    purge(folder)
    return only_file(folder)


def archived() -> Install:
    """The install in it."""
    return Install.objects.get()


def test_an_archive_is_proved_without_any_database(archive: Path, tmp_path: Path) -> None:
    nowhere = environment(DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing", LANDFALL_VAR=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "manage.py", "purge", "--verify", str(archive)],
        cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is whole: 1 installs with" in done.stdout
    assert "3 pieces of logs" in done.stdout


def test_no_secret_is_in_an_archive(folder: Path) -> None:
    install = ended(user_data=b"password: hunter2")
    install.private_key = Secret("-----BEGIN OPENSSH PRIVATE KEY-----")
    install.save(update_fields=["private_key"])
    purge(folder)
    with tarfile.open(only_file(folder)) as tar:
        said = gzip.decompress(tar.extractfile("records.jsonl.gz").read())  # type: ignore[union-attr]
    assert b"hunter2" not in said
    assert b"PRIVATE KEY" not in said
    assert (folder.stat().st_mode & 0o077) == 0


# --- the doctor on archives


def test_the_doctor_misses_an_archive_that_is_gone_until_it_is_told_where(archive: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tape.tar"
    archive.rename(elsewhere)
    (finding,) = doctor.examine()
    assert finding.code is doctor.Code.ARCHIVE_MISSING
    assert "purge --moved" in finding.fix
    assert "is whole" in run("--moved", elsewhere)
    assert doctor.examine() == []


def test_another_file_is_not_taken_for_the_archive(archive: Path, folder: Path) -> None:
    ended()
    other = Path(purge(folder).archives[0].file)
    Archive.objects.filter(file=str(other)).update(sha256="0" * 64)
    with pytest.raises(CommandError, match="not one that this database knows"):
        run("--moved", other)


def test_the_doctor_notices_an_archive_of_another_size_at_once_and_another_content_when_asked(archive: Path) -> None:
    damage(archive)
    assert doctor.examine() == []
    assert [finding.code for finding in doctor.look(with_power=False, with_archives=True).findings] == [
        doctor.Code.ARCHIVE_BROKEN
    ]
    with archive.open("ab") as out:
        out.write(b"more")
    assert [finding.code for finding in doctor.examine()] == [doctor.Code.ARCHIVE_BROKEN]


def test_a_log_that_is_there_although_it_was_archived_is_found(archive: Path) -> None:
    install = archived()
    LogChunk.objects.create(
        install=install, step="copy", attempt=1, offset=0, size=2, first_line=1, text="a\n", at=timezone.now()
    )
    assert [finding.code for finding in doctor.examine()] == [doctor.Code.ARCHIVE_UNCLEAN]


# --- the command


def test_a_dry_run_counts_and_touches_nothing(folder: Path) -> None:
    install = ended()
    events, chunks = here(install)
    said = run("--older-than", 90, "--to", folder, "--dry-run")
    assert f"Would move 1 installs with {events} events and {chunks} pieces of logs." in said
    assert here(install) == (events, chunks)
    assert not folder.exists()


def test_the_command_says_what_it_has_moved_and_who_did_it_is_on_record(folder: Path) -> None:
    ended()
    said = run("--older-than", 90, "--to", folder)
    archive = Archive.objects.get()
    assert f"Moved 1 installs with {archive.events} events and 3 pieces of logs into {archive.file}" in said
    assert "@" in archive.by
    assert archive.older_than == 90
    assert "nothing to move" in run("--older-than", 90, "--to", folder)


def test_what_ended_today_cannot_be_moved(folder: Path) -> None:
    with pytest.raises(CommandError, match="1 at least"):
        run("--older-than", 0, "--to", folder)


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    install = ended()
    with pytest.raises(CommandError, match="Nothing was deleted"):
        run("--older-than", 90, "--to", tmp_path / "file" / "below")
    assert here(install)[0]


# --- those who read


def test_the_page_of_an_archived_install_says_where_its_history_is(archive: Path) -> None:
    install = archived()
    page = text(browser(make_user(Role.OPS)), install.get_absolute_url())
    assert "succeeded" in page
    assert "asked for by" in page
    assert f"On {timezone.now():%Y-%m-%d} its events and logs were moved into" in page
    assert str(archive) in page
    assert Archive.objects.get().sha256 in page


def test_a_customer_is_not_told_the_folders_of_the_provider(archive: Path) -> None:
    install = archived()
    page = text(browser(make_user(projects=[install.project])), install.get_absolute_url())
    assert archive.name in page
    assert str(archive.parent) not in page


def test_every_address_of_an_archived_install_answers(archive: Path) -> None:
    install = archived()
    client = browser(make_user(Role.OPS))
    for step in ("copy", "verify"):
        for address in (f"log/{step}/1/", f"log/{step}/1.txt"):
            answer = client.get(f"{install.get_absolute_url()}{address}")
            assert answer.status_code == 302
    for act in ("cancel", "hold", "reset"):
        assert client.get(f"{install.get_absolute_url()}{act}/").status_code == 200
    for act, given in (
        ("cancel", {}),
        ("retry", {}),
        ("hold", {"before": "copy"}),
        ("release", {}),
        ("reset", {"reason": "x"}),
    ):
        answer = client.post(f"{install.get_absolute_url()}{act}/", given)
        assert (answer.status_code, "was archived" in answer.content.decode()) == (409, True), act


def test_an_archived_install_cannot_go_on(folder: Path) -> None:
    install = failed()
    purge(folder)
    install.refresh_from_db()
    with pytest.raises(actions.Refused, match="archived"):
        actions.retry(install, make_user(Role.OPS))
    assert here(install) == (0, 0)


def test_the_server_page_still_tells_how_to_log_in(archive: Path) -> None:
    install = archived()
    page = text(browser(make_user(Role.OPS)), install.server.get_absolute_url())
    assert "ssh debian@192.0.2.14" in page
    assert HOST_KEYS[0] in page


def test_a_server_whose_disks_an_archived_install_erased_has_no_system(folder: Path) -> None:
    server = make_server(disks=2)
    ended(days=300, server=server)
    failed("copy", days=200, server=server)
    client = browser(make_user(Role.OPS))
    before = text(client, server.get_absolute_url())
    assert "There is no operating system on this server" in before
    purge(folder)
    assert "There is no operating system on this server" in text(client, server.get_absolute_url())


def test_the_usual_times_are_those_of_the_installs_that_are_here(folder: Path) -> None:
    image = make_image()
    install = installed(image=image, began=timezone.now() - 2 * DAY)
    assert retention.purge(1, folder, "ops").archives
    cache.clear()
    assert reading.usual_times() == {}
    installed(image=image, pace=2.0)
    cache.clear()
    assert reading.usual_for(install).steps["copy"] == 320


def test_the_lists_show_archived_installs(archive: Path) -> None:
    client: Client = browser(make_user(Role.OPS))
    for address in ("/", "/board/"):
        assert client.get(address).status_code == 200


def test_the_history_of_an_archived_install_cannot_be_begun_anew(archive: Path) -> None:
    install = archived()
    for kind in (Kind.REQUESTED, Kind.RETRIED, Kind.CANCEL_REQUESTED):
        with pytest.raises((IllegalEvent, AssertionError, DatabaseError)):
            journal.append(install, kind, {"step": "rescue"})
    assert here(install) == (0, 0)

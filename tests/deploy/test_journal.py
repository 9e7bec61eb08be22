"""The one writer of history, and a database that refuses to change it. On SQLite and on PostgreSQL."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from deploy import journal, queue
from deploy.events import GENESIS, IllegalEvent, Kind, digest
from deploy.logbook import Logbook
from deploy.models import Event, Install, LogChunk
from deploy.queue import Lease, LeaseLost
from tests.builders import make_install
from tests.deploy.happenings import broken, done, started

TO_COPY = (
    (Kind.PLANNED, {"steps": ["rescue", "copy"]}),
    started("rescue"),
    (Kind.POWER_CYCLING, {}),
    (Kind.POWER_CYCLED, {}),
    (Kind.RESCUE_READY, {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "b"}),
    done("rescue"),
    started("copy"),
)


@pytest.mark.django_db
def test_the_row_is_always_what_the_history_adds_up_to() -> None:
    install = make_install()
    for kind, data in (*TO_COPY, broken("copy")):
        state = journal.append(install, kind, data)
        row = Install.objects.get(pk=install.pk)
        assert row.state() == state
        assert {name: getattr(row, name) for name in journal.projection(state)} == journal.projection(state)
    assert row.status == "failed"


@pytest.mark.django_db
def test_each_event_carries_the_digest_of_all_before_it() -> None:
    install = make_install()
    for kind, data in TO_COPY:
        journal.append(install, kind, data)
    link = GENESIS
    for row in install.events.order_by("seq"):
        link = digest(link, row.value())
        assert row.digest == link
    assert Install.objects.get(pk=install.pk).digest == link


@pytest.mark.django_db
def test_an_illegal_event_leaves_nothing_behind() -> None:
    install = make_install()
    with pytest.raises(IllegalEvent):
        journal.append(install, *started("rescue"))
    assert install.events.count() == 1


@pytest.mark.django_db
def test_a_worker_whose_lease_is_gone_writes_nothing_more() -> None:
    install = make_install()
    claimed = queue.claim("first", timezone.now())
    assert claimed
    later = timezone.now() + queue.LEASE_TIME + timedelta(seconds=1)
    assert queue.claim("second", later)
    with pytest.raises(LeaseLost):
        journal.append(install, Kind.PLANNED, {"steps": ["rescue"]}, lease=claimed[1])
    assert install.events.count() == 1


@pytest.mark.django_db
def test_a_call_from_outside_wakes_the_install() -> None:
    install = make_install()
    Install.objects.filter(pk=install.pk).update(wake_at=timezone.now() + timedelta(hours=1))
    journal.append(install, Kind.PLANNED, {"steps": ["rescue"]})
    assert queue.due(timezone.now()).exists()


@pytest.mark.django_db
def test_what_came_meanwhile_is_not_slept_over() -> None:
    """The driver looked, a machine called, the driver lets go: the call must not wait for the driver's next look."""
    install = make_install()
    claimed = queue.claim("w", timezone.now())
    assert claimed
    seen = claimed[0].last_seq
    journal.append(install, Kind.PLANNED, {"steps": ["rescue"]})
    queue.release(claimed[1], timezone.now() + timedelta(hours=1), seen)
    assert queue.due(timezone.now()).exists()


@pytest.mark.django_db(transaction=True)
def test_of_twenty_racing_writers_none_loses_an_event() -> None:
    install = make_install()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            journal.append(install, Kind.PHONED_HOME, {"boot_id": "b"})
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(install.events.order_by("seq").values_list("seq", flat=True)) == list(range(1, 22))


def a_log_line(install: Install) -> LogChunk:
    return LogChunk.objects.create(
        install=install, step="copy", attempt=1, offset=0, size=2, first_line=1, text="a\n", at=timezone.now()
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["deploy_event", "deploy_logchunk"])
@pytest.mark.parametrize(
    "sql", ["UPDATE {table} SET install_id = install_id", "DELETE FROM {table}", "DELETE FROM {table} WHERE id > 0"]
)
def test_the_database_refuses_to_change_history(table: str, sql: str) -> None:
    a_log_line(make_install())
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.format(table=table))
    assert Event.objects.count() == LogChunk.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["deploy_event", "deploy_logchunk"])
def test_the_database_refuses_to_truncate_history(table: str) -> None:
    a_log_line(make_install())
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table}")
    assert Event.objects.count() == LogChunk.objects.count() == 1


@pytest.mark.django_db
def test_a_forged_lease_is_no_lease() -> None:
    install = make_install()
    with pytest.raises(LeaseLost):
        journal.append(
            install,
            Kind.PLANNED,
            {"steps": []},
            lease=Lease(install.pk, uuid4(), "nobody", timezone.now(), timezone.now()),
        )


def copying() -> tuple[Install, Lease]:
    """An install in a worker's hands that is about to copy."""
    install = make_install()
    for kind, data in TO_COPY:
        journal.append(install, kind, data)
    claimed = queue.claim("first", timezone.now())
    assert claimed
    return claimed


@pytest.mark.django_db
def test_the_last_lines_of_a_step_are_stored_with_its_end_or_not_at_all() -> None:
    install, lease = copying()
    book = Logbook.open(install, lease, "copy", 1)
    book.take(b"the last line\n")
    assert queue.claim("second", timezone.now() + queue.LEASE_TIME + timedelta(seconds=1))
    with pytest.raises(LeaseLost):
        journal.append(install, *done("copy"), lease=lease, known=install.state(), log=book.cut())
    assert not LogChunk.objects.exists()
    journal.append(install, *done("copy"), log=book.cut())
    assert LogChunk.objects.get().text == "the last line\n"
    assert Install.objects.get().status == "succeeded"


@pytest.mark.django_db
@pytest.mark.parametrize("knows", [True, False])
def test_the_next_step_begins_with_the_end_of_the_one_before(knows: bool) -> None:
    install = make_install()
    for kind, data in TO_COPY[:-2]:
        known = journal.append(install, kind, data)
    state = journal.append(install, *done("rescue"), known=known if knows else None, then=started("copy"))
    assert state == install.state()
    assert [event.kind for event in install.history()[-2:]] == [Kind.STEP_SUCCEEDED, Kind.STEP_STARTED]
    assert Install.objects.get().last_seq == state.seq


@pytest.mark.django_db
def test_no_step_begins_where_a_cancel_was_asked_for_meanwhile() -> None:
    install = make_install()
    for kind, data in TO_COPY[:-2]:
        known = journal.append(install, kind, data)
    journal.append(install, Kind.CANCEL_REQUESTED, {})
    state = journal.append(install, *done("rescue"), known=known, then=started("copy"))
    assert (state.is_done("rescue"), state.of("copy").attempt) == (True, 0)
    assert state == install.state()

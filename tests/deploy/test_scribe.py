"""Many logs stored together: each byte once, under its own lease, none kept waiting by another."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deploy import logbook, queue, scribe
from deploy.logbook import Logbook
from deploy.models import Install, LogChunk
from deploy.queue import LeaseLost
from deploy.scribe import Scribe
from tests.builders import make_install


def a_book() -> Logbook:
    """The empty logbook of a leased install."""
    make_install()
    claimed = queue.claim("worker", timezone.now())
    assert claimed
    return Logbook.open(*claimed, "copy", 1)


def text_of(book: Logbook) -> str:
    chunks = LogChunk.objects.filter(install=book.install).order_by("offset")
    return "".join(chunk.text for chunk in chunks)


def lose_lease(book: Logbook) -> None:
    claimed = queue.claim("another", timezone.now() + queue.LEASE_TIME + timedelta(seconds=1))
    assert claimed
    assert claimed[0] == book.install


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def the_scribe() -> Iterator[Scribe]:
    made = Scribe()
    yield made
    made.stop()


@pytest.mark.django_db
def test_the_logs_of_many_jobs_cost_no_more_statements_than_one() -> None:
    def statements(books: list[Logbook]) -> int:
        for book in books:
            book.take(b"a line\n")
        with CaptureQueriesContext(
            connection,
        ) as captured:
            logbook.store(books)
        return len(captured)

    assert statements([a_book()]) == statements([a_book() for _ in range(5)])
    assert LogChunk.objects.count() == 6


@pytest.mark.django_db
def test_a_line_that_has_not_ended_waits_for_its_end() -> None:
    book = a_book()
    book.take(b"whole\nhal")
    logbook.store([book])
    assert (text_of(book), book.offset, book.read_from) == ("whole\n", 6, 9)
    book.take(b"f\n")
    logbook.store([book])
    assert (text_of(book), book.next_line) == ("whole\nhalf\n", 3)
    book.take(b"no end")
    book.end()
    logbook.store([book])
    assert text_of(book) == "whole\nhalf\nno end"


@pytest.mark.django_db
def test_a_lost_lease_keeps_its_own_lines_out_and_those_of_no_other() -> None:
    lost, held = a_book(), a_book()
    lose_lease(lost)
    for book in (lost, held):
        book.take(b"a line\n")
    logbook.store([lost, held])
    assert (text_of(lost), text_of(held)) == ("", "a line\n")
    with pytest.raises(LeaseLost):
        lost.take(b"more")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_an_install_that_somebody_keeps_locked_is_stored_later_and_keeps_no_other_waiting() -> None:
    locked, free = a_book(), a_book()
    is_locked, may_go = threading.Event(), threading.Event()

    def freeze_in_a_transaction() -> None:
        with transaction.atomic():
            Install.objects.select_for_update().get(pk=locked.install.pk)
            is_locked.set()
            may_go.wait(30)
        connection.close()

    frozen = threading.Thread(target=freeze_in_a_transaction)
    frozen.start()
    is_locked.wait(30)
    for book in (locked, free):
        book.take(b"a line\n")
    try:
        assert logbook.store([locked, free]) == 1
    finally:
        may_go.set()
        frozen.join()
    assert (text_of(locked), text_of(free)) == ("", "a line\n")
    logbook.store([locked, free])
    assert text_of(locked) == "a line\n"


@pytest.mark.django_db(transaction=True)
def test_lines_are_stored_as_they_come_until_the_book_is_left(the_scribe: Scribe) -> None:
    book = a_book()
    the_scribe.follow(book)
    for number in range(50):
        book.take(f"line {number}\n".encode())
        the_scribe.wrote(book)
    wait_for(lambda: text_of(book) == "".join(f"line {number}\n" for number in range(50)))
    the_scribe.leave(book)
    book.take(b"the last\n")
    the_scribe.wrote(book)
    other = a_book()
    the_scribe.follow(other)
    other.take(b"stored\n")
    the_scribe.wrote(other)
    wait_for(lambda: text_of(other) == "stored\n")
    assert "the last" not in text_of(book)


@pytest.mark.django_db(transaction=True)
def test_lines_that_the_database_does_not_take_are_told_to_their_own_follower_alone(the_scribe: Scribe) -> None:
    doubled, other = a_book(), a_book()
    LogChunk.objects.create(
        install=doubled.install, step="copy", attempt=1, offset=0, size=2, first_line=1, text="a\n", at=timezone.now()
    )
    for book in (doubled, other):
        book.take(b"a line\n")
        the_scribe.follow(book)
    the_scribe.wrote(other)
    wait_for(lambda: text_of(other) == "a line\n")
    with pytest.raises(DatabaseError):
        wait_for(lambda: bool(doubled.check()))
    assert text_of(doubled) == "a\n"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_told_to_all_followers(the_scribe: Scribe, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(books: list[Logbook]) -> int:
        raise OperationalError("the database is away")

    monkeypatch.setattr(scribe, "store", away)
    books = [a_book(), a_book()]
    for book in books:
        book.take(b"a line\n")
        the_scribe.follow(book)
    the_scribe.wrote(books[0])
    for book in books:
        with pytest.raises(OperationalError):
            wait_for(lambda book=book: bool(book.check()))


@pytest.mark.django_db(transaction=True)
def test_whoever_prints_faster_than_it_can_be_stored_waits(the_scribe: Scribe, monkeypatch: pytest.MonkeyPatch) -> None:
    may_store = threading.Event()
    store = scribe.store

    def slowly(books: list[Logbook]) -> int:
        may_store.wait(30)
        return store(books)

    monkeypatch.setattr(scribe, "store", slowly)
    book = a_book()
    the_scribe.follow(book)
    book.take(b"x" * 100 + b"\n" + b"y" * scribe.MOST_WAITING)
    done = threading.Event()

    def write() -> None:
        the_scribe.wrote(book)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.2)
    book.take(b"\n")
    may_store.set()
    writer.join(60)
    assert done.is_set()

"""What is said while the database is away, and when."""

import sqlite3

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test import RequestFactory

from config import away

asked = RequestFactory()


def test_a_browser_gets_a_page_that_tries_again() -> None:
    response = away.answer(asked.get("/board/", headers={"accept": "text/html,*/*"}))
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert b'http-equiv="refresh" content="5"' in response.content


def test_what_was_sent_by_a_form_is_not_sent_again_by_itself() -> None:
    page = away.answer(asked.post("/installs/", headers={"accept": "text/html"})).content
    assert b"refresh" not in page
    assert b"was not done" in page


def test_a_machine_gets_a_sentence() -> None:
    response = away.answer(asked.post("/machine/ready", headers={"accept": "*/*"}))
    assert (response.status_code, response["Content-Type"]) == (503, "text/plain; charset=utf-8")
    assert response.content.decode() == away.SENTENCE


@pytest.mark.django_db
def test_a_missing_table_is_our_mistake() -> None:
    with pytest.raises(DatabaseError) as raised, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM nowhere")
    assert not away.is_away(raised.value)


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_database_that_somebody_else_holds_is_away() -> None:
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(OperationalError) as raised, connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout=0")
            cursor.execute("UPDATE accounts_user SET username = ''")
        assert away.is_away(raised.value)
    finally:
        other.close()
        connection.close()


def test_a_mistake_in_a_view_stays_one() -> None:
    assert not away.is_away(ValueError("database is locked"))

"""The channel layer over PostgreSQL: hints reach other processes, survive the database, and stay few."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as some

from deploy import live, pglayer
from deploy.pglayer import PostgresChannelLayer, letters

ROOT = Path(__file__).resolve().parents[2]

on_postgres = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def marked(test: Any) -> Any:
    for mark in on_postgres:
        test = mark(test)
    return test


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def layer() -> Iterator[PostgresChannelLayer]:
    """The layer as this process has it."""
    layer = PostgresChannelLayer()
    yield layer
    layer.hang_up()


@pytest.fixture
def other() -> Iterator[PostgresChannelLayer]:
    """The layer as another process has it: another thread, another connection."""
    layer = PostgresChannelLayer()
    yield layer
    layer.hang_up()


@pytest.fixture
def overheard() -> Iterator[list[str]]:
    """Every letter that goes over the wire, whoever sends it."""
    heard: list[str] = []
    line = pglayer.Line(heard.append, lambda: heard.append("listening"))
    line.start()
    wait_for(lambda: heard == ["listening"])
    heard.clear()
    yield heard
    line.close()


async def member(layer: PostgresChannelLayer, group: str) -> str:
    """A channel in the group, once its process listens."""
    channel: str = await layer.new_channel()
    await layer.group_add(group, channel)
    own = f"try.{uuid4()}"
    await layer.group_add(own, channel)
    await layer.group_send(own, {"type": "try"})
    while (await hear(layer, channel))["type"] != "try":
        pass
    return channel


async def hear(layer: PostgresChannelLayer, channel: str) -> dict[str, Any]:
    message: dict[str, Any] = await asyncio.wait_for(layer.receive(channel), 10)
    return message


@marked
async def test_a_hint_reaches_members_in_every_process(
    layer: PostgresChannelLayer, other: PostgresChannelLayer
) -> None:
    here, there = await member(layer, "install.a"), await member(other, "install.a")
    await layer.group_send("install.a", {"type": "more", "n": 1})
    assert await hear(layer, here) == {"type": "more", "n": 1}
    assert await hear(other, there) == {"type": "more", "n": 1}


@marked
async def test_who_has_left_a_group_hears_nothing(layer: PostgresChannelLayer, other: PostgresChannelLayer) -> None:
    gone, stays = await member(layer, "install.a"), await member(layer, "install.a")
    await layer.group_discard("install.a", gone)
    await other.group_send("install.a", {"type": "more"})
    await hear(layer, stays)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(gone), 0.2)


@marked
async def test_a_connection_that_was_cut_is_made_again_and_everybody_looks(
    layer: PostgresChannelLayer, other: PostgresChannelLayer
) -> None:
    channel = await member(layer, "install.a")
    await asyncio.to_thread(cut_all)
    assert await hear(layer, channel) == pglayer.LOOK
    await other.group_send("install.a", {"type": "more", "n": 2})
    while (await hear(layer, channel)).get("n") != 2:
        pass


def cut_all() -> None:
    """Ends every connection that carries hints, as a restart of the database does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'landfall hints'"
        )
    connection.close()


@marked
def test_what_was_said_while_the_database_was_away_is_said_once_it_is_back(
    layer: PostgresChannelLayer, overheard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = pglayer._where()
    monkeypatch.setattr(pglayer, "_where", lambda: where | {"host": "/nowhere"})
    for _ in range(1000):
        layer.tell(["install.a"], {"type": "more"})
    time.sleep(0.3)
    assert overheard == []
    assert layer.has_more_to_say
    monkeypatch.setattr(pglayer, "_where", lambda: where)
    wait_for(lambda: not layer.has_more_to_say)
    wait_for(lambda: overheard == ['[["install.a",{"type":"more"}]]'])


@marked
def test_ten_thousand_hints_are_kept_and_no_more(layer: PostgresChannelLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pglayer, "_where", lambda: {"host": "/nowhere"})
    for number in range(pglayer.MOST_PENDING + 50):
        layer.tell([f"install.{number}"], {"type": "more"})
    assert len(layer._line._pending) == pglayer.MOST_PENDING


@marked
def test_a_chatty_log_becomes_ten_notifications_a_second(overheard: list[str]) -> None:
    install, quiet = uuid4(), uuid4()
    end = time.monotonic() + 1
    told = 0
    while time.monotonic() < end:
        live.nudge(install, 7, due=False)
        told += 1
    live.nudge(quiet, 7, due=False)
    wait_for(lambda: live.group(quiet) in "".join(overheard))
    assert told > 1000
    assert 5 <= len(overheard) <= 13
    groups = {group for letter in overheard for group, _ in json.loads(letter)}
    assert groups == {live.group(install), live.group(quiet), "project.7", "board"}


@marked
def test_a_worker_that_waits_is_woken_by_another_process(other: PostgresChannelLayer, overheard: list[str]) -> None:
    live.work.wait(0.2)  # joins
    woken: list[bool] = []
    time.sleep(0.2)
    live.work.clear()
    waiting = threading.Thread(target=lambda: woken.append(live.work.wait(60)))
    waiting.start()
    other.tell([live.WORK], pglayer.LOOK)
    waiting.join(10)
    assert woken == [True]


@marked
def test_a_log_line_wakes_no_worker(overheard: list[str]) -> None:
    live.nudge(uuid4(), 7, due=False)
    live.nudge(uuid4(), 7, due=True)
    wait_for(lambda: '"work"' in "".join(overheard))
    assert "".join(overheard).count('"work"') == 1


@marked
async def test_what_strangers_say_on_the_wire_harms_nobody(
    layer: PostgresChannelLayer, other: PostgresChannelLayer
) -> None:
    channel = await member(layer, "install.a")

    def say_nonsense() -> None:
        with connection.cursor() as cursor:
            for nonsense in ("", "{", "[1]", '[["install.a"]]', "null", '[["install.a", {}, 3]]', '{"a": 1}'):
                cursor.execute("SELECT pg_notify(%s, %s)", [pglayer.WIRE, nonsense])
        connection.close()

    await asyncio.to_thread(say_nonsense)
    await other.group_send("install.a", {"type": "more", "n": 3})
    assert await hear(layer, channel) == {"type": "more", "n": 3}


@marked
def test_members_on_a_new_loop_hear_when_the_old_one_is_closed(
    layer: PostgresChannelLayer, other: PostgresChannelLayer
) -> None:
    async def join_and_hear(number: int) -> None:
        channel = await member(layer, "install.a")
        other.tell(["install.a"], {"type": "more", "n": number})
        while (await hear(layer, channel)).get("n") != number:
            pass

    for number in range(3):
        asyncio.run(join_and_hear(number))
        other.tell(["install.a"], {"type": "more", "n": "while nobody's loop runs"})


@marked
def test_a_process_that_ends_at_once_has_told_first(overheard: list[str]) -> None:
    install = uuid4()
    run(f"from uuid import UUID; from deploy import live; live.nudge(UUID('{install}'), 7)")
    wait_for(lambda: live.group(install) in "".join(overheard), 2)


@marked
def test_a_forked_child_tells_by_itself_and_leaves_the_parent_its_connection(overheard: list[str]) -> None:
    parent, child, late = uuid4(), uuid4(), uuid4()
    run(f"""
import os, time
from uuid import UUID
from deploy import live
live.nudge(UUID('{parent}'), 7)
live.flush()
if os.fork() == 0:
    live.nudge(UUID('{child}'), 7)
    live.flush()
    os._exit(0)
os.wait()
live.nudge(UUID('{late}'), 7)
""")
    for install in (parent, child, late):
        wait_for(lambda install=install: live.group(install) in "".join(overheard), 2)  # type: ignore[misc]


def run(program: str) -> None:
    """Runs the program in a process of its own, on the tests' database."""
    where = connection.settings_dict
    url = f"postgres://landfall@{where['HOST'].replace('/', '%2F')}/{where['NAME']}"
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    prepared = f"import django; django.setup()\n{program}"
    subprocess.run([sys.executable, "-c", prepared], cwd=ROOT, env=environment, check=True, timeout=60)


@marked
async def test_a_hint_that_is_no_hint_is_refused(layer: PostgresChannelLayer) -> None:
    with pytest.raises(ValueError, match="in the database"):
        await layer.group_send("install.a", {"type": "more", "text": "x" * 8000})
    with pytest.raises(TypeError):
        await layer.group_send("no group's name", {"type": "more"})


@marked
def test_the_longest_letter_is_one_that_postgresql_takes(overheard: list[str]) -> None:
    with psycopg.connect(**pglayer._where()) as wire:
        wire.execute("SELECT pg_notify(%s, %s)", (pglayer.WIRE, "x" * pglayer.LONGEST))
        with pytest.raises(psycopg.Error):
            wire.execute("SELECT pg_notify(%s, %s)", (pglayer.WIRE, "x" * (pglayer.LONGEST + 1)))
    wait_for(lambda: len(overheard) == 1)


@given(some.lists(some.text(max_size=900).map(json.dumps)))
def test_letters_hold_every_note_once_and_are_short_enough(notes: list[str]) -> None:
    posted = list(letters(notes))
    assert [note for _, written in posted for note in written] == notes
    for letter, written in posted:
        assert json.loads(letter) == [json.loads(note) for note in written]
        assert len(letter.encode()) <= pglayer.LONGEST


def test_nothing_to_say_makes_no_letter() -> None:
    assert list(letters([])) == []

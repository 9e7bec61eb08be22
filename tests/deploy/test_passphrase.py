"""The passphrase of encrypted disks: shown once, to those whose it is, and in nothing that is kept."""

import json
import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import Role
from accounts.secret import Secret
from deploy import journal, passphrase
from deploy.events import Kind
from deploy.models import Event, Install
from deploy.passphrase import PassphraseRefused
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy.histories import Past
from tests.deploy.test_install_page import text

pytestmark = pytest.mark.django_db
WORDS = "bcde fghi jkno prst uvxb cdef"


@pytest.fixture
def install() -> Install:
    """An install whose disks are encrypted with a passphrase of ours."""
    return make_install(disk_passphrase=Secret(WORDS))


@pytest.fixture
def member(install: Install) -> Client:
    """The browser of a member of its project."""
    client = Client()
    client.force_login(make_user(projects=[install.project], name="carla"))
    return client


def page(client: Client, install: Install) -> str:
    return client.get(install.get_absolute_url()).content.decode()


def show(client: Client, install: Install) -> Any:
    return client.post(f"{install.get_absolute_url()}passphrase/")


def succeed(install: Install) -> None:
    """Somebody can log in: the last step by the journal, as a worker does it."""
    past = Past(install)
    past.until("verify")
    journal.append(install, Kind.STEP_SUCCEEDED, {"step": "verify", "attempt": 1, "result": {}})


def kept(install: Install) -> bool:
    return bool(Install.objects.get(pk=install.pk).disk_passphrase)


def test_it_is_shown_once_and_never_again(install: Install, member: Client) -> None:
    assert "Show the passphrase once" in page(member, install)
    assert WORDS not in page(member, install)
    response = show(member, install)
    assert WORDS in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    again = show(member, install)
    assert again.status_code == 409
    assert WORDS not in again.content.decode()
    assert "shown already" in text(again.content)
    assert "Show the passphrase once" not in page(member, install)


def test_the_history_tells_who_has_seen_it_and_not_what(install: Install, member: Client) -> None:
    show(member, install)
    assert "carla was shown the passphrase of the disks" in text(member.get(install.get_absolute_url()).content)
    assert WORDS not in json.dumps(list(Event.objects.filter(install=install).values("kind", "data")))
    assert not Install.objects.filter(disk_passphrase__contains=WORDS[:4]).exists()


def test_whoever_asks_first_sees_it_and_the_next_one_is_told(install: Install, member: Client) -> None:
    other = Client()
    other.force_login(make_user(projects=[install.project]))
    show(member, install)
    assert show(other, install).status_code == 409


def test_ops_who_are_not_of_the_project_do_not_see_it(install: Install) -> None:
    ops = Client()
    ops.force_login(make_user(Role.OPS))
    assert "Show the passphrase once" not in page(ops, install)
    assert show(ops, install).status_code == 404
    assert ops.get(f"{install.get_absolute_url()}passphrase/").status_code == 404


def test_whoever_requested_it_sees_it() -> None:
    ops = make_user(Role.OPS)
    install = make_install(disk_passphrase=Secret(WORDS), by=ops)
    client = Client()
    client.force_login(ops)
    assert WORDS in show(client, install).content.decode()


def test_strangers_find_no_such_install(install: Install) -> None:
    stranger = Client()
    stranger.force_login(make_user(projects=[make_project()]))
    assert show(stranger, install).status_code == 404
    assert show(Client(), install).status_code == 302


def test_an_install_without_encryption_has_none(member: Client, install: Install) -> None:
    plain = make_install(make_server(install.project))
    assert "Show the passphrase once" not in page(member, plain)
    assert show(member, plain).status_code == 409
    assert member.get(f"{plain.get_absolute_url()}passphrase/").status_code == 302


def test_what_nobody_has_seen_is_kept_until_somebody_has(install: Install, member: Client) -> None:
    succeed(install)
    assert kept(install)
    assert WORDS in show(member, install).content.decode()
    assert not kept(install)


def test_what_was_seen_is_forgotten_when_the_install_has_succeeded(install: Install, member: Client) -> None:
    show(member, install)
    assert kept(install)
    succeed(install)
    assert not kept(install)


def test_a_later_success_on_the_server_forgets_what_it_has_erased(install: Install) -> None:
    succeed(install)
    later = make_install(install.server)
    assert kept(install)
    succeed(later)
    assert not kept(install)


def test_a_question_comes_before_it_where_there_are_no_scripts(install: Install, member: Client) -> None:
    asked = member.get(f"{install.get_absolute_url()}passphrase/")
    assert "Show it now" in text(asked.content)
    assert WORDS not in asked.content.decode()


# --- what a passphrase may be


def test_a_made_one_is_typed_alike_on_every_keyboard_and_never_twice_the_same() -> None:
    made = {passphrase.make().reveal() for _ in range(50)}
    assert len(made) == 50
    for one in made:
        assert re.fullmatch(r"([b-kn-pr-vx]{4} ){5}[b-kn-pr-vx]{4}", one)
        assert passphrase.check(Secret(one))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has 0 characters"),
        ("short", "has 5 characters. Give it at least 12"),
        ("x" * 201, "At most 200"),
        ("größer als gedacht", "characters that the console"),
        ("two lines\nof twelve", "characters that the console"),
        (" twelve letters", "begins or ends with a space"),
        ("nul\0 in the middle", "characters that the console"),
    ],
)
def test_what_cannot_be_typed_at_a_console_is_refused(text: str, why: str) -> None:
    with pytest.raises(PassphraseRefused, match=re.escape(why)):
        passphrase.check(Secret(text))

"""A reinstall with an image that the customer brings, a hook script, and answers to what an image asks."""

import json
import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import Project, SSHKey
from deploy import actions
from deploy.context import answers_of, describe
from deploy.models import Event, Install
from images.flavours import FLAVOURS
from images.own import is_own
from servers.storage.layout import default_layout
from tests.builders import make_image, make_key, make_project, make_server, make_user
from tests.deploy.visits import Visit

pytestmark = pytest.mark.django_db

SHA = "ab" * 32
OWN = {
    "image": "own", "own_url": "https://93.184.215.14/builds/web.qcow2?signature=s1gned", "own_checksum": SHA,
    "own_flavour": "debian-12", "own_headers": "Authorization: Bearer t0ken",
}  # fmt: skip
ASKING = {
    "inputs": [
        {"name": "admin_mail", "mandatory": True, "help": "Where the first letter goes."},
        {"name": "admin_password", "type": "secret", "mandatory": True},
        {"name": "port", "type": "number", "default": "8443"},
        {"name": "edition", "type": "choice", "choices": ["small", "large"]},
        {"name": "telemetry", "type": "boolean", "default": True},
    ]
}
ANSWERS = {"input-admin_mail": "a@example.org", "secret-admin_password": "hunter2"}


@pytest.fixture
def project() -> Project:
    return make_project("Shop")


@pytest.fixture
def key(project: Project) -> SSHKey:
    return make_key(project, name="alice")


@pytest.fixture
def visit(project: Project, key: SSHKey) -> Visit:
    make_image(name="Debian 12")
    client = Client()
    client.force_login(make_user(projects=[project]))
    return Visit(make_server(project, name="web-14.example.net", disks=2), client)


def finish(visit: Visit, key: SSHKey, **access: Any) -> Install:
    """From the second section to the end; the install."""
    visit.submit("next", layout="raid1", swap="0")
    assert visit.open == "access", visit.words
    visit.submit("next", **{"hostname": "web-14", "keys": [key.pk], **access})
    assert visit.open == "review", visit.words
    visit.erase()
    return Install.objects.get()


# --- an image of one's own


def test_a_customer_installs_an_image_of_the_own(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", **OWN)
    assert re.search(r"Your own, https://93.184.215.14/builds/web.qcow2… ?, as debian-12", visit.words)
    install = finish(visit, key)
    assert is_own(install.image)
    assert install.image.own.checksum == f"sha256:{SHA}"
    assert install.image.own.url.reveal() == OWN["own_url"]
    assert install.image.own.headers.reveal() == "Authorization: Bearer t0ken\n"


def test_what_is_secret_in_it_is_on_no_page_and_in_no_history(visit: Visit, key: SSHKey) -> None:
    pages = []
    visit.submit("next", **OWN)
    pages.append(visit.html)
    visit.submit("image")
    pages.append(visit.html)
    assert visit.value("own_url") == "https://93.184.215.14/builds/web.qcow2…"
    visit.submit("next", **{**OWN, "own_url": visit.value("own_url"), "own_headers": ""})
    install = finish(visit, key)
    pages.append(visit.html)
    (session,) = Session.objects.all()
    kept = json.dumps([session.get_decoded(), [event.data for event in Event.objects.all()]])
    for secret in ("s1gned", "t0ken"):
        assert not any(secret in page for page in pages)
        assert secret not in kept
    assert install.image.own.url.reveal() == OWN["own_url"]


def test_headers_that_are_kept_can_be_forgotten(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", **OWN)
    visit.submit("image")
    visit.submit("next", **{**OWN, "own_headers": "", "own_no_headers": "1"})
    assert not finish(visit, key).image.own.headers


@pytest.mark.parametrize(
    ("field", "typed", "why"),
    [
        ("own_url", "", ""),
        ("own_url", "web.qcow2", ""),
        ("own_url", "ftp://example.org/web.qcow2", ""),
        ("own_url", "https://10.0.0.1/web.qcow2", ""),
        ("own_url", "https://127.0.0.1/web.qcow2", ""),
        ("own_url", "https://user:pw@93.184.215.14/web.qcow2", "do not belong in the address"),
        ("own_checksum", "", "no SHA-256"),
        ("own_checksum", "md5:" + "a" * 32, "no SHA-256"),
        ("own_flavour", "", "Choose what is in it"),
        ("own_flavour", "windows-11", "Choose what is in it"),
        ("own_headers", "no colon", "Header 1 is none"),
        ("own_headers", "Host: elsewhere", "set by Landfall itself"),
        ("own_format", "floppy", ""),
    ],
)
def test_each_mistake_is_said_beside_its_field(visit: Visit, field: str, typed: str, why: str) -> None:
    url = "https://93.184.215.14/web.bin" if field == "own_format" else OWN["own_url"]
    response = visit.submit("next", **{**OWN, "own_url": url, field: typed})
    assert response.status_code == 400
    assert visit.open == "image"
    assert visit.error(field)
    assert why in visit.error(field)
    assert not Install.objects.exists()


def test_a_mistake_loses_neither_address_nor_headers(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", **{**OWN, "own_checksum": "typo"})
    assert visit.value("own_checksum") == "typo"
    visit.submit("next", **{**OWN, "own_url": visit.value("own_url"), "own_headers": ""})
    install = finish(visit, key)
    assert install.image.own.url.reveal() == OWN["own_url"]
    assert install.image.own.headers


@pytest.mark.parametrize("text", ["\0", "x" * 200_000, "<b>", "https://[::1", "https://ex ample/a.raw", "é", "http://"])
def test_odd_input_gets_a_page(visit: Visit, text: str) -> None:
    for field in ("own_url", "own_checksum", "own_headers", "own_flavour", "own_format"):
        response = visit.submit("next", **{**OWN, field: text})
        assert response.status_code < 500
        assert "<b>" not in visit.html


def test_flavours_that_nobody_has_run_here_say_so(visit: Visit) -> None:
    tried = [one for one in FLAVOURS.values() if one.tested_here]
    assert f"{tried[0].title} (untested here)" not in visit.words
    for one in FLAVOURS.values():
        if not one.tested_here:
            assert f"{one.title} (untested here)" in visit.words


def test_an_image_of_an_untested_flavour_says_so(visit: Visit) -> None:
    name = next(one.name for one in FLAVOURS.values() if not one.tested_here)
    make_image(name="Another", flavour=name)
    visit.html = visit.client.get(visit.url).content.decode()
    assert f"Untested here: no machine of ours was installed with {name} yet" in visit.words
    assert "installed with debian-12 yet" not in visit.words


# --- the hook script


def test_a_hook_script_goes_with_the_install(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", **OWN)
    assert finish(visit, key, hook="#!/bin/sh\r\necho done\r\n").hook == "#!/bin/sh\necho done\n"


def test_a_hook_script_that_cannot_run_is_refused_and_kept(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", **OWN)
    visit.submit("next", layout="raid1")
    response = visit.submit("next", hostname="web-14", keys=[key.pk], hook="echo <done>")
    assert response.status_code == 400
    assert "does not say what runs it" in visit.error("hook")
    assert visit.value("hook") == "echo <done>"


# --- what an image asks


@pytest.fixture
def asking(visit: Visit) -> Visit:
    """Somebody who has chosen an image that asks, and a layout."""
    visit.submit("next", image=make_image(name="Panel", capabilities=ASKING).pk)
    return visit


def test_answers_go_with_the_install_secrets_sealed(asking: Visit, key: SSHKey) -> None:
    install = finish(asking, key, **ANSWERS, **{"input-telemetry": "false", "input-edition": "large"})
    assert install.inputs == {
        "admin_mail": "a@example.org", "port": "8443", "edition": "large", "telemetry": "false",
    }  # fmt: skip
    answers = answers_of(Install.objects.get())
    assert answers.environment["LANDFALL_INPUT_PORT"] == "8443"
    assert answers.secrets["admin_password"].reveal() == "hunter2"
    meta = json.loads(describe(install, install.server.facts())["openstack/latest/meta_data.json"])["meta"]
    assert meta == install.inputs
    assert "hunter2" not in json.dumps([event.data for event in Event.objects.all()])


def test_answers_are_in_the_review_and_secrets_are_not(asking: Visit, key: SSHKey) -> None:
    asking.submit("next", layout="raid1")
    asking.submit("next", hostname="web-14", keys=[key.pk], **ANSWERS)
    assert "a@example.org" in asking.words
    assert "given, kept sealed" in asking.words
    assert "hunter2" not in asking.html


def test_a_wrong_answer_is_said_beside_its_field_and_kept(asking: Visit, key: SSHKey) -> None:
    asking.submit("next", layout="raid1")
    given = {"input-port": "eighty", "input-edition": "huge", "secret-admin_password": "hunter2"}
    response = asking.submit("next", hostname="web-14", keys=[key.pk], **given)
    assert response.status_code == 400
    assert "Write a number" in asking.error("input-port")
    assert "Choose one of" in asking.error("input-edition")
    assert "This needs an answer" in asking.error("input-admin_mail")
    assert not asking.error("input-admin_password")
    assert asking.value("input-port") == "eighty"
    assert "hunter2" not in asking.html
    again = {"input-port": "80", "input-edition": "small", "input-admin_mail": "a@example.org"}
    asking.submit("next", hostname="web-14", keys=[key.pk], **again)
    assert asking.open == "review"


def test_a_secret_that_is_kept_can_be_forgotten(asking: Visit, key: SSHKey) -> None:
    asking.submit("next", layout="raid1")
    asking.submit("next", hostname="web-14", keys=[key.pk], **ANSWERS)
    asking.submit("access")
    given = {**ANSWERS, "secret-admin_password": "", "forget": "admin_password"}
    assert asking.submit("next", hostname="web-14", keys=[key.pk], **given).status_code == 400
    assert "This needs an answer" in asking.error("input-admin_password")


@pytest.mark.parametrize("text", ["\0", "x" * 5_000, "<script>", "two\nlines", "é\u202e"])
def test_odd_answers_get_a_page(asking: Visit, key: SSHKey, text: str) -> None:
    asking.submit("next", layout="raid1")
    for name in ("input-admin_mail", "input-port", "input-edition", "input-telemetry", "secret-admin_password"):
        given = {**ANSWERS, name: text, "input-nobody-asked": text}
        assert asking.submit("next", hostname="web-14", keys=[key.pk], **given).status_code < 500
        assert "<script>" not in asking.html
        asking.submit("access")


def test_a_request_by_a_program_is_held_to_the_questions_too(project: Project, key: SSHKey) -> None:
    image, server = make_image(capabilities=ASKING), make_server(project, disks=2)
    wanted = actions.InstallRequest(
        server, image, default_layout(server.facts()), "web-1", (key,), inputs={"port": "x"}
    )
    with pytest.raises(actions.Refused, match="Admin mail: This needs an answer"):
        actions.request_install(wanted, make_user(projects=[project]))

"""`ready` and `phone-home`: tokens work once, and a call is taken whole or not at all."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from pytest_django import Settings

from metadata import tokens
from metadata.models import Purpose, Token
from metadata.signals import machine_called
from metadata.tokens import TokenSpent, TokenUnknown
from tests.metadata.inventory import PHONE_HOME, READY, bearer, make_install, make_server, make_token

pytestmark = pytest.mark.django_db

CALLS = [
    pytest.param("/machine/ready", Purpose.RESCUE, READY, id="ready"),
    pytest.param("/machine/phone-home", Purpose.PHONE_HOME, PHONE_HOME, id="phone-home"),
]


class Listener:
    """What an upper layer would hear; raises instead when it is told to."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def __call__(self, sender: object, signal: object, **call: Any) -> None:
        self.heard.append(call)
        if self.error:
            raise self.error


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Alone with the signal: the engine's own receivers are tested with the engine."""
    before, machine_called.receivers = machine_called.receivers, []
    machine_called.sender_receivers_cache.clear()
    listener = Listener()
    machine_called.connect(listener, weak=False)
    yield listener
    machine_called.receivers = before
    machine_called.sender_receivers_cache.clear()


def post(client: Client, path: str, token: str, body: object) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(path, data, content_type="application/json", headers=bearer(token))


@pytest.mark.parametrize(("path", "purpose", "body"), CALLS)
def test_a_call_is_taken_once_and_told(
    client: Client, listener: Listener, path: str, purpose: Purpose, body: dict[str, Any]
) -> None:
    server = make_server()
    install = make_install(server)
    token = make_token(server, install, purpose)
    answer = post(client, path, token, body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert listener.heard == [{"install": install, "server": server, "call": path.split("/")[-1], "payload": body}]
    assert post(client, path, token, body).status_code == 410
    assert len(listener.heard) == 1


def test_what_a_machine_says_beyond_the_known_fields_is_dropped(client: Client, listener: Listener) -> None:
    server = make_server()
    token = make_token(server, make_install(server), Purpose.PHONE_HOME)
    assert post(client, "/machine/phone-home", token, {**PHONE_HOME, "status": "succeeded"}).status_code == 204
    assert listener.heard[0]["payload"] == PHONE_HOME


def test_ready_uses_up_every_rescue_token_of_its_install_and_no_other(client: Client, listener: Listener) -> None:
    server, other = make_server(), make_server(mac="52:54:00:00:00:02")
    install = make_install(server)
    first, second = (make_token(server, install, Purpose.RESCUE) for _ in range(2))
    phone_home = make_token(server, install, Purpose.PHONE_HOME)
    others = make_token(other, make_install(other), Purpose.RESCUE)
    assert post(client, "/machine/ready", second, READY).status_code == 204
    assert post(client, "/machine/ready", first, READY).status_code == 410
    assert client.get("/machine/key", headers=bearer(first)).status_code == 410
    assert post(client, "/machine/phone-home", phone_home, PHONE_HOME).status_code == 204
    assert post(client, "/machine/ready", others, READY).status_code == 204


@pytest.mark.parametrize(("path", "purpose", "body"), CALLS)
def test_when_a_listener_fails_nothing_has_happened_and_the_machine_calls_again(
    client: Client, listener: Listener, path: str, purpose: Purpose, body: dict[str, Any]
) -> None:
    server = make_server()
    token = make_token(server, make_install(server), purpose)
    listener.error = RuntimeError("the database is gone")
    assert post(client, path, token, body).status_code == 503
    assert not Token.objects.exclude(used_at=None).exists()
    listener.error = None
    assert post(client, path, token, body).status_code == 204


def test_what_a_listener_wrote_before_it_failed_is_gone(client: Client, listener: Listener) -> None:
    server = make_server()
    token = make_token(server, make_install(server), Purpose.RESCUE)

    def write_then_fail(**_call: Any) -> None:
        server.nics.create(mac="52:54:00:00:00:77")
        raise RuntimeError

    machine_called.connect(write_then_fail, weak=False)
    assert post(client, "/machine/ready", token, READY).status_code == 503
    assert not server.nics.filter(mac="52:54:00:00:00:77").exists()


@pytest.mark.parametrize(("path", "purpose", "body"), CALLS)
def test_tokens_that_do_not_open(
    client: Client, listener: Listener, path: str, purpose: Purpose, body: dict[str, Any]
) -> None:
    server = make_server()
    install = make_install(server)
    expired = make_token(server, install, purpose, lifetime=-timedelta(seconds=1))
    for_something_else = make_token(server, install, Purpose.FETCH)
    assert post(client, path, expired, body).status_code == 410
    assert post(client, path, "never-minted", body).status_code == 404
    assert post(client, path, "", body).status_code == 404
    assert post(client, path, for_something_else, body).status_code == 404
    assert client.post(path, json.dumps(body), content_type="application/json").status_code == 404
    assert client.post(path, headers={"Authorization": "Basic Zm9v"}).status_code == 404
    assert listener.heard == []


def test_an_install_that_ended_has_no_token_left(client: Client, listener: Listener) -> None:
    server = make_server()
    install = make_install(server)
    token = make_token(server, install, Purpose.PHONE_HOME)
    tokens.expire(install)
    assert post(client, "/machine/phone-home", token, PHONE_HOME).status_code == 410


def test_tokens_that_expired_long_ago_are_forgotten() -> None:
    server = make_server()
    install = make_install(server)
    old = make_token(server, install, Purpose.FETCH, lifetime=-timedelta(days=8))
    recent = make_token(server, install, Purpose.FETCH, lifetime=-timedelta(days=6))
    make_token(server, install, Purpose.FETCH)
    with pytest.raises(TokenUnknown):
        tokens.look(old, Purpose.FETCH)
    with pytest.raises(TokenSpent):
        tokens.look(recent, Purpose.FETCH)


@pytest.mark.parametrize(
    ("path", "purpose", "limit"),
    [("/machine/ready", Purpose.RESCUE, 256 * 1024), ("/machine/phone-home", Purpose.PHONE_HOME, 16 * 1024)],
)
def test_a_body_that_is_too_large_is_413_and_costs_no_token(
    client: Client, listener: Listener, path: str, purpose: Purpose, limit: int
) -> None:
    server = make_server()
    token = make_token(server, make_install(server), purpose)
    assert post(client, path, token, b" " * (limit + 1)).status_code == 413
    assert post(client, path, token, b" " * limit).status_code == 400
    body = READY if purpose == Purpose.RESCUE else PHONE_HOME
    assert post(client, path, token, json.dumps(body).ljust(limit).encode()).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b"[" * 10_000,
        json.dumps({**PHONE_HOME, "hostname": 5}).encode(),
        json.dumps({**PHONE_HOME, "hostname": "x" * 300}).encode(),
        json.dumps({**PHONE_HOME, "hostname": "a\0b"}).encode(),
        json.dumps({**PHONE_HOME, "hostname": "\ud800"}).encode(),
        json.dumps({**PHONE_HOME, "host_keys": []}).encode(),
        json.dumps({**PHONE_HOME, "host_keys": "ssh-ed25519 AAAA"}).encode(),
        json.dumps({**PHONE_HOME, "host_keys": ["ssh-ed25519"]}).encode(),
        json.dumps({**PHONE_HOME, "host_keys": ["ssh-ed25519 AAAA\nssh-rsa BBBB"]}).encode(),
        json.dumps({key: value for key, value in PHONE_HOME.items() if key != "kernel"}).encode(),
        json.dumps(PHONE_HOME).encode().replace(b'"done"', b"NaN"),
        json.dumps({**PHONE_HOME, "more": 1}).encode().replace(b"1}", b"1e999}"),
        json.dumps({**PHONE_HOME, "more": 1}).encode().replace(b"1}", b"1" * 5000 + b"}"),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_no_machine_of_ours_sends_is_400_and_costs_no_token(
    client: Client, listener: Listener, body: bytes
) -> None:
    server = make_server()
    token = make_token(server, make_install(server), Purpose.PHONE_HOME)
    answer = post(client, "/machine/phone-home", token, body)
    assert answer.status_code == 400
    assert answer.content.decode().endswith(".\n")
    assert not Token.objects.exclude(used_at=None).exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/boot/52:54:00:12:34:56"),
        ("post", "/boot/files/vmlinuz"),
        ("post", "/machine/key"),
        ("get", "/machine/ready"),
        ("put", "/machine/phone-home"),
        ("delete", f"/machine/images/{'0' * 64}"),
    ],
)
def test_another_method_is_405(method: str, path: str) -> None:
    client = Client(enforce_csrf_checks=False)
    assert getattr(client, method)(path).status_code == 405


def test_a_machine_posts_without_a_csrf_token(listener: Listener) -> None:
    server = make_server()
    token = make_token(server, make_install(server), Purpose.RESCUE)
    assert post(Client(enforce_csrf_checks=True), "/machine/ready", token, READY).status_code == 204


def test_no_log_line_and_no_answer_repeats_a_token(
    client: Client, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = make_server()
    token = make_token(server, make_install(server), Purpose.RESCUE)
    listener.error = RuntimeError("something broke")
    answers = [post(client, "/machine/ready", token, READY), post(client, "/machine/ready", token, b"{")]
    listener.error = None
    answers += [post(client, "/machine/ready", token, READY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 400, 204, 410]
    assert "something broke" in caplog.text
    assert token not in caplog.text
    assert all(token not in answer.content.decode() for answer in answers)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("path", "purpose", "body"), CALLS)
def test_of_two_calls_that_race_one_is_taken(
    listener: Listener, path: str, purpose: Purpose, body: dict[str, Any]
) -> None:
    server = make_server()
    install = make_install(server)
    for round_ in range(1, 9):
        token = make_token(server, install, purpose)
        start = Barrier(2)

        def call(token: str = token, start: Barrier = start) -> int:
            start.wait()
            try:
                return int(post(Client(), path, token, body).status_code)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            statuses = sorted(future.result() for future in [pool.submit(call), pool.submit(call)])
        assert statuses == [204, 410]
        assert len(listener.heard) == round_


def test_an_address_that_calls_too_often_is_429_until_its_bucket_fills_again(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LANDFALL_MACHINE_RATE = 5
    now = timezone.now().timestamp()
    monkeypatch.setattr("metadata.ratelimit.time.time", lambda: now)
    statuses = [client.get("/boot/52:54:00:00:00:99").status_code for _ in range(7)]
    assert statuses == [404] * 5 + [429] * 2
    assert client.get("/machine/key").headers["Retry-After"]
    assert client.get("/machine/key", REMOTE_ADDR="192.0.2.7").status_code == 404
    monkeypatch.setattr("metadata.ratelimit.time.time", lambda: now + 12.1)
    assert [client.get("/machine/key").status_code for _ in range(2)] == [404, 429]


PATHS = st.one_of(
    st.sampled_from(["/machine/key", "/machine/ready", "/machine/phone-home", f"/machine/images/{'a' * 64}"]),
    st.text(max_size=60).map(lambda text: "/boot/" + text),
    st.text(max_size=60).map(lambda text: "/boot/files/" + text),
    st.text(max_size=80).map(lambda text: "/machine/images/" + text),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
SHAPED = st.fixed_dictionaries(
    {}, optional={name: JSON | st.just(value) for name, value in {**PHONE_HOME, **READY}.items()}
)


@given_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]),
    path=PATHS,
    body=st.binary(max_size=200) | (JSON | SHAPED).map(lambda value: json.dumps(value).encode()),
    authorization=st.sampled_from(["good", "none"]) | st.text(st.characters(codec="latin-1"), max_size=80),
    byte_range=st.none()
    | st.from_regex(r"bytes=[0-9]*-[0-9]*", fullmatch=True)
    | st.text(st.characters(codec="latin-1"), max_size=30),
)
def test_odd_input_never_ends_in_a_500(
    listener: Listener, method: str, path: str, body: bytes, authorization: str, byte_range: str | None
) -> None:
    server = make_server(mac="52:54:00:00:00:55") if not Token.objects.exists() else Token.objects.all()[0].server
    tokens_by_path = {
        "/machine/key": Purpose.RESCUE,
        "/machine/ready": Purpose.RESCUE,
        "/machine/phone-home": Purpose.PHONE_HOME,
    }
    good = make_token(server, make_install(server), tokens_by_path.get(path, Purpose.FETCH))
    headers = {"Range": byte_range} if byte_range is not None else {}
    if authorization != "none":
        headers["Authorization"] = f"Bearer {good}" if authorization == "good" else authorization
    answer = Client().generic(method, path, body, content_type="application/json", headers=headers)
    assert answer.status_code < 500

"""Webhooks: what is told of an install that ends, that it arrives at least once, and where it is never sent."""

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from standardwebhooks.webhooks import Webhook as Verifier

from accounts.models import Project
from accounts.secret import Secret
from deploy import journal
from deploy.events import Kind, Status
from deploy.models import Delivery, Install, Webhook
from deploy.steps import steps_for
from deploy.webhooks import outbox, signing
from deploy.webhooks.post import Limits
from deploy.webhooks.sender import Sender
from deploy.webhooks.targets import TargetRefused, addresses, is_allowed, parse
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy import receiver
from tests.deploy.histories import FAILURE
from tests.deploy.receiver import Authority, Receiver, status

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
QUICK = Limits(connect=1, total=1)


def make_webhook(project: Project, url: str = "https://hooks.example/landfall", **columns: Any) -> Webhook:
    return Webhook.objects.create(project=project, url=url, **{"secret": signing.new_secret(), **columns})


def begin(install: Install) -> None:
    """The steps are chosen, and the first one begins."""
    journal.append(install, Kind.PLANNED, {"steps": ["wipe", "verify"]})
    journal.append(install, Kind.STEP_STARTED, {"step": "wipe", "attempt": 1})


def succeed(install: Install) -> None:
    """The install goes through all its steps."""
    begin(install)
    journal.append(install, Kind.STEP_SUCCEEDED, {"step": "wipe", "attempt": 1, "result": {}})
    journal.append(install, Kind.STEP_STARTED, {"step": "verify", "attempt": 1})
    login = {"ssh": "debian@192.0.2.14", "port": 22, "host_keys": ["SHA256:abc"], "verified": "SHA256:abc"}
    journal.append(install, Kind.STEP_SUCCEEDED, {"step": "verify", "attempt": 1, "result": login})


def told(delivery: Delivery) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(delivery.payload)
    return body


@pytest.fixture
def project() -> Project:
    return make_project("Shop")


# --- what is told


def test_a_success_is_told_with_everything_that_somebody_needs_to_log_in(project: Project) -> None:
    webhook = make_webhook(project)
    install = make_install(make_server(project, name="web-14", disks=2), by=make_user(name="alice"))
    succeed(install)
    delivery = webhook.deliveries.get()
    body = told(delivery)
    assert (body["type"], delivery.seq) == ("install.succeeded", 6)
    data = body["data"]
    assert (data["server"], data["project"], data["requested_by"]) == ("web-14", "shop", "alice")
    assert data["login"] == {"ssh": "debian@192.0.2.14", "port": 22, "host_keys": ["SHA256:abc"]}
    assert data["url"] == f"{django_settings.LANDFALL_URL}/installs/{install.uuid}/"
    assert data["failure"] is None
    assert data["disks_touched"] is True
    assert data["seconds"] >= 0
    assert body["timestamp"] == data["ended_at"]
    assert body["timestamp"].endswith("Z")


def test_a_failure_is_told_with_blame_and_fix_but_without_a_command_or_its_output(project: Project) -> None:
    webhook = make_webhook(project)
    install = make_install(make_server(project))
    begin(install)
    journal.append(install, Kind.STEP_FAILED, {"step": "wipe", "attempt": 1, "failure": FAILURE.to_json()})
    body = told(webhook.deliveries.get())
    assert body["type"] == "install.failed"
    assert body["data"]["failure"] == {
        "step": "wipe", "code": "command-failed", "blame": "provider", "message": FAILURE.message, "fix": FAILURE.fix,
    }  # fmt: skip
    assert "rsync -aHAXS" not in webhook.deliveries.get().payload


def test_an_attempt_that_fails_and_is_made_again_is_not_told(project: Project) -> None:
    webhook = make_webhook(project)
    install = make_install(make_server(project))
    begin(install)
    again = {"resume_from": "wipe", "retry_at": timezone.now().isoformat()}
    journal.append(install, Kind.STEP_FAILED, {"step": "wipe", "attempt": 1, "failure": FAILURE.to_json()} | again)
    assert not webhook.deliveries.exists()


def test_a_cancel_is_told_once_when_it_is_done_and_not_when_it_is_asked_for(project: Project) -> None:
    webhook = make_webhook(project)
    install = make_install(make_server(project))
    journal.append(install, Kind.CANCEL_REQUESTED, {"by": "alice"})
    assert not webhook.deliveries.exists()
    journal.append(install, Kind.CANCELLED, {"left": "as it was"})
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [], "boot_id": "late"})
    body = told(webhook.deliveries.get())
    assert body["type"] == "install.cancelled"
    assert body["data"]["disks_touched"] is False


def test_an_install_that_is_tried_again_is_told_each_time_it_ends(project: Project) -> None:
    webhook = make_webhook(project)
    install = make_install(make_server(project))
    begin(install)
    journal.append(install, Kind.STEP_FAILED, {"step": "wipe", "attempt": 1, "failure": FAILURE.to_json()})
    journal.append(install, Kind.RETRIED, {"by": "alice", "step": "wipe"})
    journal.append(install, Kind.STEP_STARTED, {"step": "wipe", "attempt": 2})
    journal.append(install, Kind.STEP_FAILED, {"step": "wipe", "attempt": 2, "failure": FAILURE.to_json()})
    assert webhook.deliveries.count() == 2


def test_the_event_and_its_deliveries_are_stored_together_or_not_at_all(project: Project) -> None:
    make_webhook(project)
    install = make_install(make_server(project))
    journal.append(install, Kind.CANCEL_REQUESTED, {})
    with pytest.raises(RuntimeError), transaction.atomic():
        journal.append(install, Kind.CANCELLED, {})
        assert Delivery.objects.count() == 1
        raise RuntimeError
    assert not Delivery.objects.exists()
    assert Install.objects.get().status == Status.QUEUED


def test_every_webhook_of_the_project_is_told_and_no_other_and_none_that_is_switched_off(project: Project) -> None:
    first, second = make_webhook(project), make_webhook(project, "https://hooks.example/two")
    off = make_webhook(project, "https://hooks.example/off", active=False)
    foreign = make_webhook(make_project("Other"))
    install = make_install(make_server(project))
    succeed(install)
    assert [hook.deliveries.count() for hook in (first, second, off, foreign)] == [1, 1, 0, 0]


def test_a_project_without_webhooks_pays_one_query(project: Project) -> None:
    install = make_install(make_server(project))
    succeed(install)
    with CaptureQueriesContext(connection) as queries:
        outbox.enqueue(install, install.state())
    assert len(queries) == 2  # of which one reads the history


# --- how it is sent


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return receiver.authority(tmp_path)


@pytest.fixture
def https(trusted: Authority, settings: Settings) -> Iterator[Receiver]:
    settings.LANDFALL_WEBHOOK_NETWORKS = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    with receiver.running(trusted.server()) as server:
        yield server


@pytest.fixture
def http(settings: Settings) -> Iterator[Receiver]:
    settings.LANDFALL_WEBHOOK_NETWORKS = (ipaddress.ip_network("127.0.0.0/8"),)
    settings.LANDFALL_WEBHOOK_HTTP = True
    with receiver.running() as server:
        yield server


@pytest.fixture
def sender(trusted: Authority) -> Iterator[Sender]:
    sender = Sender(trusted.client(), QUICK)
    yield sender
    sender.stop()


def settled(delivery: Delivery, seconds: float = 20) -> Delivery:
    """The delivery once the outcome of an attempt is stored."""
    end = time.monotonic() + seconds
    while True:
        delivery.refresh_from_db()
        if delivery.last_at:
            return delivery
        assert time.monotonic() < end, "no attempt came to an end"
        time.sleep(0.02)


def pinged(webhook: Webhook) -> Delivery:
    return outbox.ping(webhook, make_user())


def something(webhook: Webhook) -> Delivery:
    """A delivery that is tried again when it fails, as a test is not."""
    now = timezone.now()
    return Delivery.objects.create(webhook=webhook, kind="install.succeeded", payload="{}", created_at=now, next_at=now)


def test_a_delivery_arrives_over_tls_signed_as_the_specification_says(
    project: Project, https: Receiver, sender: Sender
) -> None:
    webhook = make_webhook(project, https.url + "?team=web")
    install = make_install(make_server(project))
    succeed(install)
    sender.start()
    delivery = settled(Delivery.objects.get())
    assert (delivery.status, delivery.last_status, delivery.attempts) == ("delivered", 204, 1)
    [request] = https.received
    assert request.path == "/hook?team=web"
    assert request.body.decode() == delivery.payload
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == f"msg_{delivery.uuid.hex}"
    # by hand, from the words of the specification
    secret = base64.b64decode(webhook.secret.reveal().removeprefix("whsec_"))
    signed = b".".join(
        [request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body]
    )
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    # and by the library that receivers use, which looks at the time as well
    assert Verifier(webhook.secret.reveal()).verify(request.body, dict(request.headers))["type"] == "install.succeeded"


def test_after_a_change_of_the_secret_both_verify_for_a_while(
    project: Project, https: Receiver, sender: Sender
) -> None:
    old, new = signing.new_secret(), signing.new_secret()
    webhook = make_webhook(
        project, https.url, secret=new, previous_secret=old, previous_until=timezone.now() + timedelta(hours=1)
    )
    pinged(webhook)
    sender.start()
    https.wait_for(1)
    request = https.received[0]
    for secret in (old, new):
        assert Verifier(secret.reveal()).verify(request.body, dict(request.headers))
    Webhook.objects.update(previous_until=timezone.now())
    pinged(webhook)
    https.wait_for(2)
    assert len(https.received[1].headers["webhook-signature"].split()) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(500, b"out of\0 order"), "answered 500 Internal Server Error"),
        (status(404), "answered 404"),
        (receiver.late(3), "did not answer within 1 seconds"),
        (receiver.late(60), "did not answer within 1 seconds"),
        (receiver.trickling(), "did not answer within 1 seconds"),
        (lambda handler: handler.wfile.write(b"what?\r\n\r\n"), "gave no proper answer"),
        (lambda handler: None, "gave no proper answer"),
    ],
    ids=["500", "404", "late", "hangs", "trickles", "nonsense", "hangs-up"],
)
def test_a_bad_answer_is_said_in_a_sentence_and_tried_again(
    project: Project, http: Receiver, sender: Sender, answer: receiver.Answer, words: str
) -> None:
    http.answers = [answer]
    delivery = something(make_webhook(project, http.url))
    began = time.monotonic()
    sender.start()
    settled(delivery)
    assert time.monotonic() - began < 5
    assert words in delivery.last_error
    assert delivery.status == "retrying"
    assert delivery.next_at
    assert timedelta(seconds=3.9) < delivery.next_at - delivery.last_at < timedelta(seconds=6.1)


def test_an_answer_without_end_is_read_only_so_far_and_kept_only_in_brief(
    project: Project, http: Receiver, sender: Sender
) -> None:
    http.answers = [receiver.endless]
    delivery = pinged(make_webhook(project, http.url))
    sender.start()
    settled(delivery)
    assert delivery.status == "delivered"
    assert delivery.last_answer == "x" * 200


def test_a_good_answer_at_the_second_attempt_ends_it(project: Project, http: Receiver, sender: Sender) -> None:
    http.answers = [status(503, Retry_After="30"), status(200, b"thanks")]
    delivery = something(make_webhook(project, http.url))
    sender.start()
    settled(delivery)
    assert delivery.next_at
    assert delivery.next_at - delivery.last_at == timedelta(seconds=30)
    Delivery.objects.update(next_at=timezone.now(), last_at=None)
    settled(delivery)
    assert (delivery.status, delivery.attempts, delivery.last_answer) == ("delivered", 2, "thanks")
    assert len({request.headers["webhook-id"] for request in http.received}) == 1
    assert len({request.body for request in http.received}) == 1


def test_a_redirect_is_not_followed_whoever_it_leads_to(project: Project, http: Receiver, sender: Sender) -> None:
    with receiver.running() as internal:
        http.answers = [status(302, Location=internal.url), status(307, Location="http://169.254.169.254/latest/")]
        webhook = make_webhook(project, http.url)
        first = something(webhook)
        sender.start()
        settled(first)
        second = settled(something(webhook))
        assert internal.connections == 0
    assert "redirects (302)" in first.last_error
    assert internal.url in first.last_error
    assert "redirects (307)" in second.last_error


def test_a_receiver_that_is_gone_is_switched_off_and_told_nothing_more(
    project: Project, http: Receiver, sender: Sender
) -> None:
    http.answers = [status(410)]
    webhook = make_webhook(project, http.url)
    delivery, waiting = something(webhook), something(webhook)
    sender.start()
    settled(delivery)
    webhook.refresh_from_db()
    assert delivery.status == "given-up"
    assert not webhook.active
    assert "410" in webhook.switched_off_because
    time.sleep(1.5)
    waiting.refresh_from_db()
    assert waiting.attempts == 0


def test_a_certificate_for_another_name_or_of_an_unknown_authority_is_refused(
    project: Project, trusted: Authority, settings: Settings, tmp_path: Path, sender: Sender
) -> None:
    settings.LANDFALL_WEBHOOK_NETWORKS = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    (tmp_path / "other").mkdir()
    stranger = receiver.authority(tmp_path / "other")
    with receiver.running(trusted.server("hooks.example")) as misnamed, receiver.running(stranger.server()) as unknown:
        deliveries = [something(make_webhook(project, server.url)) for server in (misnamed, unknown)]
        sender.start()
        errors = [settled(delivery).last_error for delivery in deliveries]
        assert misnamed.received == unknown.received == []
    assert all("certificate is not trusted" in error for error in errors)
    assert "mismatch" in errors[0]


def test_a_target_that_hangs_keeps_nobody_else_waiting(project: Project, http: Receiver, trusted: Authority) -> None:
    http.answers = [receiver.late(60)]
    slow = make_webhook(project, http.url)
    for _ in range(50):
        something(slow)
    with receiver.running() as good:
        delivery = something(make_webhook(project, good.url))
        sender = Sender(trusted.client(), Limits(1, 3))
        sender.start()
        began = time.monotonic()
        settled(delivery)
        assert time.monotonic() - began < 2.5
        sender.stop()
    assert Delivery.objects.filter(webhook=slow, attempts=1).count() == 1


def test_it_is_given_up_after_a_day_and_stays_visible(project: Project) -> None:
    webhook = make_webhook(project)
    delivery = something(webhook)
    now = delivery.created_at
    bad = outbox.Outcome(500, "it answered 500")
    for _ in range(len(outbox.PAUSES) + 1):
        [claim] = outbox.claim(now, room=8)
        assert outbox.record(claim, bad, now)
        delivery.refresh_from_db()
        now = delivery.next_at or now
    assert delivery.status == "given-up"
    assert delivery.last_error == "it answered 500"
    assert timedelta(hours=18) < now - delivery.created_at < timedelta(hours=30)
    assert outbox.claim(now + timedelta(days=9), room=8) == []


def test_a_clock_that_was_set_back_delays_nothing(project: Project) -> None:
    """What was to be sent in a minute lies years ahead then."""
    delivery = something(make_webhook(project))
    Delivery.objects.update(next_at=timezone.now() + timedelta(days=700), attempts=1)
    [claim] = outbox.claim(timezone.now(), room=1)
    assert claim.pk == delivery.pk


def test_what_is_given_up_is_sent_again_when_somebody_asks(project: Project, http: Receiver, sender: Sender) -> None:
    delivery = something(make_webhook(project, http.url))
    Delivery.objects.update(next_at=None, given_up_at=timezone.now(), attempts=11)
    outbox.again(delivery)
    sender.start()
    assert settled(delivery).status == "delivered"
    assert delivery.given_up_at is None


def test_a_secret_that_cannot_be_opened_stops_nobody_else(project: Project, http: Receiver, sender: Sender) -> None:
    broken = something(make_webhook(project, http.url + "/broken"))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE deploy_webhook SET secret = 'nonsense'")
    good = something(make_webhook(project, http.url))
    sender.start()
    assert settled(good).status == "delivered"
    assert "SealBroken" in settled(broken).last_error


def test_old_deliveries_are_forgotten_but_none_that_still_waits(project: Project) -> None:
    webhook = make_webhook(project)
    done, waiting = something(webhook), something(webhook)
    Delivery.objects.filter(pk=done.pk).update(next_at=None, delivered_at=timezone.now())
    outbox.forget(timezone.now() + timedelta(days=29))
    assert Delivery.objects.count() == 2
    outbox.forget(timezone.now() + timedelta(days=31))
    assert Delivery.objects.get() == waiting


# --- at least once


def test_of_many_that_would_send_it_one_does(project: Project) -> None:
    for number in range(20):
        something(make_webhook(project, f"https://hooks.example/{number}"))
    claims: list[outbox.Claim] = []
    start = threading.Barrier(6)

    def claim() -> None:
        start.wait()
        try:
            for _ in range(20):
                claims.extend(outbox.claim(timezone.now(), room=3))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == len({claim.pk for claim in claims}) == 20


def test_an_outcome_that_comes_too_late_changes_nothing(project: Project) -> None:
    delivery = something(make_webhook(project))
    now = timezone.now()
    [frozen] = outbox.claim(now, room=1)
    [other] = outbox.claim(now + outbox.CLAIM_TIME + timedelta(seconds=1), room=1)
    assert outbox.record(other, outbox.Outcome(200), now)
    assert not outbox.record(frozen, outbox.Outcome(500, "it failed"), now)
    delivery.refresh_from_db()
    assert delivery.status == "delivered"


def database_url() -> str:
    """The database under test, for a process of its own."""
    found = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{found['NAME']}"
    return f"postgres://{found['USER']}@{quote(str(found['HOST']), safe='')}/{found['NAME']}"


SENDER_ALONE = "import django; django.setup(); from deploy.webhooks.sender import Sender; Sender().run()"


def start_sender() -> "subprocess.Popen[bytes]":
    """A process that does nothing but send."""
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LANDFALL_WEBHOOK_HTTP": "1",
        "LANDFALL_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    return subprocess.Popen([sys.executable, "-c", SENDER_ALONE], cwd=ROOT, env=environment)


def test_a_sender_killed_between_sending_and_noting_it_is_followed_by_one_that_sends_it_again(
    project: Project, http: Receiver
) -> None:
    http.answers = [receiver.late(30), status(200)]
    delivery = something(make_webhook(project, http.url))
    doomed = start_sender()
    try:
        http.wait_for(1, 60)
    finally:
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
    delivery.refresh_from_db()
    assert (delivery.attempts, delivery.delivered_at) == (1, None)
    assert delivery.next_at
    assert delivery.next_at > timezone.now()  # nobody else sends it while the first one might still live
    Delivery.objects.update(next_at=timezone.now())
    heir = start_sender()
    try:
        assert settled(delivery, 60).status == "delivered"
    finally:
        heir.kill()
        heir.wait()
    first, second = http.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


# --- where it is not sent


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example", "ftp://hooks.example/", "https://", "https:///x", "https://:443/", "javascript:alert(1)",
        "http://hooks.example/", "https://user:word@hooks.example/", "https://user@hooks.example/",
        "https://hooks.example:22/", "https://hooks.example:0/", "https://hooks.example:65536/",
        "https://hooks.example:x/", "https://hooks.example/#top", "https://hooks.example\\@evil.example/",
        "https://hooks.example/a b", "https://hooks.example/\r\nHost: x", "https://hooks.example\t/", " https://a.example",
        "https://höoks.example/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://127.1/",
        "https://0177.0.0.1/", "https://127.0.0.1.:443/", "https://[::1/", "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/", "https://hooks..example/", "https://-hooks.example/", "https://hooks.example./",
        "https://hooks.example/" + "x" * 500,
    ],
)  # fmt: skip
def test_what_is_no_plain_https_address_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(TargetRefused, match=r"[A-Z].*[.]$"):
        parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example", "hooks.example", 443, "/"),
        ("https://HOOKS.example:8443/a?b=c", "hooks.example", 8443, "/a?b=c"),
        ("https://hooks.example:80/", "hooks.example", 80, "/"),
        ("https://203.0.113.9/", "203.0.113.9", 443, "/"),
        ("https://[2606:4700::1111]:8443/x", "2606:4700::1111", 8443, "/x"),
        ("https://xn--hks-snaa.example/%20", "xn--hks-snaa.example", 443, "/%20"),
    ],
)
def test_a_plain_https_address_is_taken_apart(url: str, host: str, port: int, path: str) -> None:
    target = parse(url)
    assert (target.host, target.port, target.path, target.is_encrypted) == (host, port, path, True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1", "240.0.0.1",
        "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
        "3fff::1", "5f00::1", "fec0::1",
    ],
)  # fmt: skip
def test_no_delivery_goes_to_an_address_that_is_not_public(address: str, settings: Settings) -> None:
    assert not is_allowed(ipaddress.ip_address(address))
    settings.LANDFALL_WEBHOOK_HTTP = True
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(TargetRefused, match="not a public address"):
        addresses(parse(f"http://{host}/"))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


def test_an_inner_network_is_allowed_by_name_and_no_other(settings: Settings) -> None:
    settings.LANDFALL_WEBHOOK_NETWORKS = (ipaddress.ip_network("10.20.0.0/16"),)
    assert is_allowed(ipaddress.ip_address("10.20.3.4"))
    assert is_allowed(ipaddress.ip_address("::ffff:10.20.3.4"))
    assert not is_allowed(ipaddress.ip_address("10.21.3.4"))
    assert not is_allowed(ipaddress.ip_address("127.0.0.1"))


class Resolver:
    """Names and where they are, in place of the DNS; what is asked for twice may have another answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[tuple[str, ...]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked = 0
        self.real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        if host not in self.names:
            return self.real(host, port, *args, **options)
        answers = self.names[host]
        found = answers[min(self.asked, len(answers) - 1)]
        self.asked += 1
        return [answer for address in found for answer in self.real(address, port, *args, **options)]


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, hooks_example=[("1.1.1.1", "10.0.0.1")])
    with pytest.raises(TargetRefused, match=r"10\.0\.0\.1"):
        addresses(parse("https://hooks.example/"))


def test_localhost_is_refused_although_it_is_a_proper_name() -> None:
    with pytest.raises(TargetRefused, match="not a public address"):
        addresses(parse("https://localhost/"))


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TargetRefused, match="cannot be found in the DNS"):
        addresses(parse("https://hooks.example/"))


def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing(
    project: Project, http: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is allowed, and checked; every later one would be a door inside."""
    port = int(http.url.split(":")[2].split("/")[0])
    with receiver.running(host="127.0.0.2", port=port) as inside:
        resolver = Resolver(monkeypatch, hooks_example=[("127.0.0.1",), ("127.0.0.2",)])
        delivery = something(make_webhook(project, f"http://hooks.example:{port}/hook"))
        sender.start()
        assert settled(delivery).status == "delivered"
        assert (len(http.received), inside.connections, resolver.asked) == (1, 0, 1)
    assert http.received[0].headers["host"] == f"hooks.example:{port}"


def test_a_delivery_to_an_inside_address_knocks_at_no_door(
    project: Project, http: Receiver, sender: Sender, settings: Settings
) -> None:
    settings.LANDFALL_WEBHOOK_NETWORKS = ()
    delivery = something(make_webhook(project, http.url))
    sender.start()
    assert "not a public address" in settled(delivery).last_error
    assert http.connections == 0


def test_no_proxy_of_the_environment_sees_a_delivery(
    project: Project, http: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver.running() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        delivery = something(make_webhook(project, http.url))
        sender.start()
        assert settled(delivery).status == "delivered"
        assert proxy.connections == 0


def test_a_secret_is_long_enough_and_never_printed() -> None:
    secret = signing.new_secret()
    assert secret.reveal().startswith("whsec_")
    assert len(base64.b64decode(secret.reveal()[6:])) >= 24
    assert isinstance(secret, Secret)
    assert str(secret) == "•••"


def test_the_steps_of_an_install_end_with_the_one_whose_result_is_told() -> None:
    assert steps_for(licensed=True)[-1] == steps_for(licensed=False)[-1] == "verify"

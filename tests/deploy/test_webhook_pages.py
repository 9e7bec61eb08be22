"""The pages about a project's webhooks: who may see them, and what each button does."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Project, Role
from deploy.models import Delivery, Webhook
from deploy.webhooks import outbox
from deploy.webhooks.forms import MOST
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy.test_webhooks import make_webhook, something, succeed
from tests.pages import browser, forbidden_parts, queries, text

pytestmark = pytest.mark.django_db

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


@pytest.fixture
def project() -> Project:
    return make_project("Shop")


@pytest.fixture
def client(project: Project) -> Client:
    """A customer's browser."""
    return browser(make_user(projects=[project], name="carla"))


def paths(webhook: Webhook, delivery: Delivery) -> Iterator[str]:
    """Every address of a webhook's pages, reading ones first."""
    yield "/projects/shop/webhooks/"
    base = f"/projects/shop/webhooks/{webhook.pk}/"
    for rest in ("", "secret/", "delete/", "test/", "switch/", f"deliveries/{delivery.uuid}/again/"):
        yield base + rest


def test_members_and_ops_see_a_projects_webhooks_and_for_everybody_else_they_are_not_there(project: Project) -> None:
    webhook = make_webhook(project)
    delivery = something(webhook)
    stranger = browser(make_user(projects=[make_project("Other")]))
    for path in paths(webhook, delivery):
        # 405: what is only read, or only pressed, whoever asks
        assert stranger.get(path).status_code in (404, 405)
        assert stranger.post(path, {"url": "https://evil.example/", "to": "off"}).status_code in (404, 405)
        assert browser().get(path).status_code in (302, 405)
        assert browser().post(path).status_code in (302, 405)
    webhook.refresh_from_db()
    assert webhook.active
    assert (Webhook.objects.get(), Delivery.objects.get()) == (webhook, delivery)
    assert Delivery.objects.get().next_at == delivery.next_at
    for allowed in (make_user(projects=[project]), make_user(Role.OPS), make_user(Role.ADMIN)):
        for path in list(paths(webhook, delivery))[:4]:
            assert webhook.url in text(browser(allowed), path)


def test_a_webhook_is_not_reached_through_another_project(project: Project) -> None:
    other = make_project("Other")
    foreign = make_webhook(other)
    client = browser(make_user(projects=[project, other]))
    assert client.get(f"/projects/shop/webhooks/{foreign.pk}/").status_code == 404
    delivery = something(foreign)
    mine = make_webhook(project)
    assert client.post(f"/projects/shop/webhooks/{mine.pk}/deliveries/{delivery.uuid}/again/").status_code == 404


def test_a_webhook_is_added_and_its_secret_shown_once_and_stored_sealed(project: Project, client: Client) -> None:
    page = client.post("/projects/shop/webhooks/", {"url": "https://hooks.example/landfall"})
    [shown] = set(SECRET.findall(page.content.decode()))
    webhook = Webhook.objects.get()
    assert webhook.secret.reveal() == shown
    assert webhook.created_by.username == "carla"
    assert "no-store" in page["Cache-Control"]
    for path in ("/projects/shop/webhooks/", f"/projects/shop/webhooks/{webhook.pk}/"):
        assert "whsec_" not in text(client, path)
    stored: Any = Webhook.objects.extra(select={"raw": "secret"}).values_list("raw", flat=True).get()
    assert "whsec_" not in str(stored)


@pytest.mark.parametrize(
    "url",
    ["", "hooks.example", "http://hooks.example/", "https://10.0.0.1/", "https://127.0.0.1:8600/", "https://[::1]/",
     "https://2130706433/", "https://169.254.169.254/latest/meta-data/", "https://me:word@hooks.example/",
     "https://hooks.example:25/", "javascript:alert(1)", "https://hooks.example/\0", "https://x/" + "x" * 600,
     '"><script>alert(1)</script>'],
)  # fmt: skip
def test_an_address_that_may_not_be_told_is_refused_with_a_sentence(project: Project, client: Client, url: str) -> None:
    page = client.post("/projects/shop/webhooks/", {"url": url})
    assert page.status_code == 400
    [error] = page.context["form"].errors["url"]
    assert error.endswith((".", "#", "):"))
    assert b"<script>alert" not in page.content
    assert not Webhook.objects.exists()


def test_an_address_is_told_once_and_a_project_has_so_many_at_most(project: Project, client: Client) -> None:
    make_webhook(project, "https://hooks.example/0")
    page = client.post("/projects/shop/webhooks/", {"url": "https://hooks.example/0"})
    assert "told already" in page.content.decode()
    for number in range(1, MOST):
        make_webhook(project, f"https://hooks.example/{number}")
    page = client.post("/projects/shop/webhooks/", {"url": "https://hooks.example/one-more"})
    assert f"{MOST} webhooks at most" in page.content.decode()
    assert Webhook.objects.count() == MOST


def test_a_test_is_put_in_line_and_the_page_looks_again_until_it_has_an_outcome(
    project: Project, client: Client
) -> None:
    webhook = make_webhook(project)
    page = f"/projects/shop/webhooks/{webhook.pk}/"
    assert client.post(page + "test/")["Location"] == page
    delivery = Delivery.objects.get()
    assert (delivery.kind, delivery.install, delivery.status) == ("ping", None, "due")
    assert 'hx-trigger="every 1s"' in text(client, page)
    Delivery.objects.update(next_at=None, delivered_at=timezone.now(), last_status=204, attempts=1)
    fragment = client.get(page, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment
    assert "delivered" in fragment
    assert "hx-trigger" not in fragment


def test_nothing_is_tested_while_it_is_switched_off(project: Project, client: Client) -> None:
    webhook = make_webhook(project, active=False)
    client.post(f"/projects/shop/webhooks/{webhook.pk}/test/")
    assert not Delivery.objects.exists()
    assert "Switch the webhook on first" in text(client, f"/projects/shop/webhooks/{webhook.pk}/")


def test_it_is_switched_off_and_on_and_what_waited_is_due_again(project: Project, client: Client) -> None:
    webhook = make_webhook(project)
    something(webhook)
    switch = f"/projects/shop/webhooks/{webhook.pk}/switch/"
    client.post(switch, {"to": "off"})
    assert not outbox.due(timezone.now()).exists()
    Webhook.objects.update(switched_off_because="The receiver answered 410 Gone.")
    assert "410 Gone" in text(client, f"/projects/shop/webhooks/{webhook.pk}/")
    client.post(switch, {"to": "on"})
    webhook.refresh_from_db()
    assert (webhook.active, webhook.switched_off_because) == (True, "")
    assert outbox.due(timezone.now()).exists()


def test_the_secret_is_changed_after_a_question_and_the_old_one_signs_on(project: Project, client: Client) -> None:
    webhook = make_webhook(project)
    old = webhook.secret.reveal()
    path = f"/projects/shop/webhooks/{webhook.pk}/secret/"
    assert "whsec_" not in text(client, path)
    [shown] = set(SECRET.findall(client.post(path).content.decode()))
    webhook = Webhook.objects.get()
    assert (webhook.secret.reveal(), webhook.previous_secret.reveal()) == (shown, old)
    assert shown != old
    assert webhook.previous_until - timezone.now() > timedelta(hours=23)


def test_it_is_deleted_after_a_question(project: Project, client: Client) -> None:
    webhook = make_webhook(project)
    something(webhook)
    path = f"/projects/shop/webhooks/{webhook.pk}/delete/"
    text(client, path)
    assert Webhook.objects.exists()
    client.post(path)
    assert not Webhook.objects.exists()
    assert not Delivery.objects.exists()


def test_a_delivery_tells_its_install_its_answer_and_its_next_attempt_and_is_sent_again(
    project: Project, client: Client
) -> None:
    webhook = make_webhook(project)
    succeed(make_install(make_server(project, name="web-14")))
    soon = timezone.now() + timedelta(minutes=10)
    Delivery.objects.update(attempts=3, next_at=soon, last_status=500, last_error="hooks.example answered 500 Oops.",
                            last_answer="<b>broken</b>", last_at=timezone.now())  # fmt: skip
    page = text(client, f"/projects/shop/webhooks/{webhook.pk}/")
    for words in ("web-14", "install.succeeded", "answered 500 Oops", "&lt;b&gt;broken", "attempt 4", "in 10 min"):
        assert words in page
    delivery = Delivery.objects.get()
    client.post(f"/projects/shop/webhooks/{webhook.pk}/deliveries/{delivery.uuid}/again/")
    delivery.refresh_from_db()
    assert delivery.attempts == 0
    assert delivery.next_at <= timezone.now()


def test_given_up_ones_are_seen_in_the_list(project: Project, client: Client) -> None:
    something(make_webhook(project))
    Delivery.objects.update(next_at=None, given_up_at=timezone.now(), last_at=timezone.now(), last_error="No.")
    page = text(client, "/projects/shop/webhooks/")
    assert "it failed" in page
    assert re.search(r'tone-bad"><svg.*?</svg>1</span>', page, re.DOTALL)


def test_the_number_of_queries_is_constant(project: Project, client: Client) -> None:
    webhook = make_webhook(project)
    succeed(make_install(make_server(project)))
    page = f"/projects/shop/webhooks/{webhook.pk}/"
    few = queries(client, "/projects/shop/webhooks/"), queries(client, page)
    for number in range(4):
        make_webhook(project, f"https://hooks.example/{number}")
        succeed(make_install(make_server(project)))
    assert (queries(client, "/projects/shop/webhooks/"), queries(client, page)) == few
    assert max(few) <= 8


def test_the_keys_and_the_webhooks_of_a_project_lead_to_each_other(project: Project, client: Client) -> None:
    assert "/projects/shop/webhooks/" in text(client, "/projects/shop/keys/")
    assert "/projects/shop/keys/" in text(client, "/projects/shop/webhooks/")


def test_the_content_security_policy_has_nothing_to_refuse(project: Project, client: Client) -> None:
    webhook = make_webhook(project)
    delivery = something(webhook)
    for path in ["/projects/shop/keys/", *list(paths(webhook, delivery))[:4]]:
        assert forbidden_parts(text(client, path)) == []

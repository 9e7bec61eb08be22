"""Logging in, and the SSH keys of a project."""

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone

from accounts.models import Role, SSHKey
from accounts.templatetags import landfall
from tests.builders import PASSWORD, make_key, make_project, make_user, public_key
from tests.pages import browser, forbidden_parts, queries, text

pytestmark = pytest.mark.django_db

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END OPENSSH PRIVATE KEY-----"


def test_whoever_is_not_logged_in_comes_to_the_login_and_then_to_the_page_asked_for() -> None:
    project = make_project("Acme")
    make_user(name="alice", projects=[project])
    client = browser()
    asked = client.get("/projects/acme/keys/")
    assert asked["Location"] == "/login/?next=/projects/acme/keys/"
    done = client.post(asked["Location"], {"username": "alice", "password": PASSWORD, "next": "/projects/acme/keys/"})
    assert done["Location"] == "/projects/acme/keys/"


@pytest.mark.parametrize("name, password", [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("alice\0", "\0")])
def test_a_wrong_login_says_one_sentence_and_not_which_of_the_two_was_wrong(name: str, password: str) -> None:
    make_user(name="alice")
    page = browser().post("/login/", {"username": name, "password": password})
    assert page.status_code == 200
    assert b"alice is" not in page.content
    assert page.context["form"].errors


def test_the_login_does_not_lead_to_another_site() -> None:
    make_user(name="alice")
    done = browser().post("/login/", {"username": "alice", "password": PASSWORD, "next": "https://evil.example/"})
    assert done["Location"] == "/"


def test_logging_out_takes_a_post() -> None:
    client = browser(make_user())
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/projects/").status_code == 302


def test_a_password_is_changed_with_the_old_one_alone() -> None:
    user = make_user(name="alice")
    client = browser(user)
    new = {"new_password1": "a fresh long one", "new_password2": "a fresh long one"}
    assert "not your present password" in client.post("/password/", {"old_password": "guess", **new}).content.decode()
    assert client.post("/password/", {"old_password": PASSWORD, **new}).status_code == 302
    user.refresh_from_db()
    assert user.check_password("a fresh long one")


def test_one_sees_the_keys_of_the_own_projects_and_a_foreign_project_is_not_there() -> None:
    mine, other = make_project("Acme"), make_project("Blue")
    key, foreign = make_key(mine, name="laptop"), make_key(other, name="theirs")
    client = browser(make_user(projects=[mine]))
    page = text(client, "/projects/acme/keys/")
    assert key.fingerprint in page
    assert foreign.fingerprint not in page
    text(client, "/projects/blue/keys/", 404)
    text(client, f"/projects/blue/keys/{foreign.pk}/delete/", 404)
    assert client.post("/projects/blue/keys/", {"public_key": public_key()}).status_code == 404


def test_a_key_of_another_project_is_not_deleted_through_the_own_one() -> None:
    mine, other = make_project("Acme"), make_project("Blue")
    foreign = make_key(other)
    client = browser(make_user(projects=[mine]))
    assert client.post(f"/projects/acme/keys/{foreign.pk}/delete/").status_code == 404
    assert SSHKey.objects.filter(pk=foreign.pk).exists()


def test_a_key_is_added_named_by_its_comment_and_deleted_again() -> None:
    project = make_project("Acme")
    client = browser(make_user(projects=[project]))
    line = public_key("alice@laptop")
    assert client.post("/projects/acme/keys/", {"public_key": f"\n  {line} \r\n"}).status_code == 302
    key = SSHKey.objects.get()
    assert (key.name, key.public_key, key.key_type) == ("alice@laptop", line, "ssh-ed25519")
    assert key.fingerprint.startswith("SHA256:")
    assert "alice@laptop is added" in text(client, "/projects/acme/keys/")
    assert client.get(f"/projects/acme/keys/{key.pk}/delete/").status_code == 200
    assert SSHKey.objects.exists()
    assert client.post(f"/projects/acme/keys/{key.pk}/delete/").status_code == 302
    assert not SSHKey.objects.exists()


@pytest.mark.parametrize(
    "pasted",
    ["", "   ", "hello", "ssh-ed25519", "ssh-ed25519 AAAA", 'command="sh" {key}', "{key}\n{key}",
     "ssh-dss AAAAB3NzaC1kc3MAAACBAP", PRIVATE, "\0" * 10, "x" * 30_000, "<script>alert(1)</script>", "ключ"],
)  # fmt: skip
def test_what_is_no_good_key_is_refused_with_a_sentence(pasted: str) -> None:
    make_project("Acme")
    pasted = pasted.replace("{key}", public_key())  # a key among the cases would name the test anew in each process
    page = browser(make_user(Role.ADMIN)).post("/projects/acme/keys/", {"public_key": pasted, "name": "x"})
    assert page.status_code == 400
    assert page.context["form"].errors["public_key"]
    assert b"<script>alert" not in page.content
    assert not SSHKey.objects.exists()


def test_a_private_key_is_not_sent_back_into_the_page() -> None:
    make_project("Acme")
    page = browser(make_user(Role.ADMIN)).post("/projects/acme/keys/", {"public_key": PRIVATE, "name": "laptop"})
    assert b"private key" in page.content
    assert b'value="laptop"' in page.content
    assert b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU" not in page.content


def test_a_key_that_the_project_has_is_refused_by_the_name_it_has() -> None:
    project = make_project("Acme")
    key = make_key(project, name="laptop")
    client = browser(make_user(projects=[project]))
    again = client.post("/projects/acme/keys/", {"public_key": key.public_key, "name": "other"})
    assert "has this key already: it is called laptop" in again.content.decode()
    named = client.post("/projects/acme/keys/", {"public_key": public_key(), "name": "laptop"})
    assert "has a key named laptop" in named.content.decode()


def test_with_one_project_its_keys_come_at_once_and_with_more_a_list() -> None:
    one, two = make_project("Acme"), make_project("Blue")
    assert browser(make_user(projects=[one])).get("/projects/")["Location"] == "/projects/acme/keys/"
    page = text(browser(make_user(projects=[one, two])), "/projects/")
    assert "Acme" in page
    assert "Blue" in page
    assert "You belong to no project yet" in text(browser(make_user()), "/projects/")


def test_an_admin_adds_projects_where_they_are_listed_and_is_told_to_where_a_server_needs_the_first() -> None:
    client, add = browser(make_user(Role.ADMIN)), "/people/accounts/project/add/"
    assert add in text(client, "/projects/")
    assert add in text(client, "/inventory/add/")
    make_project("Acme")
    assert add in text(client, "/projects/")
    assert add not in text(client, "/inventory/add/")
    assert add not in text(browser(make_user(projects=[make_project(), make_project()])), "/projects/")


def test_the_queries_of_a_page_do_not_grow_with_its_rows() -> None:
    project, other = make_project("Acme"), make_project("Blue")
    client = browser(make_user(projects=[project, other]))
    make_key(project)
    before = queries(client, "/projects/acme/keys/"), queries(client, "/projects/")
    for _ in range(5):
        make_key(project)
        make_user(projects=[project])
    assert (queries(client, "/projects/acme/keys/"), queries(client, "/projects/")) == before


def test_no_page_needs_what_the_content_security_policy_forbids() -> None:
    project, other = make_project("Acme"), make_project("Blue")
    key = make_key(project)
    client = browser(make_user(Role.ADMIN, projects=[project, other]))
    for url in ("/projects/", "/projects/acme/keys/", f"/projects/acme/keys/{key.pk}/delete/", "/password/"):
        response = client.get(url)
        assert forbidden_parts(response.content.decode()) == []
        assert "script-src 'self'" in response["Content-Security-Policy"]
        assert "unsafe" not in response["Content-Security-Policy"]
    assert forbidden_parts(text(browser(), "/login/")) == []
    assert forbidden_parts(text(client, "/nowhere/", 404)) == []


def test_what_a_role_may_not_do_is_not_in_its_navigation() -> None:
    def links(role: Role) -> list[bool]:
        page = text(browser(make_user(role)), "/password/")
        return [
            f'href="{url}"' in page for url in ("/", "/images/", "/board/", "/inventory/", "/licences/", "/people/")
        ]

    assert links(Role.CUSTOMER) == [True, True, False, False, False, False]
    assert links(Role.OPS) == [True, True, True, False, False, False]
    assert links(Role.ADMIN) == [True] * 6


# --- template tags


@pytest.mark.parametrize(
    "seconds, shown",
    [(None, "–"), (0, "0:00"), (0.9, "0:00"), (51, "0:51"), (252, "4:12"), (3723, "1:02:03"), (-5, "0:00")],
)
def test_a_duration_reads_like_a_stopwatch(seconds: float | None, shown: str) -> None:
    assert landfall.duration(seconds) == shown
    if seconds is not None:
        assert landfall.duration(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    "age, shown",
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=50), "1 min ago"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(minutes=59, seconds=40), "1 hour ago"),
        (timedelta(hours=23, minutes=40), "1 day ago"),
        (timedelta(days=59), "59 days ago"),
        (timedelta(days=90), "3 months ago"),
        (timedelta(days=800), "2 years ago"),
        (-timedelta(days=2), "in 2 days"),
    ],
)
def test_an_age_reads_as_one_says_it(age: timedelta, shown: str) -> None:
    assert landfall.relative(age) == shown


def test_a_time_has_the_exact_one_on_hover() -> None:
    when = datetime(2026, 11, 23, 2, 24, 26, tzinfo=UTC)
    shown = landfall.ago(when)
    assert 'title="2026-11-23 02:24:26 UTC"' in shown
    assert 'datetime="2026-11-23T02:24:26+00:00"' in shown
    assert landfall.ago(None) == "never"
    assert ">just now<" in landfall.ago(timezone.now())


def test_a_status_is_never_colour_alone() -> None:
    shown = Template("{% load landfall %}{% pill status %}").render(Context({"status": "failed"}))
    assert "tone-bad" in shown
    assert "#failed" in shown
    assert shown.endswith("failed</span>")


def test_an_unknown_status_and_a_hostile_word_are_shown_harmlessly() -> None:
    assert "unknown" in landfall.pill("?")
    assert "&lt;b&gt;" in landfall.pill("running", "<b>")

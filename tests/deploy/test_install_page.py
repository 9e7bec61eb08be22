"""The page of an install: what it says in every state, to whom, and what its buttons do."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from accounts.models import Role
from deploy import errors
from deploy.events import Blame, Failure, Kind, Status
from deploy.limits import Place
from deploy.models import Install, LogChunk
from deploy.pages import line
from tests.builders import make_image, make_install, make_project, make_server, make_user
from tests.deploy.histories import FAILURE, HOST_KEYS, Past, command, ended, feed, installed, running, shown_lines

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_usual_times() -> None:
    cache.clear()


def login(role: Role | str = Role.OPS, **options: Any) -> Client:
    """A browser in which somebody is logged in."""
    client = Client()
    client.force_login(make_user(role, **options))
    return client


def text(html: bytes) -> str:
    """What one reads of a page: no tags, one space where there is any."""
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", html.decode()).split()))


def read(install: Install, query: str = "") -> str:
    """The page's text, as ops read it."""
    response = login().get(f"{install.get_absolute_url()}{query}")
    assert response.status_code == 200
    return text(response.content)


# --- every state


def test_a_running_install_says_which_step_and_how_long_it_usually_takes() -> None:
    image = make_image(name="Debian 12")
    installed(image=image)
    install, _ = running("copy", image=image, began=timezone.now() - timedelta(seconds=80))
    words = read(install)
    assert "of about 8 min" in words
    assert "Copy the image attempt 1 of" in words
    assert "usual 2:40" in words
    assert "Cancel…" in words


def test_without_a_past_nothing_is_called_usual() -> None:
    install, _ = running("copy")
    assert "usual" not in read(install)
    assert "of about" not in read(install)


def test_waiting_says_for_what_how_long_and_what_comes_next() -> None:
    install, past = running("rescue")
    until = (timezone.now() + timedelta(minutes=7)).isoformat()
    past.event(
        Kind.STEP_WAITING, step="rescue", attempt=1, reason="the server to call from rescue",
        next="power cycle again", until=until,
    )  # fmt: skip
    words = read(install)
    assert re.search(r"Waiting for the server to call from rescue, 0:0\d of at most 15:00", words)
    assert re.search(r"next, in 6:5\d : power cycle again", words)


def test_a_failure_opens_its_step_and_says_whose_it_is_and_how_to_mend_it() -> None:
    install, past = running("copy")
    feed(install, command(1, "rsync", ["the whole log"], status=23))
    past.fail("copy")
    words = read(install)
    assert FAILURE.message in words
    assert "This is ours to mend" in words
    assert FAILURE.fix in words
    assert "No space left on device" in words
    assert "exit status 23" in words
    assert "Try again" in words
    assert "the whole log" in words


@pytest.mark.parametrize(
    ("blame", "sentence"), [(Blame.CUSTOMER, "This is yours to mend"), (Blame.HARDWARE, "This is the hardware")]
)
def test_every_blame_has_a_sentence(blame: Blame, sentence: str) -> None:
    install, past = running("rescue")
    past.fail("rescue", failure=Failure("x", blame, "It broke.", "Mend it."))
    assert sentence in read(install)


def test_success_says_that_one_can_log_in_and_shows_the_verified_keys() -> None:
    words = read(installed())
    assert "You can log in." in words
    assert "ssh debian@192.0.2.14" in words
    assert f"{HOST_KEYS[0]} verified {HOST_KEYS[1]} Took" in words
    assert "7:58" in words
    assert "What was done to the disks" in words


def test_another_port_is_in_the_command() -> None:
    install = make_install()
    Past(install).through(port=2222)
    assert "ssh debian@192.0.2.14 -p 2222" in read(install)


def test_before_the_wipe_cancelling_costs_nothing() -> None:
    install, _ = running("plan")
    assert "It keeps the system that it has." in read(install)


def test_after_the_wipe_the_cancel_says_what_it_leaves_behind() -> None:
    install, _ = running("partition")
    words = read(install)
    assert f"{install.server.name} will be left without an operating system." in words
    assert "is finished first" in words


def test_a_failed_attempt_that_is_tried_again_says_when() -> None:
    install, past = running("copy")
    past.fail("copy", resume_from="copy", retry_at=(timezone.now() + timedelta(seconds=20)).isoformat())
    words = read(install)
    assert re.search(r"The next attempt begins in 0:1\d", words)
    assert "Try again" not in words


def test_every_attempt_keeps_its_own_log() -> None:
    install, past = running("copy")
    feed(install, "first try\n", attempt=1)
    past.fail("copy", resume_from="copy")
    past.start("copy")
    feed(install, "second try\n", attempt=2)
    html = login().get(install.get_absolute_url()).content.decode()
    assert 'id="attempt-copy-1"' in html
    assert "second try" in html
    assert "first try" not in html
    bare = login().get(f"{install.get_absolute_url()}log/copy/1/?bare=1").content.decode()
    assert "first try" in bare
    assert "<html" not in bare


# --- in line, silent, between attempts


def in_line(count: int, settings: Any) -> list[Install]:
    """Installs of one image that stand in line behind two that run."""
    settings.LANDFALL_LIMIT_IMAGE = 2
    image = make_image()
    for _ in range(2):
        running("copy", image=image)
    return [make_install(image=image) for _ in range(count)]


def test_who_stands_in_line_sees_at_which_place_and_why(settings: Any) -> None:
    *_, last = in_line(3, settings)
    words = read(last)
    assert "3rd in line : at most 2 installs from the same image run at once." in words
    assert "It has waited since" in words
    assert "Nothing has been changed yet." in words


def test_the_place_in_line_is_looked_up_once_for_all_who_look(settings: Any) -> None:
    first, *_, last = in_line(3, settings)
    assert line.place_of(first) == Place(1, "at most 2 installs from the same image run at once")
    with CaptureQueriesContext(connection) as found:
        assert line.place_of(last) == Place(3, "at most 2 installs from the same image run at once")
    assert len(found) == 0
    assert line.place_of(running("copy")[0]) is None


def test_a_wait_in_line_is_no_time_that_the_install_takes(settings: Any) -> None:
    settings.LANDFALL_LIMIT_IMAGE = 1
    install = make_install()
    past = Past(install, timezone.now() - timedelta(hours=3))
    past.wait(3600)
    past.through()
    words = read(install)
    assert "Took 7:58" in words


def silent(reason: str) -> Install:
    install, past = running("copy", began=timezone.now() - timedelta(minutes=8))
    past.event(
        Kind.STEP_QUIET, step="copy", attempt=1, since=(timezone.now() - timedelta(seconds=190)).isoformat(),
        command="rsync", reason=reason,
    )  # fmt: skip
    return install


def test_a_silent_step_says_since_when_and_when_it_is_given_up() -> None:
    words = read(silent("nothing printed"))
    since = r"Nothing printed for 3:[1-5]\d \(since \d\d:\d\d:\d\d \);"
    assert re.search(rf"{since} this attempt is given up after 1:00:00 , in 5[0-9]:\d\d \.", words)
    assert "running, silent" in words


def test_a_rescue_system_that_does_not_answer_is_named_with_the_reason() -> None:
    words = read(silent("the rescue system does not answer: [Errno 113] No route to host"))
    assert re.search(
        r"The rescue system does not answer for 3:[1-5]\d .*: \[Errno 113\] No route to host ; this", words
    )


def test_a_step_that_talks_again_says_no_more_of_it() -> None:
    install = silent("nothing printed")
    Past(install).event(Kind.STEP_TALKS, step="copy", attempt=1)
    words = read(install)
    assert "Nothing printed for" not in words
    assert "Copy the image: nothing printed, since" in words
    assert "Copy the image is heard of again." in words


def test_an_attempt_that_begins_further_up_says_where() -> None:
    install, past = running("copy")
    at = (timezone.now() + timedelta(seconds=20)).isoformat()
    past.fail("copy", resume_from="wipe", retry_at=at)
    words = read(install)
    assert re.search(rf"Copy the image failed: {re.escape(FAILURE.message)} The next attempt begins in 0:1\d", words)
    assert ", from Wipe ." in words


# --- the history


def test_the_whole_history_is_on_the_page_in_words() -> None:
    install, past = running("plan")
    past.event(Kind.TAKEN_OVER, **{"from": "host-a:1", "by": "host-b:2"})
    html = login().get(install.get_absolute_url()).content.decode()
    events = install.events.count()
    assert html.count('class="history-line"') == events
    assert f"{events} events" in text(html.encode())
    assert "Worker host-b:2 took over from host-a:1" in text(html.encode())
    assert re.search(r'title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC"', html)


# --- the guard


def test_logs_that_the_guard_has_read_are_grouped_by_command_and_none_is_the_failure() -> None:
    install, past = running("phone-home")
    past.event(Kind.POWER_CYCLING, target="network")
    past.event(
        Kind.STEP_WAITING, step="phone-home", attempt=1, reason="the rescue system to call, to read its logs",
        next="give up",
    )  # fmt: skip
    assert "Waiting for the rescue system to call, to read its logs, " in read(install)
    past.event(Kind.RESCUE_READY, host_keys=[], boot_id="b")
    assert "Waiting for" not in text(login().get(install.get_absolute_url()).content).split("History")[0]
    feed(install, command(1, "journalctl --list-boots", ["No journal files were found."], status=1), "phone-home")
    past.fail("phone-home", failure=errors.failure("phone-home-missing", "Most likely cloud-init failed."))
    html = login().get(install.get_absolute_url()).content.decode()
    assert "Most likely cloud-init failed." in html
    assert re.search(
        r"is-command.*journalctl --list-boots.*No journal files were found.*is-exit is-failed", html, re.DOTALL
    )
    assert "is-broken" not in html


def test_the_command_that_ended_its_attempt_is_marked_as_such() -> None:
    install, past = running("copy")
    feed(install, command(1, "rsync", ["no space"], status=23))
    past.fail("copy")
    assert "is-broken" in login().get(install.get_absolute_url()).content.decode()


# --- the catalogue of failures


def test_the_code_of_a_failure_leads_to_what_it_means() -> None:
    install, past = running("copy")
    past.fail("copy", failure=errors.failure("rescue-lost"))
    client = login(Role.CUSTOMER, projects=[install.project])
    assert 'href="/errors/#rescue-lost"' in client.get(install.get_absolute_url()).content.decode()
    html = client.get("/errors/").content.decode()
    for code, entry in errors.CATALOGUE.items():
        assert f'id="{code}"' in html
        assert escape(entry.fix) in html
    assert Client().get("/errors/").status_code == 302


# --- logs


def test_a_permalink_opens_the_step_and_its_line_without_scripts() -> None:
    install, past = running("wipe")
    for number in range(1, 1500):
        feed(install, f"line {number}\n", step="wipe")
    past.finish("wipe")
    past.start("partition")
    html = login().get(f"{install.get_absolute_url()}?at=wipe-1-L700").content.decode()
    assert 'id="wipe-1-L700"' in html
    assert 'id="wipe-1-L1400"' not in html
    assert re.search(r'class="step-panel panel is-open" id="panel-wipe"', html)


def test_a_large_log_is_not_in_the_page() -> None:
    install, _ = running("copy")
    for number in range(100):
        feed(install, "".join(f"usr/lib/file-{number}-{line}\n" for line in range(100)))
    html = login().get(install.get_absolute_url()).content.decode()
    assert html.count("log-line") < 500
    assert "usr/lib/file-99-99<" in html
    assert "Earlier lines" in html


def test_the_pages_of_a_log_join_without_gap_or_double_line() -> None:
    install, _ = running("copy")
    feed(install, "\x1e> 1 1800000000.000000 rsync everything\n")
    for number in range(1300):
        feed(install, f"line {number}\n")
    client, address = login(), f"{install.get_absolute_url()}log/copy/1/?bare=1"
    pages: list[str] = []
    url = address
    while url:
        html = client.get(url).content.decode()
        pages.insert(0, re.sub(r'<div class="log-context">.*?</div></div>', "", html, flags=re.DOTALL))
        found = re.search(r"\?before=(\d+)", html)
        url = f"{address}&before={found[1]}" if found else ""
    lines = [unescape(line) for page in pages for line in re.findall(r'log-text">(.*?)</span>', page)]
    assert lines == shown_lines(install)
    assert len(pages) > 2


def test_a_stretch_that_begins_in_a_command_names_it() -> None:
    install, _ = running("copy")
    feed(install, "\x1e> 1 1800000000.000000 rsync everything\n")
    for number in range(600):
        feed(install, f"line {number}\n")
    html = login().get(install.get_absolute_url()).content.decode()
    assert re.search(r"log-context.*rsync everything", html, re.DOTALL)


def test_what_programs_print_stays_text() -> None:
    install, _ = running("copy")
    feed(install, command(1, "echo '<b>'", ["<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "a\x08b\x00c"]))
    html = login().get(install.get_absolute_url()).content.decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert ">red</span>" in html
    assert "\x1b" not in html
    assert "\x08" not in html


def test_a_nasty_tail_stays_text_in_the_failure_box() -> None:
    install, past = running("copy")
    nasty = Failure("x", Blame.PROVIDER, "<i>broke</i>", "fix", "cmd '<b>'", 1, ("<script>x</script>\x1b[1m",))
    past.fail("copy", failure=nasty)
    html = login().get(install.get_absolute_url()).content.decode()
    assert "<script>x" not in html
    assert "<i>broke" not in html
    assert "\x1b" not in html


def test_a_log_can_be_downloaded_line_for_line() -> None:
    install, _ = running("copy")
    feed(install, command(1, "rsync <x>", ["one", "two"], seconds=1.5) + "\x1e! a note\n")
    response = login().get(f"{install.get_absolute_url()}log/copy/1.txt")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    body = b"".join(response).decode()
    assert body == "$ rsync <x>\none\ntwo\n[done after 1.500 s]\n# a note\n"


def test_the_whole_log_can_be_searched() -> None:
    install, _ = running("copy")
    for number in range(1000):
        feed(install, f"File {number}\n")
    words = text(login().get(f"{install.get_absolute_url()}log/copy/1/?q=file+999").content)
    assert "1 line with “file 999”" in words
    assert "No line of this log has" in text(login().get(f"{install.get_absolute_url()}log/copy/1/?q=nowhere").content)


def test_progress_fills_the_bar_and_is_no_line() -> None:
    install, _ = running("copy")
    feed(install, "\x1e> 1 1800000000.0 rsync\n  1,234,567  42%  101.00MB/s    0:00:19\r")
    html = login().get(install.get_absolute_url()).content.decode()
    assert 'value="42.0"' in html
    assert "1,234,567" not in html


@pytest.mark.parametrize(
    "query", ["?step=nowhere", "?at=copy-9-L1", "?at=copy-1-L999999999", "?at=%00", "?at=../../etc", "?step=verify"]
)
def test_odd_questions_get_the_page(query: str) -> None:
    install, _ = running("copy")
    feed(install, "a line\n")
    assert read(install, query)


@pytest.mark.parametrize(
    "query", ["?before=x", "?before=-1", "?behind=99999999999999999999", "?line=0", "?q=%00%27", "?at=x"]
)
def test_odd_stretches_get_a_page(query: str) -> None:
    install, _ = running("copy")
    feed(install, "a line\n")
    assert login().get(f"{install.get_absolute_url()}log/copy/1/{query}").status_code == 200


def test_a_step_that_does_not_exist_is_not_found() -> None:
    install, _ = running("copy")
    assert login().get(f"{install.get_absolute_url()}log/nowhere/1/").status_code == 404
    assert login().get(f"{install.get_absolute_url()}log/nowhere/1.txt").status_code == 404


# --- who


PLACES = ("", "cancel/", "log/copy/1/", "log/copy/1.txt")


@pytest.mark.parametrize("place", PLACES)
def test_members_and_ops_see_it_and_for_others_it_does_not_exist(place: str) -> None:
    project = make_project()
    install, _ = running("copy", server=make_server(project, disks=2))
    url = install.get_absolute_url() + place
    assert login(Role.CUSTOMER, projects=[project]).get(url).status_code == 200
    assert login(Role.OPS).get(url).status_code == 200
    assert login(Role.CUSTOMER, projects=[make_project()]).get(url).status_code == 404
    assert Client().get(url)["Location"].startswith("/login/")


@pytest.mark.parametrize("act", ["cancel", "retry"])
def test_a_stranger_cannot_act(act: str) -> None:
    install, _ = running("copy")
    before = Install.objects.get(pk=install.pk).last_seq
    assert login(Role.CUSTOMER).post(f"{install.get_absolute_url()}{act}/").status_code == 404
    assert Install.objects.get(pk=install.pk).last_seq == before


def test_acting_needs_the_token_of_the_form() -> None:
    install, _ = running("copy")
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(Role.OPS))
    assert client.post(f"{install.get_absolute_url()}cancel/").status_code == 403
    assert client.post(f"{install.get_absolute_url()}retry/").status_code == 403


# --- buttons


def test_a_customer_cancels_and_the_page_says_so() -> None:
    project = make_project()
    install, _ = running("copy", server=make_server(project, disks=2))
    client = login(Role.CUSTOMER, projects=[project])
    response = client.post(f"{install.get_absolute_url()}cancel/", follow=True)
    assert "cancelling" in text(response.content)
    assert Install.objects.get(pk=install.pk).cancel_requested


def test_cancelling_twice_is_refused_with_a_sentence() -> None:
    install, _ = running("copy")
    client = login()
    client.post(f"{install.get_absolute_url()}cancel/")
    again = client.post(f"{install.get_absolute_url()}cancel/")
    assert again.status_code == 409
    assert "being cancelled already" in text(again.content)


def test_a_failed_install_is_tried_again() -> None:
    install, past = running("copy")
    past.fail("copy")
    response = login().post(f"{install.get_absolute_url()}retry/")
    assert response.status_code == 302
    assert ended(install) is Status.QUEUED


def test_a_running_install_is_not_retried() -> None:
    install, _ = running("copy")
    assert login().post(f"{install.get_absolute_url()}retry/").status_code == 409
    assert login().get(f"{install.get_absolute_url()}retry/").status_code == 405


# --- costs


def queries(install: Install) -> int:
    """How many queries the page makes, once the usual times are known."""
    client = login()
    client.get(install.get_absolute_url())
    with CaptureQueriesContext(
        connection,
    ) as found:
        client.get(install.get_absolute_url())
    return len(found)


def test_the_number_of_queries_depends_neither_on_installs_nor_on_the_log() -> None:
    install, _ = running("copy")
    feed(install, "a line\n")
    few = queries(install)
    for _ in range(3):
        installed()
    for number in range(500):
        feed(install, f"line {number}\n")
    assert queries(install) <= few + 1  # the command above a log that is cut
    assert few <= 12


def test_a_log_without_scripts_is_whole_page_by_page() -> None:
    install, _ = running("copy")
    for number in range(50):
        feed(install, f"line {number}\n")
    words = text(login().get(f"{install.get_absolute_url()}log/copy/1/").content)
    assert "line 0" in words
    assert "line 49" in words
    assert LogChunk.objects.count() == 50

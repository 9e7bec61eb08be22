"""The ops board: what is on it, in which order, and acting on many."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Role
from deploy.events import Kind, Status
from deploy.models import Install
from tests.builders import make_image, make_install, make_project, make_server
from tests.deploy.histories import FAILURE, Past, ended, installed, running
from tests.deploy.test_install_page import login, text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_usual_times() -> None:
    cache.clear()


def board(query: str = "") -> str:
    """The board as ops get it."""
    response = login().get(f"/board/{query}")
    assert response.status_code == 200
    return response.content.decode()


def rows(html: str) -> list[str]:
    """The installs on a board by their UUIDs, from top to bottom."""
    return re.findall(r'<tr id="install-([0-9a-f-]+)"', html)


def test_failed_stands_before_slow_before_the_rest() -> None:
    image = make_image()
    installed(image=image)
    calm, _ = running("copy", image=image)
    slow, _ = running("wipe", image=image, began=timezone.now() - timedelta(minutes=20))
    broken, past = running("copy", image=image)
    past.fail("copy")
    assert rows(board()) == [str(one.uuid) for one in (broken, slow, calm)]
    assert "far over" in board()


def test_a_row_says_server_project_image_step_and_worker() -> None:
    install, _ = running("copy", server=make_server(make_project("Shop"), name="shop-till", disks=2))
    Install.objects.filter(pk=install.pk).update(lease_worker="worker-7")
    words = text(board().encode())
    for word in ("shop-till", "Shop", install.image.name, "Copy the image", "worker-7", "running"):
        assert word in words


def test_the_cells_fill_step_by_step() -> None:
    running("copy")
    html = board()
    assert html.count('class="cell is-done"') == 7
    assert html.count('class="cell is-running"') == 1
    assert html.count('class="cell is-pending"') == 4


def test_what_is_over_is_not_on_the_board_and_a_failure_leaves_when_it_is_answered() -> None:
    installed()
    broken, past = running("copy")
    past.fail("copy")
    assert rows(board()) == [str(broken.uuid)]
    again = make_install(broken.server)
    assert rows(board()) == [str(again.uuid)]


def test_a_failure_of_yesterday_is_gone() -> None:
    _, past = running("copy", began=timezone.now() - timedelta(hours=30))
    past.fail("copy")
    assert rows(board()) == []
    assert "Nothing runs" in board()


def test_the_four_numbers() -> None:
    running("copy")
    make_install()
    for _ in range(2):
        _, past = running("copy")
        past.fail("copy")
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    installed(pace=1, began=midnight - timedelta(days=2))
    words = text(board().encode())
    assert "Running 1 Waiting 1 Failed today 2 Median today – 7:58 in the week before" in words


@pytest.mark.parametrize(
    ("query", "count"), [("?status=failed", 1), ("?status=running", 1), ("?status=waiting", 1), ("", 3)]
)
def test_the_address_holds_the_filter(query: str, count: int) -> None:
    running("copy")
    make_install()
    _, past = running("copy")
    past.fail("copy")
    assert len(rows(board(query))) == count


def test_one_finds_a_server_and_a_project() -> None:
    wanted, _ = running("copy", server=make_server(make_project("Shop"), name="shop-till", disks=2))
    running("copy")
    assert rows(board("?q=SHOP-T")) == [str(wanted.uuid)]
    assert rows(board("?project=shop")) == [str(wanted.uuid)]


@pytest.mark.parametrize("query", ["?status=x", "?q=%00", "?project=%00", "?q='; DROP TABLE", "?q=" + "x" * 5000])
def test_odd_filters_get_a_board(query: str) -> None:
    board(query)


def test_the_number_of_queries_is_constant() -> None:
    def queries() -> int:
        client = login()
        client.get("/board/")
        with CaptureQueriesContext(connection) as found:
            client.get("/board/")
        return len(found)

    running("copy")
    few = queries()
    for step in ("wipe", "copy", "bootable"):
        running(step)
    assert queries() == few <= 10


@pytest.mark.parametrize("role", [Role.OPS, Role.ADMIN])
def test_ops_and_admins_see_it(role: Role) -> None:
    assert login(role).get("/board/").status_code == 200


def test_for_customers_it_does_not_exist() -> None:
    install, _ = running("copy")
    client = login(Role.CUSTOMER)
    assert client.get("/board/").status_code == 404
    assert client.post("/board/", {"act": "cancel", "install": str(install.uuid), "sure": "1"}).status_code == 404
    assert Client().get("/board/").status_code == 302
    assert not Install.objects.get(pk=install.pk).cancel_requested


# --- held, in line, silent


def held(step: str = "mount", before: str = "copy", **columns: Any) -> Install:
    """An install that ops hold before a step."""
    install, past = running(step, **columns)
    past.event(Kind.HOLD_REQUESTED, by="otto", before=before)
    past.finish(step)
    past.event(Kind.HELD, before=before)
    return install


def test_a_held_install_says_before_what_and_is_not_slow() -> None:
    image = make_image()
    installed(image=image)
    held(image=image, began=timezone.now() - timedelta(hours=3))
    html = board()
    assert "held before Copy the image" in text(html.encode())
    assert "far over" not in html
    assert html.count('class="cell is-done"') == 7
    assert html.count('class="cell is-waiting is-held-before" title="Copy the image: held before it"') == 1


def test_a_hold_to_come_is_seen_in_the_cells() -> None:
    _, past = running("copy")
    past.event(Kind.HOLD_REQUESTED, by="otto", before="reboot")
    html = board()
    assert 'title="Reboot: to be held before it"' in html
    assert "Copy the image; to be held before Reboot" in text(html.encode())


def test_the_line_is_numbered(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    running("copy")
    for _ in range(2):
        make_install()
    words = text(board().encode())
    assert "1st in line: at most 1 install runs at once" in words
    assert "2nd in line: at most 1 install runs at once" in words


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("nothing printed", "nothing printed for 3:1"),
        ("the rescue system does not answer: no route to host", "the rescue system does not answer for 3:1"),
    ],
)
def test_silence_is_marked_with_its_reason(reason: str, words: str) -> None:
    _, past = running("copy")
    since = (timezone.now() - timedelta(seconds=190)).isoformat()
    past.event(Kind.STEP_QUIET, step="copy", attempt=1, since=since, command="rsync", reason=reason)
    assert words in text(board().encode())
    past.event(Kind.STEP_TALKS, step="copy", attempt=1)
    assert words not in text(board().encode())


def test_the_line_holds_and_silences_cost_no_query_each(settings: Any) -> None:
    def queries() -> int:
        cache.clear()
        client = login()
        with CaptureQueriesContext(connection) as found:
            client.get("/board/")
        return len(found)

    settings.LANDFALL_LIMIT = 1

    def more() -> None:
        held()
        make_install()
        _, past = running("copy")
        past.event(Kind.STEP_QUIET, step="copy", attempt=1, since=timezone.now().isoformat(), reason="nothing printed")

    more()
    few = queries()
    more()
    more()
    assert queries() == few


# --- acting on many


def act(**data: Any) -> str:
    """What ops read after pressing a button."""
    response = login().post("/board/", data)
    assert response.status_code == 200
    return text(response.content)


def test_cancelling_many_asks_first_and_says_what_each_leaves_behind() -> None:
    early, _ = running("plan")
    late, _ = running("copy")
    words = act(act="cancel", install=[str(early.uuid), str(late.uuid)])
    assert "Cancel 2 installs?" in words
    assert "Nothing was touched" in words
    assert "No operating system" in words
    assert not Install.objects.get(pk=late.pk).cancel_requested


def test_many_are_cancelled_each_with_its_result() -> None:
    first, _ = running("copy")
    second, past = running("copy")
    past.event(Kind.CANCEL_REQUESTED, by="x")
    words = act(act="cancel", sure="1", install=[str(first.uuid), str(second.uuid)])
    assert "is being cancelled" in words
    assert "being cancelled already" in words
    assert Install.objects.get(pk=first.pk).cancel_requested


def test_many_are_tried_again() -> None:
    installs = [running("copy") for _ in range(2)]
    for _, past in installs:
        past.fail("copy", failure=FAILURE)
    words = act(act="retry", install=[str(one.uuid) for one, _ in installs])
    assert words.count("goes on") == 2
    assert all(ended(one) is Status.QUEUED for one, _ in installs)


def test_nothing_ticked_and_nonsense_ticked_are_a_sentence() -> None:
    assert "No install was ticked" in act(act="retry")
    assert "No install was ticked" in act(act="retry", install=["x", "", "'"])
    assert login().post("/board/", {"act": "explode"}).status_code == 404


def test_a_install_that_ended_meanwhile_is_refused_alone() -> None:
    done = installed()
    live, _ = running("copy")
    words = act(act="cancel", sure="1", install=[str(done.uuid), str(live.uuid)])
    assert "refused" in words
    assert Install.objects.get(pk=live.pk).cancel_requested
    assert ended(done) is Status.SUCCEEDED
    assert Past(done).install == done


def test_many_are_held_before_one_step_and_released() -> None:
    first, _ = running("copy")
    late, _ = running("bootable")
    both = [str(first.uuid), str(late.uuid)]
    assert "Before which step?" in act(act="hold", install=both)
    words = act(act="hold", sure="1", before="bootable", install=both)
    assert "is to be held" in words
    assert "the step bootable has begun" in words
    assert Install.objects.get(pk=first.pk).hold_before == "bootable"
    words = act(act="release", install=both)
    assert "goes on" in words
    assert "neither held nor to be held" in words
    assert Install.objects.get(pk=first.pk).hold_before == ""


def test_ending_many_by_force_asks_for_one_reason_and_says_what_each_leaves() -> None:
    early, _ = running("plan")
    late, past = running("reboot")
    past.event(Kind.POWER_CYCLING, target="disk")
    both = [str(early.uuid), str(late.uuid)]
    words = act(act="reset", install=both)
    assert "End 2 installs by force?" in words
    assert "it keeps the system that it has" in words
    assert "the new system on them is not verified" in words
    response = login().post("/board/", {"act": "reset", "sure": "1", "reason": " ", "install": both})
    assert response.status_code == 400
    assert "A reason is missing." in text(response.content)
    assert ended(early) is Status.RUNNING
    words = act(act="reset", sure="1", reason="the <b>switch</b> died", install=both)
    assert words.count("was ended by force") == 2
    assert ended(early) is ended(late) is Status.FAILED
    assert "the <b>switch</b> died" in text(login().get(late.get_absolute_url()).content)


@pytest.mark.parametrize("before", ["", "nowhere", "<script>", "x" * 10_000, "\0"])
def test_many_are_not_held_before_what_is_no_step(before: str) -> None:
    install, _ = running("copy")
    response = login().post("/board/", {"act": "hold", "sure": "1", "before": before, "install": str(install.uuid)})
    assert response.status_code == 200
    assert "refused" in text(response.content)
    assert "<script>" not in response.content.decode().split("</head>")[1]
    assert Install.objects.get(pk=install.pk).hold_before == ""

"""What people may do to an install from its page: what is offered, to whom, what it says, and odd input."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client

from accounts.models import Role
from deploy import actions
from deploy.events import MOST_FAILED_ATTEMPTS, Kind, Status
from deploy.models import Install
from deploy.pages.view import InstallView, view_of
from deploy.steps import STEPS
from tests.builders import make_install, make_project, make_server, make_user
from tests.deploy.histories import Past, ended, installed, running
from tests.deploy.situations import Holder, Row, Situation, every_situation
from tests.deploy.test_install_page import login, read, text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_looks() -> None:
    cache.clear()


def post(install: Install, act: str, client: Client | None = None, **data: str) -> Any:
    """What comes back when a button is pressed."""
    return (client or login()).post(f"{install.get_absolute_url()}{act}/", data)


def seq(install: Install) -> int:
    return Install.objects.get(pk=install.pk).last_seq


def held(before: str = "copy") -> Install:
    """An install that ops hold before a step."""
    steps = list(STEPS)
    install, past = running(steps[steps.index(before) - 1])
    past.event(Kind.HOLD_REQUESTED, by="otto", before=before)
    past.finish(steps[steps.index(before) - 1])
    past.event(Kind.HELD, before=before)
    return install


# --- hold and release


def test_ops_choose_a_step_that_has_not_begun() -> None:
    install, _ = running("copy")
    html = login().get(f"{install.get_absolute_url()}hold/").content.decode()
    assert 'value="bootable"' in html
    assert 'value="copy"' not in html
    assert 'value="wipe"' not in html
    assert post(install, "hold", before="bootable").status_code == 302
    words = read(install)
    assert "To be held before Make it bootable" in words
    assert "Do not hold it" in words


def test_a_held_install_says_by_whom_since_when_and_where_its_server_is() -> None:
    words = read(held())
    assert "Held before Copy the image" in words
    assert "By otto of ops, since" in words
    assert "is in the rescue system, without an operating system" in words
    assert "Release" in words


def test_a_released_install_goes_on() -> None:
    install = held()
    assert post(install, "release").status_code == 302
    assert ended(install) is Status.QUEUED
    assert "Goes on as soon as a worker is free." in read(install)


def test_a_hold_can_be_taken_back_before_it_stands() -> None:
    install, past = running("copy")
    past.event(Kind.HOLD_REQUESTED, by="otto", before="bootable")
    assert post(install, "release").status_code == 302
    assert Install.objects.get(pk=install.pk).hold_before == ""


@pytest.mark.parametrize("before", ["", "nowhere", "wipe", "<script>", "x" * 10_000, "\0", "copy\0"])
def test_a_step_that_there_is_not_or_that_has_begun_is_refused_with_a_sentence(before: str) -> None:
    install, _ = running("copy")
    was = seq(install)
    response = post(install, "hold", before=before)
    assert response.status_code in (400, 409)
    assert "<script>" not in response.content.decode().split("</head>")[1]
    assert seq(install) == was


def test_what_is_not_held_is_not_released() -> None:
    install, _ = running("copy")
    response = post(install, "release")
    assert response.status_code == 409
    assert "neither held nor to be held" in text(response.content)


def test_the_page_of_a_server_says_that_its_install_is_held_or_in_line(settings: Any) -> None:
    stands = held()
    assert "is held before Copy the image" in text(login().get(f"/servers/{stands.server.name}/").content)
    settings.LANDFALL_LIMIT = 1
    running("copy")
    waits = make_install()
    words = text(login().get(f"/servers/{waits.server.name}/").content)
    assert "is to be installed: 1st in line" in words
    assert "At most 1 install runs at once." in words


# --- force reset


def test_ending_by_force_asks_for_a_reason_and_says_what_it_leaves() -> None:
    install, _ = running("copy")
    words = text(login().get(f"{install.get_absolute_url()}reset/").content)
    assert f"{install.server.name} will be left without an operating system" in words
    assert "it may change the disks for some seconds yet" in words
    assert "Reason" in words


def test_a_reason_becomes_part_of_the_history_and_the_page() -> None:
    install, _ = running("copy")
    assert post(install, "reset", reason="  It hangs, <b>really</b>.\r\nSince noon.  ").status_code == 302
    assert ended(install) is Status.FAILED
    event = install.events.get(kind=Kind.FORCE_RESET)
    assert event.data["reason"] == "It hangs, <b>really</b>.\nSince noon."
    words = read(install)
    assert "It hangs, <b>really</b>. Since noon." in words
    assert "Cut off here, because ops ended the install by force." in words
    assert "Try again from the start" in words
    assert "force-reset" in words


@pytest.mark.parametrize("reason", ["", "   \r\n ", "\0", "x" * 10_000])
def test_a_reason_that_will_not_do_is_asked_for_again_and_not_lost(reason: str) -> None:
    install, _ = running("copy")
    was = seq(install)
    response = post(install, "reset", reason=reason)
    assert response.status_code == 400
    assert "field-error" in response.content.decode()
    assert reason.strip("\0 \r\n") in response.content.decode()
    assert seq(install) == was


def test_a_reason_of_500_characters_and_line_breaks_of_two_will_do() -> None:
    install, _ = running("copy")
    assert post(install, "reset", reason="\r\n".join(["x" * 99] * 5)).status_code == 302


def test_an_install_that_has_ended_is_not_ended_again() -> None:
    install = installed()
    assert "nothing left to end by force" in text(login().get(f"{install.get_absolute_url()}reset/").content)
    response = post(install, "reset", reason="why not")
    assert response.status_code == 409
    assert ended(install) is Status.SUCCEEDED


def test_an_install_that_never_began_is_ended_by_force_too() -> None:
    install = make_install()
    assert post(install, "reset", reason="a typo").status_code == 302
    words = read(install)
    assert f"{install.server.name} runs what it had: nothing on its disks was touched." in words
    assert "a typo" in words


# --- who


OPS_ACTS = ("hold", "release", "reset")


@pytest.mark.parametrize("act", OPS_ACTS)
def test_for_customers_what_ops_can_do_does_not_exist(act: str) -> None:
    project = make_project()
    install, past = running("copy", server=make_server(project, disks=2))
    past.event(Kind.HOLD_REQUESTED, by="otto", before="verify")
    client, was = login(Role.CUSTOMER, projects=[project]), seq(install)
    assert client.get(f"{install.get_absolute_url()}{act}/").status_code == 404
    assert post(install, act, client, reason="mine", before="bootable").status_code == 404
    assert post(install, act, Client()).status_code == 302
    assert seq(install) == was


def test_a_customer_sees_the_hold_and_the_history_but_none_of_the_buttons() -> None:
    install = held()
    client = login(Role.CUSTOMER, projects=[install.project])
    html = client.get(install.get_absolute_url()).content.decode()
    words = text(html.encode())
    assert "Held before Copy the image" in words
    assert "It goes on when ops release it." in words
    assert "otto asked to hold it before Copy the image." in words
    assert "Cancel…" in words
    for act in OPS_ACTS:
        assert f"{install.get_absolute_url()}{act}/" not in html


@pytest.mark.parametrize(("act", "status"), [("hold", 200), ("reset", 200), ("release", 405), ("retry", 405)])
def test_a_question_is_asked_by_get_and_nothing_is_done_by_it(act: str, status: int) -> None:
    install = held()
    was = seq(install)
    assert login().get(f"{install.get_absolute_url()}{act}/?reason=x&before=verify").status_code == status
    assert seq(install) == was


@pytest.mark.parametrize("act", OPS_ACTS)
def test_no_act_without_the_token_of_the_form_and_none_by_another_method(act: str) -> None:
    install, _ = running("copy")
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(Role.OPS))
    assert client.post(f"{install.get_absolute_url()}{act}/", {"reason": "x"}).status_code == 403
    assert login().delete(f"{install.get_absolute_url()}{act}/").status_code == 405


@pytest.mark.parametrize("act", ["cancel", *OPS_ACTS])
def test_an_install_that_there_is_not_is_not_found(act: str) -> None:
    url = f"/installs/00000000-0000-4000-8000-000000000000/{act}/"
    assert login().post(url, {"reason": "x", "before": "copy"}).status_code == 404


# --- what a cancel, a failure and a retry say


@pytest.mark.parametrize(
    ("step", "target", "words"),
    [
        ("plan", "network", "It keeps the system that it has, and is restarted into it."),
        ("copy", "network", "will be left without an operating system"),
        ("reboot", "network", "stays as it is, started from its disks"),
        ("phone-home", "disk", "it has not been verified, and there are no host keys to compare"),
    ],
)
def test_cancelling_says_what_it_leaves_behind(step: str, target: str, words: str) -> None:
    install, past = running(step)
    past.event(Kind.POWER_CYCLING, target=target)
    assert words in text(login().get(f"{install.get_absolute_url()}cancel/").content)


def test_a_cancelled_install_says_how_its_server_was_left() -> None:
    install, past = running("plan")
    past.event(Kind.CANCEL_REQUESTED, by="carla")
    past.event(Kind.CANCELLED, left="unchanged, but not restarted: its BMC does not answer")
    assert f"{install.server.name} was left unchanged, but not restarted: its BMC does not answer." in read(install)


def test_an_install_that_failed_before_the_wipe_says_how_its_server_was_left() -> None:
    install, past = running("plan")
    past.event(Kind.POWER_CYCLING, target="network")
    past.fail("plan", left="as it was, and restarted from its own disks")
    words = read(install)
    assert f"{install.server.name} was left as it was, and restarted from its own disks." in words
    assert "restarted into the rescue system" not in words


def test_a_failure_names_the_step_that_a_retry_begins_with() -> None:
    install, past = running("phone-home")
    past.fail("phone-home")
    words = read(install)
    assert "Try again from Reboot" in words
    assert "From the start" in words


def test_a_failure_before_the_wipe_is_tried_again_from_the_start_alone() -> None:
    install, past = running("plan")
    past.fail("plan")
    words = read(install)
    assert "Try again from the start" in words
    assert "From the start" not in words


def test_a_failure_after_which_the_server_was_installed_anew_says_so() -> None:
    install, past = running("copy")
    past.fail("copy")
    later = make_install(install.server)
    assert f"another install of {install.server.name} was begun" in read(install)
    Past(later).through()
    words = read(install)
    assert "erases what that one installed" in words
    assert "disks are erased or half written" not in words


def test_an_install_that_has_failed_too_often_is_started_anew_instead() -> None:
    install, past = running("copy")
    for number in range(1, MOST_FAILED_ATTEMPTS - 2):
        past.fail("copy", number, resume_from="copy")
        past.start("copy")
    assert "17 attempts of this install have failed. After 20 it is given up." in read(install)
    for number in range(MOST_FAILED_ATTEMPTS - 2, MOST_FAILED_ATTEMPTS):
        past.fail("copy", number, resume_from="copy")
        past.start("copy")
    past.fail("copy", MOST_FAILED_ATTEMPTS)
    words = read(install)
    assert "This install has failed 20 times: it is not tried again." in words
    assert "Start a new install" in words
    assert "Try again" not in words
    assert post(install, "retry").status_code == 409


# --- every state has what it offers, and offers only that


def offers(view: InstallView) -> Iterator[tuple[str, bool]]:
    yield "cancel", view.can_cancel
    yield "retry", view.can_retry
    yield "hold", view.can_hold
    yield "release", view.can_release
    yield "reset", view.is_live


def attempt(act: str, install: Install, view: InstallView) -> None:
    by = make_user(Role.OPS)
    match act:
        case "cancel":
            actions.cancel(install, by)
        case "retry":
            actions.retry(install, by)
        case "hold":
            actions.hold(install, by, view.holdable[-1].name if view.holdable else "verify")
        case "release":
            actions.release(install, by)
        case "reset":
            actions.force_reset(install, by, "because")


def works(act: str, install: Install, view: InstallView) -> bool:
    """Whether the act is not refused; it is undone at once."""
    with transaction.atomic():
        try:
            attempt(act, install, view)
        except actions.Refused as refused:
            assert refused.message.endswith(".")
            return False
        finally:
            transaction.set_rollback(True)
    return True


SITUATIONS = [
    one
    for one in every_situation()
    if one.holder is Holder.NOBODY and one.step in ("", "rescue", "wipe", "copy", "reboot", "verify")
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_a_page_offers_what_works_and_nothing_else(situation: Situation, settings: Any) -> None:
    if situation.row is Row.IN_LINE:
        settings.LANDFALL_LIMIT = 1
        running("copy")
    install = situation.bring_about()
    view = view_of(install, for_ops=True)
    offered = {act for act, is_there in offers(view) if is_there}
    possible = {act for act, _ in offers(view) if works(act, install, view)}
    if situation.row is Row.HELD_AND_CANCEL_REQUESTED:
        possible.discard("release")  # it ends at once anyway
    assert offered == possible
    client = login()
    for place in ("", "cancel/", "hold/", "reset/"):
        assert client.get(install.get_absolute_url() + place).status_code == 200

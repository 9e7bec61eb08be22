"""Addresses that only a button leads to, opened in a browser."""

import pytest

from accounts.models import Role
from tests.builders import make_image, make_user
from tests.pages import browser

pytestmark = pytest.mark.django_db


def test_a_browser_is_told_that_nothing_was_done_and_where_the_button_is() -> None:
    image = make_image()
    answer = browser(make_user(Role.ADMIN)).get(f"/images/{image.pk}/publish/")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Nothing was done" in answer.content.decode()
    assert f'href="/images/{image.pk}/"' in answer.content.decode()


def test_where_no_page_is_above_the_servers_are_offered() -> None:
    answer = browser(make_user(Role.ADMIN)).get("/logout/")
    assert "All servers" in answer.content.decode()


def test_a_program_gets_the_status_alone() -> None:
    answer = browser(make_user(Role.ADMIN)).get("/logout/", headers={"accept": "*/*"})
    assert (answer.status_code, answer.content) == (405, b"")


def test_whoever_must_not_see_a_page_is_not_told_of_its_buttons() -> None:
    image = make_image()
    assert browser(make_user()).get(f"/images/{image.pk}/publish/").status_code == 404

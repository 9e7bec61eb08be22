import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest, HttpResponse
from django.test import RequestFactory

from accounts.access import has_role, projects_of, role_required
from accounts.models import Role, User
from tests.builders import make_project, make_user

pytestmark = pytest.mark.django_db


@role_required(Role.OPS)
def board(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the board")


def ask(user: User | AnonymousUser) -> HttpResponse:
    request = RequestFactory().get("/board/?all=1")
    request.user = user
    return board(request)


def test_a_customer_sees_the_own_projects() -> None:
    mine, other = make_project(), make_project()
    alice = make_user(projects=[mine])
    make_user(projects=[other])
    assert list(projects_of(alice)) == [mine]


def test_a_customer_without_a_project_sees_none() -> None:
    make_project()
    assert not projects_of(make_user()).exists()


@pytest.mark.parametrize("role", [Role.OPS, Role.ADMIN])
def test_ops_and_admins_see_every_project(role: Role) -> None:
    one, two = make_project("One"), make_project("Two")
    assert list(projects_of(make_user(role))) == [one, two]


def test_nobody_sees_nothing() -> None:
    make_project()
    assert not projects_of(AnonymousUser()).exists()


def test_whoever_is_switched_off_sees_nothing() -> None:
    for role in Role:
        user = make_user(role, projects=[make_project()])
        user.is_active = False
        assert not projects_of(user).exists()
        assert not has_role(user, Role.CUSTOMER)


def test_a_role_may_what_the_lower_ones_may() -> None:
    allowed = {role: [other for other in Role if has_role(make_user(role), other)] for role in Role}
    assert allowed == {
        Role.CUSTOMER: [Role.CUSTOMER],
        Role.OPS: [Role.CUSTOMER, Role.OPS],
        Role.ADMIN: [Role.CUSTOMER, Role.OPS, Role.ADMIN],
    }


def test_a_page_of_a_higher_role_does_not_exist() -> None:
    assert ask(make_user(Role.OPS)).content == b"the board"
    assert ask(make_user(Role.ADMIN)).content == b"the board"
    with pytest.raises(Http404):
        ask(make_user(Role.CUSTOMER))


def test_who_is_not_logged_in_is_asked_to_and_comes_back() -> None:
    response = ask(AnonymousUser())
    assert response.status_code == 302
    assert response["Location"] == "/login/?next=/board/%3Fall%3D1"

import pytest
from django.test import Client

from accounts.models import Membership, Project, Role, User
from tests.builders import PASSWORD, make_project, make_user

pytestmark = pytest.mark.django_db


def logged_in(role: Role) -> Client:
    client = Client()
    client.force_login(make_user(role))
    return client


@pytest.mark.parametrize("path", ["/people/", "/people/accounts/user/", "/people/accounts/user/1/change/", "/people/x"])
def test_to_customers_and_ops_there_are_no_people_pages(path: str) -> None:
    for role in (Role.CUSTOMER, Role.OPS):
        assert logged_in(role).get(path).status_code == 404


def test_a_superuser_flag_alone_opens_nothing() -> None:
    user = make_user(Role.CUSTOMER)
    User.objects.filter(pk=user.pk).update(is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(user)
    assert client.get("/people/").status_code == 404


def test_who_is_not_logged_in_meets_our_own_login() -> None:
    assert Client().get("/people/accounts/user/")["Location"] == "/login/?next=/people/accounts/user/"
    assert Client().get("/people/login/")["Location"] == "/login/"


def test_an_admin_sees_people_and_projects_and_nothing_else() -> None:
    page = logged_in(Role.ADMIN).get("/people/")
    assert page.status_code == 200
    (app,) = page.context["app_list"]
    assert [model["object_name"] for model in app["models"]] == ["Project", "User"]


def test_the_people_pages_have_the_bar_of_every_other_page() -> None:
    page = logged_in(Role.ADMIN).get("/people/accounts/user/").content.decode()
    for path in ("/board/", "/images/", "/licences/", "/logout/"):
        assert f'"{path}"' in page
    assert '<a href="/people/" aria-current="page">People</a>' in page


def test_an_admin_makes_an_account_with_a_role() -> None:
    client = logged_in(Role.ADMIN)
    form = {"username": "olga", "role": "ops", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD,
            "memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}  # fmt: skip
    assert client.post("/people/accounts/user/add/", form).status_code == 302
    assert User.objects.get(username="olga").role == Role.OPS
    assert Client().login(username="olga", password=PASSWORD)


def test_an_admin_makes_a_project_with_its_members() -> None:
    alice = make_user()
    form = {"name": "Acme", "slug": "acme", "memberships-TOTAL_FORMS": 1, "memberships-INITIAL_FORMS": 0,
            "memberships-0-user": alice.pk}  # fmt: skip
    assert logged_in(Role.ADMIN).post("/people/accounts/project/add/", form).status_code == 302
    assert Membership.objects.get().project == Project.objects.get(slug="acme")


def test_a_person_can_be_changed_and_deleted() -> None:
    client, bob = logged_in(Role.ADMIN), make_user(projects=[make_project()])
    assert client.get(f"/people/accounts/user/{bob.pk}/change/").status_code == 200
    assert client.post(f"/people/accounts/user/{bob.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=bob.pk).exists()


def test_createsuperuser_makes_an_admin() -> None:
    assert User.objects.create_superuser("root", password=PASSWORD).is_admin

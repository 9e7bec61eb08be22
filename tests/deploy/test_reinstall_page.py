"""Putting a reinstall together: four sections, nothing lost on the way, nothing asked for that was not seen."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.models import Project, Role, SSHKey
from deploy.models import Install
from images.models import Image, ImageState
from tests.builders import (
    GIB,
    make_disk,
    make_image,
    make_install,
    make_key,
    make_project,
    make_server,
    make_user,
    public_key,
)
from tests.deploy.test_install_page import text
from tests.deploy.visits import Visit

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project("Shop")


@pytest.fixture
def image() -> Image:
    return make_image(name="Debian 12")


@pytest.fixture
def key(project: Project) -> SSHKey:
    return make_key(project, name="alice")


@pytest.fixture
def visit(project: Project, image: Image, key: SSHKey) -> Visit:
    client = Client()
    client.force_login(make_user(projects=[project]))
    return Visit(make_server(project, name="web-14.example.net", disks=2), client)


def test_a_customer_reinstalls_the_own_server(visit: Visit, image: Image, key: SSHKey) -> None:
    assert visit.open == "image"
    visit.submit("next", image=image.pk)
    assert visit.open == "disks"
    visit.submit("next", layout="raid1", swap="4")
    assert visit.open == "access"
    visit.submit("next", hostname="Web-14.example.net", keys=[key.pk], user_data="#cloud-config\r\nx: 1\r\n")
    assert visit.open == "review"
    assert "Both disks of web-14.example.net will be erased." in visit.words
    assert "Erase and reinstall web-14.example.net" in visit.words
    assert "mdadm" in visit.words
    response = visit.erase()
    install = Install.objects.get()
    assert response.redirect_chain[-1][0] == install.get_absolute_url()
    assert install.hostname == "web-14.example.net"
    assert install.layout["name"] == "raid1"
    assert install.layout["swap"] == "4 GiB"
    assert bytes(install.user_data) == b"#cloud-config\nx: 1\n"
    assert [name for name, _ in install.ssh_keys] == ["alice"]
    assert install.status == "queued"


def test_each_section_folds_to_a_sentence(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key, user_data="echo hello")
    assert "Debian 12" in visit.words
    assert "RAID1 on 2 x 20 GiB" in visit.words
    assert "for alice, with 10 B of user data" in visit.words


def test_going_back_loses_nothing_not_even_what_is_wrong(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    visit.submit("image", hostname="not_valid", keys=[key.pk], user_data="half typed")
    assert visit.open == "image"
    visit.submit("next", image=image.pk)
    visit.html = visit.client.get(f"{visit.url}?step=access").content.decode()
    assert 'value="not_valid"' in visit.html
    assert "half typed" in visit.html


def test_a_reload_shows_the_same_review(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key)
    assert "will be erased" in text(visit.client.get(f"{visit.url}?step=review").content)


def test_nobody_comes_to_the_review_past_a_section(visit: Visit) -> None:
    visit.html = visit.client.get(f"{visit.url}?step=review").content.decode()
    assert visit.open == "image"


def test_two_disks_alike_are_mirrored_unless_one_says_otherwise(visit: Visit, image: Image) -> None:
    visit.submit("next", image=image.pk)
    assert re.search(r'value="raid1" checked', visit.html)


def test_a_layout_that_cannot_be_says_why_and_is_not_offered(project: Project, image: Image, key: SSHKey) -> None:
    client = Client()
    client.force_login(make_user(projects=[project]))
    visit = Visit(make_server(project, disks=1), client)
    visit.submit("next", image=image.pk)
    assert re.search(r'value="plain" checked', visit.html)
    small = Visit(make_server(project, disks=[make_disk(size=GIB // 2)]), client)
    small.submit("next", image=image.pk)
    response = small.submit("next", layout="plain")
    assert response.status_code == 400
    assert re.search(r'value="plain" disabled', small.html)
    assert small.open == "disks"


def test_a_kept_disk_is_not_erased(visit: Visit, image: Image, key: SSHKey) -> None:
    kept = visit.server.facts().disks[1]
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="plain", swap="0", disk=[f"keep:{kept.identity}"])
    visit.submit("next", hostname="web-14", keys=[key.pk])
    assert "1 disk is kept" in visit.words
    visit.erase()
    assert Install.objects.get().plan().erased == ("/dev/vda",)


# --- what is refused, each beside its field


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hostname": "web_14"}, "has characters that a host name cannot have"),
        ({"hostname": ""}, "The host name is empty"),
        ({"hostname": "a" * 64}, "At most 63 between two dots"),
        ({"keys": []}, "Choose at least one SSH key"),
        ({"keys": ["999999", "x", "1 OR 1=1"]}, "Choose at least one SSH key"),
        ({"user_data": "x" * 65_537}, "The user data has 65,537 bytes. At most 65,536 (64 KiB) fit"),
        ({"key_line": "ssh-dss AAAA"}, "DSA keys are broken"),
        ({"key_line": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "This is a private key"),
    ],
)
def test_what_is_wrong_is_said_and_the_rest_is_kept(
    visit: Visit, image: Image, key: SSHKey, fields: dict[str, Any], sentence: str
) -> None:
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    given = {"hostname": "web-14", "keys": [key.pk], "user_data": "keep me"} | fields
    response = visit.submit("next", **given)
    assert response.status_code == 400
    assert visit.open == "access"
    assert sentence in visit.words
    if "user_data" not in fields:
        assert "keep me" in visit.html
    assert not Install.objects.exists()


def test_no_image_is_a_sentence(visit: Visit) -> None:
    assert visit.submit("next").status_code == 400
    assert "Choose the image" in visit.words


def test_images_that_are_not_offered_cannot_be_chosen(visit: Visit) -> None:
    foreign = make_image(name="Foreign", project=make_project())
    candidate = make_image(name="Candidate", state=ImageState.CANDIDATE)
    assert "Foreign" not in visit.html
    assert "Candidate" not in visit.html
    for one in (foreign, candidate):
        assert visit.submit("next", image=one.pk).status_code == 400


def test_an_image_past_its_end_of_life_is_no_longer_offered_and_the_page_says_so(visit: Visit) -> None:
    old = make_image(name="Debian 9", end_of_life="2022-06-30")
    visit.html = visit.client.get(visit.url).content.decode()
    assert f'value="{old.pk}"' not in visit.html
    assert "No longer offered, because nobody mends it any more: Debian 9 (since 2022-06-30)" in visit.words
    assert visit.submit("next", image=old.pk).status_code == 400
    assert "Debian 9 has reached its end of life" in visit.words


def test_an_image_near_its_end_of_life_is_offered_with_a_warning(visit: Visit) -> None:
    near = make_image(name="Debian 11", end_of_life=timezone.now().date() + timedelta(days=30))
    assert "Its end of life is near" not in visit.words
    visit.html = visit.client.get(visit.url).content.decode()
    assert "Its end of life is near" in visit.words
    assert visit.submit("next", image=near.pk).status_code != 400


def test_a_pasted_key_becomes_one_of_the_project_and_is_chosen(visit: Visit, image: Image, project: Project) -> None:
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    visit.submit("add-key", hostname="web-14", key_line=public_key("bob@laptop"), key_name="")
    assert project.ssh_keys.filter(name="bob@laptop").exists()
    assert visit.open == "access"
    added = project.ssh_keys.get(name="bob@laptop")
    assert re.search(rf'value="{added.pk}" checked', visit.html)


def test_a_pasted_key_is_taken_when_one_forgets_to_add_it(visit: Visit, image: Image, project: Project) -> None:
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    visit.submit("next", hostname="web-14", key_line=public_key("bob@laptop"))
    assert visit.open == "review"
    assert "for bob@laptop" in visit.words


# --- user data is bytes


@pytest.mark.parametrize(
    "data", [bytes(range(256)), b"#!/bin/sh\r\necho\r\n", b"\x1f\x8b\x08\x00gz", b"no newline", "é\n".encode()]
)
def test_a_file_of_user_data_keeps_every_byte(visit: Visit, image: Image, key: SSHKey, data: bytes) -> None:
    visit.to_review(image, key, user_data_file=SimpleUploadedFile("first-boot.sh", data))
    assert "from first-boot.sh" in visit.words
    visit.submit("access")
    visit.submit("next", hostname="web-14", keys=[key.pk], user_data="", user_data_keep="1")
    visit.erase()
    assert bytes(Install.objects.get().user_data) == data


def test_typed_user_data_survives_going_back_and_forth(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key, user_data="\r\n#cloud-config\r\n\ttab: '<&>'\r\n")
    visit.submit("access")
    found = re.search(r'name="user_data".*?>\n(.*?)</textarea>', visit.html, re.DOTALL)
    assert found
    assert found[1] == "\n#cloud-config\n\ttab: &#x27;&lt;&amp;&gt;&#x27;\n"


def test_a_file_that_is_not_kept_is_gone(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key, user_data_file=SimpleUploadedFile("x", b"\0\1"))
    visit.submit("access")
    visit.submit("next", hostname="web-14", keys=[key.pk], user_data="")
    visit.erase()
    assert bytes(Install.objects.get().user_data) == b""


def test_a_huge_file_is_refused_with_its_size(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    huge = SimpleUploadedFile("huge", b"x" * 3_000_000)
    response = visit.submit("next", hostname="web-14", keys=[key.pk], user_data_file=huge)
    assert response.status_code == 400
    assert "3,000,000 bytes" in visit.words


# --- confirming


@pytest.mark.parametrize("typed", ["", "web-15.example.net", "yes", "web-14"])
def test_nothing_is_erased_without_the_servers_name(visit: Visit, image: Image, key: SSHKey, typed: str) -> None:
    visit.to_review(image, key)
    assert visit.submit("erase", confirm=typed).status_code == 400
    assert "Type web-14.example.net to confirm" in visit.words
    assert not Install.objects.exists()


def test_confirming_twice_makes_one_install_and_leads_to_it(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key)
    page = visit.html
    visit.erase()
    visit.html = page
    again = visit.erase()
    assert again.status_code == 409
    assert "is being installed already" in visit.words
    assert Install.objects.get().get_absolute_url() in visit.html


def test_a_busy_server_leads_to_its_install_at_once(project: Project, image: Image) -> None:
    server = make_server(project, disks=2)
    install = make_install(server)
    client = Client()
    client.force_login(make_user(projects=[project]))
    assert install.get_absolute_url() in Visit(server, client).html


def test_what_was_changed_in_another_window_has_to_be_seen_first(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key)
    other = Visit(visit.server, visit.client)
    other.submit("disks")
    other.submit("next", layout="plain", swap="0")
    response = visit.erase()
    assert response.status_code == 409
    assert "is not what would be installed now" in visit.words
    assert not Install.objects.exists()


def test_an_image_withdrawn_meanwhile_is_not_installed(visit: Visit, image: Image, key: SSHKey) -> None:
    visit.to_review(image, key)
    Image.objects.filter(pk=image.pk).update(state=ImageState.RETIRED)
    assert visit.erase().status_code == 400
    assert not Install.objects.exists()


def test_a_confirmation_out_of_nowhere_erases_nothing(visit: Visit) -> None:
    response = visit.client.post(visit.url, {"section": "review", "go": "erase", "confirm": visit.server.name})
    assert response.status_code == 400
    assert not Install.objects.exists()


@pytest.mark.parametrize("data", [{}, {"section": "x"}, {"go": "x"}, {"section": "review", "go": "\0"}])
def test_odd_posts_get_a_page(visit: Visit, data: dict[str, str]) -> None:
    assert visit.client.post(visit.url, data).status_code < 500


# --- who


def test_a_foreign_server_does_not_exist(visit: Visit) -> None:
    stranger = Client()
    stranger.force_login(make_user(projects=[make_project()]))
    assert stranger.get(visit.url).status_code == 404
    assert stranger.post(visit.url, {"go": "erase"}).status_code == 404
    assert Client().get(visit.url).status_code == 302


def test_a_foreign_key_cannot_be_chosen(visit: Visit, image: Image) -> None:
    foreign = make_key(make_project())
    visit.submit("next", image=image.pk)
    visit.submit("next", layout="raid1", swap="0")
    assert visit.submit("next", hostname="web-14", keys=[foreign.pk]).status_code == 400


def test_ops_may_reinstall_any_server(visit: Visit) -> None:
    client = Client()
    client.force_login(make_user(Role.OPS))
    assert client.get(visit.url).status_code == 200


def test_a_post_needs_the_token_of_the_form(visit: Visit, project: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(projects=[project]))
    assert client.post(visit.url, {"go": "erase"}).status_code == 403

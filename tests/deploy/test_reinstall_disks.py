"""The disks of a reinstall: layouts by name, one that somebody writes, which disks, encryption, secure erase."""

import json
import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import Project, SSHKey
from deploy.models import Event, Install
from images.models import Image
from tests.builders import GIB, make_disk, make_image, make_key, make_project, make_server, make_user
from tests.deploy.visits import Visit

pytestmark = pytest.mark.django_db

HOME = '{"filesystems": [{"mount": "/", "size": "8 GiB"},\n{"mount": "/home", "size": "rest"}]}'


@pytest.fixture
def project() -> Project:
    return make_project("Shop")


@pytest.fixture
def image() -> Image:
    return make_image(name="Debian 12")


@pytest.fixture
def key(project: Project) -> SSHKey:
    return make_key(project, name="alice")


def at_disks(project: Project, image: Image, disks: Any = 2) -> Visit:
    """Somebody at the second section of a server with these disks."""
    client = Client()
    client.force_login(make_user(projects=[project]))
    visit = Visit(make_server(project, name="web-14.example.net", disks=disks), client)
    visit.submit("next", image=image.pk)
    assert visit.open == "disks"
    return visit


@pytest.fixture
def visit(project: Project, image: Image, key: SSHKey) -> Visit:
    return at_disks(project, image)


def finish(visit: Visit, key: SSHKey, **disks: Any) -> Install:
    """Chooses these disks and goes on to the end; the install."""
    visit.submit("next", **disks)
    assert visit.open == "access", visit.words
    visit.submit("next", hostname="web-14", keys=[key.pk])
    assert visit.open == "review", visit.words
    visit.erase()
    return Install.objects.get()


# --- by name


def test_every_named_layout_is_offered_or_says_why_not(visit: Visit) -> None:
    for title in ("RAID1", "LVM on RAID1", "One disk, no RAID", "Your own"):
        assert title in visit.words
    assert (
        "four like disks, or a pair of them for the system and four more for the data; 2 disks can be used."
        in visit.words
    )


def offered(visit: Visit) -> dict[str, str]:
    """The layouts by name, each `open`, `checked` or `disabled`."""
    found = re.findall(r'name="layout" value="([^"]+)"( checked)?( disabled)?', visit.html)
    return {name: (checked or disabled or "open").strip() for name, checked, disabled in found}


def test_raid1_is_not_offered_on_one_disk_which_says_what_it_needs(project: Project, image: Image) -> None:
    visit = at_disks(project, image, disks=1)
    assert offered(visit)["raid1"] == offered(visit)["lvm-on-raid1"] == "disabled"
    assert offered(visit)["plain"] == "checked"
    assert "RAID1 needs 2 disks, and 1 disk can be used." in visit.words


def test_an_image_without_mdadm_gets_a_layout_without_raid(project: Project) -> None:
    visit = at_disks(project, make_image(capabilities={"raid": False}))
    assert offered(visit) == {
        "raid1": "disabled", "lvm-on-raid1": "disabled", "raid10-data": "disabled", "plain": "checked",
        "custom": "open",
    }  # fmt: skip
    assert "this image has no mdadm" in visit.words
    assert '"raid"' not in visit.value("custom")


def test_the_first_layout_that_fits_is_ticked_before_anybody_has_chosen(visit: Visit) -> None:
    assert offered(visit)["raid1"] == "checked"


def test_another_image_brings_the_layouts_that_fit_it(visit: Visit) -> None:
    frugal = make_image(name="Frugal", capabilities={"raid": False})
    visit.submit("next", layout="raid1")
    assert visit.open == "access"
    visit.submit("image")
    visit.submit("next", image=frugal.pk)
    assert visit.open == "disks"
    assert offered(visit)["raid1"] == "disabled"
    assert offered(visit)["plain"] == "checked"


def test_a_disk_that_is_kept_takes_the_mirror_away(visit: Visit) -> None:
    kept = visit.server.facts().disks[1].identity
    assert visit.submit("next", layout="raid1", disk=[f"keep:{kept}"]).status_code == 400
    assert "RAID1 needs 2 disks, and 1 disk can be used." in visit.error("layout")
    assert offered(visit)["plain"] == "checked"


def test_a_machine_of_many_disks_gets_a_layout_for_them(project: Project, image: Image, key: SSHKey) -> None:
    fast = [make_disk(f"/dev/nvme{n}n1", size=20 * GIB, rotational=False) for n in range(2)]
    slow = [make_disk(f"/dev/sd{c}", size=90 * GIB, rotational=True) for c in "abcd"]
    install = finish(at_disks(project, image, [*fast, *slow]), key, layout="raid10-data")
    assert {one.mount: one.device for one in install.plan().filesystems if one.mount != "/boot"} == {
        "/": "/dev/md/root",
        "/srv": "/dev/md/srv",
    }
    assert {array.name: len(array.members) for array in install.plan().arrays} == {"root": 2, "srv": 4}


def test_without_a_word_on_disks_the_data_of_a_large_machine_is_not_touched(
    project: Project, image: Image, key: SSHKey
) -> None:
    disks = [make_disk(f"/dev/sd{c}", size=size * GIB) for c, size in zip("abcd", (20, 20, 900, 900), strict=True)]
    install = finish(at_disks(project, image, disks), key, layout="plain")
    assert install.plan().erased == ("/dev/sda", "/dev/sdb")


def test_chosen_disks_alone_carry_the_layout(project: Project, image: Image, key: SSHKey) -> None:
    disks = [make_disk(f"/dev/sd{c}") for c in "abcd"]
    chosen = [f"use:{disks[1].identity}", f"use:{disks[3].identity}", "", f"keep:{disks[0].identity}"]
    install = finish(at_disks(project, image, disks), key, layout="raid1", disk=chosen)
    assert install.plan().erased == ("/dev/sdb", "/dev/sdd")
    assert {disk.path: disk.asked for disk in install.plan().kept} == {"/dev/sda": True, "/dev/sdc": False}


@pytest.mark.parametrize("disk", ["use:", "use:no-such-disk", "keep:../../etc", "x", "use:\0", "keep:" + "x" * 5000])
def test_odd_names_of_disks_get_a_page(visit: Visit, disk: str) -> None:
    assert visit.submit("next", layout="raid1", disk=[disk]).status_code < 500


# --- as somebody writes it


def test_a_written_layout_is_drawn_and_installed(visit: Visit, key: SSHKey) -> None:
    assert "/home" in visit.draw(custom=HOME)
    install = finish(visit, key, layout="custom", custom=HOME)
    assert {one.mount: one.size // GIB for one in install.plan().filesystems} == {"/": 8, "/home": 11}
    assert install.layout["name"] == "custom"


def test_the_text_begins_with_the_layout_that_was_chosen(visit: Visit) -> None:
    visit.submit("disks", layout="plain", swap="4")
    text = json.loads(visit.value("custom"))
    assert text["filesystems"][0] == {"mount": "/", "type": "ext4", "size": "rest"}
    assert text["swap"] == "4 GiB"


def test_a_mistake_is_answered_with_its_line_and_nothing_is_lost(visit: Visit) -> None:
    wrong = HOME.replace('"/home"', '"home"')
    words = visit.draw(custom=wrong)
    assert "Line 2, column 2: 'home' is no mount point." in words
    assert "Write an absolute path" in words
    visit.html = visit.client.get(visit.url).content.decode()
    assert visit.value("custom") == wrong


def test_what_the_machine_cannot_have_is_said_without_a_line(visit: Visit) -> None:
    words = visit.draw(custom=HOME.replace("8 GiB", "8 TiB"))
    assert "/" in words
    assert "Line" not in words


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "[]", "nul", '"😀"', "<script>alert(1)</script>", "[" * 9_000, '{"a":' * 2_000,
        '{"filesystems": [{"mount": "/", "size": "-1 GiB"}]}', '{"filesystems": [{"mount": "/", "size": 1e999}]}',
        '{"filesystems": [{"mount": "/", "type": ["x"], "raid": {}, "size": [[]]}]}', "\0", "x" * 200_000,
        '{"filesystems": ' + json.dumps([{"mount": f"/srv{n}", "size": "100 MiB"} for n in range(180)]) + "}",
        '{"filesystems": [{"mount": "/<b>", "size": "1 GiB"}], "keep": ["<img src=x onerror=alert(1)>"]}',
    ],
)  # fmt: skip
def test_whatever_is_typed_gets_a_sentence(visit: Visit, text: str) -> None:
    response = visit.client.post(f"{visit.url}layout/", {"layout": "custom", "custom": text})
    assert response.status_code == 200
    html = response.content.decode()
    assert "custom-wrong" in html
    assert "<script" not in html
    assert "<img" not in html
    assert visit.submit("next", layout="custom", custom=text).status_code == 400


def test_a_kept_disk_stays_kept_whatever_the_text_says(project: Project, image: Image, key: SSHKey) -> None:
    visit = at_disks(project, image)
    kept = visit.server.facts().disks[1]
    install = finish(visit, key, layout="custom", custom=HOME, disk=[f"keep:{kept.identity}"])
    assert install.plan().erased == ("/dev/vda",)
    assert [disk.path for disk in install.plan().kept if disk.asked] == ["/dev/vdb"]


def test_a_disk_to_use_is_used_where_the_text_names_none(project: Project, image: Image, key: SSHKey) -> None:
    visit = at_disks(project, image)
    chosen = visit.server.facts().disks[1]
    install = finish(visit, key, layout="custom", custom=HOME, disk=[f"use:{chosen.identity}"])
    assert install.plan().erased == ("/dev/vdb",)


def test_beginning_again_keeps_what_was_typed(visit: Visit) -> None:
    visit.submit("begin:raid1", layout="custom", custom="half a tho")
    assert '"raid": "raid1"' in visit.value("custom")
    visit.submit("begin:back", layout="custom", custom=visit.value("custom"))
    assert visit.value("custom") == "half a tho"


def test_a_cleared_text_is_not_filled_again_behind_ones_back(visit: Visit) -> None:
    visit.submit("disks", layout="custom", custom="")
    assert visit.value("custom") == ""
    assert "Nothing is written here." in visit.words


def test_a_stranger_draws_nothing(visit: Visit) -> None:
    stranger = Client()
    stranger.force_login(make_user(projects=[make_project()]))
    assert stranger.post(f"{visit.url}layout/", {"custom": HOME}).status_code == 404
    assert visit.client.get(f"{visit.url}layout/").status_code == 405


# --- encryption


def test_everything_but_boot_is_encrypted_and_a_passphrase_is_made(visit: Visit, key: SSHKey) -> None:
    install = finish(visit, key, layout="raid1", encrypt="1")
    plan = install.plan()
    assert {one.device for one in plan.filesystems if one.mount != "/boot"} <= {one.path for one in plan.containers}
    assert {one.mount for one in plan.filesystems} == {"/", "/boot"}
    assert install.disk_passphrase
    assert install.state().passphrase == "made"
    assert "Show the passphrase once" in visit.words


def test_a_given_passphrase_is_sealed_and_on_no_page(visit: Visit, key: SSHKey) -> None:
    typed = {"layout": "raid1", "encrypt": "1", "passphrase_by": "me", "passphrase": "seven wise words"}
    visit.submit("next", **typed)
    visit.submit("disks")
    assert "seven wise words" not in visit.html
    assert "kept sealed" in visit.html
    install = finish(visit, key, **{**typed, "passphrase": ""})
    assert install.disk_passphrase
    assert install.disk_passphrase.reveal() == "seven wise words"
    assert install.state().passphrase == "given"
    assert "seven wise words" not in visit.html
    stored = json.dumps([[row.data for row in Event.objects.all()], install.layout, install.approved_plan])
    assert "seven wise words" not in stored


def test_a_draft_holds_its_secrets_sealed(visit: Visit) -> None:
    visit.submit("next", layout="raid1", encrypt="1", passphrase_by="me", passphrase="seven wise words")
    (session,) = Session.objects.all()
    draft = session.get_decoded()[f"reinstall.{visit.server.pk}"]
    assert draft["passphrase"]
    assert "wise" not in json.dumps(session.get_decoded())


def test_no_command_in_the_review_shows_the_passphrase(visit: Visit, key: SSHKey) -> None:
    visit.submit("next", layout="raid1", encrypt="1", passphrase_by="me", passphrase="seven wise words")
    visit.submit("next", hostname="web-14", keys=[key.pk])
    assert "cryptsetup" in visit.words
    assert "wise" not in visit.html


@pytest.mark.parametrize(
    ("passphrase", "why"),
    [("", "Type the passphrase"), ("short", "has 5 characters"), ("größer als gedacht", "that the console")],
)
def test_a_passphrase_that_will_not_do_is_refused_beside_its_field(visit: Visit, passphrase: str, why: str) -> None:
    fields = {"layout": "raid1", "encrypt": "1", "passphrase_by": "me", "passphrase": passphrase}
    assert visit.submit("next", **fields).status_code == 400
    assert why in visit.error("passphrase")


def test_a_passphrase_is_not_asked_for_where_nothing_is_encrypted(visit: Visit, key: SSHKey) -> None:
    install = finish(visit, key, layout="raid1", passphrase_by="me", passphrase="short")
    assert not install.disk_passphrase
    assert install.state().passphrase == ""


def test_an_encrypted_part_of_a_written_layout_needs_a_passphrase_too(visit: Visit, key: SSHKey) -> None:
    text = HOME.replace('"rest"', '"rest", "encrypted": true')
    assert visit.submit("next", layout="custom", custom=text, passphrase_by="me", passphrase="").status_code == 400
    install = finish(visit, key, layout="custom", custom=text)
    assert install.state().passphrase == "made"


# --- secure erase


def test_destroying_the_old_data_is_part_of_the_plan(visit: Visit, key: SSHKey) -> None:
    assert "SSDs by a command of their own" in visit.words or "hard disks by overwriting" in visit.words
    assert finish(visit, key, layout="raid1", secure_erase="1").plan().secure_erase


def test_the_page_says_how_long_overwriting_takes(project: Project, image: Image) -> None:
    disks = [make_disk(f"/dev/sd{c}", size=16 * 10**12, rotational=True) for c in "ab"]
    assert "hard disks by overwriting all of them, here in about 28 hours" in at_disks(project, image, disks).words

"""The catalogue, adding an image, and the licences."""

import hashlib
import html
import io
import json
import re
import tarfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role
from accounts.secret import Secret
from deploy.models import Install
from images import catalogue
from images.found import Found
from images.models import Image, ImageState, Licence
from images.store import public_source
from tests.builders import make_image, make_install, make_project, make_server, make_user
from tests.pages import browser, forbidden_parts, queries, text

pytestmark = pytest.mark.django_db

TODAY = date(2026, 11, 23)


def admin() -> Client:
    return browser(make_user(Role.ADMIN))


def installed(image: Image, *statuses: str, days_ago: int = 1) -> None:
    """Installs of the image that ended like that: the column is set straight, which is enough for statistics."""
    for status in statuses:
        install = make_install(make_server(), image=image)
        created = timezone.now() - timedelta(days=days_ago)
        Install.objects.filter(pk=install.pk).update(status=status, created_at=created)


# --- who sees what


def test_customers_see_what_is_offered_to_them_and_nothing_else() -> None:
    mine, other = make_project("Acme"), make_project("Blue")
    shown = [make_image(name="Everybody's"), make_image(name="Acme's own", project=mine)]
    hidden = [
        make_image(name="Blue's own", project=other),
        make_image(name="A candidate", state=ImageState.CANDIDATE),
        make_image(name="A retired one", state=ImageState.RETIRED),
    ]
    client = browser(make_user(projects=[mine]))
    page = text(client, "/images/")
    for image in shown:
        assert image.name.replace("'", "&#x27;") in page
        text(client, image.get_absolute_url())
    for image in hidden:
        assert image.name.replace("'", "&#x27;") not in page
        text(client, image.get_absolute_url(), 404)
    assert "No image is like that" in text(client, "/images/?state=candidate")


def test_ops_see_retired_images_too_and_candidates_are_for_admins() -> None:
    retired, candidate = make_image(state=ImageState.RETIRED), make_image(state=ImageState.CANDIDATE)
    for role, status in ((Role.OPS, 404), (Role.ADMIN, 200)):
        client = browser(make_user(role))
        text(client, retired.get_absolute_url())
        text(client, candidate.get_absolute_url(), status)


def test_who_is_no_admin_can_change_nothing() -> None:
    image = make_image()
    licence = Licence.objects.create(name="Red Hat", kind="rhel")
    for role in (Role.CUSTOMER, Role.OPS):
        client = browser(make_user(role))
        for url in (
            "/images/add/",
            f"/images/{image.pk}/edit/",
            "/licences/",
            "/licences/add/",
            f"/licences/{licence.pk}/",
        ):
            text(client, url, 404)
            assert client.post(url, {"name": "x"}).status_code in (404, 405)
        assert client.post(f"/images/{image.pk}/state/", {"state": "retired"}).status_code == 404
        page = text(client, image.get_absolute_url())
        assert "Kept at" not in page
        assert "/edit/" not in page
    assert Image.objects.get().state == ImageState.OFFERED


def test_whoever_is_not_logged_in_sees_nothing() -> None:
    for url in ("/images/", make_image().get_absolute_url(), "/licences/", "/images/add/"):
        assert browser().get(url)["Location"].startswith("/login/?next=")


# --- the catalogue


def test_an_empty_catalogue_says_what_to_do_first() -> None:
    assert "Add the first one" in text(admin(), "/images/")
    assert "No image is offered yet" in text(browser(make_user()), "/images/")
    assert "No licence yet" in text(admin(), "/licences/")


def test_the_success_rate_counts_what_finished_in_the_last_thirty_days() -> None:
    image = make_image()
    installed(image, "succeeded", "succeeded", "failed", "cancelled", "running")
    installed(image, "failed", "failed", days_ago=31)
    row = catalogue.row_of(catalogue.with_statistics(Image.objects.all()).get(), TODAY)
    assert (row.installs, row.succeeded, row.failed, row.rate) == (5, 2, 1, 66)
    assert "66 % succeeded" in text(browser(make_user()), "/images/")


def test_an_image_without_finished_installs_has_no_rate() -> None:
    image = make_image()
    installed(image, "running", "cancelled")
    assert catalogue.row_of(catalogue.with_statistics(Image.objects.all()).get(), TODAY).rate is None
    assert "%" not in text(browser(make_user()), image.get_absolute_url()).partition("Succeeded")[2]


def test_one_failure_in_a_thousand_is_not_a_hundred_percent() -> None:
    assert catalogue.CatalogueRow(make_image(), 1000, 999, 1, "").rate == 99


def test_images_stand_by_family_newest_version_first() -> None:
    for flavour in ("rhel-7", "debian-12", "rhel-8", "debian-12"):
        make_image(flavour=flavour)
    titles = [family.title for family in catalogue.families(catalogue.with_statistics(Image.objects.all()), TODAY)]
    assert titles == ["Debian 12", "Red Hat Enterprise Linux 8", "Red Hat Enterprise Linux 7"]


@pytest.mark.parametrize("days, ends", [(-1, "past"), (0, "past"), (1, "soon"), (90, "soon"), (91, ""), (None, "")])
def test_the_end_of_life_is_told_in_time(days: int | None, ends: str) -> None:
    image = make_image(end_of_life=None if days is None else TODAY + timedelta(days=days))
    assert catalogue.row_of(catalogue.with_statistics(Image.objects.filter(pk=image.pk)).get(), TODAY).ends == ends


def test_an_image_is_found_by_name_flavour_and_checksum() -> None:
    image, other = make_image(name="Debian 12"), make_image(name="RHEL 8.10", flavour="rhel-8")
    client = browser(make_user())
    for q in ("debian", "debian-12", image.sha256[:12].upper(), "Debian 12"):
        page = text(client, f"/images/?q={q}")
        assert image.get_absolute_url() in page, q
        assert other.get_absolute_url() not in page, q
    assert "No image is like that" in text(client, "/images/?q=%00<script>x")


def test_what_an_image_says_of_itself_is_escaped() -> None:
    image = make_image(capabilities={"root": {"label": "<script>alert(1)</script>"}, "<b>": ["<i>"], "none": None})
    page = text(admin(), image.get_absolute_url())
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_the_queries_of_a_page_do_not_grow_with_its_rows() -> None:
    client, image = admin(), make_image()
    Licence.objects.create(name="Red Hat", kind="rhel", activation_key=Secret("ak"))
    urls = ("/images/", image.get_absolute_url(), "/licences/")
    before = [queries(client, url) for url in urls]
    installed(image, *["succeeded"] * 4)
    for number in range(4):
        make_image(licence=Licence.objects.create(name=f"Red Hat {number}", kind="rhel", activation_key=Secret("ak")))
    assert [queries(client, url) for url in urls] == before


def test_no_page_needs_what_the_content_security_policy_forbids() -> None:
    image, client = make_image(end_of_life=date(2020, 1, 1)), admin()
    licence = Licence.objects.create(name="Red Hat", kind="rhel")
    for url in ("/images/", "/images/add/", image.get_absolute_url(), f"/images/{image.pk}/edit/", "/licences/",
                "/licences/add/", f"/licences/{licence.pk}/"):  # fmt: skip
        assert forbidden_parts(text(client, url)) == []


# --- changing an image


def edit(image: Image, **changes: Any) -> dict[str, Any]:
    """The form of an image as it would be sent back."""
    return {"name": image.name, "flavour": image.flavour, "licence": "", "project": "", "state": image.state,
            "end_of_life": "", **changes}  # fmt: skip


def test_an_image_is_retired_and_offered_again() -> None:
    client, image = admin(), make_image()
    for state in ("retired", "offered"):
        assert client.post(f"/images/{image.pk}/state/", {"state": state})["Location"] == image.get_absolute_url()
        assert Image.objects.get().state == state
    client.post(f"/images/{image.pk}/state/", {"state": "nonsense"})
    assert Image.objects.get().state == "offered"
    assert client.get(f"/images/{image.pk}/state/").status_code == 405


def test_what_the_file_says_of_itself_is_not_changed_by_a_form() -> None:
    client, image = admin(), make_image()
    done = client.post(
        f"/images/{image.pk}/edit/", edit(image, name="Debian 12, new", sha256="0" * 64, path="/etc/shadow")
    )
    assert done.status_code == 302
    image.refresh_from_db()
    assert image.name == "Debian 12, new"
    assert image.sha256 != "0" * 64
    assert image.path != "/etc/shadow"


@pytest.mark.parametrize(
    "field, value",
    [("name", ""), ("name", "x" * 200), ("name", "taken"), ("name", "Taken"), ("flavour", ""),
     ("flavour", "windows-11"), ("flavour", "rhel-8"), ("licence", "99"), ("project", "x"), ("state", "sold"),
     ("state", "own"), ("end_of_life", "tomorrow"), ("end_of_life", "2026-02-30")],
)  # fmt: skip
def test_odd_input_about_an_image_is_refused_with_a_sentence(field: str, value: str) -> None:
    make_image(name="taken")
    image = make_image(name="Debian 12")
    page = admin().post(f"/images/{image.pk}/edit/", edit(image, **{field: value}))
    assert page.status_code == 400
    assert "field-error" in page.content.decode()
    assert Image.objects.get(pk=image.pk).name == "Debian 12"


def test_nobody_can_make_an_image_of_the_catalogue_a_customers_own() -> None:
    image = make_image(state=ImageState.OFFERED)
    assert 'value="own"' not in text(admin(), f"/images/{image.pk}/edit/")
    assert 'value="own"' not in text(admin(), "/images/")
    admin().post(f"/images/{image.pk}/edit/", edit(image, state="own"))
    assert Image.objects.get(pk=image.pk).state == ImageState.OFFERED


def test_what_an_image_can_and_asks_is_edited_and_shown_back() -> None:
    client, image = admin(), make_image(capabilities={"partition_table": "gpt", "raid": ["raid1"]})
    questions = [
        {"name": "admin_mail", "type": "text", "mandatory": True, "help": "Where alarms go."},
        {"name": "size", "type": "choice", "default": "small", "choices": ["small", "large"]},
    ]
    said = {
        "filesystems": ["ext4", "xfs"],
        "raid": ["raid1", "raid10"],
        "lacks": ["lvm2"],
        "inputs": json.dumps(questions),
    }
    assert client.post(f"/images/{image.pk}/edit/", edit(image, **said)).status_code == 302
    assert Image.objects.get().capabilities == {
        "partition_table": "gpt", "filesystems": ["ext4", "xfs"], "raid": ["raid1", "raid10"], "lvm": False,
        "inputs": questions,
    }  # fmt: skip
    page = text(client, image.get_absolute_url())
    for words in ("Admin mail", "LANDFALL_INPUT_ADMIN_MAIL", "Where alarms go.", "small, large", "RAID1, RAID10",
                  "none: it has no lvm2", "ext4, xfs"):  # fmt: skip
        assert words in page
    form = text(client, f"/images/{image.pk}/edit/")
    assert re.search(r'value="raid10"[^>]* checked', form)
    assert not re.search(r'value="raid5"[^>]* checked', form)
    assert "&quot;admin_mail&quot;" in form


def test_the_example_of_a_question_is_shown_whole() -> None:
    page = text(admin(), f"/images/{make_image().pk}/edit/")
    assert html.escape('[{"name": "admin_mail"') in page


def test_what_is_not_said_of_an_image_is_as_its_flavour_has_it() -> None:
    client, image = admin(), make_image(capabilities={"filesystems": ["xfs"], "raid": [], "lvm": False})
    client.post(f"/images/{image.pk}/edit/", edit(image))
    assert Image.objects.get().capabilities == {}


def test_an_image_without_mdadm_has_no_raid_level() -> None:
    client, image = admin(), make_image()
    client.post(f"/images/{image.pk}/edit/", edit(image, lacks=["mdadm"]))
    assert Image.objects.get().capabilities == {"raid": []}
    assert client.post(f"/images/{image.pk}/edit/", edit(image, lacks=["mdadm"], raid=["raid1"])).status_code == 400


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("inputs", "{", "no JSON: line 1"), ("inputs", '[{"name": "A"}]', "Question 1 (A): its name"),
        ("inputs", '[{"name": "a", "type": "secret", "default": "x"}]', "everybody would read it"),
        ("raid", "raid7", "raid7"), ("filesystems", "ntfs", "ntfs"), ("lacks", "everything", "everything"),
    ],
)  # fmt: skip
def test_what_an_image_cannot_be_said_to_do_is_refused_and_stays_in_the_form(
    field: str, value: str, words: str
) -> None:
    image = make_image()
    page = admin().post(f"/images/{image.pk}/edit/", edit(image, **{field: value}))
    assert page.status_code == 400
    assert words in html.unescape(page.content.decode())
    assert Image.objects.get().capabilities == {}


def test_the_catalogue_says_what_was_tested_here_and_what_was_not() -> None:
    client = admin()
    tested, untested = make_image(), make_image(flavour="rhel-8")
    for url in ("/images/", untested.get_absolute_url()):
        assert "untested here" in text(client, url)
    assert "untested here" not in text(client, tested.get_absolute_url())


def test_an_image_at_its_end_of_life_says_what_that_means() -> None:
    client, today = admin(), timezone.now().date()
    assert "cannot be installed any more" in text(client, make_image(end_of_life=today).get_absolute_url())
    assert "is near" in text(client, make_image(end_of_life=today + timedelta(days=1)).get_absolute_url())


# --- adding an image


def test_an_image_is_added_by_its_sha512_too(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    sha512 = hashlib.sha512(path.read_bytes()).hexdigest()
    shown = client.post("/images/add/", {"source": str(path), "checksum": f"{sha512}  {path.name}"}).content.decode()
    assert sha512 in shown
    assert 'value="2028-06-30"' in shown
    client.post("/images/add/", {"found": token_in(shown), "name": "x", "flavour": "debian-12", "state": "candidate"})
    assert Image.objects.get().sha256 == sha256
    wrong = client.post("/images/add/", {"source": str(path), "checksum": "0" * 128})
    assert "SHA-512" in wrong.content.decode()
    assert wrong.status_code == 400


def test_a_tarball_is_added_with_the_flavour_that_it_says_it_is(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("etc/os-release")
        member.size = len(release := b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n')
        tar.addfile(member, io.BytesIO(release))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    shown = admin().post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode()
    assert '<option value="debian-12" selected>' in shown
    assert "tarball" in shown


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Path:
    """An image store of the test's own."""
    settings.LANDFALL_IMAGES_DIR = tmp_path / "store"
    return tmp_path / "store"


def a_file(folder: Path, name: str = "debian-12-test.raw") -> tuple[Path, str]:
    """A disk of 1 MiB with an MBR that has no partitions, and its SHA-256."""
    content = b"\0" * 510 + b"\x55\xaa" + b"\0" * (2**20 - 512)
    path = folder / name
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def token_in(page: str) -> str:
    return page.partition('name="found" value="')[2].partition('"')[0]


def test_an_image_is_shown_from_inside_before_it_is_saved(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    page = client.post("/images/add/", {"source": str(path), "checksum": f"{sha256.upper()}  {path.name}"})
    assert page.status_code == 200
    shown = page.content.decode()
    assert "What is inside" in shown
    assert "RAW" in shown
    assert '<option value="debian-12" selected>' in shown
    assert not Image.objects.exists()
    wish = {"found": token_in(shown), "name": "Debian 12", "flavour": "debian-12", "state": "candidate"}
    assert client.post("/images/add/", wish | {"name": ""}).status_code == 400
    done = client.post("/images/add/", wish)
    image = Image.objects.get()
    assert done["Location"] == image.get_absolute_url()
    assert (image.sha256, image.size, image.format, image.source) == (sha256, 2**20, "raw", str(path))
    assert (store / image.path).read_bytes() == path.read_bytes()


def test_a_file_whose_system_is_at_its_end_of_life_is_told_so_before_it_is_entered(tmp_path: Path, store: Path) -> None:
    path, sha256 = a_file(tmp_path, "rhel-7.9-test.raw")
    page = admin().post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode()
    assert "Red Hat Enterprise Linux 7 has reached its end of life, on 2024-06-30" in page
    path, sha256 = a_file(tmp_path, "debian-13-test.raw")
    assert (
        "end of life, on"
        not in admin().post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode()
    )


def test_a_file_that_is_thrown_away_is_gone_from_the_store(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    page = client.post("/images/add/", {"source": str(path), "checksum": sha256})
    assert (store / sha256).exists()
    client.post("/images/add/", {"found": token_in(page.content.decode()), "discard": "1"})
    assert not (store / sha256).exists()
    assert not Image.objects.exists()


def test_throwing_away_spares_a_file_that_the_catalogue_has_meanwhile(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    token = token_in(client.post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode())
    make_image(sha256=sha256, path=sha256)
    client.post("/images/add/", {"found": token, "discard": "1"})
    assert (store / sha256).exists()


def test_a_file_that_the_catalogue_has_leads_to_its_entry(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    token = token_in(client.post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode())
    known = make_image(sha256=sha256)
    for posted in ({"source": str(path), "checksum": sha256}, {"found": token, "name": "x", "flavour": "debian-12"}):
        assert client.post("/images/add/", posted)["Location"] == known.get_absolute_url()


def test_nobody_but_us_can_say_what_was_found(store: Path) -> None:
    found = {"source": "/x", "sha256": "0" * 64, "format": "raw", "size": 1, "virtual_size": 1, "root_bytes": 1,
             "capabilities": {}}  # fmt: skip
    client = admin()
    for token in (
        "",
        "forged",
        "a:b:c",
        signing.dumps(found, salt="other"),
        signing.dumps({"x": 1}, salt="images.found"),
    ):
        done = client.post("/images/add/", {"found": token, "name": "x", "flavour": "debian-12", "state": "offered"})
        assert done["Location"] == "/images/add/"
    assert not Image.objects.exists()
    assert Found.from_token(Found(**found).token()) == Found(**found)


@pytest.mark.parametrize(
    "source, sha256",
    [("", "0" * 64), ("relative/path", "0" * 64), ("ftp://h/x", "0" * 64), ("file:///etc/passwd", "0" * 64),
     ("/nowhere/at/all", "0" * 64), ("/", "0" * 64), ("/dev/null", "0" * 64), ("/etc/passwd", "0" * 64),
     ("http://", "0" * 64), ("http://[::1", "0" * 64), ("https://h:99999/x", "0" * 64), ("http://a b/x", "0" * 64),
     ("http://\U0001f642.example/x", "0" * 64), ("/x", "short"), ("/x", ""), ("/x", "z" * 64),
     ("/x\0y", "0" * 64), ("/" + "x" * 2000, "0" * 64), ("/" + "x" * 900, "0" * 64)],
)  # fmt: skip
def test_odd_sources_are_refused_with_a_sentence_and_leave_nothing(store: Path, source: str, sha256: str) -> None:
    page = admin().post("/images/add/", {"source": source, "checksum": sha256})
    assert page.status_code == 400
    assert "field-error" in page.content.decode()
    assert not store.exists() or list(store.iterdir()) == []


def test_a_file_that_is_no_disk_or_has_another_checksum_is_refused(tmp_path: Path, store: Path) -> None:
    client, (path, sha256) = admin(), a_file(tmp_path)
    assert (
        "not " + "0" * 64 in client.post("/images/add/", {"source": str(path), "checksum": "0" * 64}).content.decode()
    )
    path.write_bytes(b"<html>not found</html>")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "web page" in client.post("/images/add/", {"source": str(path), "checksum": sha256}).content.decode()
    assert list(store.iterdir()) == []


def test_a_password_in_an_address_is_not_kept() -> None:
    assert public_source("https://me:secret@cloud.example/x.qcow2?signature=1") == "https://cloud.example/x.qcow2"


# --- licences


def licence_form(**changes: Any) -> dict[str, Any]:
    return {"name": "Red Hat", "kind": "rhel", "organisation": "1234567", "new_activation_key": "ak-secret", **changes}


def test_a_licence_key_is_written_and_never_shown() -> None:
    client = admin()
    assert client.post("/licences/add/", licence_form())["Location"] == "/licences/"
    licence = Licence.objects.get()
    assert licence.activation_key.reveal() == "ak-secret"
    for url in ("/licences/", f"/licences/{licence.pk}/"):
        assert "ak-secret" not in text(client, url)
    client.post(f"/licences/{licence.pk}/", licence_form(name="Red Hat 2", new_activation_key=""))
    licence = Licence.objects.get()
    assert (licence.name, licence.activation_key.reveal()) == ("Red Hat 2", "ak-secret")
    client.post(f"/licences/{licence.pk}/", licence_form(new_activation_key="fresh"))
    assert Licence.objects.get().activation_key.reveal() == "fresh"


def test_a_mistake_does_not_send_the_key_back_into_the_page() -> None:
    page = admin().post("/licences/add/", licence_form(name=""))
    assert page.status_code == 400
    assert "ak-secret" not in page.content.decode()


@pytest.mark.parametrize(
    "field, value",
    [("name", ""), ("name", "x" * 101), ("kind", "windows"), ("kind", ""), ("organisation", ""),
     ("organisation", "9" * 200), ("organisation", "-5"), ("organisation", "1 \U0001f642"),
     ("new_activation_key", "a\nb"), ("new_activation_key", ""), ("new_activation_key", "k" * 300), ("name", "a\0b")],
)  # fmt: skip
def test_odd_input_about_a_licence_is_refused_with_a_sentence(field: str, value: str) -> None:
    page = admin().post("/licences/add/", licence_form(**{field: value}))
    assert page.status_code == 400
    assert "field-error" in page.content.decode()
    assert not Licence.objects.exists()


def test_a_key_that_is_too_long_is_not_called_missing() -> None:
    page = admin().post("/licences/add/", licence_form(new_activation_key="k" * 300)).content.decode()
    assert "at most 200" in page
    assert "needs an activation key" not in page


def test_bring_your_own_needs_neither_organisation_nor_key() -> None:
    admin().post("/licences/add/", licence_form(kind="byol", organisation="", new_activation_key=""))
    assert Licence.objects.get().kind == "byol"


def test_a_key_that_cannot_be_unsealed_can_be_replaced() -> None:
    licence = Licence.objects.create(name="Red Hat", kind="rhel", organisation="1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE images_licence SET activation_key = 'gAAAAABlost' WHERE id = %s", [licence.pk])
    client = admin()
    assert "stored, sealed" in text(client, "/licences/")
    assert client.post(f"/licences/{licence.pk}/", licence_form(new_activation_key="fresh")).status_code == 302
    assert Licence.objects.get().activation_key.reveal() == "fresh"

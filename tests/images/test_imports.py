"""Imports from an address: in the background, followed by a page, finished whoever dies."""

import hashlib
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role
from images import imports
from images.imports import LEASE, Importer, ask, claim
from images.models import Image, Import, ImportState
from tests.builders import make_user
from tests.images.disks import MIB
from tests.images.web import Site, site
from tests.pages import browser, text

pytestmark = pytest.mark.django_db

DISK = b"\0" * 510 + b"\x55\xaa" + b"\0" * (2 * MIB - 512)
SHA256 = hashlib.sha256(DISK).hexdigest()
NAME = "/debian-12.raw"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Settings) -> Path:
    settings.LANDFALL_IMAGES_DIR = tmp_path / "store"
    return tmp_path / "store"


@pytest.fixture
def admin() -> Client:
    return browser(make_user(Role.ADMIN, name="root"))


def begin(client: Client, web: Site, path: str = NAME, checksum: str = SHA256) -> Import:
    """The import that the form asks for."""
    done = client.post("/images/add/", {"source": web.url(path), "checksum": checksum})
    row = Import.objects.get()
    assert done["Location"] == row.get_absolute_url()
    return row


def follow(client: Client, row: Import) -> tuple[str, bool]:
    """What the page's own request is answered with, and whether it is to be loaded anew."""
    done = client.get(row.get_absolute_url(), headers={"HX-Request": "true"})
    return done.content.decode(), "HX-Refresh" in done


def test_a_file_is_fetched_in_the_background_and_then_described(admin: Client, store: Path) -> None:
    with site({NAME: DISK}) as web:
        row = begin(admin, web, path=f"{NAME}?signature=hunter2")
        assert "Waiting to be fetched" in follow(admin, row)[0]
        assert web.asked == []
        assert Importer().work_once()
    assert follow(admin, row)[1]
    page = text(admin, row.get_absolute_url())
    assert "What is inside" in page
    assert "hunter2" not in page
    token = page.partition('name="found" value="')[2].partition('"')[0]
    wish = {"found": token, "name": "Debian 12", "flavour": "debian-12", "state": "candidate"}
    admin.post("/images/add/", wish)
    assert Image.objects.get().sha256 == SHA256
    assert [path.name for path in store.iterdir()] == [SHA256]
    assert not Import.objects.exists()


def test_a_file_that_is_here_waits_in_the_catalogue_to_be_described_or_thrown_away(admin: Client, store: Path) -> None:
    with site({NAME: DISK}) as web:
        row = begin(admin, web)
        Importer().work_once()
    assert "Here: say what it is" in text(admin, "/images/")
    assert "Being added" not in text(browser(make_user()), "/images/")
    token = text(admin, row.get_absolute_url()).partition('name="found" value="')[2].partition('"')[0]
    admin.post("/images/add/", {"found": token, "discard": "1"})
    assert not Import.objects.exists()
    assert list(store.iterdir()) == []


def test_the_catalogue_says_how_much_of_a_file_has_come(admin: Client) -> None:
    row = imports.ask("https://cloud.example/disk.raw", f"sha256:{SHA256}", "anna")
    Import.objects.filter(pk=row.pk).update(state=ImportState.RUNNING, done=3 * 2**20, total=12 * 2**20)
    assert "25 %" in text(admin, "/images/")
    assert "25 %, 3 MiB of 12 MiB" in text(admin, row.get_absolute_url())


@pytest.mark.parametrize(
    ("path", "checksum", "words"),
    [("/gone", SHA256, "404"), (NAME, "0" * 64, "not " + "0" * 64), (NAME, "0" * 128, "SHA-512"),
     ("/page.raw", hashlib.sha256(b"<html>").hexdigest(), "web page")],
)  # fmt: skip
def test_what_was_refused_says_why_and_leaves_nothing(
    path: str, checksum: str, words: str, admin: Client, store: Path
) -> None:
    with site({NAME: DISK, "/page.raw": b"<html>"}) as web:
        row = begin(admin, web, path, checksum)
        Importer().work_once()
    assert follow(admin, row)[1]
    assert words in text(admin, row.get_absolute_url())
    assert list(store.iterdir()) == []
    admin.post(row.get_absolute_url())
    assert not Import.objects.exists()


@pytest.mark.parametrize("path", ["/gone?signature=hunter2", "/cut?signature=hunter2", "/moved?signature=hunter2"])
def test_no_refusal_repeats_what_may_be_secret_in_an_address(path: str, admin: Client, store: Path) -> None:
    with site({"/cut": DISK, "/moved": "ftp://cloud.example/disk?signature=hunter2"}) as web:
        web.lie = 10
        row = begin(admin, web, path)
        Importer().work_once()
    row.refresh_from_db()
    assert row.state == ImportState.REFUSED
    assert path.partition("?")[0] in row.message
    assert "hunter2" not in row.message
    assert "hunter2" not in text(admin, row.get_absolute_url())


def test_the_address_is_sealed_and_forgotten_when_it_has_done_its_work(admin: Client) -> None:
    with site({NAME: DISK}) as web:
        row = begin(admin, web, path=f"{NAME}?signature=hunter2")
        assert row.url
        assert row.url.reveal().endswith("signature=hunter2")
        assert "hunter2" not in row.shown_url
        Importer().work_once()
    row = Import.objects.get()
    assert row.state == ImportState.FOUND
    assert not row.url


def test_who_takes_an_import_back_stops_it(admin: Client, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "TELL_EVERY", 0)
    with site({NAME: DISK}) as web:
        row = begin(admin, web)
        taken = claim("me", timezone.now())
        assert taken is not None
        imports.take_back(row)
        mine = imports._Claimed(taken, "me", threading.Event())
        with pytest.raises(imports.Stopped):
            mine.progress(1, 2)
    assert not Import.objects.exists()


def test_an_importer_that_is_stopped_lets_go(admin: Client, store: Path) -> None:
    with site({NAME: DISK}) as web:
        begin(admin, web)
        importer = Importer()
        importer.stop()
        importer.work_once()
        row = Import.objects.get()
        assert (row.state, row.lease_worker) == (ImportState.QUEUED, "")
        Importer().work_once()
    assert Import.objects.get().state == ImportState.FOUND


def test_each_import_has_one_importer_until_that_one_is_dead() -> None:
    row = ask("http://127.0.0.1:9/x", f"sha256:{SHA256}", "root")
    now = timezone.now()
    assert claim("one", now) == row
    assert claim("two", now + LEASE) is None
    assert claim("two", now + LEASE + timedelta(seconds=1)) == row
    late = imports._Claimed(row, "one", threading.Event())
    assert not late.write(done=5)
    assert Import.objects.get().lease_worker == "two"


def test_an_import_whose_address_cannot_be_unsealed_is_refused() -> None:
    ask("http://127.0.0.1:9/x", f"sha256:{SHA256}", "root")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE images_import SET url = 'gAAAAABlost'")
    assert Importer().work_once()
    assert Import.objects.get().state == ImportState.REFUSED


def test_nobody_but_admins_sees_an_import() -> None:
    row = ask("http://127.0.0.1:9/x", f"sha256:{SHA256}", "root")
    for role in (Role.CUSTOMER, Role.OPS):
        client = browser(make_user(role))
        assert client.get(row.get_absolute_url()).status_code == 404
        assert client.post(row.get_absolute_url()).status_code == 404
    assert Import.objects.exists()

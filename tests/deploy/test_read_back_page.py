"""What was read back of the disks, on the page of the install; and how the image came onto them."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Role
from deploy.certificate import Certificate, Finding
from deploy.events import Kind
from deploy.models import Install
from images.models import Publication, PublicationState
from tests.builders import make_image, make_install, make_user
from tests.deploy.histories import Past, installed
from tests.deploy.test_install_page import text

pytestmark = pytest.mark.django_db

GOOD = (
    Finding("partitions", "/dev/vda1", "ESP of 512 MiB at 1 MiB", "the same", True),
    Finding("filesystems", "/", "ext4 on /dev/md/root", "the same", True),
    Finding("arrays", "/dev/md/root", "RAID1 of 2", "the same", True),
)
BAD = Finding("running", "/srv <b>", "mounted from /dev/md/srv", "not mounted", False)


def page(install: Install) -> str:
    client = Client()
    client.force_login(make_user(Role.OPS))
    return client.get(install.get_absolute_url()).content.decode()


def certified(*findings: Finding) -> Install:
    """An install that succeeded, with this certificate."""
    install = make_install()
    Past(install).through(certificate=Certificate(findings).to_json())
    return install


def words(html: str) -> str:
    return text(html.encode())


def test_all_facts_that_agree_are_folded_to_a_sentence() -> None:
    html = page(certified(*GOOD))
    assert "What is on the disks now, read back all 3 facts are as planned" in words(html)
    assert 'class="fold read-back">' in html


def test_each_fact_is_shown_with_what_was_planned_in_the_order_of_the_disks() -> None:
    said = words(page(certified(*GOOD)))
    places = [
        said.index(part) for part in ("Partitions", "ESP of 512 MiB", "RAID arrays", "RAID1 of 2", "File systems")
    ]
    assert places == sorted(places)


def test_what_was_found_is_shown_of_a_fact_that_is_fine() -> None:
    loader = Finding("boot", "/boot/efi", "a boot loader, /EFI/BOOT/BOOTX64.EFI", f"SHA-256 {'5e' * 32}", True)
    card = Finding("network", "6.1.0", "drivers of the network cards", "all but bnx2, which this server", True)
    said = words(page(certified(*GOOD, card, loader)))
    places = [said.index(part) for part in ("Drivers of network cards", "all but bnx2", "firmware starts from", "5e5e")]
    assert places == sorted(places)
    assert "all 5 facts are as planned" in said


def test_a_fact_that_differs_opens_it_and_is_marked() -> None:
    html = page(certified(*GOOD, BAD))
    assert 'class="fold read-back is-wrong" open>' in html
    assert "1 of 4 facts is not as planned" in words(html)
    assert "/srv &lt;b&gt;" in html
    assert "not mounted" in html


def test_an_install_of_a_former_version_has_none() -> None:
    assert "read back" not in page(installed())


@pytest.mark.parametrize("odd", [{}, {"findings": None}, {"findings": [{}]}, {"findings": ["x"]}, "x"])
def test_odd_certificates_get_a_page(odd: Any) -> None:
    install = make_install()
    Past(install).through(certificate=odd)
    assert "You can log in." in words(page(install))


def test_an_install_that_failed_by_it_shows_it() -> None:
    install = make_install()
    past = Past(install)
    past.until("reboot")
    past.event(Kind.READ_BACK, step="reboot", attempt=1, certificate=Certificate((*GOOD, BAD)).to_json())
    past.fail("reboot")
    assert "1 of 4 facts is not as planned" in words(page(install))


# --- how the image came onto the disks


def test_the_page_says_how_the_image_was_copied() -> None:
    assert "Copied file by file, with rsync" in words(page(installed()))


def test_an_image_that_was_published_before_came_as_a_stream() -> None:
    image = make_image()
    Publication.objects.create(
        image=image, state=PublicationState.DONE, requested_at=timezone.now(), sha256="ab" * 32,
        ended_at=timezone.now() - timedelta(days=1),
    )  # fmt: skip
    assert "Copied as one stream from https://mirror.example.org" in words(
        page(installed(image=image, mirror="https://mirror.example.org"))
    )


def test_an_image_that_was_published_later_did_not() -> None:
    image = make_image()
    install = installed(image=image)
    Publication.objects.create(
        image=image, state=PublicationState.DONE, requested_at=timezone.now(), sha256="ab" * 32,
        ended_at=timezone.now(),
    )  # fmt: skip
    assert "with rsync" in words(page(install))

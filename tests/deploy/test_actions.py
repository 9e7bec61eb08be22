"""What people can ask for, and the sentence with which it is refused."""

import json
from datetime import date
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Role, User
from accounts.secret import Secret
from deploy import actions, journal
from deploy.actions import InstallRequest, Refused, cancel, preview, request_install, retry
from deploy.events import Kind, Status
from deploy.models import Install
from images.models import Format, Image, ImageState, Licence, LicenceKind
from images.own import OwnImageWish
from servers.storage.layout import raid1
from tests.builders import GIB, make_disk, make_image, make_install, make_key, make_project, make_server, make_user
from tests.deploy.happenings import broken, started
from tests.deploy.histories import Past

pytestmark = pytest.mark.django_db


def a_request(**changes: Any) -> InstallRequest:
    """What a customer may ask for, but for the changes."""
    server = changes.pop("server", None) or make_server(disks=2)
    return InstallRequest(
        **{
            "server": server,
            "image": changes.pop("image", None) or make_image(),
            "layout": raid1(),
            "hostname": "web-14.example.net",
            "ssh_keys": (make_key(server.project),),
            **changes,
        }
    )


@pytest.fixture
def alice() -> User:
    return make_user()


def test_an_install_that_was_asked_for_is_queued_with_all_that_was_approved(alice: User) -> None:
    request = a_request(user_data=bytes(range(256)))
    install = Install.objects.get(pk=request_install(request, alice).pk)
    assert install.status == Status.QUEUED
    assert bytes(install.user_data) == bytes(range(256))
    assert install.plan().erased == ("/dev/vda", "/dev/vdb")
    assert install.history()[0].data["by"] == alice.username


def test_the_preview_writes_nothing_and_shows_the_commands_that_will_run() -> None:
    shown = preview(a_request())
    assert not Install.objects.exists()
    lines = [line for step in shown.commands for line in step.lines]
    assert any(line.startswith("mdadm --create /dev/md/root") for line in lines)
    assert "Both disks" in shown.erased


def test_a_second_install_of_a_busy_server_is_a_conflict(alice: User) -> None:
    request = a_request()
    request_install(request, alice)
    with pytest.raises(Refused) as refusal:
        request_install(request, alice)
    assert refusal.value.status == 409
    assert refusal.value.fix
    assert Install.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hostname": "under_score"}, "under_score"),
        ({"hostname": "-web"}, "web"),
        ({"user_data": b"x" * (64 * 1024 + 1)}, "65,537"),
        ({"ssh_keys": ()}, "No SSH key"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(alice: User, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        request_install(a_request(**changes), alice)
    assert not Install.objects.exists()


def test_an_image_larger_than_the_disks_is_refused(alice: User) -> None:
    server = make_server(disks=[make_disk("/dev/vda", size=2 * GIB), make_disk("/dev/vdb", size=2 * GIB)])
    with pytest.raises(Refused, match="GiB") as refusal:
        request_install(a_request(server=server, image=make_image(root_bytes=30 * GIB)), alice)
    assert refusal.value.fix


def test_a_key_of_another_project_is_refused(alice: User) -> None:
    with pytest.raises(Refused, match="another project"):
        request_install(a_request(ssh_keys=(make_key(make_project()),)), alice)


@pytest.mark.parametrize(
    "columns",
    [{"state": ImageState.RETIRED}, {"end_of_life": date(2020, 1, 1)}, {"end_of_life": timezone.now().date()}],
)
def test_an_image_that_is_not_offered_any_more_is_refused(alice: User, columns: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        request_install(a_request(image=make_image(**columns)), alice)


def test_another_projects_own_image_is_refused(alice: User) -> None:
    with pytest.raises(Refused, match="not offered"):
        request_install(a_request(image=make_image(project=make_project())), alice)


def test_a_licence_without_its_key_is_refused(alice: User) -> None:
    licence = Licence.objects.create(name="rhel", kind=LicenceKind.RHEL, organisation="1")
    with pytest.raises(Refused, match="activation key"):
        request_install(a_request(image=make_image(flavour="rhel-8", licence=licence)), alice)


def test_the_activation_key_is_nowhere_in_the_review_nor_in_the_history(alice: User) -> None:
    licence = Licence.objects.create(
        name="rhel", kind=LicenceKind.RHEL, organisation="1", activation_key=Secret("hush-hush")
    )
    request = a_request(image=make_image(flavour="rhel-8", licence=licence))
    assert any(step.step == "licence" for step in preview(request).commands)
    assert "hush-hush" not in str(preview(request))
    install = request_install(request, alice)
    assert "hush-hush" not in str([event.data for event in install.history()])


def test_a_cancel_is_asked_for_once() -> None:
    ops, install = make_user(Role.OPS), make_install()
    cancel(install, ops)
    install.refresh_from_db()
    assert install.cancel_requested
    with pytest.raises(Refused) as refusal:
        cancel(install, ops)
    assert refusal.value.status == 409


def failed_in(step: str, *before: str) -> Install:
    install = make_install()
    journal.append(install, Kind.PLANNED, {"steps": ["rescue", "wipe", "partition", "copy"]})
    for name in before:
        journal.append(install, *started(name))
        journal.append(install, Kind.STEP_SUCCEEDED, {"step": name, "attempt": 1})
    journal.append(install, *started(step))
    journal.append(install, *broken(step))
    install.refresh_from_db()
    return install


@pytest.mark.parametrize(
    ("step", "before", "goes_on_with"),
    [
        ("rescue", (), "rescue"),
        ("partition", ("rescue", "wipe"), "wipe"),
        ("copy", ("rescue", "wipe", "partition"), "copy"),
    ],
)
def test_a_retry_goes_on_where_it_may(step: str, before: tuple[str, ...], goes_on_with: str) -> None:
    install = failed_in(step, *before)
    retry(install, make_user())
    assert install.state().next_step() == goes_on_with
    assert Install.objects.get().status == Status.QUEUED


def test_a_retry_from_the_start_begins_with_the_rescue_system() -> None:
    install = failed_in("copy", "rescue", "wipe", "partition")
    retry(install, make_user(), from_start=True)
    assert install.state().next_step() == "rescue"


def test_what_runs_cannot_be_retried_and_what_has_ended_not_cancelled() -> None:
    with pytest.raises(Refused) as refusal:
        retry(make_install(), make_user())
    assert refusal.value.status == 409
    with pytest.raises(Refused) as refusal:
        cancel(failed_in("rescue"), make_user())
    assert refusal.value.status == 409


def test_a_failed_install_is_not_retried_while_a_newer_one_runs() -> None:
    old = failed_in("rescue")
    make_install(old.server)
    with pytest.raises(Refused) as refusal:
        actions.retry(old, make_user())
    assert refusal.value.status == 409


# --- a customer's own image


def own_request(**changes: Any) -> InstallRequest:
    """A request for an image that the customer brings, from an address that needs no resolver."""
    server = make_server(disks=2)
    wish = OwnImageWish(
        Secret("https://93.184.215.14/images/debian.qcow2?signature=of-the-address"), "sha512:" + "ab" * 64,
        Format.QCOW2, "debian-12", Secret("Authorization: Bearer of-the-header"),
    )  # fmt: skip
    said = {"hostname": "web-1.example.net", "ssh_keys": (make_key(server.project),), "own": wish, **changes}
    return InstallRequest(server=server, image=None, layout=raid1(), **said)


def test_an_image_of_ones_own_is_stored_with_the_install_and_its_secrets_sealed() -> None:
    asked = request_install(own_request(hook="#!/bin/sh\n"), make_user())
    install = Install.objects.get(pk=asked.pk)
    assert install.hook == "#!/bin/sh\n"
    assert install.image.own.url == Secret("https://93.184.215.14/images/debian.qcow2?signature=of-the-address")
    assert install.image.own.headers == Secret("Authorization: Bearer of-the-header\n")
    said = json.dumps([dict(event.data) for event in install.history()])
    assert "https://93.184.215.14/images/debian.qcow2" in said
    assert "of-the-address" not in said
    assert "of-the-header" not in said


def test_address_and_headers_of_an_image_of_ones_own_are_forgotten_when_somebody_can_log_in() -> None:
    install = request_install(own_request(), make_user())
    Past(install).until("verify")
    assert Install.objects.get(pk=install.pk).image.own.url
    journal.append(install, Kind.STEP_SUCCEEDED, {"step": "verify", "attempt": 1, "result": {}})
    own = Install.objects.get(pk=install.pk).image.own
    assert not own.url
    assert not own.headers
    assert own.shown_url == "https://93.184.215.14/images/debian.qcow2"


def test_a_preview_of_an_image_of_ones_own_stores_nothing() -> None:
    preview(own_request())
    assert Image.every.count() == 0


def test_an_install_needs_an_image() -> None:
    with pytest.raises(Refused, match="No image is chosen"):
        preview(own_request(own=None))


def test_an_address_inside_our_networks_is_refused_when_it_is_asked_for() -> None:
    inside = OwnImageWish(Secret("https://169.254.169.254/image"), "ab" * 32, Format.RAW, "debian-12")
    with pytest.raises(Refused, match="not a public address"):
        preview(own_request(own=inside))

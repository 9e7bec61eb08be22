"""Images that customers bring: what is asked of their addresses, checksums, headers and hooks."""

import socket
from ipaddress import ip_network
from typing import Any

import pytest

from accounts.secret import Secret
from images.models import Format, Image, ImageState
from images.own import MOST_HOOK, OwnImageWish, check_checksum, check_headers, check_hook, check_url, own_image
from images.refusal import ImageRefused
from images.store import public_source
from tests.builders import make_image, make_project

SHA256, SHA512 = "ab" * 32, "cd" * 64
PUBLIC = "https://93.184.215.14/debian.qcow2"


def wish(**changes: Any) -> OwnImageWish:
    """A wish that is granted."""
    said = {"url": Secret(PUBLIC), "checksum": SHA256, "format": Format.QCOW2, "flavour": "debian-12", **changes}
    return OwnImageWish(**said)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/image", "https://[::1]/image", "https://10.1.2.3/image", "https://192.168.0.9:8443/image",
        "https://169.254.169.254/latest/meta-data", "https://[::ffff:10.0.0.1]/image", "https://[fd00::1]/image",
        "https://100.64.0.1/image", "https://0.0.0.0/image", "https://[2002:a00:1::]/image", "https://224.0.0.1/image",
    ],
)  # fmt: skip
def test_an_address_inside_our_own_networks_is_refused(url: str) -> None:
    with pytest.raises(ImageRefused, match="not a public address"):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "image.qcow2", "ftp://host.example/image", "file:///etc/shadow", "https:///image", "https://127.1/image",
        "https://2130706433/image", "https://user:word@host.example/image", "https://host.example/a b",
        "https://host.example:22/image", "https://host.example/#part", "https://host.example/" + "x" * 4000,
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_file_is_refused_with_a_way_out(url: str) -> None:
    with pytest.raises(ImageRefused, match=r"[.] Give .*[.]$"):
        check_url(url)


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.django_db
def test_a_name_that_leads_inside_is_refused_even_if_it_leads_outside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.215.14", "10.0.0.7")
    with pytest.raises(ImageRefused, match=r"10\.0\.0\.7, which is not a public address"):
        own_image(wish(url=Secret("https://images.example/debian.qcow2")), make_project())


@pytest.mark.django_db
def test_a_lab_may_allow_networks_of_its_own(settings: Any) -> None:
    settings.LANDFALL_IMAGE_NETWORKS = (ip_network("10.0.2.0/24"),)
    image = own_image(wish(url=Secret("http://10.0.2.2:8900/debian.qcow2"), headers=Secret("X-Key: 1")), make_project())
    assert image.own.headers == Secret("X-Key: 1\n")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (SHA256, f"sha256:{SHA256}"), (SHA512, f"sha512:{SHA512}"), (f" SHA256:{SHA256.upper()} ", f"sha256:{SHA256}"),
        (f"sha-512:{SHA512}", f"sha512:{SHA512}"),
    ],
)  # fmt: skip
def test_a_checksum_is_a_sha256_or_a_sha512(text: str, kept: str) -> None:
    assert check_checksum(text) == kept


@pytest.mark.parametrize("text", ["", "ab" * 20, "xy" * 32, "ab" * 33, "md5:" + "ab" * 16])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(ImageRefused, match="no SHA-256 and no SHA-512"):
        check_checksum(text)


@pytest.mark.parametrize(
    "text",
    ["no colon", "Name:", ": value", "Two words: x", "Host: other", "range: bytes=0-1", "X: a\0b", "X: 1\n" * 21],
)
def test_a_header_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        check_headers(text)
    assert "a\0b" not in str(refused.value)


@pytest.mark.django_db
@pytest.mark.parametrize("format", Format)
def test_every_format_of_the_catalogue_may_be_ones_own(format: Format) -> None:
    assert own_image(wish(format=format), make_project()).format == format


@pytest.mark.django_db
def test_headers_do_not_travel_in_clear() -> None:
    with pytest.raises(ImageRefused, match="in clear"):
        own_image(wish(url=Secret("http://93.184.215.14/i.qcow2"), headers=Secret("Authorization: x")), make_project())


@pytest.mark.parametrize("script", ["echo without a first line", "#!/bin/sh\n" + "#" * MOST_HOOK])
def test_a_hook_that_cannot_be_run_is_refused(script: str) -> None:
    with pytest.raises(ImageRefused):
        check_hook(script)


def test_a_hook_from_a_form_gets_the_line_ends_of_a_script() -> None:
    assert check_hook("#!/bin/sh\r\ntrue\r\n") == "#!/bin/sh\ntrue\n"
    assert check_hook("  \r\n") == ""


def test_the_address_that_is_shown_has_nothing_secret_in_it() -> None:
    assert public_source("https://u:p@host.example/a/debian.qcow2?signature=1") == "https://host.example/a/debian.qcow2"


@pytest.mark.django_db
def test_own_images_are_in_no_catalogue_and_take_nobodys_name() -> None:
    project = make_project()
    for _ in range(2):
        image = own_image(wish(), project)
        image.save()
    assert (image.name, image.state, image.sha256) == ("debian.qcow2", ImageState.OWN, "")
    assert Image.objects.count() == 0
    assert Image.every.count() == 2
    make_image(name="debian.qcow2")

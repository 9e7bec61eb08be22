import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from metadata.boot import direct_to_disk, direct_to_rescue, parse_mac
from metadata.bootscript import disk_script
from metadata.models import Boot, Purpose, Token
from metadata.rescuefiles import manifest
from metadata.tokens import look
from servers.facts import Firmware
from tests.metadata.inventory import INSTALL_KEY, MAC, bearer, make_install, make_rescue, make_server

pytestmark = pytest.mark.django_db


def token_in(script: str) -> str:
    (word,) = [word for word in script.split() if word.startswith("landfall.token=")]
    return word.partition("=")[2]


@pytest.mark.parametrize("firmware", Firmware)
def test_a_server_that_nobody_directed_starts_from_disk(client: Client, firmware: Firmware) -> None:
    make_server(firmware=firmware.value)
    answer = client.get(f"/boot/{MAC}")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    assert answer.content.decode() == disk_script(firmware)


def test_a_server_directed_to_rescue_is_given_the_rescue_system_and_a_token(client: Client) -> None:
    server = make_server()
    install = make_install(server)
    script = client.get(f"/boot/{MAC}").content.decode()
    assert "kernel http://10.0.2.2:8600/boot/files/vmlinuz initrd=initrd.img quiet landfall.url=" in script
    token = look(token_in(script), Purpose.RESCUE)
    assert (token.install, token.server) == (install, server)
    assert abs(token.expires_at - timezone.now() - timedelta(hours=1)) < timedelta(minutes=1)


def test_kernel_arguments_of_the_settings_come_behind_those_of_the_build(client: Client, settings: Settings) -> None:
    settings.LANDFALL_RESCUE_ARGS = "console=ttyS1,115200 norandmaps"
    make_install(make_server())
    script = client.get(f"/boot/{MAC}").content.decode()
    assert "quiet console=ttyS1,115200 norandmaps landfall.url=" in script


def test_every_start_gets_a_token_of_its_own_and_none_is_stored(client: Client) -> None:
    make_install(make_server())
    first, second = (token_in(client.get(f"/boot/{MAC}").content.decode()) for _ in range(2))
    assert first != second
    assert look(first, Purpose.RESCUE) != look(second, Purpose.RESCUE)
    stored = json.dumps([list(row) for row in Token.objects.values_list("digest", "purpose")])
    assert first not in stored and second not in stored


def test_the_script_with_its_token_is_kept_by_no_cache(client: Client) -> None:
    make_install(make_server())
    assert "no-store" in client.get(f"/boot/{MAC}")["Cache-Control"]


def test_a_server_directed_to_disk_again_starts_its_loader(client: Client) -> None:
    server = make_server(firmware="uefi")
    make_install(server)
    direct_to_disk(server, "/EFI/debian/grubx64.efi")
    assert client.get(f"/boot/{MAC}").content.decode() == disk_script(Firmware.UEFI, "/EFI/debian/grubx64.efi")
    assert not Token.objects.exists()


def test_a_loader_that_cannot_be_asked_for_is_refused_at_once() -> None:
    server = make_server(firmware="uefi")
    with pytest.raises(ValueError, match="EFI loader"):
        direct_to_disk(server, "/EFI/x || shell")
    assert not Boot.objects.exists()


def test_the_decision_remembers_whether_the_machine_has_come(client: Client) -> None:
    server = make_server()
    make_install(server)
    assert Boot.objects.get().asked_at is None
    client.get(f"/boot/{MAC}")
    assert Boot.objects.get().asked_at is not None
    make_install(server)
    assert Boot.objects.get().asked_at is None


@pytest.mark.parametrize(
    "spelling", ["52-54-00-AB-CD-EF", "52:54:00:AB:CD:EF", "52:54:00:ab:cd:ef", "52%3A54%3A00%3aab%3acd%3aef"]
)
def test_a_mac_address_is_known_in_every_spelling(client: Client, spelling: str) -> None:
    make_server(mac="52:54:00:ab:cd:ef")
    assert client.get(f"/boot/{spelling}").status_code == 200


@pytest.mark.parametrize(
    "text", ["eth0", "52:54:00:ab:cd", "52:54-00:ab:cd:ef", "52:54:00:ab:cd:eg", "52540ab12345", "٥٢:54:00:ab:cd:ef"]
)
def test_what_is_no_mac_address_is_400(client: Client, text: str) -> None:
    assert parse_mac(text) is None
    assert client.get(f"/boot/{text}").status_code == 400


def test_an_unknown_mac_address_is_404(client: Client) -> None:
    assert client.get("/boot/52:54:00:00:00:99").status_code == 404


def test_without_a_rescue_system_the_machine_is_told_so(client: Client, settings: Settings) -> None:
    make_install(make_server())
    settings.LANDFALL_RESCUE_DIR = None
    answer = client.get(f"/boot/{MAC}")
    assert answer.status_code == 503
    assert "python -m rescue" in answer.content.decode()


def test_a_broken_manifest_is_said_not_thrown(client: Client, settings: Settings) -> None:
    make_install(make_server())
    for text in ("", "[]", "{}", '{"files": 5, "kernel_args": ""}', '{"files": {"vmlinuz": {}}}'):
        (settings.LANDFALL_RESCUE_DIR / "manifest.json").write_text(text)
        assert client.get(f"/boot/{MAC}").status_code == 503
        assert client.get("/boot/files/vmlinuz").status_code == 503


def test_the_rescue_system_learns_its_key_any_number_of_times(client: Client) -> None:
    make_install(make_server())
    token = token_in(client.get(f"/boot/{MAC}").content.decode())
    for _ in range(2):
        answer = client.get("/machine/key", headers=bearer(token))
        assert (answer.status_code, answer.content.decode()) == (200, INSTALL_KEY + "\n")


def test_the_key_of_a_newer_install_is_not_given_to_an_older_one(client: Client) -> None:
    server = make_server()
    make_install(server)
    old = token_in(client.get(f"/boot/{MAC}").content.decode())
    make_install(server)
    assert client.get("/machine/key", headers=bearer(old)).status_code == 410


def test_no_key_once_the_server_starts_from_disk(client: Client) -> None:
    server = make_server()
    make_install(server)
    token = token_in(client.get(f"/boot/{MAC}").content.decode())
    direct_to_disk(server)
    assert client.get("/machine/key", headers=bearer(token)).status_code == 410


def test_directing_again_replaces_the_decision_whole() -> None:
    server = make_server(firmware="uefi")
    direct_to_disk(server, "/EFI/debian/grubx64.efi")
    install = make_install(server)
    boot = Boot.objects.get()
    assert (boot.target, boot.install, boot.efi_loader) == ("rescue", install, "")
    direct_to_rescue(server, install, "ssh-ed25519 AAAA other", timedelta(minutes=5))
    assert Boot.objects.get().public_key == "ssh-ed25519 AAAA other"


@pytest.mark.parametrize(
    "name",
    ["secret.key", "manifest.json", "..", "%2e%2e%2fsecret.key", "..%2f..%2fetc%2fpasswd", "vmlinuz%00", "a%5cb"],
)
def test_only_files_that_the_manifest_lists_are_served(client: Client, name: str, settings: Settings) -> None:
    folder: Path = settings.LANDFALL_RESCUE_DIR
    (folder / "secret.key").write_text("secret")
    assert client.get(f"/boot/files/{name}").status_code == 404


def test_a_manifest_cannot_lead_out_of_its_folder(client: Client, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    make_rescue(settings.LANDFALL_RESCUE_DIR, {"vmlinuz": b"kernel", "../outside": b"secret"})
    assert manifest().path("../outside") is None
    assert client.get("/boot/files/..%2foutside").status_code == 404
    assert client.get("/boot/files/vmlinuz").status_code == 200

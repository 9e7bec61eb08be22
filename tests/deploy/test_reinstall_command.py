"""`manage.py reinstall`: layouts from files, encryption, answers; what is wrong with each is said, nothing is done."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from deploy.models import Install
from servers.models import Server
from tests.builders import make_image, make_key, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

HOME = '{"filesystems": [{"mount": "/", "size": "8 GiB"},\n{"mount": "/home", "size": "rest"}]}'
ASKING = {"inputs": [{"name": "port", "type": "number", "mandatory": True}, {"name": "token", "type": "secret"}]}


@pytest.fixture
def alice() -> User:
    return make_user(projects=[make_project("Shop")], name="alice")


@pytest.fixture
def server(alice: User) -> Server:
    make_image(name="Debian 12")
    make_image(name="Panel", capabilities=ASKING)
    server = make_server(alice.memberships.get().project, name="web-1.example.net", disks=2)
    make_key(server.project)
    return server


def reinstall(server: Server, *words: str, image: str = "Debian 12", **options: Any) -> str:
    """What the command prints; it erases, as far as it comes."""
    out = io.StringIO()
    call_command("reinstall", server.name, f"--image={image}", "--as=alice", "--yes", *words, stdout=out, **options)
    return out.getvalue()


def written(folder: Path, text: str) -> str:
    file = folder / "given"
    file.write_text(text)
    return str(file)


def test_a_layout_comes_from_a_file(server: Server, tmp_path: Path) -> None:
    reinstall(server, f"--layout-file={written(tmp_path, HOME)}")
    assert {one.mount for one in Install.objects.get().plan().filesystems} == {"/", "/home"}


def test_a_mistake_in_the_file_is_named_by_its_line(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path, HOME.replace("rest", "a lot"))
    with pytest.raises(CommandError, match=r"given, line 2: The size of /home is 'a lot'"):
        reinstall(server, f"--layout-file={file}")
    assert not Install.objects.exists()


def test_without_a_word_the_layout_is_the_first_that_fits_image_and_disks(server: Server) -> None:
    make_image(name="Frugal", capabilities={"raid": False})
    reinstall(server, image="Frugal")
    assert Install.objects.get().layout["name"] == "plain"


def test_a_layout_that_does_not_fit_is_refused_and_not_lowered(server: Server) -> None:
    small = make_server(server.project, name="web-2.example.net", disks=1)
    with pytest.raises(CommandError, match=r"RAID1 needs 2 disks, and 1 disk can be used\. Choose"):
        reinstall(small, "--layout=raid1")
    make_image(name="Frugal", capabilities={"raid": False})
    with pytest.raises(CommandError, match="this image has no mdadm"):
        reinstall(server, "--layout=raid1", image="Frugal")
    assert not Install.objects.exists()


def test_where_no_layout_fits_the_plainest_says_why(server: Server) -> None:
    make_image(name="Huge", root_bytes=2**42)
    with pytest.raises(CommandError, match=r"The system needs 4\.5 TiB on a disk that has"):
        reinstall(server, image="Huge")


def test_everything_is_encrypted_with_the_passphrase_of_a_file(server: Server, tmp_path: Path) -> None:
    said = reinstall(server, "--encrypt", f"--passphrase-file={written(tmp_path, 'seven wise words' + chr(10))}")
    install = Install.objects.get()
    assert install.disk_passphrase
    assert install.disk_passphrase.reveal() == "seven wise words"
    assert "wise" not in said


def test_without_a_file_a_passphrase_is_made(server: Server) -> None:
    reinstall(server, "--encrypt")
    assert Install.objects.get().state().passphrase == "made"


def test_a_passphrase_that_will_not_do_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="has 5 characters"):
        reinstall(server, "--encrypt", f"--passphrase-file={written(tmp_path, 'short')}")


def test_answers_come_from_the_command_line_and_secret_ones_from_a_file(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path, '{"token": "s3cret", "port": "1"}')
    said = reinstall(server, "--input=port=8443", f"--inputs-file={file}", image="Panel")
    install = Install.objects.get()
    assert install.inputs == {"port": "8443"}
    assert install.secret_inputs
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--input=port"], "is no answer"),
        (["--input=port=many"], "Port: Write a number"),
        ([], "Port: This needs an answer"),
    ],
)
def test_a_wrong_answer_is_refused(server: Server, words: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        reinstall(server, *words, image="Panel")


def test_the_old_data_is_destroyed_when_asked_for(server: Server) -> None:
    reinstall(server, "--secure-erase", "--layout=raid1")
    assert Install.objects.get().plan().secure_erase

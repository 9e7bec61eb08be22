from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from accounts.sealing import SealBroken, seal, unseal
from accounts.secret import Secret
from servers.models import Server
from tests.builders import make_server

pytestmark = pytest.mark.django_db


def stored(server: Server) -> str:
    """The column as it is in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT bmc_password FROM servers_server WHERE id = %s", [server.pk])
        return str(cursor.fetchone()[0])


def rotate(*options: str) -> str:
    output = StringIO()
    call_command("rotate_seals", *options, stdout=output)
    return output.getvalue()


def test_what_was_sealed_is_unsealed() -> None:
    assert unseal(seal(Secret("hunter2 ✓"))) == Secret("hunter2 ✓")


def test_the_database_holds_no_readable_password() -> None:
    server = make_server(bmc_password=Secret("hunter2"))
    assert "hunter2" not in stored(server)
    assert Server.objects.get(pk=server.pk).bmc_password.reveal() == "hunter2"


def test_no_password_is_none() -> None:
    server = make_server(bmc_password="")
    assert stored(server) == ""
    assert Server.objects.get(pk=server.pk).bmc_password is None


def test_an_unchanged_password_survives_a_save() -> None:
    server = Server.objects.get(pk=make_server(bmc_password=Secret("hunter2")).pk)
    server.address = "192.0.2.99"
    server.save()
    assert Server.objects.get(pk=server.pk).bmc_password.reveal() == "hunter2"


def test_a_plain_text_is_refused_rather_than_stored_unsealed() -> None:
    with pytest.raises(TypeError, match="takes a Secret"):
        make_server(bmc_password="hunter2")


def test_a_sealed_column_is_not_serialised() -> None:
    with pytest.raises(TypeError):
        serializers.serialize("json", [make_server()])


def test_a_list_of_servers_opens_no_seal(settings: Settings) -> None:
    make_server()
    settings.LANDFALL_SEAL_KEYS = [Fernet.generate_key().decode()]
    (server,) = Server.objects.all()
    with pytest.raises(SealBroken, match="missing from LANDFALL_SEAL_KEYS"):
        server.bmc_password.reveal()


def test_without_a_key_nothing_is_sealed(settings: Settings) -> None:
    settings.LANDFALL_SEAL_KEYS = []
    with pytest.raises(ImproperlyConfigured, match="bin/setup"):
        seal(Secret("hunter2"))


def test_a_bad_key_is_named_as_such(settings: Settings) -> None:
    settings.LANDFALL_SEAL_KEYS = ["short"]
    with pytest.raises(ImproperlyConfigured, match="is no key"):
        seal(Secret("hunter2"))


def test_rotating_makes_the_old_key_superfluous(settings: Settings) -> None:
    server = make_server(bmc_password=Secret("hunter2"))
    make_server(bmc_password="")
    old, new = settings.LANDFALL_SEAL_KEYS[0], rotate("--generate").strip()
    settings.LANDFALL_SEAL_KEYS = [new, old]
    assert "servers.Server.bmc_password: 1 sealed again" in rotate()
    settings.LANDFALL_SEAL_KEYS = [new]
    assert Server.objects.get(pk=server.pk).bmc_password.reveal() == "hunter2"


def test_rotating_without_the_old_key_changes_nothing(settings: Settings) -> None:
    first, second = make_server(bmc_password=Secret("one")), make_server(bmc_password=Secret("two"))
    before = stored(first), stored(second)
    settings.LANDFALL_SEAL_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CommandError, match=f"servers.Server {first.pk}, bmc_password"):
        rotate()
    assert (stored(first), stored(second)) == before

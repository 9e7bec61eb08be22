"""Seats at vendors: kept when a system is registered, given back before it is wiped, over real TLS with real curl."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from django.db import connection
from django.utils import timezone

from accounts.secret import Secret
from deploy import seats
from deploy.commands import script, shown
from deploy.context import dry_context
from deploy.models import Install
from deploy.step import Context, Control, Done, Seat
from deploy.steps.erase import wipe
from deploy.steps.licence import give_back, note_seats, register
from tests.builders import make_install, make_server
from tests.deploy.contexts import make_context

IDENTITY = "6c1d4b4e-1111-4222-8333-444455556666"
SEAT = Seat(IDENTITY, "https://licences.example/subscription", Secret("-----BEGIN PRIVATE KEY-----"), "ca")


# --- the vendor's service


@dataclass
class Vendor:
    """A service that takes DELETE of a consumer from who has the consumer's certificate, and from nobody else."""

    service: str
    certificate: Path
    credentials: str
    asked: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=lambda: [204])

    def seat(self, identity: str = IDENTITY) -> Seat:
        return Seat(identity, self.service, Secret(self.credentials), self.certificate.read_text())


def _key_pair(folder: Path, name: str) -> Path:
    """A certificate that signs itself; its key is beside it."""
    certificate = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / f"{name}.key"),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    if not (shutil.which("openssl") and shutil.which("curl")):
        pytest.skip("openssl and curl are not installed")
    own, consumers = _key_pair(tmp_path, "service"), _key_pair(tmp_path, IDENTITY)

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            vendor.asked.append(self.path)
            self.send_response(vendor.answers.pop(0) if len(vendor.answers) > 1 else vendor.answers[0])
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, tmp_path / "service.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(consumers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    credentials = consumers.read_text() + (tmp_path / f"{IDENTITY}.key").read_text()
    vendor = Vendor(f"https://localhost:{server.server_port}/subscription", own, credentials)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield vendor
    server.shutdown()
    server.server_close()


@dataclass
class Fake:
    """What a step asks of its control here."""

    context: Context
    output: bytes = b""
    kept: list[Seat] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def run_job(self, *, result: bool = False) -> bytes:
        return self.output

    def keep_seat(self, seat: Seat) -> None:
        self.kept.append(seat)

    def seat_is_back(self, identity: str) -> None:
        self.back.append(identity)

    def say(self, text: str) -> None:
        self.said.append(text)


def wiped(tmp_path: Path, *held: Seat) -> tuple[Fake, dict[str, list[str]], str]:
    """What becomes of the seats when the server is wiped; and what the commands printed."""
    ctx = replace(make_context(), seats=lambda: held)
    text = script([*give_back(ctx)]).replace("/run/landfall", str(tmp_path / "run"))
    result = tmp_path / "result"
    done = subprocess.run(
        ["bash", "-c", text], env={"RESULT": str(result)}, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 0
    assert not (tmp_path / "run/seats").exists()
    control = Fake(ctx)
    return control, note_seats(cast(Control, control), result.read_bytes()), done.stdout + done.stderr


def test_the_seat_of_the_earlier_system_is_given_back_before_the_wipe(vendor: Vendor, tmp_path: Path) -> None:
    control, outcome, printed = wiped(tmp_path, vendor.seat())
    assert vendor.asked == [f"/subscription/consumers/{IDENTITY}"]
    assert (outcome, control.back) == ({"seats_given_back": [IDENTITY]}, [IDENTITY])
    assert "PRIVATE KEY" not in printed


@pytest.mark.parametrize("status", [404, 410])
def test_a_seat_that_is_back_already_is_back(vendor: Vendor, tmp_path: Path, status: int) -> None:
    vendor.answers = [status]
    assert wiped(tmp_path, vendor.seat())[0].back == [IDENTITY]


def test_a_seat_that_cannot_be_given_back_is_said_and_does_not_stop_the_wipe(vendor: Vendor, tmp_path: Path) -> None:
    vendor.answers = [500]
    control, outcome, printed = wiped(tmp_path, vendor.seat())
    assert (outcome, control.back) == ({"seats_still_taken": [IDENTITY]}, [])
    assert "answered 500" in printed
    assert IDENTITY in control.said[0] and "by hand" in control.said[0]


def test_a_service_that_does_not_answer_or_is_another_one_does_not_stop_the_wipe(
    vendor: Vendor, tmp_path: Path
) -> None:
    away = replace(vendor.seat("away"), service="https://localhost:1/subscription")
    other = replace(vendor.seat("other"), authority=_key_pair(tmp_path, "another").read_text())
    _, outcome, _ = wiped(tmp_path, away, other, vendor.seat())
    assert outcome == {"seats_given_back": [IDENTITY], "seats_still_taken": ["away", "other"]}
    assert vendor.asked == [f"/subscription/consumers/{IDENTITY}"]


def test_a_server_without_seats_is_wiped_as_ever() -> None:
    assert list(give_back(make_context())) == []
    assert "curl" not in "".join(shown(command) for command in wipe(make_context()))


def test_seats_are_given_back_before_anything_is_erased() -> None:
    lines = [shown(command) for command in wipe(replace(make_context(), seats=lambda: (SEAT,)))]
    back = next(index for index, line in enumerate(lines) if "give-back" in line)
    assert back < next(index for index, line in enumerate(lines) if " release /dev/" in line)


# --- what is kept


PRINTED = b"""\
system identity: 6c1d4b4e-1111-4222-8333-444455556666
name: web-14.example.net
org ID: 12345
service: https://licences.example:443/subscription
-----BEGIN CERTIFICATE-----
one
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
two
-----END PRIVATE KEY-----
authority:
-----BEGIN CERTIFICATE-----
three
-----END CERTIFICATE-----
"""


def test_a_registration_keeps_what_gives_it_back_out_of_the_history() -> None:
    control = Fake(make_context(of="rhel-9", licensed=True), PRINTED)
    outcome = register(cast(Control, control))
    assert isinstance(outcome, Done)
    assert outcome.result == {"system_identity": IDENTITY, "name": "web-14.example.net", "org_id": "12345"}
    (seat,) = control.kept
    assert (seat.identity, seat.service) == (IDENTITY, "https://licences.example:443/subscription")
    assert seat.credentials.reveal().count("-----BEGIN") == 2
    assert "three" in seat.authority and "three" not in seat.credentials.reveal()


def test_a_system_that_does_not_say_who_it_is_is_registered_all_the_same() -> None:
    control = Fake(make_context(of="rhel-9", licensed=True), b"system identity: ../../etc\n")
    register(cast(Control, control))
    assert (control.kept, len(control.said)) == ([], 1)


@pytest.fixture
def install(db: Any) -> Install:
    return make_install(make_server(disks=2))


def test_what_is_kept_is_sealed_and_is_there_for_the_next_wipe(install: Install) -> None:
    seats.keep(install, SEAT, timezone.now())
    seats.keep(install, SEAT, timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials FROM deploy_vendorseat")
        rows = cursor.fetchall()
    assert len(rows) == 1 and "PRIVATE KEY" not in rows[0][0]
    (held,) = dry_context(install, install.server.facts()).seats()
    assert held.credentials.reveal() == "-----BEGIN PRIVATE KEY-----"
    assert seats.held(make_server(disks=1)) == ()


def test_what_opened_a_seat_is_forgotten_once_it_is_back(install: Install) -> None:
    seats.keep(install, SEAT, timezone.now())
    seats.forget(install.server, IDENTITY, timezone.now())
    assert seats.held(install.server) == ()
    assert not seats.VendorSeat.objects.get().credentials

"""The nginx configuration, in a real nginx in front of a real web process."""

import datetime
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from metadata.calls import PHONE_HOME_LIMIT, READY_LIMIT
from tests.builders import PASSWORD
from tests.packaging.browser import HTML, Visitor
from tests.packaging.conftest import Hosts
from tests.ports import free_port

pytestmark = pytest.mark.daemons

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "packaging" / "nginx"
NAME = "landfall.example.net"

_MAIN = """
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    default_type application/octet-stream;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/landfall.conf;
}}
"""

_TOKEN = """
from datetime import timedelta
from pathlib import Path
import hashlib
from django.conf import settings
from images.models import Format, Image, ImageState
from metadata import tokens
from metadata.models import Purpose
from tests.builders import make_image, make_install, make_server
content = bytes(range(256)) * 8192
settings.LANDFALL_IMAGES_DIR.mkdir(parents=True, exist_ok=True)
(settings.LANDFALL_IMAGES_DIR / "an-image").write_bytes(content)
image = make_image(path="an-image", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
install = make_install(make_server(power_driver="manual", mac="52:54:00:12:34:56"), image=image)
hour = timedelta(hours=1)
print(image.sha256, *(tokens.mint(install.uuid, install.server, purpose, hour).reveal()
                      for purpose in (Purpose.FETCH, Purpose.RESCUE, Purpose.PHONE_HOME)))
"""


@dataclass(frozen=True, slots=True)
class Front:
    """A running nginx: its two ports, where it logs, and what stands behind it."""

    http: int
    https: int
    folder: Path
    hosts: Hosts
    image: str
    fetch_token: str
    rescue_token: str
    phone_home_token: str

    def machine(self) -> Visitor:
        """Who calls over plain HTTP."""
        return Visitor(self.http, NAME)

    def person(self) -> "SecureVisitor":
        """Who comes over TLS."""
        return SecureVisitor(self.https, NAME)


class SecureVisitor(Visitor):
    """A browser that speaks TLS, and takes any certificate."""

    scheme = "https"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=_anyone())

    def dial(self) -> socket.socket:
        return _anyone().wrap_socket(super().dial(), server_hostname=self.host)


def _anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(folder: Path) -> None:
    """What an administrator would have put there: a key, and a certificate for the name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.sign(key, hashes.SHA256())
    (folder / "fullchain.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "privkey.pem").write_bytes(key.private_bytes(*plain))


def fitted(folder: Path, plain: int, tls: int, upstream: int) -> Path:
    """The configuration for these ports and this folder; everything else as it is delivered."""
    config = (CONFIG / "landfall.conf").read_text()
    for delivered, here in {
        "listen 80 default_server;": f"listen 127.0.0.1:{plain} default_server;",
        "listen 443 ssl default_server;": f"listen 127.0.0.1:{tls} ssl default_server;",
        "/etc/ssl/landfall/fullchain.pem": f"{folder}/fullchain.pem",
        "/etc/ssl/landfall/privkey.pem": f"{folder}/privkey.pem",
        "/etc/nginx/landfall-upstream.conf;": f"{folder}/upstream.conf;",
    }.items():
        assert config.count(delivered) == 1, delivered
        config = config.replace(delivered, here)
    (folder / "landfall.conf").write_text(config)
    behind = (CONFIG / "landfall-upstream.conf").read_text()
    assert behind.count("server 127.0.0.1:8600;") == 1
    (folder / "upstream.conf").write_text(behind.replace("127.0.0.1:8600", f"127.0.0.1:{upstream}"))
    main = folder / "nginx.conf"
    # pytest's folders are for their owner alone, whom nginx would cease to be
    main.write_text(_MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    return main


def nginx() -> str:
    """The program, which Debian keeps off a user's PATH."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, "nginx is not installed: `bin/setup --test` does it"
    return found


@contextmanager
def running(main: Path, port: int) -> Iterator[None]:
    """nginx in the foreground, as a child of ours, for as long as the block runs."""
    process = subprocess.Popen([nginx(), "-p", str(main.parent), "-e", str(main.parent / "error.log"), "-c", str(main)])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (main.parent / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture(scope="module")
def front(shared_hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx before a web process that drives no installs."""
    hosts = shared_hosts
    hosts.set(
        LANDFALL_URL=f"https://{NAME}", LANDFALL_HOSTS=f"{NAME},127.0.0.1", LANDFALL_MACHINE_URL=f"http://{NAME}",
        LANDFALL_BEHIND_PROXY="1", LANDFALL_MACHINE_RATE="100",
    )  # fmt: skip
    hosts.web()
    known = hosts.manage("shell", "--verbosity", "0", "-c", _TOKEN).split()
    folder = tmp_path_factory.mktemp("nginx")
    certificate(folder)
    plain, tls = free_port(), free_port()
    main = fitted(folder, plain, tls, hosts.port)
    with running(main, plain):
        yield Front(plain, tls, folder, hosts, *known)


def test_nginx_finds_no_fault(tmp_path: Path) -> None:
    certificate(tmp_path)
    main = fitted(tmp_path, free_port(), free_port(), 8600)
    done = subprocess.run(
        [nginx(), "-t", "-p", str(tmp_path), "-e", str(tmp_path / "log"), "-c", str(main)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_people_are_sent_to_tls_and_log_in_there(front: Front) -> None:
    answer, _ = front.machine().ask("GET", "/login/", headers=HTML)
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{NAME}/login/")
    person = front.person()
    person.log_in("otto", PASSWORD)
    answer, page = person.ask("GET", "/board/", headers=HTML)
    assert (answer.status, b"Board" in page) == (200, True)
    assert answer.headers["Strict-Transport-Security"]
    assert "nginx/" not in answer.headers["Server"]


def test_the_live_page_keeps_its_websocket(front: Front) -> None:
    person = front.person()
    person.log_in("otto", PASSWORD)
    with person.websocket("/ws/board/") as board:
        assert board.hear()


def test_a_page_of_another_site_opens_no_websocket(front: Front) -> None:
    person = front.person()
    person.log_in("otto", PASSWORD)
    with pytest.raises(AssertionError, match="403"):
        person.websocket("/ws/board/", origin="https://evil.example.org")


def test_a_machine_gets_its_boot_script_over_plain_http(front: Front) -> None:
    answer, script = front.machine().ask("GET", "/boot/52:54:00:12:34:56")
    assert (answer.status, script[:6]) == (200, b"#!ipxe")


def test_a_machine_fetches_a_stretch_of_its_image(front: Front) -> None:
    headers = {"Authorization": f"Bearer {front.fetch_token}"}
    path = f"/machine/images/{front.image}"
    answer, stretch = front.machine().ask("GET", path, headers=headers | {"Range": "bytes=256-1023"})
    assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 256-1023/2097152")
    assert stretch == bytes(range(256)) * 3
    answer, whole = front.machine().ask("GET", path, headers=headers)
    assert (answer.status, len(whole)) == (200, 2**21)
    assert front.machine().ask("GET", path, headers={"Authorization": "Bearer wrong"})[0].status == 404


def test_an_image_is_passed_on_and_not_kept(front: Front) -> None:
    text = (CONFIG / "landfall.conf").read_text()
    for location in re.findall(r"location (?:/machine/images/|/boot/) \{(.*?)\n    \}", text, re.DOTALL):
        assert "proxy_buffering off;" in location


@pytest.mark.parametrize(
    ("path", "limit"), [("/machine/ready", READY_LIMIT), ("/machine/phone-home", PHONE_HOME_LIMIT)]
)
def test_a_call_may_be_as_long_as_landfall_reads_and_no_longer(front: Front, path: str, limit: int) -> None:
    headers = {"Authorization": f"Bearer {front.rescue_token if 'ready' in path else front.phone_home_token}"}
    whole, _ = front.machine().ask("POST", path, b"{" + b" " * (limit - 2) + b"}", headers)
    longer, page = front.machine().ask("POST", path, b" " * (limit + 1), headers)
    assert whole.status == 400  # it arrives, and is read: a field is missing
    assert longer.status == 413
    assert b"nginx" in page


def test_metrics_are_closed_to_who_comes_from_outside(front: Front) -> None:
    assert front.person().ask("GET", "/metrics")[0].status == 403
    assert front.person().ask("GET", "/metrics", headers={"X-Forwarded-For": "127.0.0.1"})[0].status == 403
    assert front.machine().ask("GET", "/metrics")[0].status == 301
    assert Visitor(front.hosts.port).ask("GET", "/metrics")[0].status == 200


def test_nobody_says_for_himself_where_he_comes_from(front: Front) -> None:
    """Landfall counts calls by address; who claims another one at every call is counted all the same."""
    machine = front.machine()
    statuses = [
        machine.ask("GET", "/machine/key", headers={"X-Forwarded-For": f"198.51.100.{number}"})[0].status
        for number in range(130)
    ]
    assert statuses[0] == 404
    assert statuses[-1] == 429


def test_a_hundred_servers_that_boot_at_once_are_not_kept_waiting(front: Front) -> None:
    """nginx counts coarsely: what it refuses would be retried by firmware late or never."""
    text = (CONFIG / "landfall.conf").read_text()
    machines = re.findall(r"limit_req zone=landfall_machines burst=(\d+) nodelay;", text)
    assert machines
    assert all(int(burst) >= 500 for burst in machines)
    sent = [front.machine().ask("GET", f"/boot/files/none-{number}")[0].status for number in range(150)]
    refused_by_nginx = (front.folder / "error.log").read_text().count("limiting requests")
    assert refused_by_nginx == 0
    assert len(sent) == 150


def test_a_web_process_that_is_away_is_told_and_found_again(front: Front) -> None:
    front.hosts.processes[-1].send_signal(signal.SIGTERM)
    front.hosts.processes[-1].wait(20)
    assert front.person().ask("GET", "/login/")[0].status == 502
    front.hosts.web()
    assert front.person().ask("GET", "/login/")[0].status == 200

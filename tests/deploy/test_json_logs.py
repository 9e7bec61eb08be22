"""Log lines as JSON: that programs can read them, what they say they are about, and that they give nothing away."""

import hashlib
import http.cookiejar
import json
import logging
import re
import sqlite3
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from deploy.bound import Json, Line, bound, fields
from deploy.middleware import Requests
from deploy.steps import steps_for
from lab import simulation
from lab.simulation import BMC_PASSWORD, Landfall, Pace, Simulation, free_network, inventory, specs
from tests.deploy import receiver
from tests.deploy.receiver import Receiver
from tests.ports import free_port

log = logging.getLogger("landfall.tests")


class Lines(logging.Handler):
    """Keeps what is logged, formatted."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def handler() -> Iterator[Lines]:
    handler = Lines(Json())
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)


def test_a_line_is_one_object_whatever_is_in_the_message(handler: Lines) -> None:
    said = 'two\nlines, a "quote", \x1b[31m, \ud800 and %s'
    # Past pytest's own handlers: what they capture cannot be handed on with half of a surrogate pair in it.
    handler.handle(log.makeRecord(log.name, logging.WARNING, __file__, 1, said, ("ключ",), None))
    [line] = handler.lines
    assert "\n" not in line
    assert line.isascii()
    [entry] = handler.entries
    assert entry["message"] == 'two\nlines, a "quote", \x1b[31m, \ud800 and ключ'
    assert (entry["level"], entry["logger"]) == ("WARNING", "landfall.tests")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["at"])


def test_an_exception_stands_in_the_same_object(handler: Lines) -> None:
    try:
        raise ValueError("no good")
    except ValueError:
        log.exception("it broke")
    [entry] = handler.entries
    assert entry["message"] == "it broke"
    assert entry["exception"].endswith("ValueError: no good")


def test_what_is_bound_stands_in_every_line_inside_and_in_none_outside(handler: Lines) -> None:
    log.info("before")
    with bound(install="4f3a", worker="ctl-1"):
        with bound(step="wipe", attempt=2):
            log.info("inside")
        log.info("between steps")
    log.info("after")
    about = [{key: entry.get(key) for key in ("install", "worker", "step", "attempt")} for entry in handler.entries]
    nothing = dict.fromkeys(about[0])
    assert about == [
        nothing,
        {"install": "4f3a", "worker": "ctl-1", "step": "wipe", "attempt": 2},
        {**nothing, "install": "4f3a", "worker": "ctl-1"},
        nothing,
    ]


def test_what_one_thread_binds_is_not_bound_in_another(handler: Lines) -> None:
    with bound(install="4f3a"):
        thread = threading.Thread(target=lambda: log.info("elsewhere"))
        thread.start()
        thread.join()
    assert "install" not in handler.entries[0]


def test_it_is_unbound_when_something_breaks() -> None:
    with pytest.raises(RuntimeError), bound(install="4f3a"):
        raise RuntimeError
    assert fields() == {}


def test_a_line_for_people_has_it_at_its_end() -> None:
    formatter = Line(fmt="{levelname} {name}: {message}", style="{")
    record = logging.LogRecord("deploy", logging.INFO, "", 0, "wiped", None, None)
    assert formatter.format(record) == "INFO deploy: wiped"
    with bound(install="4f3a", step="wipe"):
        assert formatter.format(record) == "INFO deploy: wiped [install=4f3a step=wipe]"


# --- requests


def answered(**headers: str) -> tuple[HttpResponse, dict[str, Any]]:
    """A request's answer, and what was bound while it was made."""
    seen: dict[str, Any] = {}

    def view(request: HttpRequest) -> HttpResponse:
        seen.update(fields())
        return HttpResponse()

    request = RequestFactory().get("/", headers={name.replace("_", "-"): text for name, text in headers.items()})
    request.resolver_match = None
    response = Requests(view)(request)
    assert isinstance(response, HttpResponse)
    return response, seen


def test_a_request_has_a_name_in_its_log_lines_and_in_its_answer() -> None:
    first, seen = answered()
    assert first["X-Request-ID"] == seen["request"]
    assert answered()[0]["X-Request-ID"] != first["X-Request-ID"]


def test_the_name_that_a_proxy_has_given_is_kept() -> None:
    response, seen = answered(X_Request_ID="0af7651916cd43dd8448eb211c80319c")
    assert response["X-Request-ID"] == seen["request"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("given", ["x", "a b c d e f g", 'quote"quote"', "x" * 65, "new\nline-in-it", "ключключ"])
def test_a_name_that_is_none_is_replaced(given: str) -> None:
    response, seen = answered(X_Request_ID=given)
    assert response["X-Request-ID"] == seen["request"] != given


def test_every_page_has_one() -> None:
    assert Client().get("/login/")["X-Request-ID"]


# --- a whole install gives nothing away


PREPARE = """
from accounts.models import Membership, Project, Role, User
from accounts.secret import Secret
from deploy.webhooks.models import Webhook
from lab.simulation import inventory, specs
inventory.register(specs(1, {network}), {bmc!r})
User.objects.create_user("carla", password={password!r}, role=Role.OPS)
Webhook.objects.create(project=Project.objects.get(), url={hook!r}, secret=Secret({secret!r}))
"""
PASSWORD = "correct horse battery staple"
PACE = Pace(firmware=(0.01, 0.02), system=(0.01, 0.02), copy=0.2, build=0.1)
HOOK_SECRET = "whsec_bm9ib2R5IGV2ZXIgcmVhZHMgdGhpcyBpbiBhIGxvZw=="


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver.running() as server:
        yield server


class Watch(threading.Thread):
    """Looks into the database while an install runs, for the private key that is forgotten when it ends."""

    def __init__(self, landfall: Landfall) -> None:
        super().__init__(daemon=True)
        self.database = landfall.folder / "landfall.sqlite3"
        self.seal = Fernet(landfall.env["LANDFALL_SEAL_KEYS"])
        self.key = ""

    def run(self) -> None:
        while not self.key:
            for (sealed,) in rows(self.database, "SELECT private_key FROM deploy_install WHERE private_key <> ''"):
                self.key = self.seal.decrypt(sealed.encode()).decode()
            time.sleep(0.05)


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def log_in(landfall: Landfall) -> str:
    """Somebody logs in, and looks at the board; the cookie of the session."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{landfall.url}/login/").close()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": "carla", "password": PASSWORD, "csrfmiddlewaretoken": token}
    opener.open(f"{landfall.url}/login/", urllib.parse.urlencode(form).encode()).close()
    opener.open(f"{landfall.url}/board/").close()
    return next(str(cookie.value) for cookie in jar if cookie.name == "sessionid")


def tokens_in(text: str, digests: set[str]) -> list[str]:
    """What in the text is a token: every stretch of their alphabet and length whose hash is one that is stored."""
    windows = {
        found[start : start + 43]
        for found in re.findall(r"[A-Za-z0-9_-]{43,}", text)
        for start in range(len(found) - 42)
    }
    return [window for window in windows if hashlib.sha256(window.encode()).hexdigest() in digests]


def test_a_whole_install_at_debug_leaves_no_token_key_or_password_in_any_log(tmp_path: Path, hook: Receiver) -> None:
    landfall = Landfall(tmp_path, f"sqlite:///{tmp_path / 'landfall.sqlite3'}", free_port())
    landfall.env = {
        **landfall.env, "LANDFALL_LOG_FORMAT": "json", "LANDFALL_LOG_LEVEL": "DEBUG", "LANDFALL_WEBHOOK_HTTP": "1",
        "LANDFALL_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }  # fmt: skip
    network = free_network()
    simulated = Simulation(landfall.url, specs(1, network), tmp_path / "servers", pace=PACE)
    try:
        landfall.manage("migrate", "--verbosity=0")
        with simulation.running(simulated) as remote:
            facts = {"network": network, "bmc": remote.url, "password": PASSWORD, "hook": hook.url}
            landfall.manage("shell", "--verbosity=0", "-c", PREPARE.format(secret=HOOK_SECRET, **facts))
            landfall.web("--slots", "2")
            session = log_in(landfall)
            watch = Watch(landfall)
            watch.start()
            wanted = ("--image", inventory.IMAGE, "--as", inventory.OPERATOR, "--yes", "--follow")
            landfall.manage("reinstall", "sim-0000", *wanted)
            hook.wait_for(1)
            watch.join(1)
    finally:
        landfall.stop()
    said = (tmp_path / "web.log").read_text()

    lines = [line for line in said.splitlines() if not line.startswith("Landfall listens on")]
    entries = [json.loads(line) for line in lines]
    steps = {entry["step"] for entry in entries if "step" in entry}
    assert steps == set(steps_for(licensed=False))
    assert all({"install", "worker", "attempt"} <= entry.keys() for entry in entries if "step" in entry)
    assert [entry["message"].split(": ")[1] for entry in entries if entry.get("step") == "copy"] == [
        "step_started", "step_succeeded",
    ]  # fmt: skip
    assert any(entry["level"] == "DEBUG" for entry in entries)

    body = [line for line in watch.key.splitlines() if line and not line.startswith("-----")]
    assert body
    stored = rows(watch.database, "SELECT digest FROM metadata_token")
    assert len(stored) >= 3
    digests = {str(digest) for (digest,) in stored}
    assert tokens_in(f"as in {simulated.servers['sim-0000']._said[0][1]} here", digests)  # that it would find one
    assert tokens_in(said, digests) == []
    secrets = [*body, BMC_PASSWORD, PASSWORD, session, HOOK_SECRET, HOOK_SECRET.removeprefix("whsec_")]
    secrets += [landfall.env["LANDFALL_SECRET_KEY"], landfall.env["LANDFALL_SEAL_KEYS"]]
    assert [secret for secret in secrets if secret in said] == []

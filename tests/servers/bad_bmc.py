"""A Redfish BMC on loopback that behaves as badly as it is told to. A real HTTP server, spoken to by the real sushy."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from accounts.secret import Secret
from servers.power import Bmc

USER, PASSWORD = "operator", "hunter2-very-secret"


@dataclass
class BadBmc:
    """What the BMC is like, and what it was asked. Everything may be changed while it runs."""

    power: str = "Off"
    boot: dict[str, Any] = field(
        default_factory=lambda: {
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd"],
        }
    )
    resets: tuple[str, ...] = ("On", "ForceOff", "ForceRestart")
    forgets_boot: int = 0
    """How many boot overrides it accepts without keeping them."""
    hides_boot: bool = False
    busy: int = 0
    """How many writing requests it still answers 409."""
    busy_status: int = 409
    strict: bool = False
    """Switching on what is on is an error, said before anything else is looked at."""
    lies_about_power: int = 0
    """How many readings of the power state are still the old one."""
    fails: int | None = None
    fails_with: str = "Internal problem"
    hangs: float = 0.0
    not_redfish: bool = False
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    port: int = 0

    def bmc(self, password: str = PASSWORD, system: str = "1", **given: Any) -> Bmc:
        """How to reach it."""
        values = {"url": f"http://127.0.0.1:{self.port}", "system": system, "user": USER, "password": Secret(password)}
        return Bmc(**{**values, **given})

    def writes(self) -> list[tuple[str, Any]]:
        """What it was asked to do, as method and body."""
        return [(method, body) for method, _path, body in self.asked if method != "GET"]

    def system(self) -> dict[str, Any]:
        """The ComputerSystem that it shows."""
        shown = self.power
        if self.lies_about_power:
            self.lies_about_power -= 1
            shown = {"On": "Off", "Off": "On"}[self.power]
        target = {"target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"}
        reset = {**target, "ResetType@Redfish.AllowableValues": list(self.resets)}
        return {
            "@odata.id": "/redfish/v1/Systems/1",
            "Id": "1",
            "PowerState": shown,
            "Actions": {"#ComputerSystem.Reset": reset},
            **({} if self.hides_boot else {"Boot": self.boot}),
        }

    def patch(self, body: Any) -> int:
        """A boot override is set, or forgotten."""
        if "BootSourceOverrideMode" in body["Boot"] and "BootSourceOverrideMode" not in self.boot:
            return 400
        if self.forgets_boot:
            self.forgets_boot -= 1
        elif not self.hides_boot:
            self.boot |= body["Boot"]
        return 204

    def reset(self, body: Any) -> int:
        """The power button."""
        kind = body["ResetType"]
        after = {"On": "On", "ForceOn": "On", "ForceOff": "Off", "ForceRestart": "On", "PowerCycle": "On"}[kind]
        if self.strict and (after == self.power and kind in ("On", "ForceOff")):
            return 400
        self.power = after
        return 204


ROUTES = {
    "/redfish/v1": {"Id": "RootService", "Systems": {"@odata.id": "/redfish/v1/Systems"}},
    "/redfish/v1/Systems": {"Name": "Systems", "Members": [{"@odata.id": "/redfish/v1/Systems/1"}]},
}


def _handler(bad: BadBmc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: Any = None) -> None:
            data = json.dumps(body or {}).encode() if not bad.not_redfish else b"<html>Welcome to my router</html>"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refuse(self, status: int, message: str) -> None:
            self.answer(status, {"error": {"code": "Base.1.0.GeneralError", "message": message}})

        def refused(self, body: Any) -> bool:
            """Whether the request is turned down before anybody looks at what it wants."""
            path = self.path.rstrip("/")
            bad.asked.append((self.command, path, body))
            if bad.hangs:
                time.sleep(bad.hangs)
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if path != "/redfish/v1" and self.headers.get("Authorization") != f"Basic {login}":
                self.refuse(401, f"who is that? {self.headers.get('Authorization')}")
            elif bad.fails and self.command != "GET":
                self.refuse(bad.fails, bad.fails_with)
            elif bad.busy and self.command != "GET":
                bad.busy -= 1
                self.refuse(bad.busy_status, "busy")
            else:
                return False
            return True

        def do_GET(self) -> None:
            if self.refused(None):
                return
            path = self.path.rstrip("/")
            if path == "/redfish/v1/Systems/1":
                self.answer(200, bad.system())
            elif path in ROUTES:
                self.answer(200, ROUTES[path])
            else:
                self.refuse(404, "no such thing")

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def do_PATCH(self) -> None:
            body = self.body()
            if not self.refused(body):
                self.answer(bad.patch(body))

        def do_POST(self) -> None:
            body = self.body()
            if not self.refused(body):
                self.answer(bad.reset(body))

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def running(**given: Any) -> Iterator[BadBmc]:
    """Such a BMC, listening."""
    bad = BadBmc(**given)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(bad))
    server.daemon_threads = True
    bad.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bad
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The machines' BMC: Redfish as sushy-tools serves it, with a systems driver that moves our machines."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import flask
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources import managers
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from .machine import Machine
from .qmp import QmpError
from .spec import BootSource

SYSTEMS = "/redfish/v1/Systems/"
DRIVER = "landfall.lab.systems"

# Redfish's word -> what happens
POWER_ACTIONS: Mapping[str, Callable[[Machine], None]] = {
    "On": Machine.power_on,
    "ForceOn": Machine.power_on,
    "ForceOff": Machine.power_off,
    "ForceRestart": Machine.reset,
    "PowerCycle": Machine.power_cycle,
    "GracefulShutdown": Machine.press_power_button,
    # a guest that ignores the button would never restart; real BMCs press reset then, too
    "GracefulRestart": Machine.reset,
}
MODES = {"bios": "Legacy", "uefi": "UEFI"}


class SystemsDriver(AbstractSystemsDriver):  # type: ignore[misc]  # sushy-tools brings no types
    """What sushy-tools asks about a system and does to it, answered by the lab's machines."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = machines

    @property
    def driver(self) -> str:
        """The driver's name for people."""
        return "<landfall-lab>"

    @property
    def systems(self) -> list[str]:
        """The identities of all machines: their names."""
        return sorted(self._machines)

    def machine(self, identity: str) -> Machine:
        """The machine of this name or UUID."""
        for name, machine in self._machines.items():
            if identity in (name, machine.spec.uuid):
                return machine
        raise error.NotFound(f"There is no system {identity}.")

    def uuid(self, identity: str) -> str:
        """The machine's UUID."""
        return self.machine(identity).spec.uuid

    def name(self, identity: str) -> str:
        """The machine's name."""
        return self.machine(identity).spec.name

    def get_power_state(self, identity: str) -> str:
        """On or Off."""
        return "On" if self.machine(identity).is_on() else "Off"

    def set_power_state(self, identity: str, state: str) -> None:
        """One of POWER_ACTIONS; anything else is a bad request."""
        if state not in POWER_ACTIONS:
            raise error.BadRequest(f"ResetType {state} is not one of {', '.join(POWER_ACTIONS)}.")
        try:
            POWER_ACTIONS[state](self.machine(identity))
        except QmpError as failure:
            raise error.FishyError(str(failure)) from failure

    def get_boot_device(self, identity: str) -> str:
        """The overriding boot source; 'None' is a value of Redfish's own."""
        return self.machine(identity).override()[0].value

    def set_boot_device(self, identity: str, boot_source: str) -> None:
        """Overrides the boot source for good; `Bmc` says when it is for once."""
        try:
            source = BootSource(boot_source)
        except ValueError:
            raise error.BadRequest(f"Boot source {boot_source} is not one of None, Pxe, Hdd.") from None
        enabled = flask.request.json["Boot"].get("BootSourceOverrideEnabled", "Continuous")
        self.machine(identity).override_boot(
            BootSource.NONE if enabled == "Disabled" else source, once=enabled == "Once"
        )  # fmt: skip

    def get_boot_mode(self, identity: str) -> str:
        """UEFI or Legacy."""
        return MODES[self.machine(identity).spec.firmware]

    def set_boot_mode(self, identity: str, boot_mode: str) -> None:
        """Accepts the mode the machine has: its firmware cannot be exchanged."""
        if boot_mode != self.get_boot_mode(identity):
            raise error.BadRequest(f"This system boots in mode {self.get_boot_mode(identity)} only.")

    def get_total_memory(self, identity: str) -> int:
        """GiB of memory."""
        return self.machine(identity).spec.memory_mib // 1024

    def get_total_cpus(self, identity: str) -> int:
        """Processors."""
        return 2

    def get_nics(self, identity: str) -> list[dict[str, str]]:
        """The network card, named by its MAC."""
        mac = self.machine(identity).spec.mac
        return [{"id": mac, "mac": mac}]


def _systems(_self: object) -> SystemsDriver:
    driver = flask.request.environ[DRIVER]
    assert isinstance(driver, SystemsDriver)
    return driver


def _managers(self: Any) -> managers.FakeDriver:
    return managers.FakeDriver(self.config, self.logger, self.systems, self.chassis)


# sushy-tools' own choice of drivers is fixed in code, and kept in one global application: ours comes with the request
emulator.Application.systems = property(_systems)
emulator.Application.managers = property(_managers)


class Bmc:
    """A Redfish service on 127.0.0.1 for some machines, behind HTTP basic authentication."""

    def __init__(
        self, machines: Mapping[str, Machine], port: int, user: str, password: str, folder: Path
    ) -> None:  # fmt: skip
        self._driver = SystemsDriver(machines)
        accounts = folder / "bmc-accounts"
        accounts.touch(mode=0o600)
        # cheap rounds: the file guards a machine that exists on this host's loopback alone
        accounts.write_bytes(user.encode() + b":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)) + b"\n")
        emulator.app.config["SUSHY_EMULATOR_STATE_DIR"] = str(folder)
        for noisy in (logging.getLogger("werkzeug"), emulator.app.logger):
            noisy.setLevel(logging.ERROR)
        app = emulator.RedfishAuthMiddleware(self.answer, str(accounts))
        self._server = make_server("127.0.0.1", port, app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="bmc", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on; useful when 0 was asked for."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Requests are answered from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No request is answered any more, and the port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """sushy-tools' answer, made true where it is fixed: how long an override lasts, which resets there are."""
        environ[DRIVER] = self._driver
        request = Request(environ)
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        response = Response.from_app(emulator.app.wsgi_app, environ, buffered=True)
        identity = request.path.removeprefix(SYSTEMS).strip("/")
        is_system = request.path.startswith(SYSTEMS) and "/" not in identity
        if request.method == "GET" and is_system and response.status_code == 200:
            response.set_data(json.dumps(self._corrected(identity, response.get_json())))
        return response(environ, start_response)

    def _corrected(self, identity: str, system: dict[str, Any]) -> dict[str, Any]:
        source, once = self._driver.machine(identity).override()
        lasts = "Disabled" if source is BootSource.NONE else "Once" if once else "Continuous"
        system["Boot"]["BootSourceOverrideEnabled"] = lasts
        system["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"] = [source.value for source in BootSource]
        system["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = list(POWER_ACTIONS)
        return system

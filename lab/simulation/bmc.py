"""The BMC of every simulated server: as much Redfish as Landfall uses, at one address."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

from .server import SimulatedServer
from .spec import BMC_PASSWORD, BMC_USER
from .wire import Answer, Request

ROOT = "/redfish/v1"
SYSTEMS = f"{ROOT}/Systems"
RESETS = ("On", "ForceOn", "ForceOff", "ForceRestart", "PowerCycle", "GracefulShutdown", "GracefulRestart")
SOURCES = ("None", "Pxe", "Hdd")
_LOGIN = "Basic " + base64.b64encode(f"{BMC_USER}:{BMC_PASSWORD}".encode()).decode()


class Bmc:
    """Answers Redfish requests about some servers."""

    def __init__(self, servers: Mapping[str, SimulatedServer]) -> None:
        self._servers = servers

    async def answer(self, request: Request) -> Answer:
        """The answer, as late and as wrong as it was ordered to be."""
        path = request.path.partition("?")[0].rstrip("/")
        if path == ROOT:
            return _json({"Id": "RootService", "Name": "Simulated", "RedfishVersion": "1.5.0",
                          "Systems": {"@odata.id": SYSTEMS}})  # fmt: skip
        if request.headers.get("authorization") != _LOGIN:
            return _error(401, "log in")
        if path == SYSTEMS:
            return _json({"Name": "Systems", "Members": [{"@odata.id": f"{SYSTEMS}/{name}"} for name in self._servers]})
        name, _, action = path.removeprefix(f"{SYSTEMS}/").partition("/")
        server = self._servers.get(name)
        if server is None:
            return _error(404, "there is no such system")
        await asyncio.sleep(server.bmc_order.slow)
        if request.method == "GET":
            return _json(_system(server))
        order = server.bmc_order
        status = order.statuses.popleft() if order.statuses else 0
        if status and not order.acted:
            return _error(status, "ordered to fail")
        done = self._write(server, action, json.loads(request.body or b"{}"))
        return _error(status, "ordered to fail, although it was done") if status else done

    def _write(self, server: SimulatedServer, action: str, body: Mapping[str, Any]) -> Answer:
        if action == "Actions/ComputerSystem.Reset":
            if body.get("ResetType") not in RESETS:
                return _error(400, f"ResetType is one of {', '.join(RESETS)}")
            server.press(body["ResetType"])
            return Answer(204)
        boot = body.get("Boot", {})
        if action or boot.get("BootSourceOverrideTarget", "None") not in SOURCES:
            return _error(400, "only the boot source can be set")
        server.override = boot.get("BootSourceOverrideTarget", server.override)
        server.override_once = boot.get("BootSourceOverrideEnabled", "Once") == "Once"
        return Answer(204)


def _system(server: SimulatedServer) -> dict[str, Any]:
    name = server.spec.name
    lasts = "Disabled" if server.override == "None" else "Once" if server.override_once else "Continuous"
    return {
        "@odata.id": f"{SYSTEMS}/{name}",
        "Id": name,
        "Name": name,
        "PowerState": "On" if server.is_on else "Off",
        "Boot": {
            "BootSourceOverrideEnabled": lasts,
            "BootSourceOverrideTarget": server.override,
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(SOURCES),
            "BootSourceOverrideMode": "Legacy" if server.spec.firmware == "bios" else "UEFI",
        },
        "Actions": {
            "#ComputerSystem.Reset": {
                "target": f"{SYSTEMS}/{name}/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": list(RESETS),
            }
        },
    }


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode())


def _error(status: int, sentence: str) -> Answer:
    said = {"error": {"code": "Base.1.0.GeneralError", "message": sentence, "@Message.ExtendedInfo": []}}
    extra = {"WWW-Authenticate": 'Basic realm="BMC"'} if status == 401 else None
    return Answer(status, json.dumps(said).encode(), extra)

"""Redfish, by way of sushy; nothing else imports sushy.

Real BMCs lie, and each of these cost somebody a night: a boot override is accepted and not kept; a mode is refused by
those that report none; for some seconds after a power off everything is answered 409; switching on what is on is an
error for one vendor and nothing for another. Every operation here logs in by HTTP Basic, which Redfish requires of a
service: sessions left behind by a crash would fill the BMC's few places for them.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import sushy
from sushy import auth, connector
from sushy import exceptions as sushy_errors

from accounts.secret import MASK
from servers.power.driver import Bmc, PowerCode, PowerError, PowerState, Target, unasked

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
# A BMC that is busy after a power off has come round within half a minute.
_BUSY_STATUS: Final = (409, 503)
_BUSY_TRIES: Final = 7
_BUSY_PAUSE: Final = 5.0
_READ_BACK_TRIES: Final = 3
_READ_BACK_PAUSE: Final = 2.0
_OFF_TRIES: Final = 12

_STATES: Final = {
    sushy.PowerState.ON: PowerState.ON,
    sushy.PowerState.POWERING_ON: PowerState.ON,
    sushy.PowerState.OFF: PowerState.OFF,
}
_SOURCES: Final = {Target.NETWORK: sushy.BootSource.PXE, Target.DISK: sushy.BootSource.HDD}
_ON: Final = (sushy.ResetType.ON, sushy.ResetType.FORCE_ON)
_OFF: Final = (sushy.ResetType.FORCE_OFF, sushy.ResetType.GRACEFUL_SHUTDOWN)
_RESTART: Final = (sushy.ResetType.FORCE_RESTART, sushy.ResetType.POWER_CYCLE)


class Redfish:
    """The power button of a machine behind a Redfish BMC."""

    needs_hands = ""

    def __init__(
        self,
        bmc: Bmc,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        pause: Callable[[float], None] = time.sleep,
        ask_first: Callable[[], None] = unasked,
    ) -> None:
        self._bmc = bmc
        self._ask_first = ask_first
        self._timeouts = (connect_seconds, read_seconds)
        self._pause = pause

    def state(self) -> PowerState:
        """Whether the machine is on."""
        with self._system() as system:
            return _state(system)

    def boot_from(self, target: Target, persistent: bool = False) -> None:
        """Sets the boot override and reads it back; sets it a second time when the BMC has not kept it."""
        source = _SOURCES[target]
        often = sushy.BootSourceOverrideEnabled.CONTINUOUS if persistent else sushy.BootSourceOverrideEnabled.ONCE
        with self._system() as system:
            for _attempt in range(2):
                mode = system.boot.mode if system.boot else None
                self._patiently(lambda mode=mode: system.set_system_boot_options(source, often, mode))  # type: ignore[misc]
                if self._reads_back(system, source):
                    return
            kept = system.boot.target.value if system.boot.target else "none"
        raise PowerError(
            PowerCode.ERROR,
            f"The BMC accepts the boot device {source.value}, and says {kept} when it is read back.",
            "Set the boot order to network first in the firmware setup, then retry; or update or reset the BMC.",
        )

    def power_on(self) -> None:
        """Switches the machine on; done at once when it is on."""
        with self._system() as system:
            self._switch(system, _ON, PowerState.ON)

    def power_off(self) -> None:
        """Takes the power away; done at once when it is off."""
        with self._system() as system:
            self._switch(system, _OFF, PowerState.OFF)

    def reset(self, cold: bool = False) -> None:
        """Restarts the machine; switches it on when it is off. `cold`: switches it off and on."""
        with self._system() as system:
            restart = None if cold else _first_allowed(system, _RESTART)
            if _state(system) is PowerState.OFF:
                self._switch(system, _ON, PowerState.ON)
            elif restart:
                self._patiently(lambda: system.reset_system(restart))
            else:
                self._switch(system, _OFF, PowerState.OFF)
                self._wait_for_off(system)
                # Whoever else has a say in it by now does not know that it is off.
                self._ask_first = unasked
                self._switch(system, _ON, PowerState.ON)

    def _switch(self, system: Any, ways: tuple[sushy.ResetType, ...], wanted: PowerState) -> None:
        """Brings the machine into the wanted state; what the BMC calls an error is none when it is there already."""
        if _state(system) is wanted:
            return
        way = _first_allowed(system, ways) or ways[0]
        try:
            self._patiently(lambda: system.reset_system(way), unless=lambda: self._is(system, wanted))
        except sushy_errors.HTTPError:
            if not self._is(system, wanted):
                raise

    def _is(self, system: Any, wanted: PowerState) -> bool:
        system.refresh(force=True)
        return _state(system) is wanted

    def _wait_for_off(self, system: Any) -> None:
        for _attempt in range(_OFF_TRIES):
            if self._is(system, PowerState.OFF):
                return
            self._pause(_BUSY_PAUSE)
        raise PowerError(
            PowerCode.ERROR,
            f"The BMC was told to switch the machine off, and it is still on after {_OFF_TRIES * _BUSY_PAUSE:.0f} s.",
            "Switch it off by hand, then retry.",
        )

    def _reads_back(self, system: Any, source: sushy.BootSource) -> bool:
        """Whether the BMC says what it was told; some need a moment. One that shows no override at all is believed.

        Once or continuous is not compared: several BMCs know but one of the two, and say so whatever they were told.
        """
        for attempt in range(_READ_BACK_TRIES):
            if attempt:
                self._pause(_READ_BACK_PAUSE)
            system.refresh(force=True)
            boot = system.boot
            if boot is None or (boot.target is None and boot.enabled is None):
                return True
            if boot.target is source and boot.enabled is not sushy.BootSourceOverrideEnabled.DISABLED:
                return True
        return False

    def _patiently(self, ask: Callable[[], None], unless: Callable[[], bool] = lambda: False) -> None:
        """Asks until the BMC is no longer busy, or until `unless` says that there is no need any more."""
        for attempt in range(1, _BUSY_TRIES + 1):
            try:
                return ask()
            except sushy_errors.HTTPError as error:
                if error.status_code not in _BUSY_STATUS or attempt == _BUSY_TRIES:
                    raise
            if unless():
                return None
            self._pause(_BUSY_PAUSE)
        return None

    @contextmanager
    def _system(self) -> Iterator[Any]:
        """The machine as sushy sees it, freshly read; what goes wrong inside becomes a PowerError."""
        root, path = _address(self._bmc)
        line = _Line(root, self._bmc, self._timeouts, lambda: self._ask_first())
        try:
            login = auth.BasicAuth(self._bmc.user, self._bmc.password.reveal())
            service = sushy.Sushy(root, auth=login, connector=line)
            yield service.get_system(path)
        except sushy_errors.SushyError as error:
            raise self._explained(error) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            # what sushy stumbles over when the other side sends a page, or JSON of another shape
            raise PowerError(
                PowerCode.ERROR,
                f"What answers at {self._host} does not speak Redfish as we know it.",
                "Check the address, and whether Redfish is switched on in the BMC and its firmware is current.",
            ) from None
        finally:
            line.close()

    @property
    def _host(self) -> str:
        return urlsplit(self._bmc.url).netloc

    def _explained(self, error: sushy_errors.SushyError) -> PowerError:
        """What went wrong, as our own error."""
        said = " ".join(str(error).split())
        if isinstance(error, sushy_errors.ConnectionError):
            return self._not_reached(said)
        if isinstance(error, sushy_errors.AccessError):
            return PowerError(
                PowerCode.REFUSED,
                f"The BMC at {self._host} refuses the user {self._bmc.user or '(none)'} (HTTP {error.status_code}).",
                "Correct user and password of the BMC; the user needs the right to control power and boot.",
            )
        if isinstance(error, sushy_errors.ResourceNotFoundError):
            system = self._bmc.system or "its only system"
            return PowerError(
                PowerCode.ERROR,
                f"The BMC at {self._host} does not know {system}.",
                "Correct the system's id or path; /redfish/v1/Systems lists them.",
            )
        detail = getattr(error, "detail", None)
        text = f"HTTP {error.status_code}: {detail}" if isinstance(error, sushy_errors.HTTPError) and detail else said
        return PowerError(
            PowerCode.ERROR,
            f"The BMC at {self._host} does not do it: {text[:300].rstrip('.')}.",
            "Look at the BMC's own log, reset the BMC if it hangs, then retry.",
        )

    def _not_reached(self, said: str) -> PowerError:
        if "certificate" in said.lower() or "sslerror" in said.lower():
            return PowerError(
                PowerCode.UNREACHABLE,
                f"The certificate of the BMC at {self._host} is not trusted.",
                "Install a trusted one in the BMC, or switch the check off for this server.",
            )
        late = "timed out" in said.lower() or "timeout" in said.lower()
        return PowerError(
            PowerCode.UNREACHABLE,
            f"The BMC at {self._host} {'does not answer in time' if late else 'cannot be reached'}.",
            "Check its address and port, its cable, and the firewall between it and Landfall.",
        )


class _Line(connector.Connector):  # type: ignore[misc]  # sushy has no types
    """sushy's connection with our timeouts, and somebody who is asked before each request that changes something.

    One try each: sushy would repeat a reset whose answer was late. Only what some BMCs refuse for a moment, and say so
    in their vendor's words, it asks for once more.
    """

    def __init__(self, root: str, bmc: Bmc, timeouts: tuple[float, float], ask_first: Callable[[], None]) -> None:
        self._ask_first = ask_first
        connect, read = timeouts
        super().__init__(
            root,
            verify=bmc.verify_tls,
            server_side_retries=1,
            server_side_retries_delay=1,
            default_request_timeout=read,
            connect_timeout=connect,
        )
        # a BMC's password never goes to a proxy, whatever the environment of the worker says
        self._session.trust_env = False
        self._session.hooks["response"].append(partial(_blot, _spellings(bmc)))

    def _op(self, method: str, *arguments: Any, **named: Any) -> Any:
        if method != "GET":
            self._ask_first()
        return super()._op(method, *arguments, **named)


def _spellings(bmc: Bmc) -> tuple[bytes, ...]:
    """The forms in which a BMC could repeat our password: as it is, as JSON has it, as HTTP Basic sent it."""
    password = bmc.password.reveal()
    if not password:
        return ()
    basic = base64.b64encode(f"{bmc.user}:{password}".encode())
    return basic, json.dumps(password)[1:-1].encode(), password.encode()


def _blot(spellings: tuple[bytes, ...], response: requests.Response, **_given: Any) -> None:
    """Takes the password out of a refusal before sushy reads it, because sushy logs all that a BMC says."""
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        content = response.content
        for spelling in spellings:
            content = content.replace(spelling, MASK.encode())
        response._content = content


def _state(system: Any) -> PowerState:
    return _STATES.get(system.power_state, PowerState.UNKNOWN)


def _first_allowed(system: Any, ways: tuple[sushy.ResetType, ...]) -> sushy.ResetType | None:
    """The first of the ways that the BMC says it can."""
    allowed = system.get_allowed_reset_system_values()
    return next((way for way in ways if way in allowed), None)


def _address(bmc: Bmc) -> tuple[str, str | None]:
    """The BMC's root URL and the path of the system, however people wrote the two down; None for the only system."""
    parts = urlsplit(bmc.url)
    root = f"{parts.scheme}://{parts.netloc}"
    system = bmc.system.strip() or parts.path.rstrip("/")
    if system.startswith(("http://", "https://")):
        system = urlsplit(system).path
    if system in ("", "/redfish", "/redfish/v1"):
        return root, None
    return root, system if system.startswith("/") else f"/redfish/v1/Systems/{system}"

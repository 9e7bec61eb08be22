"""Power and boot device of a machine, whatever its BMC speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from accounts.secret import Secret
from servers.power.driver import Bmc, PowerCode, PowerDriver, PowerError, PowerState, Target, unasked
from servers.power.manual import Manual

__all__ = ["Bmc", "PowerCode", "PowerDriver", "PowerError", "PowerState", "Target", "driver", "power_of"]


class HasBmc(Protocol):
    """What of a server decides how its power is driven."""

    @property
    def power_driver(self) -> str: ...
    @property
    def bmc_url(self) -> str: ...
    @property
    def bmc_system(self) -> str: ...
    @property
    def bmc_user(self) -> str: ...
    @property
    def bmc_password(self) -> Secret | None: ...
    @property
    def bmc_verify_tls(self) -> bool: ...


def driver(bmc: Bmc | None, ask_first: Callable[[], None] = unasked) -> PowerDriver:
    """The driver for a machine with this BMC, or for one without any.

    `ask_first` is called immediately before every word to the BMC that changes something; if it raises, the word is
    not said. Only what was switched off by us is switched on again in any case.
    """
    if bmc is None:
        return Manual()
    # sushy takes a third of a second to import, and most processes never touch a BMC
    from servers.power.redfish import Redfish

    return Redfish(bmc, ask_first=ask_first)


def power_of(server: HasBmc, ask_first: Callable[[], None] = unasked) -> PowerDriver:
    """The driver for a server of the inventory; PowerError when what is on record about its BMC cannot be used.

    `ask_first` as for `driver`.
    """
    if server.power_driver == "manual":
        return driver(None)
    password = server.bmc_password or Secret("")
    return driver(Bmc(server.bmc_url, server.bmc_system, server.bmc_user, password, server.bmc_verify_tls), ask_first)

"""Machines without a BMC, and which driver a server gets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from accounts.secret import Secret
from servers.power import PowerDriver, PowerError, PowerState, Target, driver, power_of
from servers.power.manual import Manual
from servers.power.redfish import Redfish


@dataclass
class Record:
    """What the inventory knows of a server's BMC."""

    power_driver: str = "redfish"
    bmc_url: str = "https://192.0.2.40"
    bmc_system: str = ""
    bmc_user: str = "operator"
    bmc_password: Secret | None = None
    bmc_verify_tls: bool = True


def test_a_machine_without_bmc_is_left_to_hands_and_says_what_they_must_do() -> None:
    power: PowerDriver = driver(None)
    assert "network" in power.needs_hands and "by hand" in power.needs_hands
    assert power.state() is PowerState.UNKNOWN
    power.boot_from(Target.NETWORK, persistent=True)
    for act in (power.power_on, power.power_off, power.reset):
        act()


def test_a_server_gets_the_driver_that_the_inventory_names() -> None:
    assert isinstance(power_of(Record()), Redfish)
    assert isinstance(power_of(Record(power_driver="manual", bmc_url="")), Manual)


def test_a_redfish_server_without_an_address_is_refused() -> None:
    with pytest.raises(PowerError, match=r"The address of the BMC cannot be used\."):
        power_of(Record(bmc_url=""))

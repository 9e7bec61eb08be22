"""The BMC over real HTTP, as sushy sees it; the machines behind it stay off."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sushy
from sushy.auth import BasicAuth
from sushy.exceptions import AccessError, BadRequestError, ResourceNotFoundError

from lab import GIB, Machine, MachineSpec
from lab.bmc import Bmc
from lab.spec import Accelerator, BootSource

ONCE, CONTINUOUS = sushy.BOOT_SOURCE_ENABLED_ONCE, sushy.BOOT_SOURCE_ENABLED_CONTINUOUS
PXE, HDD = sushy.BOOT_SOURCE_TARGET_PXE, sushy.BOOT_SOURCE_TARGET_HDD


@pytest.fixture
def machines(tmp_path: Path) -> dict[str, Machine]:
    specs = [MachineSpec("oak", "uefi", (GIB,), 2201), MachineSpec("elm", "bios", (GIB,), 2202)]
    with ThreadPoolExecutor(1) as spawner:
        return {
            spec.name: Machine(spec, tmp_path / spec.name, "http://10.0.2.2", Accelerator.TCG, spawner)
            for spec in specs
        }


@pytest.fixture
def bmc(machines: dict[str, Machine], tmp_path: Path) -> Iterator[Bmc]:
    running = Bmc(machines, 0, "operator", "right", tmp_path)
    running.start()
    yield running
    running.stop()


def connect(bmc: Bmc, password: str = "right") -> Any:
    return sushy.Sushy(f"http://127.0.0.1:{bmc.port}", auth=BasicAuth("operator", password))


def system(bmc: Bmc, name: str) -> Any:
    return connect(bmc).get_system(f"/redfish/v1/Systems/{name}")


def test_a_wrong_password_is_refused(bmc: Bmc) -> None:
    with pytest.raises(AccessError):
        connect(bmc, "wrong").get_system("/redfish/v1/Systems/oak")


def test_without_a_password_there_is_a_401_that_asks_for_one(bmc: Bmc) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{bmc.port}/redfish/v1/Systems")
    assert caught.value.code == 401
    assert "Basic" in caught.value.headers["WWW-Authenticate"]


def test_every_machine_is_a_system_under_its_name(bmc: Bmc) -> None:
    assert [one.identity for one in connect(bmc).get_system_collection().get_members()] == ["elm", "oak"]
    assert system(bmc, "oak").uuid == MachineSpec("oak", "uefi", (), 0).uuid


def test_a_system_that_does_not_exist_is_not_found(bmc: Bmc) -> None:
    with pytest.raises(ResourceNotFoundError):
        system(bmc, "ash")


def test_a_machine_that_was_never_started_is_off(bmc: Bmc) -> None:
    assert system(bmc, "oak").power_state == sushy.POWER_STATE_OFF


@pytest.mark.parametrize("lasting", [ONCE, CONTINUOUS])
@pytest.mark.parametrize("target", [PXE, HDD])
def test_a_boot_override_reads_back_as_it_was_set(bmc: Bmc, target: Any, lasting: Any) -> None:
    oak = system(bmc, "oak")
    oak.set_system_boot_source(target, enabled=lasting, mode=sushy.BOOT_SOURCE_MODE_UEFI)
    oak.refresh(force=True)
    assert (oak.boot.target, oak.boot.enabled, oak.boot.mode) == (target, lasting, sushy.BOOT_SOURCE_MODE_UEFI)


def test_a_boot_override_is_one_machines_own(bmc: Bmc, machines: dict[str, Machine]) -> None:
    system(bmc, "oak").set_system_boot_source(HDD, enabled=ONCE)
    assert machines["oak"].override() == (BootSource.HDD, True)
    assert machines["elm"].override() == (BootSource.NONE, False)
    assert system(bmc, "elm").boot.enabled == sushy.BOOT_SOURCE_ENABLED_DISABLED


def test_a_boot_override_can_be_taken_back(bmc: Bmc, machines: dict[str, Machine]) -> None:
    oak = system(bmc, "oak")
    oak.set_system_boot_source(HDD, enabled=CONTINUOUS)
    oak.set_system_boot_source(HDD, enabled=sushy.BOOT_SOURCE_ENABLED_DISABLED)
    assert machines["oak"].override() == (BootSource.NONE, False)


@pytest.mark.parametrize(("name", "mode"), [("oak", sushy.BOOT_SOURCE_MODE_UEFI), ("elm", sushy.BOOT_SOURCE_MODE_BIOS)])
def test_the_boot_mode_is_that_of_the_firmware(bmc: Bmc, name: str, mode: Any) -> None:
    assert system(bmc, name).boot.mode == mode


def test_a_boot_mode_that_the_firmware_has_not_is_refused(bmc: Bmc) -> None:
    with pytest.raises(BadRequestError, match="boots in mode Legacy only"):
        system(bmc, "elm").set_system_boot_source(PXE, enabled=ONCE, mode=sushy.BOOT_SOURCE_MODE_UEFI)


def test_an_unknown_boot_source_is_refused(bmc: Bmc) -> None:
    oak = system(bmc, "oak")
    with pytest.raises(BadRequestError, match="Boot source Floppy"):
        oak._conn.patch("/redfish/v1/Systems/oak", data={"Boot": {"BootSourceOverrideTarget": "Floppy"}})


def test_an_unknown_reset_is_refused_and_the_known_ones_are_listed(bmc: Bmc) -> None:
    oak = system(bmc, "oak")
    assert sushy.RESET_TYPE_POWER_CYCLE in oak.get_allowed_reset_system_values()
    with pytest.raises(BadRequestError, match="PushPowerButton"):
        oak._conn.post("/redfish/v1/Systems/oak/Actions/ComputerSystem.Reset", data={"ResetType": "PushPowerButton"})


@pytest.mark.parametrize(
    "reset", [sushy.RESET_TYPE_FORCE_OFF, sushy.RESET_TYPE_FORCE_RESTART, sushy.RESET_TYPE_GRACEFUL_SHUTDOWN]
)
def test_a_machine_that_is_off_stays_off(bmc: Bmc, reset: Any) -> None:
    oak = system(bmc, "oak")
    oak.reset_system(reset)
    oak.refresh(force=True)
    assert oak.power_state == sushy.POWER_STATE_OFF


def test_two_bmcs_in_one_process_serve_their_own_machines(bmc: Bmc, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    other = Bmc({}, 0, "operator", "right", tmp_path / "second")
    other.start()
    try:
        assert connect(other).get_system_collection().get_members() == []
        assert len(connect(bmc).get_system_collection().get_members()) == 2
    finally:
        other.stop()

"""The worst done to real machines while they are reinstalled: workers killed, power cut, the new system cut off."""

from typing import Any

import pytest

from tests.e2e.house import House
from tests.e2e.installs import Proof
from tests.e2e.test_reinstall import STEPS, assert_every_step_was_done_once

pytestmark = [pytest.mark.qemu]

TAKEN_OVER_WITHIN = 30
"""Seconds in which another worker goes on where one was killed."""
NOTICED_WITHIN = 60
"""Seconds in which a server without power is known to have none."""


def events(landfall: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in landfall["events"] if event["kind"] == kind]


def starts_from(landfall: dict[str, Any]) -> list[str]:
    """What the server was told to start from, each time that its power was switched."""
    assert len(events(landfall, "power_cycling")) == len(events(landfall, "power_cycled"))
    return [event["target"] for event in events(landfall, "power_cycled")]


# oak: its worker killed during the copy, and once more while the system is made bootable


def test_a_killed_worker_is_replaced_within_30_seconds(oak: Proof) -> None:
    taken_over = [event["at"] for event in events(oak.landfall, "taken_over")]
    died = [oak.done_at["copy"], oak.done_at["bootable"]]
    assert len(taken_over) == 2
    assert [0 < taken - died < TAKEN_OVER_WITHIN for taken, died in zip(taken_over, died, strict=True)] == [True] * 2


def test_a_worker_was_killed_in_the_middle_of_the_copy_and_of_making_it_bootable(oak: Proof) -> None:
    for step, died in oak.done_at.items():
        begun, ended = (
            next(event["at"] for event in events(oak.landfall, kind) if event["step"] == step)
            for kind in ("step_started", "step_succeeded")
        )
        assert begun < died < ended


def test_an_install_whose_worker_is_killed_twice_ends_as_if_nothing_had_happened(oak: Proof) -> None:
    assert_every_step_was_done_once(oak)
    assert starts_from(oak.landfall) == ["network", "disk"]
    assert [len(events(oak.landfall, kind)) for kind in ("rescue_ready", "phoned_home")] == [1, 1]
    assert events(oak.landfall, "step_failed") == []


def test_no_byte_of_a_log_is_lost_or_doubled_when_its_worker_is_killed(oak: Proof) -> None:
    logs = oak.seen["logs"]
    assert set(logs) == {
        f"{step}-1" for step in STEPS if step not in ("rescue", "plan", "reboot", "phone-home", "verify")
    }
    assert {job: stored for job, (_, stored) in logs.items()} == {job: written for job, (written, _) in logs.items()}
    assert logs["bootable-1"][0] > 1000
    assert oak.landfall["log_gaps"] == []


def test_an_install_that_was_held_before_a_step_goes_on_when_it_is_released(oak: Proof) -> None:
    held, released = events(oak.landfall, "held"), events(oak.landfall, "released")
    assert ([event["before"] for event in held], len(released)) == (["reboot"], 1)
    reboot = next(event for event in events(oak.landfall, "step_started") if event["step"] == "reboot")
    assert held[0]["seq"] < released[0]["seq"] < reboot["seq"]


# elm: its power cut during the copy, then its new system cut off from Landfall


def test_a_server_that_loses_its_power_during_the_copy_is_noticed(elm: Proof) -> None:
    lost = events(elm.landfall, "step_failed")[0]
    assert (lost["step"], lost["attempt"], lost["resume_from"]) == ("copy", 1, "rescue")
    assert (lost["failure"]["code"], lost["failure"]["blame"]) == ("rescue-lost", "hardware")
    assert 0 < lost["at"] - elm.done_at["power cut"] < NOTICED_WITHIN


def test_after_a_power_cut_the_install_begins_again_with_the_rescue_system_by_itself(elm: Proof) -> None:
    before_the_cut = [[step, 1] for step in STEPS[: STEPS.index("copy") + 1]]
    again = [[step, 2] for step in STEPS[: STEPS.index("copy") + 1]]
    onwards = [["bootable", 1], ["reboot", 1], ["phone-home", 1]]
    assert elm.seen["failed"]["started"] == before_the_cut + again + onwards
    assert starts_from(elm.seen["failed"])[:3] == ["network", "network", "disk"]


def test_the_logs_of_a_system_that_cannot_call_are_fetched_before_its_install_fails(elm: Proof) -> None:
    failed = elm.seen["failed"]
    assert failed["status"] == "failed"
    assert failed["failure"]["code"] == "phone-home-unreachable"
    assert failed["failure"]["message"] in elm.output
    # booted into rescue once more, and no further
    assert starts_from(failed)[3:] == ["network"]
    log = elm.seen["aftermath"]
    assert "Landfall did not take the call" in log
    assert all(
        word in log for word in ("Reached target", "DataSourceConfigDrive", "linux\t/boot/vmlinuz-", "virtio_blk")
    )


def test_a_retry_takes_a_system_that_was_cut_off_to_a_verified_login(elm: Proof) -> None:
    assert elm.landfall["status"] == "succeeded"
    started = elm.landfall["started"][len(elm.seen["failed"]["started"]) :]
    assert started == [["reboot", 2], ["phone-home", 2], ["verify", 1]]
    assert starts_from(elm.landfall)[4:] == ["disk"]
    assert "You can log in" in elm.seen["retry"]


# both


def test_after_all_this_the_doctor_finds_nothing(house: House, oak: Proof, elm: Proof) -> None:
    assert house.inside("examine") == []

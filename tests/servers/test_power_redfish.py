"""Redfish against BMCs that lie, stall and refuse; and against the emulator that others test with."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.secret import Secret
from servers.power import Bmc, PowerError, PowerState, Target, driver
from servers.power.redfish import Redfish
from tests.ports import free_port
from tests.servers.bad_bmc import PASSWORD, BadBmc, running


class Pauses:
    """Stands where time.sleep does: remembers how long it was asked to wait, and does not."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def redfish(bad: BadBmc, pauses: Pauses | None = None, **given: Any) -> Redfish:
    return Redfish(bad.bmc(**given), connect_seconds=1, read_seconds=1, pause=pauses or Pauses())


def failure_of(act: Any) -> PowerError:
    with pytest.raises(PowerError) as error:
        act()
    assert error.value.message.endswith(".") and error.value.fix.endswith(".")
    return error.value


@pytest.mark.parametrize(
    ("said", "state"),
    [("On", "on"), ("Off", "off"), ("PoweringOn", "on"), ("PoweringOff", "unknown"), ("Paused", "unknown")],
)
def test_the_power_state_is_what_the_bmc_says(said: str, state: str) -> None:
    with running(power=said) as bad:
        assert redfish(bad).state() is PowerState(state)


@pytest.mark.parametrize(
    ("path", "system"),
    [("", "1"), ("", "/redfish/v1/Systems/1"), ("/redfish/v1", ""), ("/", ""), ("/redfish/v1/Systems/1", "")],
)
def test_the_system_is_found_however_its_address_is_written(path: str, system: str) -> None:
    with running(power="On") as bad:
        bmc = bad.bmc(system=system, url=f"http://127.0.0.1:{bad.port}{path}")
        assert Redfish(bmc).state() is PowerState.ON


def test_a_boot_override_is_set_for_one_start_and_with_the_mode_that_the_bmc_reports() -> None:
    with running() as bad:
        redfish(bad).boot_from(Target.NETWORK)
        boot = {
            "BootSourceOverrideTarget": "Pxe",
            "BootSourceOverrideEnabled": "Once",
            "BootSourceOverrideMode": "UEFI",
        }
        assert bad.writes() == [("PATCH", {"Boot": boot})]


def test_a_boot_override_can_be_set_for_good() -> None:
    with running() as bad:
        redfish(bad).boot_from(Target.DISK, persistent=True)
        assert bad.boot["BootSourceOverrideTarget"] == "Hdd"
        assert bad.boot["BootSourceOverrideEnabled"] == "Continuous"


def test_the_mode_is_left_out_where_the_bmc_reports_none() -> None:
    with running() as bad:
        del bad.boot["BootSourceOverrideMode"]
        redfish(bad).boot_from(Target.NETWORK)
        assert bad.boot["BootSourceOverrideTarget"] == "Pxe"


def test_a_boot_override_that_was_not_kept_is_set_again() -> None:
    with running(forgets_boot=1) as bad:
        redfish(bad).boot_from(Target.NETWORK)
        assert len(bad.writes()) == 2 and bad.boot["BootSourceOverrideTarget"] == "Pxe"


def test_a_boot_override_that_is_never_kept_is_an_error_that_says_so() -> None:
    with running(forgets_boot=9) as bad:
        error = failure_of(lambda: redfish(bad).boot_from(Target.NETWORK))
    assert error.code == "bmc-error"
    assert error.message == "The BMC accepts the boot device Pxe, and says None when it is read back."


def test_a_bmc_that_shows_no_override_is_believed() -> None:
    with running(hides_boot=True) as bad:
        redfish(bad).boot_from(Target.NETWORK)
        assert len(bad.writes()) == 1


def test_a_boot_device_that_the_bmc_does_not_offer_is_an_error() -> None:
    with running() as bad:
        bad.boot["BootSourceOverrideTarget@Redfish.AllowableValues"] = ["None", "Hdd"]
        assert failure_of(lambda: redfish(bad).boot_from(Target.NETWORK)).code == "bmc-error"
        assert bad.writes() == []


@pytest.mark.parametrize("status", [409, 503])
def test_a_busy_bmc_is_asked_again(status: int) -> None:
    pauses = Pauses()
    with running(busy=3, busy_status=status) as bad:
        redfish(bad, pauses).boot_from(Target.NETWORK)
        assert bad.boot["BootSourceOverrideTarget"] == "Pxe"
    assert pauses.seconds == [5, 5, 5]


def test_a_bmc_that_stays_busy_is_given_up_after_half_a_minute() -> None:
    pauses = Pauses()
    with running(busy=99) as bad:
        error = failure_of(redfish(bad, pauses).power_on)
    assert error.code == "bmc-error" and "409" in error.message
    assert sum(pauses.seconds) == 30


def refusing_after(times: int) -> Callable[[], None]:
    """Lets so many words through, and no more."""
    left = iter(range(times))

    def ask_first() -> None:
        if next(left, None) is None:
            raise PermissionError

    return ask_first


def test_somebody_is_asked_before_each_word_that_changes_something_and_before_each_repetition() -> None:
    with running(busy=3) as bad, pytest.raises(PermissionError):
        Redfish(bad.bmc(), pause=Pauses(), ask_first=refusing_after(2)).boot_from(Target.NETWORK)
    assert len(bad.writes()) == 2


def test_what_was_switched_off_to_be_restarted_is_switched_on_whatever_anybody_says_by_then() -> None:
    with running(power="On") as bad:
        Redfish(bad.bmc(), pause=Pauses(), ask_first=refusing_after(1)).reset(cold=True)
        assert bad.writes() == [("POST", {"ResetType": "ForceOff"}), ("POST", {"ResetType": "On"})]


def test_power_is_switched_on_and_off() -> None:
    with running(power="Off") as bad:
        redfish(bad).power_on()
        assert bad.power == "On"
        redfish(bad).power_off()
        assert bad.power == "Off"
        assert bad.writes() == [("POST", {"ResetType": "On"}), ("POST", {"ResetType": "ForceOff"})]


def test_what_is_on_already_is_not_switched_on() -> None:
    with running(power="On") as bad:
        redfish(bad).power_on()
        assert bad.writes() == []


def test_already_in_that_state_is_success_even_when_the_bmc_calls_it_an_error() -> None:
    with running(power="On", strict=True, lies_about_power=1) as bad:
        redfish(bad).power_on()
        assert bad.writes() == [("POST", {"ResetType": "On"})]


def test_a_conflict_about_a_state_that_is_reached_is_success_at_once() -> None:
    pauses = Pauses()
    with running(power="On", busy=1, lies_about_power=1) as bad:
        redfish(bad, pauses).power_on()
        assert len(bad.writes()) == 1
    assert pauses.seconds == []


def test_a_reset_restarts_what_is_on_and_switches_on_what_is_off() -> None:
    for power, asked in (("On", "ForceRestart"), ("Off", "On")):
        with running(power=power) as bad:
            redfish(bad).reset()
            assert bad.writes() == [("POST", {"ResetType": asked})] and bad.power == "On"


def test_a_cold_reset_takes_the_power_away_in_between_whatever_else_the_bmc_can() -> None:
    with running(power="On") as bad:
        redfish(bad).reset(cold=True)
        assert [body["ResetType"] for _method, body in bad.writes()] == ["ForceOff", "On"] and bad.power == "On"


@pytest.mark.parametrize(
    ("resets", "asked"),
    [(("On", "ForceOff", "PowerCycle"), ["PowerCycle"]), (("ForceOn", "ForceOff"), ["ForceOff", "ForceOn"])],
)
def test_a_reset_uses_what_the_bmc_can(resets: tuple[str, ...], asked: list[str]) -> None:
    with running(power="On", resets=resets) as bad:
        redfish(bad).reset()
        assert [body["ResetType"] for _method, body in bad.writes()] == asked and bad.power == "On"


def test_a_wrong_password_is_refused_with_a_code_of_its_own() -> None:
    with running() as bad:
        error = failure_of(redfish(bad, password="wrong-one").state)
    assert error.code == "bmc-refused"
    assert "operator" in error.message and "401" in error.message


def test_an_unknown_system_is_named() -> None:
    with running() as bad:
        error = failure_of(redfish(bad, system="7").state)
    assert error.code == "bmc-error" and "does not know 7" in error.message


def test_what_is_no_redfish_at_all_is_an_error_and_no_traceback() -> None:
    with running(not_redfish=True) as bad:
        error = failure_of(redfish(bad).state)
    assert error.code == "bmc-error" and "does not speak Redfish" in error.message


def test_a_refused_connection_is_unreachable() -> None:
    bmc = Bmc(f"http://127.0.0.1:{free_port()}", "1", "operator", Secret(PASSWORD))
    began = time.monotonic()
    error = failure_of(Redfish(bmc).state)
    assert error.code == "bmc-unreachable" and "cannot be reached" in error.message
    assert time.monotonic() - began < 3


def test_a_bmc_that_hangs_is_unreachable_after_the_read_timeout() -> None:
    with running(hangs=3) as bad:
        began = time.monotonic()
        error = failure_of(redfish(bad).state)
        assert error.code == "bmc-unreachable" and "does not answer in time" in error.message
        assert time.monotonic() - began < 2.5


def test_a_reset_whose_answer_is_late_is_not_asked_twice() -> None:
    with running(power="On") as bad:
        power = redfish(bad)
        post = bad.reset

        def slowly(body: Any) -> int:
            time.sleep(1.5)
            return post(body)

        bad.reset = slowly  # type: ignore[method-assign]
        assert failure_of(power.reset).code == "bmc-unreachable"
        time.sleep(1)
        assert len(bad.writes()) == 1


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("sushy", "urllib3", "requests"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def test_the_password_is_in_no_log_line_and_no_exception(everything_logged: pytest.LogCaptureFixture) -> None:
    with running(power="On") as bad:
        errors = [failure_of(redfish(bad, password=f"{PASSWORD}-wrong").state)]
        bad.fails, bad.fails_with = 500, f"cannot, because the password is {PASSWORD}"
        errors.append(failure_of(redfish(bad).power_off))
        bad.fails = None
        redfish(bad).boot_from(Target.NETWORK)
    assert "•••" in errors[1].message
    # what a handler that logs the exception would write, causes and all
    told = [line for error in errors for line in traceback.format_exception(error)]
    assert everything_logged.text.count("sushy") > 5
    assert PASSWORD not in "".join(told) + everything_logged.text


def test_a_proxy_of_the_environment_never_gets_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with running(power="On") as bad:
        assert redfish(bad).state() is PowerState.ON


@pytest.mark.parametrize(
    "url", ["", "10.0.0.5", "ftp://10.0.0.5", "https://", "https://root:calvin@10.0.0.5", "http://[x"]
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url: str) -> None:
    error = failure_of(lambda: Bmc(url, "1", "operator", Secret(PASSWORD)))
    assert error.code == "bmc-unreachable" and "calvin" not in str(error)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Bmc]:
    """sushy-tools' own emulator with its fake machine, whose power takes some seconds to change."""
    port = free_port()
    config = tmp_path / "emulator.conf"
    config.write_text(
        f"SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n"
        f"SUSHY_EMULATOR_STATE_DIR = {str(tmp_path)!r}\n"
    )
    argv = [sys.executable, "-m", "sushy_tools.emulator.main", "--fake", "--config", str(config)]
    with (tmp_path / "emulator.log").open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for_port(port, tmp_path / "emulator.log")
        yield Bmc(f"http://127.0.0.1:{port}", "", "anyone", Secret(PASSWORD))
    finally:
        process.terminate()
        process.wait(10)


def wait_for_port(port: int, log: Path) -> None:
    for _attempt in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_emulator_that_others_test_with_is_driven_through_a_whole_boot(emulator: Bmc) -> None:
    power = driver(emulator)
    assert power.needs_hands == ""
    assert power.state() is PowerState.OFF
    power.boot_from(Target.NETWORK)
    power.reset()
    deadline = time.monotonic() + 30
    while power.state() is not PowerState.ON and time.monotonic() < deadline:
        time.sleep(0.3)
    assert power.state() is PowerState.ON
    power.boot_from(Target.DISK, persistent=True)
    power.power_off()


def test_the_emulator_writes_no_password_into_its_own_request_log(emulator: Bmc, tmp_path: Path) -> None:
    driver(emulator).state()
    log = (tmp_path / "emulator.log").read_text()
    assert re.search(r"GET /redfish/v1", log) and PASSWORD not in log

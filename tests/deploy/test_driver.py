"""One install driven over a real sshd: what is stored, and what happens when things break in the middle."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from deploy import control, journal, live, queue, transport
from deploy.commands import Command, run
from deploy.driver import MOST_TAKEOVERS, Driver
from deploy.events import Failure, Kind, Status
from deploy.models import Install, LogChunk
from deploy.step import Context, Control, Done, Outcome, Perform, Step, WaitUntil, run_commands
from metadata import tokens
from metadata.models import Boot, Purpose
from servers.power import PowerCode, PowerError
from tests.builders import make_install, make_server
from tests.ports import free_port
from tests.sshd import Sshd, as_root

pytestmark = [
    pytest.mark.django_db(transaction=True),
    as_root,
]


def a_step(
    name: str, *commands: Command, perform: Perform = run_commands, timeout: float = 60, retries: int = 0,
    cancellable: bool = False,
) -> Step:  # fmt: skip
    """A step that runs these commands, none of which touches a disk."""

    def generator(ctx: Context) -> Iterator[Command]:
        yield from commands

    return Step(
        name, name.title(), timedelta(seconds=timeout), retries, name, cancellable, perform,
        generator if commands else None,
    )  # fmt: skip


def install_in_rescue(sshd: Sshd, *steps: Step) -> tuple[Install, dict[str, Step]]:
    """An install with these steps, whose rescue system is the sshd and has called."""
    server = make_server(disks=1, address="127.0.0.1", ssh_port=sshd.port, power_driver="manual")
    install = make_install(server, private_key=sshd.private_key, public_key=sshd.public_key)
    journal.append(install, Kind.PLANNED, {"steps": [step.name for step in steps]})
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b1"})
    return install, {step.name: step for step in steps}


def drive(install: Install, steps: dict[str, Step], stopping: threading.Event | None = None) -> Install:
    """The install after a worker has driven it as far as it goes."""
    claimed = queue.claim("worker", timezone.now())
    assert claimed
    Driver(*claimed, stopping or threading.Event(), steps).drive()
    return Install.objects.get(pk=install.pk)


def in_background(work: Callable[[], object]) -> threading.Thread:
    def run_and_close() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run_and_close)
    thread.start()
    return thread


def log_of(install: Install, step: str, attempt: int = 1) -> str:
    chunks = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("offset")
    return "".join(chunk.text for chunk in chunks)


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


NUMBERS = run("sh", "-c", "for i in $(seq 40); do echo line $i; sleep 0.05; done")


SLOW_NUMBERS = run("sh", "-c", "for i in $(seq 40); do echo line $i; sleep 0.25; done")
"""Ten seconds of them: whatever is to happen in the middle does so on a busy machine as well."""


def numbers_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("line ")]


ALL_NUMBERS = [f"line {number}" for number in range(1, 41)]


def test_every_step_is_done_once_in_order_and_its_log_is_stored(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("one", run("echo", "first")), a_step("two", run("echo", "second")))
    install = drive(install, steps)
    assert install.status == Status.SUCCEEDED
    kinds = [(event.kind, event.data.get("step")) for event in install.history()[3:]]
    assert kinds == [
        (Kind.STEP_STARTED, "one"), (Kind.STEP_SUCCEEDED, "one"), (Kind.STEP_STARTED, "two"),
        (Kind.STEP_SUCCEEDED, "two"),
    ]  # fmt: skip
    assert "first\n" in log_of(install, "one")
    assert "second\n" in log_of(install, "two")


def test_a_command_that_fails_is_named_with_its_status_and_last_words(sshd: Sshd) -> None:
    broken = run("sh", "-c", "echo before; echo no space left >&2; exit 28")
    install = drive(*install_in_rescue(sshd, a_step("copy", broken)))
    failure = install.last_failure
    assert failure
    assert (install.status, failure.exit_status) == (Status.FAILED, 28)
    assert "no space left" in failure.command
    assert failure.tail[-2:] == ("before", "no space left")


def test_a_failed_step_is_tried_again_as_often_as_it_may_be(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("copy", run("false"), retries=1))
    install = drive(install, steps)
    assert (install.status, install.attempt) == (Status.WAITING, 1)
    Install.objects.update(wake_at=timezone.now())
    install = drive(install, steps)
    assert (install.status, install.attempt) == (Status.FAILED, 2)


def test_a_failure_that_would_be_the_same_again_is_not_tried_again(sshd: Sshd) -> None:
    full = run("dd", "if=/dev/zero", "of=/dev/full", "bs=64K", "count=1", "status=none")
    install, steps = install_in_rescue(sshd, a_step("copy", full, retries=2))
    install = drive(install, steps)
    assert (install.status, install.attempt) == (Status.FAILED, 1)
    assert (install.failure["code"], install.failure["blame"]) == ("no-space", "customer")


def test_another_worker_goes_on_where_one_stopped_with_neither_gap_nor_double_line(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("copy", SLOW_NUMBERS))
    stopping = threading.Event()
    first = in_background(lambda: drive(install, steps, stopping))
    wait_for(lambda: "line 5\n" in log_of(install, "copy"))
    stopping.set()
    first.join()
    assert Install.objects.get().status == Status.RUNNING
    assert len(numbers_in(log_of(install, "copy"))) < 40
    assert drive(install, steps).status == Status.SUCCEEDED
    assert numbers_in(log_of(install, "copy")) == ALL_NUMBERS


def test_a_network_that_drops_in_the_middle_loses_nothing(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "RECONNECT_AFTER", 0.2)
    install, steps = install_in_rescue(sshd, a_step("copy", NUMBERS))
    worker = in_background(lambda: drive(install, steps))
    wait_for(lambda: "line 5\n" in log_of(install, "copy"))
    sshd.stop()
    time.sleep(0.7)
    sshd.start()
    worker.join()
    install.refresh_from_db()
    assert (install.status, install.attempt) == (Status.SUCCEEDED, 1)
    assert numbers_in(log_of(install, "copy")) == ALL_NUMBERS


def restarted_in_the_middle_of_copy(sshd: Sshd, *steps: Step) -> Install:
    install, named = install_in_rescue(sshd, *steps)
    worker = in_background(lambda: drive(install, named))
    wait_for(lambda: "line 5\n" in log_of(install, "copy"))
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    worker.join()
    return Install.objects.get()


def test_a_rescue_system_that_was_restarted_is_noticed(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "RECONNECT_AFTER", 0.2)
    failure = restarted_in_the_middle_of_copy(
        sshd, a_step("wipe", run("true")), a_step("copy", SLOW_NUMBERS)
    ).last_failure
    assert failure
    assert (failure.code, failure.blame) == ("rescue-lost", "hardware")


def test_a_rescue_system_lost_before_the_wipe_is_booted_again_though_no_retries_are_left(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "RECONNECT_AFTER", 0.2)
    install = restarted_in_the_middle_of_copy(sshd, a_step("rescue", run("true")), a_step("copy", SLOW_NUMBERS))
    last = install.history()[-1]
    assert (install.status, last.kind) == (Status.WAITING, Kind.STEP_FAILED)
    assert (last.data["failure"]["code"], last.data["resume_from"]) == ("rescue-lost", "rescue")


def test_nothing_is_copied_into_a_rescue_system_that_was_started_anew_while_nobody_looked(sshd: Sshd) -> None:
    def called(control: Control) -> Outcome:
        return Done({"boot_id": "b1"})

    install, steps = install_in_rescue(sshd, a_step("rescue", perform=called), a_step("copy", run("echo", "copied")))
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b2"})
    last = drive(install, steps).history()[-1]
    assert (last.kind, last.data["failure"]["code"], last.data["resume_from"]) == (
        Kind.STEP_FAILED, "rescue-lost", "rescue",
    )  # fmt: skip
    assert log_of(install, "copy") == ""


def test_a_step_that_takes_too_long_is_ended(sshd: Sshd, tmp_path: Path) -> None:
    slow = run("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 300")
    install = drive(*install_in_rescue(sshd, a_step("copy", slow, timeout=1)))
    assert install.last_failure
    assert install.last_failure.code == "step-timeout"
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_cancel_ends_a_step_that_may_be_cancelled_at_once(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("inspect", run("sleep", "30"), cancellable=True))
    worker = in_background(lambda: drive(install, steps))
    wait_for(lambda: "sleep" in log_of(install, "inspect"))
    began = time.monotonic()
    journal.append(install, Kind.CANCEL_REQUESTED, {})
    worker.join()
    assert Install.objects.get().status == Status.CANCELLED
    assert time.monotonic() - began < 10


def test_a_cancel_lets_a_step_that_must_not_be_cut_short_end(sshd: Sshd) -> None:
    steps = (a_step("wipe", run("sleep", "2")), a_step("copy", run("true")))
    install, by_name = install_in_rescue(sshd, *steps)
    worker = in_background(lambda: drive(install, by_name))
    wait_for(lambda: "sleep" in log_of(install, "wipe"))
    journal.append(install, Kind.CANCEL_REQUESTED, {})
    worker.join()
    state = install.state()
    assert state.status is Status.CANCELLED
    assert state.is_done("wipe")
    assert not state.of("copy").attempt
    assert install.events.get(kind=Kind.CANCELLED).data["left"] == "in the rescue system, its disks erased"


def test_a_waiting_install_holds_no_lease_and_goes_on_when_a_machine_calls(sshd: Sshd) -> None:
    def until_home(control: Control) -> Outcome:
        return Done() if control.state.phone_home else WaitUntil(control.deadline, "the machine")

    install, steps = install_in_rescue(sshd, a_step("phone-home", perform=until_home))
    install = drive(install, steps)
    assert (install.status, install.lease_token) == (Status.WAITING, None)
    assert not queue.due(timezone.now()).exists()
    journal.append(install, Kind.PHONED_HOME, {"boot_id": "b2", "host_keys": []})
    assert drive(install, steps).status == Status.SUCCEEDED


def test_a_call_that_comes_while_the_step_decides_to_wait_is_not_slept_over(sshd: Sshd) -> None:
    def called_after_the_look(control: Control) -> Outcome:
        seen = control.state.phone_home
        if not seen:
            journal.append(install, Kind.PHONED_HOME, {"boot_id": "b2", "host_keys": []})
        return Done() if seen else WaitUntil(control.deadline, "the machine")

    install, steps = install_in_rescue(sshd, a_step("phone-home", perform=called_after_the_look))
    assert drive(install, steps).status == Status.SUCCEEDED


def test_a_call_that_comes_while_the_install_is_given_back_wakes_a_worker(sshd: Sshd) -> None:
    is_late = False

    def called_after_the_look(control: Control) -> Outcome:
        if is_late:
            journal.append(install, Kind.PHONED_HOME, {"boot_id": "b2", "host_keys": []})
            live.work.clear()  # who was woken by the call found the install leased
        return WaitUntil(control.deadline, "the machine")

    install, steps = install_in_rescue(sshd, a_step("phone-home", perform=called_after_the_look))
    drive(install, steps)
    is_late = True
    Install.objects.update(wake_at=timezone.now())
    drive(install, steps)
    assert live.work.is_set()
    assert queue.due(timezone.now()).exists()


def test_when_nobody_calls_in_time_the_failure_says_whose_it_is(sshd: Sshd) -> None:
    def forever(control: Control) -> Outcome:
        return WaitUntil(control.deadline, "the machine")

    install, steps = install_in_rescue(sshd, a_step("phone-home", perform=forever, timeout=0.5))
    drive(install, steps)
    time.sleep(0.6)
    Install.objects.update(wake_at=timezone.now())
    failure = drive(install, steps).last_failure
    assert isinstance(failure, Failure)
    assert failure.fix


def test_a_bmc_that_refuses_its_password_is_not_asked_again(sshd: Sshd) -> None:
    def locked(control: Control) -> Outcome:
        raise PowerError(PowerCode.REFUSED, "The BMC refuses the password.", "Correct it.")

    install = drive(*install_in_rescue(sshd, a_step("rescue", perform=locked, retries=5)))
    assert install.last_failure
    assert (install.status, install.last_failure.code) == (Status.FAILED, "bmc-refused")


def test_a_defect_of_landfall_itself_fails_the_step_and_says_so(sshd: Sshd) -> None:
    def defect(control: Control) -> Outcome:
        raise ZeroDivisionError

    install = drive(*install_in_rescue(sshd, a_step("plan", perform=defect)))
    assert install.last_failure
    assert install.last_failure.code == "internal-error"


def test_the_private_key_is_forgotten_when_somebody_can_log_in(sshd: Sshd) -> None:
    install = drive(*install_in_rescue(sshd, a_step("verify", run("true"))))
    assert install.status == Status.SUCCEEDED
    assert not install.private_key


def test_the_host_key_of_a_silent_address_is_none() -> None:
    with pytest.raises(transport.Unreachable):
        transport.host_key("127.0.0.1", free_port())


@pytest.mark.parametrize(("comes_back", "is_there"), [("itself", True), ("another system", False), ("nobody", False)])
def test_a_rescue_system_that_does_not_answer_at_once_is_given_time_before_it_counts_as_restarted(
    sshd: Sshd, comes_back: str, is_there: bool
) -> None:
    def asks(control: Control) -> Outcome:
        return Done({"there": control.still_in_rescue(timedelta(seconds=6))})

    install, steps = install_in_rescue(sshd, a_step("reboot", perform=asks))
    sshd.stop()

    def come_back() -> None:
        time.sleep(1)
        if comes_back == "another system":
            sshd.new_host_key()
        if comes_back != "nobody":
            sshd.start()

    coming = in_background(come_back)
    state = drive(install, steps).state()
    coming.join()
    assert state.result("reboot") == {"there": is_there}


def test_what_ends_every_worker_ends_the_install_before_it_ends_them_all(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("one", run("echo", "first")))
    journal.append(install, Kind.STEP_STARTED, {"step": "one", "attempt": 1})
    token = tokens.mint(install.uuid, install.server, Purpose.PHONE_HOME, timedelta(hours=1)).reveal()
    for number in range(MOST_TAKEOVERS):
        assert Install.objects.get(pk=install.pk).is_live
        dead = {"lease_token": uuid4(), "lease_worker": f"worker-{number}", "lease_until": timezone.now()}
        Install.objects.filter(pk=install.pk).update(**dead)
        taken = queue.claim("another", timezone.now())
        assert taken

        def break_down(_: Control) -> Outcome:
            raise SystemExit  # nothing that a driver may catch: its worker is gone

        broken = {"one": replace(steps["one"], perform=break_down)}
        with contextlib.suppress(SystemExit):
            Driver(*taken, threading.Event(), broken).drive()
    ended = Install.objects.get(pk=install.pk)
    assert (ended.status, ended.last_failure and ended.last_failure.code) == (Status.FAILED, "internal-error")
    assert ended.history()[-1].data["reason"].startswith(f"{MOST_TAKEOVERS} workers in a row")
    assert Boot.objects.get(server=install.server).target == "disk"
    with pytest.raises(tokens.TokenSpent):
        tokens.look(token, Purpose.PHONE_HOME)


def test_a_step_that_gets_done_makes_vanished_workers_forgotten(sshd: Sshd) -> None:
    install, steps = install_in_rescue(sshd, a_step("one", run("echo", "first")), a_step("two", run("echo", "second")))
    journal.append(install, Kind.STEP_STARTED, {"step": "one", "attempt": 1})
    journal.append(install, Kind.TAKEN_OVER, {"from": "a", "by": "b"})
    assert install.state().takeovers == 1
    assert drive(install, steps).state().takeovers == 0

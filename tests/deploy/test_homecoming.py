"""Off into the new system, and back into rescue when it is silent: in whatever order things die and calls come.

The steps alone, with a control of our own at the seam; then the real driver with a real BMC and a real rescue system.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from accounts.secret import Secret
from deploy import actions, control, doctor, driver, errors, journal, queue
from deploy.certificate import Certificate, Finding
from deploy.commands import Command, run
from deploy.driver import Driver
from deploy.events import Event, Kind, State, Status, fold
from deploy.models import Install
from deploy.pages.whereabouts import Whereabouts, whereabouts
from deploy.step import Address, Context, Control, Done, Outcome, Step, StepFailed, WaitUntil, failed
from deploy.steps import STEPS, aftermath, finish
from deploy.steps.finish import HOME_WITHIN, ONCE_MORE_WITHIN, PHONE_HOME, REBOOT, RESCUE_WITHIN, UNLOCKED_WITHIN
from lab.simulation.readback import as_planned
from metadata import tokens
from metadata.models import Boot, Purpose
from servers.facts import Facts
from servers.power import PowerCode, PowerDriver, PowerError, Target, power_of
from servers.storage import named
from servers.storage.layout import Layout, plain
from servers.storage.plan import Plan
from tests.builders import make_install, make_server, make_user
from tests.deploy.contexts import make_context
from tests.deploy.happenings import broken, done, history, started
from tests.deploy.histories import Past, running
from tests.deploy.situations import prove, tame
from tests.deploy.test_driver import in_background, log_of, wait_for
from tests.servers.bad_bmc import PASSWORD, USER, BadBmc
from tests.servers.bad_bmc import running as running_bmc
from tests.sshd import Sshd, as_root

Happened = tuple[Kind, dict[str, Any]]

ORDER = ("rescue", "bootable", "reboot", "phone-home", "verify")
CYCLING: Happened = (Kind.POWER_CYCLING, {"target": "disk"})
CYCLED: Happened = (Kind.POWER_CYCLED, {"target": "disk"})
HOME: Happened = (Kind.PHONED_HOME, {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "b", "kernel": "6.1"})
READY: Happened = (Kind.RESCUE_READY, {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "r"})

BOOTED: tuple[Happened, ...] = (
    (Kind.REQUESTED, {}), (Kind.PLANNED, {"steps": list(ORDER)}),
    started("rescue"), CYCLING, CYCLED, READY, done("rescue"), started("bootable"), done("bootable"),
)  # fmt: skip
"""An install up to its reboot."""
REBOOTED = (*BOOTED, started("reboot"), CYCLING, CYCLED, done("reboot"), started("phone-home"))
"""An install that has just begun to wait for the new system."""


# --- the steps alone


@dataclass
class Fake(Control):
    """A control that writes down what it is asked to do, and appends what a real one would."""

    events: list[Event]
    now: datetime = field(default_factory=timezone.now)
    rescue_answers: bool = True
    job: Callable[[], bytes] = lambda: json.dumps(as_planned(finish.asked(make_context()))).encode()
    did: list[str] = field(default_factory=list)
    hands: str = ""
    layout: Layout | None = None
    deadline: datetime = field(init=False)
    address: Address = field(default_factory=lambda: Address("192.0.2.1", 22))
    expected_serial: str = ""
    key: str | None = None

    def __post_init__(self) -> None:
        self.deadline = self.now + timedelta(minutes=30)

    @property
    def state(self) -> State:
        return fold(self.events)

    @property
    def expected_macs(self) -> frozenset[str]:
        return frozenset()

    @property
    def context(self) -> Context:
        return make_context(layout=self.layout)

    def happens(self, *happened: Happened) -> None:
        """Appended to the history at this control's time."""
        for kind, data in happened:
            self.events.append(Event(len(self.events) + 1, kind, self.now, data))

    def after(self, span: timedelta, since: datetime | None = None) -> datetime:
        state = self.state
        began = since or state.of(str(state.next_step())).started_at
        assert began
        return began + span

    def say(self, text: str) -> None:
        self.did.append("say")

    def log_text(self) -> str:
        return ""

    def run_job(self, *, result: bool = False, any_rescue: bool = False) -> bytes:
        self.did.append("job")
        return self.job()

    def certify(self, certificate: Certificate) -> None:
        self.did.append("certify")
        self.happens((Kind.READ_BACK, {"step": "reboot", "attempt": self.state.of("reboot").attempt,
                                       "certificate": certificate.to_json()}))  # fmt: skip

    def boot_into_rescue(self) -> None:
        self.did.append("next boot: rescue")

    def boot_from_disk(self) -> None:
        self.did.append("next boot: disk")

    def power_cycle(self, target: Target, *, persistent: bool = False, say: bool = True) -> None:
        self.did.append(f"restart from {target.value}")
        self.happens(CYCLING, CYCLED)

    def replan(self, facts: Facts) -> Plan:
        raise NotImplementedError

    def remember_facts(self, facts: Facts) -> None:
        raise NotImplementedError

    def host_key(self) -> str | None:
        return self.key

    def still_in_rescue(self, patience: timedelta = timedelta(0)) -> bool:
        return self.rescue_answers


def at(*happened: Happened, late: timedelta = timedelta(0), **given: Any) -> Fake:
    """A control of an install with this history, so late after its last event."""
    events = history(*happened)
    return Fake(events, events[-1].at + late, **given)


RESTARTED = ["next boot: disk", "restart from disk"]


@pytest.mark.parametrize(
    ("happened", "in_rescue", "does"),
    [
        ((), True, ["job", "certify", "say", *RESTARTED]),
        ((CYCLING, CYCLED), True, []),
        ((CYCLING, CYCLED), False, []),
        ((CYCLING,), False, []),  # it was begun, and has worked
        ((CYCLING,), True, RESTARTED),  # it was begun, and has not; nothing is mounted any more
    ],
    ids=["from the beginning", "it was done", "it was done, and worked", "it was begun, and worked", "it was begun"],
)
def test_a_restart_is_done_once_whatever_died_in_it(
    happened: Sequence[Happened], in_rescue: bool, does: list[str]
) -> None:
    control = at(*BOOTED, started("reboot"), *happened, rescue_answers=in_rescue)
    assert finish.reboot(control) == Done()
    assert control.did == does


def test_a_server_that_was_restarted_though_its_bmc_said_otherwise_is_not_waited_for_in_rescue() -> None:
    failed_once = (started("reboot"), CYCLING, broken("reboot", resume_from="reboot"), started("reboot", 2))
    control = at(*BOOTED, *failed_once, rescue_answers=False)
    finish.reboot(control)
    assert control.did == RESTARTED


def test_what_was_written_is_brought_to_the_disk_even_if_an_older_system_had_been_started() -> None:
    """A second install of the same history: that its rescue system is silent for a moment means nothing."""
    again = (
        broken("phone-home"), (Kind.RETRIED, {"step": "rescue"}), started("rescue", 2), done("rescue", 2),
        started("bootable", 2), done("bootable", 2), started("reboot", 2),
    )  # fmt: skip
    control = at(*REBOOTED, *again, rescue_answers=False)
    finish.reboot(control)
    assert control.did == ["job", "certify", "say", *RESTARTED]


def test_disks_that_are_not_as_planned_are_told_and_not_started_from() -> None:
    def job() -> bytes:
        seen = as_planned(finish.asked(make_context()))
        seen["arrays"]["/dev/md/root"]["degraded"] = 1
        return json.dumps(seen).encode()

    control = at(*BOOTED, started("reboot"), job=job)
    with pytest.raises(StepFailed, match=r"not what was planned\. /dev/md/root: RAID1 .*1 members missing") as refused:
        finish.reboot(control)
    assert (refused.value.failure.code, refused.value.final) == ("read-back-differs", True)
    assert [done for done in control.did if done != "say"] == ["job", "certify"]
    assert control.state.certificate["ok"] is False


def test_a_network_card_without_a_driver_is_told_and_the_new_system_started_all_the_same() -> None:
    def job() -> bytes:
        seen = as_planned(finish.asked(make_context()))
        for kernel in seen["kernels"].values():
            kernel["without_network"] = ["virtio_net"]
        return json.dumps(seen).encode()

    control = at(*BOOTED, started("reboot"), job=job)
    finish.reboot(control)
    assert control.did == ["job", "certify", "say", "say", *RESTARTED]
    assert control.state.certificate["ok"] is False


def test_what_cannot_be_read_of_what_was_read_back_starts_nothing() -> None:
    control = at(*BOOTED, started("reboot"), job=lambda: b"Traceback")
    with pytest.raises(StepFailed, match="is not JSON"):
        finish.reboot(control)
    assert control.did == ["job"]


def verified(mounts: dict[str, str]) -> Fake:
    """A control of an install that stands before its verification, whose new system has said that this is mounted."""
    kind, data = HOME
    called = (kind, data | {"mounts": mounts, "degraded_arrays": []})
    read_back = (Kind.READ_BACK, {"step": "reboot", "attempt": 1, "certificate": CERTIFICATE.to_json()})
    before = (*BOOTED, started("reboot"), read_back, CYCLING, CYCLED, done("reboot"), started("phone-home"))
    return at(*before, called, done("phone-home"), started("verify"), key="ssh-ed25519 AAAA")


CERTIFICATE = Certificate((Finding("arrays", "/dev/md/root", "whole", "the same", True),))


def test_the_certificate_is_whole_with_what_the_new_system_has_said_of_itself() -> None:
    plan = make_context().plan
    control = verified({one.mount: one.uuid for one in plan.mounts})
    outcome = finish.verify(control)
    assert isinstance(outcome, Done)
    whole = Certificate.from_json(outcome.result["certificate"])
    assert whole.ok
    assert [finding.topic for finding in whole.findings] == ["arrays", *["running"] * 4]


def test_a_mount_that_a_first_boot_script_has_changed_is_told_and_fails_nothing() -> None:
    plan = make_context().plan
    outcome = finish.verify(verified({"/": plan.root.uuid, "/boot/efi": "another"}))
    assert isinstance(outcome, Done)
    assert [one.what for one in Certificate.from_json(outcome.result["certificate"]).wrong] == ["/boot/efi"]


def test_a_system_that_runs_from_another_disk_is_nobodys_to_log_into() -> None:
    with pytest.raises(StepFailed, match="runs from an-old-system") as refused:
        finish.verify(verified({"/": "an-old-system"}))
    assert refused.value.failure.code == "another-system"


def test_who_has_to_type_a_passphrase_at_the_console_is_given_time_and_told_of_it() -> None:
    encrypted = named.encrypted(plain())
    waits = PHONE_HOME.perform(at(*REBOOTED, late=HOME_WITHIN * 2, layout=encrypted))
    assert isinstance(waits, WaitUntil) and "passphrase" in waits.reason
    waits = PHONE_HOME.perform(at(*REBOOTED, late=HOME_WITHIN + UNLOCKED_WITHIN, layout=encrypted))
    assert isinstance(waits, WaitUntil) and "one more call" in waits.reason
    waits = PHONE_HOME.perform(at(*REBOOTED, late=HOME_WITHIN, layout=plain()))
    assert isinstance(waits, WaitUntil) and "one more call" in waits.reason
    assert PHONE_HOME.time_for(make_context(layout=encrypted).plan) > HOME_WITHIN + UNLOCKED_WITHIN


def test_a_system_that_calls_in_time_is_left_alone() -> None:
    control = at(*REBOOTED, HOME, late=HOME_WITHIN * 2)
    outcome = finish.phone_home(control)
    assert isinstance(outcome, Done)
    assert outcome.result["boot_id"] == "b"
    assert control.did == ["say"]


def wait_on(control: Fake, outcome: Outcome) -> None:
    """What the driver notes when a step waits, and the time until it looks again."""
    assert isinstance(outcome, WaitUntil)
    attempt = control.state.of("phone-home").attempt
    control.happens((Kind.STEP_WAITING, {"step": "phone-home", "attempt": attempt, "reason": outcome.reason}))
    control.now = outcome.look_at


def test_a_silent_system_is_waited_for_then_once_more_then_its_logs_are_fetched_in_one_restart() -> None:
    control = at(*REBOOTED)
    began = control.now
    wait_on(control, finish.phone_home(control))
    assert control.now == began + HOME_WITHIN
    wait_on(control, finish.phone_home(control))
    assert control.now == began + HOME_WITHIN + ONCE_MORE_WITHIN
    wait_on(control, finish.phone_home(control))
    assert control.did == ["next boot: rescue", "restart from network"]
    assert control.now == began + HOME_WITHIN + ONCE_MORE_WITHIN + RESCUE_WITHIN
    control.now -= timedelta(minutes=1)
    control.happens(READY)
    with pytest.raises(StepFailed) as failure:
        finish.phone_home(control)
    assert failure.value.final
    assert failure.value.failure.code.startswith("phone-home-")
    assert control.did == ["next boot: rescue", "restart from network", "job"]


def waits_for(reason: str) -> Happened:
    return Kind.STEP_WAITING, {"step": "phone-home", "attempt": 1, "reason": reason}


TWICE = (CYCLING, CYCLED, waits_for(finish.FOR_RESCUE), CYCLING, CYCLED, waits_for(finish.FOR_RESCUE_AGAIN))


def guarded(*more: Happened, **given: Any) -> Fake:
    """A control of an install whose silent server was restarted twice to read its logs, and is waited for."""
    return at(*REBOOTED, *TWICE, *more, **given)


def test_a_rescue_system_that_does_not_call_is_booted_once_more_before_it_is_given_up() -> None:
    control = at(*REBOOTED, CYCLING, CYCLED, waits_for(finish.FOR_RESCUE), late=RESCUE_WITHIN)
    wait_on(control, finish.phone_home(control))
    assert control.did == ["restart from network"]
    assert control.state.of("phone-home").waiting_for == finish.FOR_RESCUE_AGAIN
    with pytest.raises(StepFailed):
        finish.phone_home(control)
    assert control.did == ["restart from network"]


def test_where_somebody_restarts_the_server_by_hand_nobody_is_asked_twice() -> None:
    waits = waits_for(f"{finish.FOR_RESCUE}. Press the button.")
    control = at(*REBOOTED, CYCLING, CYCLED, waits, late=RESCUE_WITHIN, hands="Press the button.")
    with pytest.raises(StepFailed):
        finish.phone_home(control)
    assert control.did == []


def test_a_rescue_system_that_called_before_the_restart_is_not_taken_for_one_that_calls_after_it() -> None:
    control = at(*REBOOTED, READY, CYCLING, CYCLED)
    assert isinstance(finish.phone_home(control), WaitUntil)
    assert "job" not in control.did


def test_when_the_rescue_system_never_calls_either_the_failure_says_both() -> None:
    with pytest.raises(StepFailed) as failure:
        finish.phone_home(guarded(late=RESCUE_WITHIN))
    assert (failure.value.failure.code, failure.value.final) == ("phone-home-missing", True)
    assert "never called" in failure.value.failure.message


@pytest.mark.parametrize("rescue", [(), (READY,)], ids=["the rescue system is silent", "the rescue system has called"])
def test_a_system_that_calls_while_it_is_being_restarted_is_started_from_its_disk_again(
    rescue: tuple[Happened, ...],
) -> None:
    """Its call has come, and it makes no other: it has failed at nothing but at being in time."""
    with pytest.raises(StepFailed) as failure:
        finish.phone_home(guarded(HOME, *rescue, late=RESCUE_WITHIN))
    assert (failure.value.failure.code, failure.value.final) == ("phone-home-late", False)
    assert PHONE_HOME.retry_from == "reboot"


def test_logs_that_cannot_be_read_are_a_finding_too() -> None:
    def gone() -> bytes:
        raise StepFailed(errors.failure("rescue-lost", "The server is off."))

    with pytest.raises(StepFailed) as failure:
        finish.phone_home(guarded(READY, job=gone))
    assert failure.value.final
    assert "The server is off." in failure.value.failure.message


# --- the real driver


@pytest.fixture
def bmc() -> Iterator[BadBmc]:
    with running_bmc() as bmc:
        yield bmc


real = pytest.mark.django_db(transaction=True)


class Died(BaseException):
    """The worker's process is gone: nothing of it is tidied up."""


def silent_system(bmc: BadBmc, sshd: Sshd | None = None) -> Install:
    """An install whose new system should have called long ago, and was waited for once more."""
    account: dict[str, Any] = {"bmc_url": f"http://127.0.0.1:{bmc.port}", "bmc_system": "1", "bmc_user": USER}
    server = make_server(
        disks=1, address="127.0.0.1", ssh_port=sshd.port if sshd else 1, bmc_password=Secret(PASSWORD), **account
    )
    keys = {"private_key": sshd.private_key, "public_key": sshd.public_key} if sshd else {}
    install, past = running("phone-home", timezone.now() - timedelta(hours=2), server=server, **keys)
    past.now = timezone.now() - timedelta(minutes=5)
    waits(past, finish.FOR_ONE_MORE_CALL)
    return install


def waits(past: Past, reason: str, attempt: int = 1) -> None:
    past.event(Kind.STEP_WAITING, step="phone-home", attempt=attempt, reason=reason, next="", until=None)


def twenty_lines(ctx: Context) -> Iterator[Command]:
    yield run("seq", "--format=line %g", "20")


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the job waits for once it has printed ten of its lines."""
    file = tmp_path / "gate"

    def half_of_them_first(ctx: Context) -> Iterator[Command]:
        yield run("seq", "--format=line %g", "10")
        yield run("sh", "-c", f"while [ ! -e {file} ]; do sleep 0.1; done")
        yield run("seq", "--format=line %g", "11", "20")

    monkeypatch.setitem(STEPS_HERE, "phone-home", replace(PHONE_HOME, commands=half_of_them_first))
    return file


def nothing_at_all(ctx: Context) -> Iterator[Command]:
    yield run("true")


def on_call(control: Control) -> Outcome:
    return Done({"verified": "SHA256:x"})


STEPS_HERE: dict[str, Step] = {
    **tame(),
    "reboot": replace(REBOOT, commands=nothing_at_all),
    "phone-home": replace(PHONE_HOME, commands=twenty_lines),
    "verify": replace(STEPS["verify"], perform=on_call),
}


def drive(install: Install, later: timedelta = timedelta(0), stopping: threading.Event | None = None) -> State:
    """The state after a worker has driven the install, so much later than now; it must be due then."""
    claimed = queue.claim("worker", timezone.now() + later)
    assert claimed, "it is not due"
    with suppress(Died):
        Driver(*claimed, stopping or threading.Event(), STEPS_HERE).drive()
    return prove(install)


def deadly(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The worker dies at this moment of its next restart of a server, and no other one does."""
    alive = [True]

    def die(when: str) -> None:
        if when == moment and alive:
            alive.clear()
            raise Died

    def at_the_edge(server: Any, *ask_first: Callable[[], None]) -> PowerDriver:
        real_one = power_of(server, *ask_first)

        def boot_from(target: Target, persistent: bool = False) -> None:
            die("before the BMC is asked")
            real_one.boot_from(target, persistent)

        def reset(cold: bool = False) -> None:
            die("before the reset")
            real_one.reset(cold)
            die("after the reset")

        return SimpleNamespace(needs_hands="", boot_from=boot_from, reset=reset, state=real_one.state)

    monkeypatch.setattr(control, "power_of", at_the_edge)
    monkeypatch.setattr(driver, "power_of", at_the_edge)


def resets(bmc: BadBmc) -> list[str]:
    return [body["ResetType"] for method, body in bmc.writes() if method == "POST"]


TAKEN_OVER = queue.LEASE_TIME * 1.1


@real
@as_root
@pytest.mark.parametrize("moment", ["never", "after the reset"])
def test_a_silent_server_is_restarted_exactly_once_and_its_logs_are_attached(
    moment: str, bmc: BadBmc, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, moment)
    install = silent_system(bmc, sshd)
    drive(install)
    state = drive(install, TAKEN_OVER) if moment != "never" else prove(install)
    assert state.status is Status.WAITING
    assert state.of("phone-home").waiting_for == finish.FOR_RESCUE
    assert len(resets(bmc)) == 1
    assert Boot.objects.get(server=install.server).target == "rescue"
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    state = drive(install)
    assert state.failure
    assert state.status is Status.FAILED
    assert state.failure.code.startswith("phone-home-")
    assert [line for line in log_of(install, "phone-home").splitlines() if line.startswith("line ")] == [
        f"line {number}" for number in range(1, 21)
    ]
    assert (len(resets(bmc)), len(state.cycling)) == (1, 1)


def overdue(install: Install) -> None:
    """The rescue system in which logs are to be read should have called by now."""
    past = Past(install)
    past.now -= timedelta(minutes=11)
    waits(past, finish.FOR_RESCUE + " ")
    past.now += timedelta(seconds=30)
    waits(past, finish.FOR_RESCUE)
    past.now = timezone.now()
    Install.objects.update(wake_at=timezone.now())


@real
@as_root
def test_a_server_that_stays_silent_after_its_reset_is_switched_off_and_on(bmc: BadBmc, sshd: Sshd) -> None:
    bmc.power = "On"
    install = silent_system(bmc, sshd)
    drive(install)
    assert resets(bmc) == ["ForceRestart"]
    overdue(install)
    drive(install)
    assert resets(bmc) == ["ForceRestart", "ForceOff", "On"]


@real
@as_root
@pytest.mark.parametrize("moment", ["before the BMC is asked", "before the reset"])
def test_a_restart_that_was_begun_and_never_happened_is_made_once_the_rescue_system_is_overdue(
    moment: str, bmc: BadBmc, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, moment)
    install = silent_system(bmc, sshd)
    drive(install)
    assert prove(install).status is Status.WAITING
    state = drive(install, TAKEN_OVER)
    assert (state.status, resets(bmc), len(state.cycling)) == (Status.WAITING, [], 1)
    overdue(install)
    state = drive(install)
    assert (state.of("phone-home").waiting_for, len(resets(bmc))) == (finish.FOR_RESCUE_AGAIN, 1)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    state = drive(install)
    assert state.failure
    assert state.status is Status.FAILED
    assert "line 20\n" in log_of(install, "phone-home")


@real
@as_root
def test_another_worker_goes_on_reading_the_logs_where_one_stopped(bmc: BadBmc, sshd: Sshd, gate: Path) -> None:
    install = silent_system(bmc, sshd)
    drive(install)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    stopping = threading.Event()
    first = in_background(lambda: drive(install, stopping=stopping))
    wait_for(lambda: "line 10\n" in log_of(install, "phone-home"))
    stopping.set()
    first.join()
    assert prove(install).status.is_live
    gate.touch()
    assert drive(install).status is Status.FAILED
    lines = [line for line in log_of(install, "phone-home").splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(1, 21)]
    assert len(resets(bmc)) == 1


@real
@as_root
def test_a_system_that_phones_home_while_its_logs_are_read_is_started_again_and_succeeds(
    bmc: BadBmc, sshd: Sshd, gate: Path
) -> None:
    install = silent_system(bmc, sshd)
    drive(install)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    reading = in_background(lambda: drive(install))
    wait_for(lambda: "line 10\n" in log_of(install, "phone-home"))
    journal.append(install, Kind.PHONED_HOME, {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "b2", "kernel": "6.1"})
    gate.touch()
    reading.join()
    state = prove(install)
    assert (state.status, state.next_step()) == (Status.WAITING, "reboot")
    failed = next(event for event in install.history() if event.kind is Kind.STEP_FAILED)
    assert failed.data["failure"]["code"] == "phone-home-late"
    state = drive(install, timedelta(seconds=10))
    assert state.status is Status.SUCCEEDED
    targets = [event.data["target"] for event in install.history() if event.kind is Kind.POWER_CYCLING]
    assert targets == ["network", "disk"]
    assert len(resets(bmc)) == 2
    assert Boot.objects.get(server=install.server).target == "disk"
    assert not Install.objects.get(pk=install.pk).private_key


@real
@as_root
def test_a_retry_after_the_guard_starts_the_system_from_its_disk_with_the_token_that_it_has(
    bmc: BadBmc, sshd: Sshd
) -> None:
    install = silent_system(bmc, sshd)
    token = tokens.mint(install.uuid, install.server, Purpose.PHONE_HOME, timedelta(seconds=-1)).reveal()
    drive(install)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    assert drive(install).status is Status.FAILED
    with pytest.raises(tokens.TokenSpent):
        tokens.look(token, Purpose.PHONE_HOME)
    actions.retry(install, make_user("ops"))
    assert prove(install).next_step() == "reboot"
    assert tokens.look(token, Purpose.PHONE_HOME).install == install.uuid
    state = drive(install)
    assert (state.status, state.next_step()) == (Status.WAITING, "phone-home")
    assert state.of("phone-home").attempt == 2
    journal.append(install, Kind.PHONED_HOME, {"host_keys": ["ssh-ed25519 AAAA"], "boot_id": "b2", "kernel": "6.1"})
    assert drive(install).status is Status.SUCCEEDED


@real
def test_a_bmc_that_fails_when_the_logs_are_to_be_fetched_is_asked_again_and_named(
    bmc: BadBmc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_bmc(server: Any, *ask_first: Callable[[], None]) -> PowerDriver:
        raise PowerError(PowerCode.UNREACHABLE, "The BMC is away.", "Look for it.")

    monkeypatch.setattr(control, "power_of", broken_bmc)
    install = silent_system(bmc)
    state = drive(install)
    failure = state.of("phone-home").failure
    assert failure
    assert (failure.code, state.status) == ("bmc-unreachable", Status.WAITING)


# --- what is read


STUB = '#!/bin/bash\n[ "${0##*/}" = mount ] && exit 32\necho "${0##*/} was asked: $*"\n[ "${0##*/}" != findmnt ]\n'


@real
@as_root
def test_every_question_is_asked_though_none_before_it_could_be_answered(
    bmc: BadBmc, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real commands, run by a real rescue system; its programs are stubs, as this machine's disks are not it."""
    asked = list(aftermath.read_aftermath(make_context()))
    for name in {
        str(command.argv[0]) for command in asked if not isinstance(command, str) and hasattr(command, "argv")
    }:
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)

    def by_stubs(ctx: Context) -> Iterator[Command]:
        yield run("eval", f"PATH={tmp_path}")
        yield from asked

    monkeypatch.setitem(STEPS_HERE, "phone-home", replace(PHONE_HOME, commands=by_stubs))
    install = silent_system(bmc, sshd)
    drive(install)
    journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b3"})
    state = drive(install)
    assert state.failure
    assert state.failure.code.startswith("phone-home-")
    log = log_of(install, "phone-home")
    for words in ("journalctl was asked:", "cat was asked: ", "/etc/fstab", "cloud-init", "umount was asked:"):
        assert words in log, words
    assert log.count("\x1e> ") == log.count("\x1e< ") == len(asked) + 1


# --- back to what it had


def wrong_machine(bmc: BadBmc) -> Install:
    """An install whose server came into rescue, and is the wrong one."""
    account: dict[str, Any] = {"bmc_url": f"http://127.0.0.1:{bmc.port}", "bmc_system": "1", "bmc_user": USER}
    install = make_install(make_server(disks=1, bmc_password=Secret(PASSWORD), **account))
    past = Past(install)
    past.start("rescue")
    for kind in (Kind.POWER_CYCLING, Kind.POWER_CYCLED):
        past.event(kind, target="network", persistent=False, step="rescue")
    past.event(Kind.RESCUE_READY, host_keys=["ssh-ed25519 AAAA"], boot_id="b1")
    past.finish("rescue", boot_id="b1")
    return install


def is_wrong(control: Control) -> Outcome:
    raise failed("wrong-machine", final=True)


@real
@pytest.mark.parametrize("moment", ["never", "before the BMC is asked", "before the reset", "after the reset"])
def test_a_server_is_sent_back_to_its_own_disks_whenever_the_worker_dies_that_gives_its_install_up(
    moment: str, bmc: BadBmc, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, moment)
    monkeypatch.setitem(STEPS_HERE, "inspect", replace(STEPS["inspect"], perform=is_wrong))
    install = wrong_machine(bmc)
    state = drive(install)
    if moment != "never":
        assert state.status.is_live
        monkeypatch.setitem(
            STEPS_HERE, "inspect", STEPS["inspect"]
        )  # the failure that was found is the one that counts
        state = drive(install, TAKEN_OVER)
    assert state.failure
    assert (state.status, state.failure.code) == (Status.FAILED, "wrong-machine")
    assert install.history()[-1].data["left"] == "as it was, and restarted from its own disks"
    assert Boot.objects.get(server=install.server).target == "disk"
    assert (bmc.boot["BootSourceOverrideTarget"], len(resets(bmc))) == ("Hdd", 2 if moment == "after the reset" else 1)
    assert doctor.examine() == []


@real
def test_a_server_without_a_bmc_is_not_said_to_have_been_restarted(
    monkeypatch: pytest.MonkeyPatch, bmc: BadBmc
) -> None:
    monkeypatch.setitem(STEPS_HERE, "inspect", replace(STEPS["inspect"], perform=is_wrong))
    install = wrong_machine(bmc)
    type(install.server).objects.update(power_driver="manual")
    assert drive(install).status is Status.FAILED
    assert install.history()[-1].data["left"].endswith("until somebody switches it off and on")
    assert resets(bmc) == []


@real
def test_a_bmc_that_refuses_to_send_a_server_back_is_told_and_the_install_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, bmc: BadBmc
) -> None:
    monkeypatch.setitem(STEPS_HERE, "inspect", replace(STEPS["inspect"], perform=is_wrong))
    install = wrong_machine(bmc)
    bmc.fails = 500
    state = drive(install)
    assert state.failure
    assert (state.status, state.failure.code) == (Status.FAILED, "wrong-machine")
    assert install.history()[-1].data["left"].startswith("unchanged, but not restarted: ")
    words = whereabouts(state, install.history())
    assert words is Whereabouts.UNTOUCHED_IN_RESCUE

"""One worker's work on one install: from where its history stands to the next wait, the end, or a failure.

The driver decides nothing by memory: it folds the history, does the next thing, and appends what happened. So it does
not matter who drove the install before, or how that ended.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from accounts.secret import Secret
from images.flavours import EFI_LOADER
from metadata import boot, tokens
from servers import inventory
from servers.facts import Facts, from_json
from servers.power import PowerCode, PowerError, Target, power_of
from servers.storage.layout import Layout
from servers.storage.plan import Plan

from . import errors, journal, queue, transport
from .commands import script
from .context import TOKEN_LIFETIME, armed_context, dry_context, is_licensed, storage_plan
from .events import Failure, Kind, State, Status, StepState
from .jobs import LOST, ROOT, Job
from .logbook import Logbook
from .models import Install
from .queue import Lease, LeaseLost
from .step import Address, Context, Outcome, Step, StepFailed, WaitUntil, failed
from .steps import POINT_OF_NO_RETURN, STEPS, steps_for
from .transport import Connection, Refused, Unreachable, WrongHostKey

log = logging.getLogger(__name__)

RECONNECT_AFTER = 2.0
"""Seconds between attempts to reach a rescue system whose connection broke."""
LONGEST_WAIT = timedelta(minutes=1)
"""How long an install sleeps at most: nothing depends on it, it mends a wake-up that was lost."""


class Stopping(Exception):
    """The worker is being stopped: let go, another one goes on."""


class Cancelled(Exception):
    """Somebody asked for it, and now is a safe moment."""


class Driver:
    """Drives one leased install; `stopping` makes it let go at the next moment at which nothing is lost."""

    def __init__(
        self, install: Install, lease: Lease, stopping: threading.Event, steps: Mapping[str, Step] = STEPS
    ) -> None:
        self.install = install
        self.lease = lease
        self.stopping = stopping
        self.steps = steps

    def drive(self) -> None:
        """Goes on until the install waits, has ended, or the worker is stopped; then the lease is given back."""
        state = self.install.state()
        wake_at: datetime | None = None
        try:
            if self.lease.taken_from:
                state = self._append(Kind.TAKEN_OVER, {"from": self.lease.taken_from, "by": self.lease.worker})
            state, wake_at = self._advance(state)
        except Stopping:
            wake_at = timezone.now()
            state = self.install.state()
        queue.release(self.lease, wake_at, state.seq)

    def _advance(self, state: State) -> tuple[State, datetime | None]:
        """The state when there is nothing more to do now, and when to look again."""
        if not state.steps:
            state = self._append(Kind.PLANNED, {"steps": list(steps_for(licensed=is_licensed(self.install.image)))})
        while state.status.is_live:
            if self.stopping.is_set():
                raise Stopping
            step = self.steps[str(state.next_step())]
            try:
                if self._may_cancel(state, step):
                    raise Cancelled
                state = self._begun(state, step)
                outcome = self._perform(state, step)
            except Cancelled:
                state = self._cancel(state)
                break
            except StepFailed as error:
                state, retry_at = self._fail(step, error)
                if retry_at:
                    return state, retry_at
                break
            if isinstance(outcome, WaitUntil):
                return self._wait(step, outcome)
            state = self._append(
                Kind.STEP_SUCCEEDED,
                {"step": step.name, "attempt": state.of(step.name).attempt, "result": outcome.result},
            )
        self._tidy_up(state)
        return state, None

    def _begun(self, state: State, step: Step) -> State:
        """The state in which an attempt at the step is open: a new one, or the one that another worker began."""
        progress = state.of(step.name)
        if progress.state in (StepState.RUNNING, StepState.WAITING):
            return state
        return self._append(Kind.STEP_STARTED, {"step": step.name, "attempt": progress.attempt + 1})

    def _perform(self, state: State, step: Step) -> Outcome:
        control = _Control(self, state, step)
        try:
            # A job may have ended well and in time while nobody was looking; following it tells.
            if control.now >= control.deadline and not step.commands:
                raise StepFailed(step.timed_out(limit(step)))
            return step.perform(control)
        except PowerError as error:
            # Trying a wrong password again locks the account of many a BMC.
            final = error.code == PowerCode.REFUSED.value
            raise failed(error.code, error.message, fix=error.fix, final=final) from error
        except (StepFailed, Cancelled, Stopping, LeaseLost, DatabaseError):
            raise
        except Exception as error:
            log.exception("%s: step %s broke", self.install, step.name)
            said = f"Landfall itself failed in this step: {type(error).__name__}."
            raise failed("internal-error", said) from error
        finally:
            control.close()

    def _wait(self, step: Step, outcome: WaitUntil) -> tuple[State, datetime]:
        state = self.install.state()
        progress = state.of(step.name)
        if progress.state is not StepState.WAITING or progress.waiting_for != outcome.reason:
            data = {"step": step.name, "attempt": progress.attempt, "reason": outcome.reason, "next": outcome.next}
            state = self._append(Kind.STEP_WAITING, data | {"until": outcome.look_at.isoformat()})
        return state, min(outcome.look_at, timezone.now() + LONGEST_WAIT)

    def _fail(self, step: Step, error: StepFailed) -> tuple[State, datetime | None]:
        """Another attempt after a pause that grows, as long as there are any left; else the end."""
        attempt = self.install.state().of(step.name).attempt
        data: dict[str, Any] = {"step": step.name, "attempt": attempt, "failure": error.failure.to_json()}
        if error.final or attempt > step.retries:
            return self._append(Kind.STEP_FAILED, data), None
        resume_from = "rescue" if error.failure.code == "rescue-lost" else step.after_crash
        retry_at = timezone.now() + timedelta(seconds=5 * 2 ** (attempt - 1))
        data |= {"resume_from": resume_from, "retry_at": retry_at.isoformat()}
        return self._append(Kind.STEP_FAILED, data), retry_at

    def _may_cancel(self, state: State, step: Step) -> bool:
        """Between two steps always; inside one where nothing is half done."""
        if not self.requested_to_cancel():
            return False
        return step.cancellable or state.of(step.name).state not in (StepState.RUNNING, StepState.WAITING)

    def requested_to_cancel(self) -> bool:
        """Whether somebody has asked to cancel by now; one query."""
        return Install.objects.get(pk=self.install.pk).cancel_requested

    def _cancel(self, state: State) -> State:
        """Before the wipe the server is sent back to what it had; after it, it is left in the rescue system."""
        if state.of(POINT_OF_NO_RETURN).attempt:
            return self._append(Kind.CANCELLED, {"left": "in the rescue system, its disks erased"})
        return self._append(Kind.CANCELLED, {"left": self._send_back(state)})

    def _send_back(self, state: State) -> str:
        """The server, untouched so far, starts from its own disks again; how it was left."""
        boot.direct_to_disk(self.install.server, EFI_LOADER)
        if not state.cycling:
            return "as it was"
        try:
            power_of(self.install.server).boot_from(Target.DISK)
            power_of(self.install.server).reset()
        except PowerError as error:
            return f"unchanged, but not restarted: {error}"
        return "as it was, and restarted from its own disks"

    def _tidy_up(self, state: State) -> None:
        """What was made for this install alone opens nothing any more; an untouched server runs again."""
        if state.status is Status.FAILED and not state.of(POINT_OF_NO_RETURN).attempt:
            log.info("%s: the server is left %s", self.install, self._send_back(state))
        if state.status is Status.SUCCEEDED:
            tokens.expire(self.install.uuid)
            Install.objects.filter(pk=self.install.pk).update(private_key="")

    def _append(self, kind: Kind, data: Mapping[str, Any]) -> State:
        return journal.append(self.install, kind, data, lease=self.lease)


def limit(step: Step) -> timedelta:
    """How long an attempt at the step may take on this installation's machines."""
    return step.timeout * settings.LANDFALL_PATIENCE


class _Control:
    """What one attempt at a step may see and do."""

    def __init__(self, driver: Driver, state: State, step: Step) -> None:
        self._driver = driver
        self._install = driver.install
        self._step = step
        self._connection: Connection | None = None
        progress = state.of(step.name)
        self.state = state
        self.now = timezone.now()
        self.deadline = (progress.started_at or self.now) + limit(step)
        self.address = Address(self._install.server.address, self._install.server.ssh_port)
        self.expected_serial = self._install.server.serial
        self.expected_macs = frozenset(nic.mac for nic in self._install.server.nics.all())
        self.logbook = Logbook.open(self._install, driver.lease, step.name, progress.attempt)

    @property
    def context(self) -> Context:
        return dry_context(self._install, self._facts())

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    def say(self, text: str) -> None:
        self.logbook.note(text)

    def _facts(self) -> Facts:
        """What was seen of the machine in this install; before that, what the inventory knows."""
        seen = self.state.result("inspect").get("facts")
        return from_json(seen) if seen else self._install.server.facts()

    # Power and boot

    def boot_into_rescue(self) -> None:
        if not self._install.private_key:
            private, public = transport.new_key_pair()
            self._install.private_key, self._install.public_key = private, public
            self._install.save(update_fields=["private_key", "public_key"])
        boot.direct_to_rescue(self._install.server, self._install.uuid, self._install.public_key, TOKEN_LIFETIME)

    def boot_from_disk(self) -> None:
        boot.direct_to_disk(self._install.server, EFI_LOADER)

    @property
    def hands(self) -> str:
        return power_of(self._install.server).needs_hands

    def power_cycle(self, target: Target, *, persistent: bool = False) -> None:
        power = power_of(self._install.server)
        where = {"target": target.value, "persistent": persistent, "step": self._step.name}
        self.state = self._driver._append(Kind.POWER_CYCLING, where)
        power.boot_from(target, persistent)
        power.reset()
        self.state = self._driver._append(Kind.POWER_CYCLED, where)
        self.say(power.needs_hands or f"The BMC has restarted the server; it starts from the {target.value} next.")

    # What was seen

    def replan(self, facts: Facts) -> Plan:
        return storage_plan(Layout.from_json(self._install.layout), facts, self._install.image, self._install.uuid)

    def remember_facts(self, facts: Facts) -> None:
        inventory.record_facts(self._install.server, facts, self.now)

    def host_key(self) -> str | None:
        try:
            return transport.host_key(self.address.host, self.address.port)
        except Unreachable:
            return None

    def still_in_rescue(self) -> bool:
        try:
            self._connect().close()
        except (Unreachable, WrongHostKey, Refused):
            return False
        self._connection = None
        return True

    # Commands on the rescue system

    def run_job(self) -> bytes:
        """Begins or re-attaches, follows to the end through broken connections; what the commands gave as result."""
        while True:
            try:
                return self._follow_job()
            except Unreachable as error:
                self._check_time()
                log.info("%s: %s; once more in %s s", self._install, error, RECONNECT_AFTER)
                self._hang_up()
                self._pause(RECONNECT_AFTER)
            except (WrongHostKey, Refused) as error:
                raise failed("rescue-lost", f"The rescue system is gone: {error}.") from error

    def _follow_job(self) -> bytes:
        connection = self._connect()
        attempt = self.state.of(self._step.name).attempt
        job = Job(connection, f"{ROOT}/{self._install.uuid}/{self._step.name}-{attempt}")
        if not job.exists():
            if self.logbook.offset:
                raise failed("rescue-lost")
            assert self._step.commands
            job.start(script(self._step.commands(armed_context(self._install, self._facts()))))
        status = self._follow(job)
        if status != 0:
            raise StepFailed(self._command_failed(status))
        return job.result()

    def _follow(self, job: Job) -> int:
        """The job's exit status, once its whole log is stored."""
        self.logbook.reconnected()
        stream = job.follow(self.logbook.read_from)
        caught_up = False
        try:
            while (data := stream.read(timeout=1.0)) is not None:
                self.logbook.take(data)
                caught_up = caught_up or not data
                try:
                    self._check_requests()
                    if caught_up:
                        self._check_time()
                except (Cancelled, StepFailed):
                    job.kill()
                    raise
            self.logbook.finish()
            return stream.status()
        finally:
            stream.close()

    def _check_requests(self) -> None:
        if self._driver.stopping.is_set():
            raise Stopping
        if self._step.cancellable and self._driver.requested_to_cancel():
            raise Cancelled

    def _check_time(self) -> None:
        if timezone.now() >= self.deadline:
            raise StepFailed(self._step.timed_out(limit(self._step)))

    def _pause(self, seconds: float) -> None:
        if self._driver.stopping.wait(seconds):
            raise Stopping
        self._check_requests()

    def _connect(self) -> Connection:
        if self._connection is None:
            rescue = self.state.rescue
            host_keys = rescue.host_keys if rescue else ()
            key = Install.objects.get(pk=self._install.pk).private_key or Secret("")
            self._connection = transport.connect(self.address.host, self.address.port, key, host_keys)
        return self._connection

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def _command_failed(self, status: int) -> Failure:
        command, tail, exit_status = self.logbook.tail()
        # A command may end with that number too, and then its own status is in the log.
        if status == LOST and not exit_status:
            said = f"{self._step.title}: its job vanished from the rescue system."
            return errors.failure("job-lost", said, command=command, tail=tail)
        return errors.of_command(command, exit_status or status, tail)

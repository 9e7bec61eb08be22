"""The engine's side of a step: power, facts, and its commands as a job on the rescue system."""

import logging
import time
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.secret import Secret
from images.flavours import EFI_LOADER
from metadata import boot, tokens
from metadata.models import Purpose
from servers import inventory
from servers.facts import Facts, from_json
from servers.power import PowerError, PowerState, Target, power_of
from servers.storage.layout import Layout
from servers.storage.plan import Plan

from . import errors, seats, transport
from .certificate import Certificate
from .commands import script
from .context import TOKEN_LIFETIME, armed_context, dry_context, storage_plan
from .events import Failure, Kind, State
from .jobs import LOST, ROOT, Job
from .leased import Cancelled, Leased, let_go_of_database
from .logbook import Pen
from .models import LogChunk
from .queue import LeaseLost
from .step import Address, Context, Seat, Step, StepFailed, failed
from .transport import Connection, Refused, Stream, Unreachable, WrongHostKey

log = logging.getLogger(__name__)

INTO_RESCUE = "rescue"
"""The step that knows with which start of the rescue system the install began."""
RECONNECT_AFTER = 2.0
"""Seconds between attempts to reach a rescue system whose connection broke."""
ASK_POWER_AFTER = 20.0
"""Seconds without an answer after which the BMC is asked whether the server has power at all."""
MOST_OF_A_LOG = 1_000_000
"""Characters of a step's log that are read back at once."""


def patient(time: timedelta) -> timedelta:
    """A time meant for real hardware, as long as this installation's machines need."""
    return time * settings.LANDFALL_PATIENCE


class Line:
    """The connection to the rescue system: one login serves all the steps that a worker does in one go."""

    def __init__(self, leased: Leased) -> None:
        self._leased = leased
        self._connection: Connection | None = None
        self._facts: tuple[Any, Facts] | None = None

    def facts(self, seen: Any) -> Facts:
        """The facts out of an event's JSON; read once for all the steps."""
        if self._facts is None or self._facts[0] is not seen:
            self._facts = seen, from_json(seen)
        return self._facts[1]

    def connect(self) -> Connection:
        """The connection, made unless there is one. `Unreachable`, `WrongHostKey`, `Refused` as `transport.connect`."""
        if self._connection is None:
            install, rescue = self._leased.install, self._leased.state.rescue
            let_go_of_database()
            self._connection = transport.connect(
                install.server.address,
                install.server.ssh_port,
                install.private_key or Secret(""),
                rescue.host_keys if rescue else (),
            )
        return self._connection

    def hang_up(self) -> None:
        """Closes it; the next `connect` makes a new one."""
        if self._connection:
            self._connection.close()
        self._connection = None


class StepControl:
    """What one attempt at a step may see and do: a `step.Control`."""

    def __init__(self, leased: Leased, line: Line, step: Step) -> None:
        self.leased = leased
        self._line = line
        self._install = leased.install
        self.step = step
        server, progress = leased.install.server, leased.state.of(step.name)
        self.now = timezone.now()
        # Never ahead, though the clock may have been set back since they were noted.
        self.started_at = min(progress.started_at or self.now, self.now)
        waiting_since = min(progress.waiting_since or self.started_at, self.now)
        # Few steps take longer with some plans; of the others' installs none is read for it.
        self.timeout = step.time_for(leased.install.plan()) if step.longer else step.timeout
        self.deadline = max(self.after(self.timeout), self.after(step.after_wait, waiting_since))
        # Counted without the clock from here on: it may be set while a job runs.
        self._ends = time.monotonic() + (self.deadline - self.now).total_seconds()
        self.address = Address(server.address, server.ssh_port)
        self.expected_serial = server.serial
        self._called = 0
        """The number of the call with which the rescue system began that the job runs in."""
        self.logbook = leased.open_book(step.name, progress.attempt)

    @property
    def state(self) -> State:
        return self.leased.state

    @property
    def attempt(self) -> dict[str, Any]:
        """The step and the attempt as an event names them."""
        return {"step": self.step.name, "attempt": self.logbook.attempt}

    @property
    def expected_macs(self) -> frozenset[str]:
        return frozenset(nic.mac for nic in self._install.server.nics.all())

    @property
    def context(self) -> Context:
        return dry_context(self._install, self._facts())

    def after(self, span: timedelta, since: datetime | None = None) -> datetime:
        return (since or self.started_at) + patient(span)

    def may_wait_for(self, reason: str) -> bool:
        """Whether the attempt's time is not up yet; where the step allows, waiting for something else has its own."""
        anew = bool(self.step.after_wait) and reason != self.state.of(self.step.name).waiting_for
        return anew or self.now < self.deadline

    def say(self, text: str) -> None:
        self.logbook.note(text)

    def certify(self, certificate: Certificate) -> None:
        self.leased.append(Kind.READ_BACK, self.attempt | {"certificate": certificate.to_json()})

    def log_text(self) -> str:
        self.leased.store_log()
        chunks = LogChunk.objects.filter(install=self._install, step=self.step.name, attempt=self.logbook.attempt)
        return "".join(chunks.order_by("offset").values_list("text", flat=True))[:MOST_OF_A_LOG]

    def _facts(self) -> Facts:
        """What was seen of the machine in this install; before that, what the inventory knows."""
        seen = self.state.result("inspect").get("facts")
        return self._line.facts(seen) if seen else self._install.server.facts()

    # Power and boot

    def boot_into_rescue(self) -> None:
        with self.leased.fenced():
            if not self._install.private_key:
                self._install.private_key, self._install.public_key = transport.new_key_pair()
                self._install.save(update_fields=["private_key", "public_key"])
            boot.direct_to_rescue(self._install.server, self._install.uuid, self._install.public_key, TOKEN_LIFETIME)

    def boot_from_disk(self) -> None:
        # The tokens are locked before the install's row, as by a machine that calls: neither waits for the other then.
        with transaction.atomic():
            # The new system's token is on its disk since it was made bootable, which may be long ago: it was held, say.
            tokens.prolong(self._install.uuid, Purpose.PHONE_HOME, patient(TOKEN_LIFETIME))
            with self.leased.fenced():
                boot.direct_to_disk(self._install.server, EFI_LOADER)

    @property
    def hands(self) -> str:
        return power_of(self._install.server).needs_hands

    def power_cycle(self, target: Target, *, persistent: bool = False, say: bool = True) -> None:
        power = power_of(self._install.server, self.leased.renew)
        where = {"target": target.value, "persistent": persistent, "step": self.step.name}
        self.leased.append(Kind.POWER_CYCLING, where)
        let_go_of_database()
        self._line.hang_up()
        power.boot_from(target, persistent)
        power.reset(cold=persistent)  # for good is what the second try asks for
        self.leased.append(Kind.POWER_CYCLED, where)
        if say:
            self.say(power.needs_hands or f"The BMC has restarted the server; it starts from the {target.value} next.")

    # What was seen

    def replan(self, facts: Facts) -> Plan:
        return storage_plan(Layout.from_json(self._install.layout), facts, self._install.image, self._install.uuid)

    def remember_facts(self, facts: Facts) -> None:
        self.leased.renew()
        inventory.record_facts(self._install.server, facts, self.now)

    def keep_seat(self, seat: Seat) -> None:
        seats.keep(self._install, seat, self.now)

    def seat_is_back(self, identity: str) -> None:
        seats.forget(self._install.server, identity, self.now)

    def host_key(self) -> str | None:
        let_go_of_database()
        try:
            return transport.host_key(self.address.host, self.address.port)
        except Unreachable:
            return None

    def still_in_rescue(self, patience: timedelta = timedelta(0)) -> bool:
        end = time.monotonic() + patient(patience).total_seconds()
        while True:
            self._line.hang_up()
            try:
                self._line.connect()
            except (WrongHostKey, Refused):
                return False
            except Unreachable:
                if time.monotonic() >= end:
                    return False
                self.leased.stopping.wait(RECONNECT_AFTER)
                self.leased.check_stop()
            else:
                return True

    # Commands on the rescue system

    def run_job(self, *, result: bool = False, any_rescue: bool = False) -> bytes:
        """Begins or re-attaches, follows to the end through broken connections; what the commands gave as result."""
        # A rescue system that was started anew has nothing mounted: files would be copied into its memory.
        known = self.state.result(INTO_RESCUE).get("boot_id")
        if not any_rescue and known and self.state.rescue and self.state.rescue.boot_id != known:
            raise failed(
                "rescue-lost", "The server has started its rescue system anew since the steps before this one."
            )
        self._called = self.state.rescue.seq if self.state.rescue else 0
        silence = _Silence(self)
        while True:
            try:
                return self._follow_job(silence, result)
            except Unreachable as error:
                self._line.hang_up()
                log.info("%s: %s; once more in %s s", self._install, error, RECONNECT_AFTER)
                silence.unreachable(str(error))
                self._check_power(silence)
                self._check_time(unreachable=True)
                self._pause(RECONNECT_AFTER)
            except (WrongHostKey, Refused) as error:
                raise failed("rescue-lost", f"The rescue system is gone: {error}.") from error

    def _follow_job(self, silence: "_Silence", result: bool) -> bytes:
        connection = self._line.connect()
        job = Job(connection, f"{ROOT}/{self._install.uuid}/{self.step.name}-{self.logbook.attempt}")
        # Starting a job that was begun begins nothing; but one of which a log is stored must not begin anew.
        if self.logbook.read_from and not job.exists():
            raise failed("rescue-lost")
        if not self.logbook.read_from:
            assert self.step.commands
            text = script(self.step.commands(self._armed_context()))
            # A worker that was frozen before this would begin what was tried, failed and is tried again since.
            self.leased.renew()
            job.start(text)
        status = self._follow(job, silence)
        if status != 0:
            failure = self._command_failed(status)
            raise StepFailed(failure, final=errors.CATALOGUE[failure.code].final)
        return job.result() if result else b""

    def _armed_context(self) -> Context:
        facts = self._facts()
        # A token of an install that was ended, or taken over, would open what is closed, or is opened by another one.
        with self.leased.fenced() if self.step.tokens else nullcontext():
            return armed_context(self._install, facts, self.step.tokens)

    def _follow(self, job: Job, silence: "_Silence") -> int:
        """The job's exit status, once its whole log is stored."""
        stream = job.follow(self.logbook.read_from)
        try:
            with self.leased.writing(self.logbook) as pen:
                self._read_all(stream, silence, pen)
            status = stream.status()
            self.logbook.end()
            return status
        except (Cancelled, StepFailed, LeaseLost) as error:
            if not (isinstance(error, StepFailed) and error.failure.code == "rescue-lost"):
                self._end(job)
            raise
        finally:
            stream.close()

    def _end(self, job: Job) -> None:
        """Ends the job; unless another worker follows it by now, then `LeaseLost`."""
        try:
            # Who was frozen finds the time over, and may not be the one to say so any more.
            self.leased.renew()
        except LeaseLost:
            if self.leased.was_reset():
                job.kill()
            raise
        job.kill()

    def _read_all(self, stream: Stream, silence: "_Silence", pen: Pen) -> None:
        caught_up = False
        while True:
            let_go_of_database()
            data = stream.read(timeout=1.0)
            if data is None:
                break
            self.logbook.take(data)
            if data:
                pen.wrote(self.logbook)
            caught_up = caught_up or not data
            silence.heard(data)
            self._check_requests()
            # A job may have ended well and in time while nobody was looking: first all that it has printed.
            if caught_up:
                self._check_time()

    def _check_requests(self) -> None:
        self.leased.check_stop()
        if self.leased.cancel_requested() and self.step.cancellable:
            raise Cancelled
        if self.leased.has_grown() and (rescue := self.leased.refresh().rescue) and rescue.seq > self._called:
            raise failed("rescue-lost", "The server has started its rescue system anew in the middle of this step.")

    def _check_time(self, *, unreachable: bool = False) -> None:
        if time.monotonic() < self._ends:
            return
        if unreachable:
            raise failed("rescue-lost", "The rescue system did not answer any more, until the step's time was up.")
        raise StepFailed(self.step.timed_out(patient(self.timeout)))

    def _check_power(self, silence: "_Silence") -> None:
        """A server that has no power will not answer by waiting."""
        if not silence.asks_for_power():
            return
        let_go_of_database()
        try:
            off = power_of(self._install.server).state() is PowerState.OFF
        except PowerError as error:
            log.info("%s: its BMC does not say whether it has power: %s", self._install, error)
            return
        if off:
            raise failed("rescue-lost", "The server has no power, says its BMC.")

    def _pause(self, seconds: float) -> None:
        self.leased.stopping.wait(seconds)
        self._check_requests()

    def _command_failed(self, status: int) -> Failure:
        self.leased.store_log()
        command, tail, exit_status = self.logbook.tail()
        # A command may end with that number too, and then its own status is in the log.
        if status == LOST and not exit_status:
            said = f"{self.step.title}: its job vanished from the rescue system."
            return errors.failure("job-lost", said, command=command, tail=tail)
        return errors.of_command(command, exit_status or status, tail)


class _Silence:
    """How long nothing has come from the job; said once when it is long, and again when it is over."""

    def __init__(self, control: StepControl) -> None:
        self._control = control
        # A job may begin long after its attempt did: phone-home's does when the call has not come.
        last = control.logbook.last_at or control.now
        self._since = time.monotonic() - max((timezone.now() - last).total_seconds(), 0)
        self._limit = patient(control.step.quiet).total_seconds()
        self._asked = time.monotonic()
        self._lost = False

    def heard(self, data: bytes) -> None:
        """Something came, or nothing did for a second."""
        if data or self._lost:
            self._lost = False
            self._since = time.monotonic()
            self._tell_end()
        elif time.monotonic() - self._since > self._limit:
            self._tell("nothing printed")

    def unreachable(self, why: str) -> None:
        """The rescue system does not answer."""
        if not self._lost:
            self._lost, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > RECONNECT_AFTER * 3:
            self._tell(f"the rescue system does not answer: {why}")

    def asks_for_power(self) -> bool:
        """Whether it is time to ask the BMC, which may take seconds to answer."""
        if time.monotonic() - max(self._since, self._asked) < ASK_POWER_AFTER:
            return False
        self._asked = time.monotonic()
        return True

    def _tell(self, reason: str) -> None:
        control = self._control
        if control.state.of(control.step.name).quiet_since is None:
            since = timezone.now() - timedelta(seconds=time.monotonic() - self._since)
            command, _, _ = control.logbook.tail()
            control.leased.append(
                Kind.STEP_QUIET, control.attempt | {"since": since.isoformat(), "command": command, "reason": reason}
            )

    def _tell_end(self) -> None:
        control = self._control
        if control.state.of(control.step.name).quiet_since is not None:
            control.leased.append(Kind.STEP_TALKS, control.attempt)

"""What a step is: what it does, how long it may take, how often it is tried, and what follows when it breaks.

A remote step is a pure generator of commands. A control step is a function that looks at the install and returns
`Done`, or `WaitUntil`; while it waits, the install holds no thread, no connection and no lease.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from accounts.secret import Secret
from images.flavours import Flavour
from servers.facts import Facts
from servers.power import Target
from servers.storage.plan import Plan

from . import errors
from .certificate import Certificate
from .commands import Command
from .events import Failure, State

RUN = "/run/landfall"
TARGET = f"{RUN}/target"
"""Where the new system's tree is mounted while it is made."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """An image that was published: its tree as one stream, the same at each of `urls`."""

    urls: tuple[str, ...]
    sha256: str
    size: int
    with_token: bool
    """Whether Landfall itself serves it, which wants the fetch token."""
    rate: str = ""
    """Bytes a second that one reader may take, as curl writes them; empty: as many as there are."""


@dataclass(frozen=True, slots=True)
class OwnSource:
    """Where a customer's own image comes from; the address may hold a signature, so `shown` is what people see."""

    url: Secret
    shown: str
    headers: Secret
    checksum: str
    networks: str = ""
    """Networks beyond the public ones that it may come from, separated by commas."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The image as the rescue system fetches it: the file, the stream where it was published, or the customer's own."""

    name: str
    url: str
    sha256: str
    size: int
    format: str
    disk: Mapping[str, Any] | None = None
    """Where in an archive the disk lies: `offset`, `size` and `format`."""
    stream: StreamSource | None = None
    own: OwnSource | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A customer's script for the new system's tree, and the answers to the image's questions, for its environment."""

    script: str = ""
    environment: Mapping[str, str | Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a system is registered with."""

    organisation: str
    activation_key: Secret


@dataclass(frozen=True, slots=True)
class Seat:
    """A registration that an earlier system of the server holds: the vendor's service knows it by its certificate."""

    identity: str
    service: str
    """The URL below which the service keeps `consumers`."""
    credentials: Secret
    """Certificate and private key, as PEM."""
    authority: str
    """The certificates that the service's own is signed with, as PEM."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that the commands of an install depend on: the same context gives the same commands."""

    install: UUID
    hostname: str
    plan: Plan
    image: ImageSource
    flavour: Flavour
    config_drive: Mapping[str, bytes]
    machine_url: str
    fetch_token: Secret
    phone_home_token: Secret
    registration: Registration | None = None
    hook: Hook = Hook()
    disk_passphrase: Secret = field(default_factory=lambda: Secret(""))
    """What opens the plan's encrypted containers; empty where it has none."""
    seats: Callable[[], tuple[Seat, ...]] = tuple
    """What has to be given back to vendors before the disks are wiped: looked up when asked, as one step alone does."""


class StepFailed(Exception):
    """The step cannot be done; with `final` trying again would change nothing."""

    def __init__(self, failure: Failure, *, final: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.final = final


def failed(code: str, message: str = "", *, fix: str = "", final: bool = False) -> StepFailed:
    """The exception that says why, whose it is and what to do next; the catalogue's words where none are given."""
    return StepFailed(errors.failure(code, message, fix=fix), final=final or errors.CATALOGUE[code].final)


@dataclass(frozen=True, slots=True)
class Done:
    """The step is done; the result goes into the history."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to do until `look_at`, unless a machine calls before. `next` says what will be done if none does."""

    look_at: datetime
    reason: str
    next: str = ""


Outcome = Done | WaitUntil


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server's SSH is reached."""

    host: str
    port: int


class Control(Protocol):
    """What a control step may see and do: the engine's side of it is `deploy.driver`."""

    now: datetime
    deadline: datetime
    address: Address
    expected_serial: str

    @property
    def state(self) -> State:
        """The history so far."""

    @property
    def expected_macs(self) -> frozenset[str]:
        """The MAC addresses that the inventory knows of the server."""

    @property
    def context(self) -> Context:
        """What the install is about, without tokens."""

    def after(self, span: timedelta, since: datetime | None = None) -> datetime:
        """The time that lies `span` behind the beginning of the attempt, or `since`, on machines as slow as these."""

    def say(self, text: str) -> None:
        """Writes a line of Landfall's own into the step's log; not before its job, whose log begins with itself."""

    def log_text(self) -> str:
        """What the attempt's log holds so far."""

    def run_job(self, *, result: bool = False, any_rescue: bool = False) -> bytes:
        """Runs the step's commands on the rescue system, or goes on following them; with `result` what they gave.

        It is the rescue system that the install began with, unless `any_rescue`: what is mounted there is needed.
        """

    def certify(self, certificate: Certificate) -> None:
        """Keeps in the history what was read back of the disks."""

    def boot_into_rescue(self) -> None:
        """From its next network boot on the server gets the rescue system."""

    def boot_from_disk(self) -> None:
        """From its next network boot on the server is sent to its own disk."""

    @property
    def hands(self) -> str:
        """What a person has to do where no BMC restarts the server; empty where one does."""

    def power_cycle(self, target: Target, *, persistent: bool = False, say: bool = True) -> None:
        """Restarts the server, with a word to its BMC what to boot; or asks for somebody who does."""

    def replan(self, facts: Facts) -> Plan:
        """The plan that the request gives for these facts."""

    def remember_facts(self, facts: Facts) -> None:
        """Brings the inventory up to what was seen."""

    def keep_seat(self, seat: Seat) -> None:
        """Remembers a registration, to give it back before the server is wiped again."""

    def seat_is_back(self, identity: str) -> None:
        """Forgets what opens a registration that was given back."""

    def host_key(self) -> str | None:
        """The SSH host key that answers at the server's address now; None when nobody does."""

    def still_in_rescue(self, patience: timedelta = timedelta(0)) -> bool:
        """Whether the rescue system that called us answers, within this time; what another answers ends the wait."""


Generator = Callable[[Context], Iterator[Command]]
Perform = Callable[[Control], Outcome]


def run_commands(control: Control) -> Outcome:
    """What a step does that is nothing but its commands."""
    control.run_job()
    return Done()


@dataclass(frozen=True, slots=True)
class Step:
    """One named phase of an install, with all that the engine has to know of it."""

    name: str
    title: str
    timeout: timedelta
    retries: int
    after_crash: str
    cancellable: bool
    perform: Perform
    commands: Generator | None = None
    longer: Callable[[Plan], timedelta] | None = None
    """How much longer than `timeout` it may take with a plan like this."""
    on_timeout: str = "step-timeout"
    """The code of the failure when the time is up."""
    retry_from: str = ""
    """The step with which another attempt begins, where it is not that of `after_crash`."""
    tokens: frozenset[str] = frozenset()
    """The purposes of the one-time tokens that its commands hold."""
    when_missed: bool = False
    """Its commands run only when what it waits for did not come: no review needs to show them."""
    after_wait: timedelta = timedelta(0)
    """So long an attempt may still take once it has begun to wait for something else, however late that was."""
    quiet: timedelta = timedelta(minutes=2)
    """So long it may print nothing before the page says so."""

    def time_for(self, plan: Plan) -> timedelta:
        """How long it may take with this plan."""
        return self.timeout + (self.longer(plan) if self.longer else timedelta(0))

    def timed_out(self, limit: timedelta) -> Failure:
        """The failure when the time is up."""
        minutes = limit.total_seconds() / 60
        late = f"{self.title} was not done after {minutes:.0f} minutes."
        return errors.failure(self.on_timeout, late if self.on_timeout == "step-timeout" else "")

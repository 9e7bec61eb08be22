"""An install as its page shows it: its history, its inputs and what is usual, in one value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from deploy import actions, reading, timeline
from deploy.context import steps_of
from deploy.events import MOST_FAILED_ATTEMPTS, Event, Failure, Kind, State, Status, StepState
from deploy.limits import Place
from deploy.models import Install
from deploy.steps import INTO_RESCUE, STEPS
from deploy.timeline import Attempt, Hold, StepRow, Usual
from images.formats import Format
from images.mirrors import publication_of
from images.own import is_own
from servers.storage.draw import Drawing, drawing

from . import chronicle, line
from .past import state_of
from .readback import ReadBack, read_back
from .whereabouts import after_a_cancel, whereabouts

NEARLY_WORN_OUT = 5
"""So few attempts before the last one the page begins to count them."""


@dataclass(frozen=True, slots=True)
class InstallView:
    """Everything that the page says about an install, its logs apart; to ops it offers more."""

    install: Install
    state: State
    history: tuple[Event, ...]
    rows: tuple[StepRow, ...]
    current: str
    usual: Usual
    place: Place | None = None
    later: Install | None = None
    """The latest install of the server, when this one has ended and is not it."""
    for_ops: bool = False

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def is_live(self) -> bool:
        """Whether something can still happen by itself."""
        return self.status.is_live

    # Time

    @property
    def idle(self) -> timedelta:
        """How long it has stood in line or was held so far."""
        return timeline.idle_time(self.history, self.state.ended_at or timezone.now())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is done nor waited for: its clock stands."""
        return self.status in (Status.QUEUED, Status.HELD)

    @property
    def clock_since(self) -> datetime | None:
        """When it would have begun if it had never stood still."""
        return self.state.started_at + self.idle if self.state.started_at else None

    @property
    def seconds(self) -> float:
        """How long it has taken, until now or until it ended, without the time in which it stood still."""
        end = self.state.ended_at or timezone.now()
        return max((end - (self.clock_since or end)).total_seconds(), 0)

    @property
    def in_line_since(self) -> datetime | None:
        return self.install.queued_at if self.status is Status.QUEUED else None

    # What can be done to it

    @property
    def can_cancel(self) -> bool:
        return self.is_live and not self.state.cancel_requested

    @property
    def can_retry(self) -> bool:
        return self.status in (Status.FAILED, Status.CANCELLED) and not (self.is_worn_out or self.install.archive_id)

    @property
    def can_hold(self) -> bool:
        return self.can_cancel and self.status is not Status.HELD and bool(self.holdable)

    @property
    def holdable(self) -> tuple[StepRow, ...]:
        """The steps that it can be held before: those that have not begun."""
        return tuple(row for row in self.rows if self.state.of(row.name).state in _NOT_BEGUN)

    @property
    def can_release(self) -> bool:
        return self.can_cancel and bool(self.state.hold_before)

    @property
    def resume(self) -> StepRow | None:
        """The step with which a retry goes on."""
        return self.row(actions.resume_from(self.state)) or self.rows[0]

    @property
    def goes_on(self) -> bool:
        """Whether a retry goes on somewhere behind the first step."""
        return self.resume is not None and self.resume.name not in (INTO_RESCUE, self.rows[0].name)

    @property
    def finishing(self) -> StepRow | None:
        """The step that is finished first when somebody cancels now; None when it stops at once."""
        row = self.row(self.current)
        return row if row and row.is_open and not STEPS[row.name].cancellable else None

    @property
    def can_show_passphrase(self) -> bool:
        """Whether the passphrase of its disks waits to be shown, to those whose it is."""
        kept = not (self.status is Status.SUCCEEDED and self.state.passphrase_is_known)
        return bool(self.state.passphrase) and not self.state.passphrase_shown and kept

    # How often it has failed

    @property
    def is_worn_out(self) -> bool:
        return self.state.failed_attempts >= MOST_FAILED_ATTEMPTS

    @property
    def attempts_left(self) -> int | None:
        """How many attempts may fail yet; None while that is nobody's worry."""
        left = MOST_FAILED_ATTEMPTS - self.state.failed_attempts
        return left if left <= NEARLY_WORN_OUT else None

    @property
    def backing_off(self) -> tuple[StepRow, Attempt] | None:
        """The step and the attempt that has failed, while the next one is waited for."""
        if self.status is not Status.WAITING or any(row.is_open for row in self.rows):
            return None
        ended = [(row, row.latest) for row in self.rows if row.latest and row.latest.retry_at]
        return max(ended, key=lambda pair: pair[1].ended_at or pair[1].started_at, default=None)

    # Where it leaves the server

    @property
    def past_no_return(self) -> bool:
        """Whether the disks may have been touched."""
        return timeline.past_no_return(self.state)

    @property
    def server_now(self) -> str:
        """The state that the server is in, as far as the history tells."""
        ends = (event for event in reversed(self.history) if event.kind in (Kind.CANCELLED, Kind.STEP_FAILED))
        left = next((event.data.get("left") for event in ends), "")
        if self.status in (Status.CANCELLED, Status.FAILED) and left:
            return f"{self.install.server.name} was left {left}."
        return whereabouts(self.state, self.history).value.now.format(self.install.server.name)

    @property
    def cancel_leaves(self) -> str:
        """What a cancel would leave behind."""
        return after_a_cancel(self.state, self.history).value.cancel.format(self.install.server.name)

    @property
    def reset_leaves(self) -> str:
        """What an end by force would leave behind."""
        return whereabouts(self.state, self.history).value.reset.format(self.install.server.name)

    # What it says

    @property
    def hold(self) -> Hold | None:
        return timeline.hold_of(self.history)

    @property
    def hold_title(self) -> str:
        """The step that it is, or is to be, held before."""
        return STEPS[self.state.hold_before].title if self.state.hold_before in STEPS else ""

    @property
    def failure(self) -> Failure | None:
        return self.state.failure

    @property
    def failed_step(self) -> str:
        """The step that shows the failure; none when the install was ended from outside."""
        row = self.row(self.current)
        if not (self.failure and row and row.latest) or self.was_reset:
            return ""
        return row.name if row.latest.failure == self.failure else ""

    @property
    def was_reset(self) -> bool:
        """Whether it was ended by force."""
        return self.failure is not None and self.failure.code == "force-reset"

    @property
    def lines(self) -> list[chronicle.Line]:
        """The whole history in words."""
        return chronicle.chronicle(self.history)

    @property
    def summary(self) -> str:
        """The layout in a few words: RAID1 on 2 x 960 GB."""
        return ", ".join(self.install.plan().summary())

    @property
    def drawing(self) -> Drawing:
        """The disks as they were approved."""
        return drawing(self.install.plan())

    @property
    def read_back(self) -> ReadBack | None:
        """What was read back from the disks before the reboot, and from the new system after it."""
        return read_back(self.state)

    @property
    def copied(self) -> str:
        """How the image came onto the disks; empty before it did."""
        image, copy = self.install.image, self.state.of("copy")
        if not self.state.is_done("copy") or copy.started_at is None:
            return ""
        if is_own(image):
            return f"fetched by the server from {image.own.shown_url}, then copied file by file"
        publication = publication_of(image)
        if publication and publication.ended_at and publication.ended_at < copy.started_at:
            return f"as one stream{f' from {self.install.mirror}' if self.install.mirror else ''}"
        return "unpacked from a tarball" if image.format == Format.TAR else "file by file, with rsync"

    @property
    def login(self) -> str:
        """The command that logs in; empty before it is verified."""
        verified = self.state.result("verify")
        port = verified.get("port", 22)
        return f"ssh {verified['ssh']}{'' if port == 22 else f' -p {port}'}" if verified.get("ssh") else ""

    @property
    def host_keys(self) -> Sequence[str]:
        """The fingerprints that the installed system told when it phoned home."""
        keys: Sequence[str] = self.state.result("verify").get("host_keys", ())
        return keys

    @property
    def verified_key(self) -> str:
        """The one of them that its SSH server then showed to us."""
        key: str = self.state.result("verify").get("verified", "")
        return key

    def row(self, step: str) -> StepRow | None:
        """The step's row; None when the install has no such step."""
        return next((row for row in self.rows if row.name == step), None)


_NOT_BEGUN = (StepState.PENDING, StepState.FAILED)


def view_of(install: Install, *, for_ops: bool = False) -> InstallView:
    """The install as it stands: one query, and two more when the usual times have to be looked up again.

    One that stands in line costs two, once a second; one that has failed or was cancelled one.
    """
    history = install.history()
    state, usual = state_of(install, history), reading.usual_for(install)
    attempts = timeline.attempts_of(history)
    steps = state.steps or steps_of(install.image)
    rows = tuple(_row(install, name, state, attempts.get(name, ()), usual) for name in steps)
    current = timeline.current_step(state) or rows[0].name
    place, later = line.place_of(install), _later(install)
    return InstallView(install, state, tuple(history), rows, current, usual, place, later, for_ops)


def _later(install: Install) -> Install | None:
    if install.status not in (Status.FAILED, Status.CANCELLED):
        return None
    newest = Install.objects.filter(server=install.server_id, pk__gt=install.pk)
    return newest.only("uuid", "status", "created_at").order_by("-pk").first()


def _row(install: Install, name: str, state: State, attempts: tuple[Attempt, ...], usual: Usual) -> StepRow:
    step, progress = STEPS[name], state.of(name)
    called = progress.state is StepState.WAITING and bool(attempts) and attempts[-1].state is StepState.RUNNING
    stopped = progress.state is StepState.FAILED and bool(attempts) and attempts[-1].failure is None
    limit = step.time_for(install.plan()) if step.longer else step.timeout
    return StepRow(
        name, step.title, StepState.RUNNING if called else progress.state, attempts,
        tries=progress.tries, most=step.retries + 1, limit=limit * settings.LANDFALL_PATIENCE,
        usual=usual.steps.get(name), stopped=stopped,
    )  # fmt: skip
